// What the loops of exact_loop.inc and their driver in mmd_exact_cpu.cpp agree on. CPU only.
#pragma once
#include <cstdint>

#include "../common/reduce.h"
#include "radial.h"

namespace fc::mmd {

// Pairs are worked on in tiles of kTile points against kTile points, kRows rows of one at a time.
constexpr int64_t kTile = 64;
constexpr int64_t kRows = 8;
// Squared distances are summed over so many coordinates at once, then over these sums: that keeps rounding small where
// there are thousands.
constexpr int64_t kDepth = 128;

// One cloud, packed: `count` points filled up with zeros to whole tiles. `rows` holds a point after the other, `width`
// numbers each (d filled up to whole groups of lanes); `columns` a tile after the other, a coordinate of its points in
// a row. Weights are relative to the largest magnitude and 0 where there is no point.
template <class T>
struct Cloud {
  const T *rows, *columns;
  const double* weights;
  int64_t count, tiles, d, width;
  bool uniform;  // all points weigh 1
};

// Kernel and slope of `count` numbers of pairs.
template <class T>
using RadialLoop = void (*)(const RadialNumbers<T>&, const T* s, int64_t count, T* value, T* slope);

// The pairs of one tile of x with one tile of y: what they add goes to float64 sums of whole clouds, null where not
// wanted. gradient_x (x.tiles kTile, width) and potential_x (x.tiles kTile), likewise of y; where both are one cloud,
// each pair of different tiles is seen once, and in a tile with itself pairs below the diagonal are left out and those
// on it count `diagonal`.
template <class T>
struct ExactWalk {
  Cloud<T> x, y;
  RadialLoop<T> radial;
  RadialNumbers<T> numbers;
  double *gradient_x, *gradient_y, *potential_x, *potential_y;
  bool same;
  T diagonal;
};

// One thread's memory.
template <class T>
struct ExactScratch {
  T *s, *value, *slope;  // kRows kTile each
  T* gradient_y;         // kTile width
};

}  // namespace fc::mmd
