// What the kernels of sums share: terms, sums of blocks, and how the threads of a block share its rows.
#pragma once
#include "block_step.cuh"

namespace fc::optim {

// What one element adds to the sums.
template <class Rule, class T>
__device__ void add_products(const typename Rule::template Step<T>& step, T x, T g, T* s, double* sums) {
  T left[Rule::sums], right[Rule::sums];
  Rule::measure(step, x, g, s, left, right);
#pragma unroll
  for (int k = 0; k < Rule::sums; ++k) sums[k] += double(left[k]) * double(right[k]);
}

// out[k stride]: the sums of blocks [first, last), added in order by as many threads as a block has, then over those.
template <int count>
__device__ void add_blocks(const double* partial, int64_t first, int64_t last, double* out, int64_t stride) {
#pragma unroll
  for (int k = 0; k < count; ++k) {
    double sum = 0;
    for (int64_t b = first + threadIdx.x; b < last; b += kThreads) sum += partial[count * b + k];
    sum = block_sum<kThreads>(sum);
    if (threadIdx.x == 0) out[k * stride] = sum;
  }
}

// Elements: longer rows are for the whole block, which then reads them a second time from the cache.
constexpr int kWarpRow = 512;

// Short rows side by side: `count` groups of `lanes` neighbours take one each, and then the next. Cuts depend on sizes alone,
// as those of sums do.
struct RowGroups {
  int length, rows, lanes, count, group, lane;

  __device__ RowGroups(int64_t row_length, int64_t elements) {
    length = int(row_length);
    rows = length > 0 ? int(elements) / length : 0;
    lanes = rows <= 1 || length > kWarpRow ? kThreads : 1;
    while (lanes < kWarp && lanes * kPerLane < length) lanes *= 2;
    count = kThreads / lanes;
    group = int(threadIdx.x) / lanes;
    lane = int(threadIdx.x) % lanes;
  }

  // Over the lanes of a group; all threads of the block must call it.
  __device__ double sum(double value) const {
    if (lanes == kThreads) return block_sum<kThreads>(value);
    for (int step = lanes / 2; step > 0; step /= 2) value += __shfl_xor_sync(kFullWarp, value, step);
    return value;
  }

 private:
  static constexpr int kPerLane = 4;  // elements that keep a thread busy
};

}  // namespace fc::optim
