// Sums over parameters or rows: a block's part first, then a block adds up what those of a parameter have found. Cuts depend
// on sizes alone and every sum has one order.
#pragma once
#include "block_step.cuh"

namespace fc::optim {

// partial[Rule::sums b …]: the sums of block b's elements.
// gate: no spills
template <class Rule, class T, class P, class S>
__global__ void __launch_bounds__(kThreads, 2) measure_kernel(const __grid_constant__ Launch launch, double* partial) {
  using Shared = BlockStep<Rule, T>;
  FC_SHARED(Shared, block, [1]);
  const bool skipped = launch.found_inf.read() != 0;
  const Piece piece = piece_of_block(launch.map);
  if (threadIdx.x == 0 && !skipped) prepare_block(launch, piece.i, piece.begin, block[0]);
  __syncthreads();
  double sums[Rule::sums] = {};
  if (!skipped) {
    const Entry& entry = launch.map.entries[piece.i];
    const Elements<Rule, T, P, S, false> elements(launch, block[0], entry, piece.begin);
    const auto step = block[0].step;
    elements.all(launch, entry.place + piece.begin, int(piece.end - piece.begin), [&](T x, T g, T* s) {
      T left[Rule::sums], right[Rule::sums];
      Rule::measure(step, x, g, s, left, right);
#pragma unroll
      for (int k = 0; k < Rule::sums; ++k) sums[k] += double(left[k]) * double(right[k]);
    });
  }
#pragma unroll
  for (int k = 0; k < Rule::sums; ++k) {
    const double sum = block_sum<kThreads>(sums[k]);
    if (threadIdx.x == 0) partial[Rule::sums * int64_t(blockIdx.x) + k] = sum;
  }
}

// out[k, i]: the sums of entry i's blocks, added in order by as many threads as a block has, then over those.
// gate: no spills
template <int count>
__global__ void __launch_bounds__(kThreads) add_sums_kernel(BlockMap map, const double* partial, double* out) {
  const int64_t i = blockIdx.x, first = map.first_block[i], last = map.first_block[i + 1];
#pragma unroll
  for (int k = 0; k < count; ++k) {
    double sum = 0;
    for (int64_t b = first + threadIdx.x; b < last; b += kThreads) sum += partial[count * b + k];
    sum = block_sum<kThreads>(sum);
    if (threadIdx.x == 0) out[k * map.n + i] = sum;
  }
}

}  // namespace fc::optim
