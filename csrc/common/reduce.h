// Sums in 16 fixed lanes and a fixed tree: the compiler may vectorise them without reordering anything, so every
// instruction set gives the same bits.
#pragma once
#include "hd.h"

namespace fc {

constexpr int kLanes = 16;

template <class T>
FC_HD T tree_sum(const T* lanes) {
  T a[8], b[4];
  for (int l = 0; l < 8; ++l) a[l] = lanes[l] + lanes[l + 8];
  for (int l = 0; l < 4; ++l) b[l] = a[l] + a[l + 4];
  return (b[0] + b[2]) + (b[1] + b[3]);
}

template <class T>
FC_HD T tree_max(const T* lanes) {
  T best = lanes[0];
  for (int l = 1; l < kLanes; ++l) best = lanes[l] > best ? lanes[l] : best;
  return best;
}

template <class T>
FC_HD T tree_min(const T* lanes) {
  T best = lanes[0];
  for (int l = 1; l < kLanes; ++l) best = lanes[l] < best ? lanes[l] : best;
  return best;
}

}  // namespace fc
