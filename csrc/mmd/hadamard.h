// Random Hadamard projections: rows of D^{-3/2} H S3 H S2 H S1, S random signs, H Sylvester's matrix of order D = 2^k.
#pragma once
#include <algorithm>
#include <cstdint>

namespace fc::mmd {

// How a transform of D rows is cut: blocks whose butterflies (of `low` rows, then block / low) stay in the first cache, then
// butterflies of up to 16 rows that are one or more blocks apart.
struct HadamardPlan {
  static constexpr int64_t kBlock = 256, kRadix = 16;
  int64_t depth, block, low;
  int tops = 0;
  int64_t radix[16], stride[16];

  explicit HadamardPlan(int64_t order) : depth(order), block(std::min(order, kBlock)), low(std::min(block, kRadix)) {
    for (int64_t step = block; step < depth; step *= radix[tops++]) {
      stride[tops] = step;
      radix[tops] = std::min(depth / step, kRadix);
    }
  }
};

template <class T>
struct HadamardArguments {
  const T *x, *signs, *factor;     // signs (3, D); factor: the first of them, times the scale
  T* out;
  int64_t points, rows, size;      // rows: coordinates of x, or its slices when transposed
  T scale;
  bool transpose, add;             // add: transposed, to what is there
};

}  // namespace fc::mmd
