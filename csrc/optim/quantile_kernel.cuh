// The quantile of each gradient's magnitudes: a launch for each digit, in which the last block of a parameter chooses it,
// and one for the next larger magnitude. Counts are integers, so that the order in which they are added changes nothing.
#pragma once
#include "block_step.cuh"
#include "measures.h"
#include "quantile.h"

namespace fc::optim {

using Count = unsigned long long;  // as CUDA's atomics take it

// What is known of a parameter's order statistic. Made on the host, but for what the launches find.
struct Selection {
  int64_t rank;         // that is looked for
  double rest;          // of the way to the next
  Count prefix;         // the digits found so far
  int64_t below, equal;  // numbers below all with that prefix, and with it
  Count next;           // the least number above, once all digits are known
  int64_t bins;         // its histogram, where it has several blocks
  uint32_t done, unused;  // blocks

  // Whether the quantile lies between two different numbers.
  __device__ bool between() const { return rest != 0 && rank + 1 >= below + equal; }
};

// A block's magnitudes: visit(bits).
template <class T, class P, class Visit>
__device__ void each_magnitude(const Launch& launch, const Piece& piece, const BlockStep<Squares, T>& block,
                               const Visit& visit) {
  const Elements<Squares, T, P, P, false> elements(launch, block, launch.map.entries[piece.i], piece.begin);
  elements.all(launch, int(piece.end - piece.begin), [&](int, T, T g, T*) { visit(magnitude_bits(g)); });
}

constexpr int kOwnBins = kBins / kThreads;  // of a thread, one beside the other

// The digit in whose bin the rank lies; `own`: this thread's. All threads must call it.
__device__ inline void choose_digit(Selection& selection, const Count (&own)[kOwnBins], int shift) {
  FC_SHARED(Count, sums, [kThreads]);
  Count mine = 0;
#pragma unroll
  for (int k = 0; k < kOwnBins; ++k) mine += own[k];
  sums[threadIdx.x] = mine;
  __syncthreads();
  for (int step = 1; step < kThreads; step *= 2) {
    const Count left = int(threadIdx.x) >= step ? sums[threadIdx.x - step] : 0;
    __syncthreads();
    sums[threadIdx.x] += left;
    __syncthreads();
  }
  int64_t below = selection.below + int64_t(sums[threadIdx.x] - mine);
  const int64_t rank = selection.rank;
  __syncthreads();  // all have read the selection
#pragma unroll
  for (int k = 0; k < kOwnBins; ++k) {
    const int64_t above = below + int64_t(own[k]);
    if (below <= rank && rank < above) {  // in one bin of one thread
      selection.below = below;
      selection.equal = int64_t(own[k]);
      selection.prefix |= Count(int(threadIdx.x) * kOwnBins + k) << shift;
    }
    below = above;
  }
}

namespace {

// Histograms at zero; the quantile of nothing.
__global__ void __launch_bounds__(kThreads) begin_quantile_kernel(BlockMap map, const Selection* selections, Count* bins,
                                                                  double* out) {
  const int64_t i = blockIdx.x, count = map.entries[i].count;
  for (int k = int(threadIdx.x); count > kBlockElements && k < kBins; k += kThreads) bins[selections[i].bins * kBins + k] = 0;
  if (threadIdx.x == 0 && count == 0) out[i] = Limits<double>::infinity;
}

}  // namespace

// The digit below bit `above` of every parameter.
// gate: no spills
template <class T, class P>
__global__ void __launch_bounds__(kThreads) digit_kernel(const __grid_constant__ Launch launch, Selection* selections,
                                                         Count* bins, int above) {
  using Bits = bits_of<T>;
  using Shared = BlockStep<Squares, T>;
  FC_SHARED(Shared, block, [1]);
  FC_SHARED(uint32_t, counts, [kBins]);
  const Piece piece = piece_of_block(launch.map);
  const int64_t blocks = launch.map.first_block[piece.i + 1] - launch.map.first_block[piece.i];
  Selection& selection = selections[piece.i];
  if (threadIdx.x == 0) prepare_block(launch, piece.i, piece.begin, block[0]);
  for (int k = int(threadIdx.x); k < kBins; k += kThreads) counts[k] = 0;
  const Bits prefix = Bits(selection.prefix);
  __syncthreads();
  const Digit digit(above);
  each_magnitude<T, P>(launch, piece, block[0], [&](Bits bits) {
    if (digit.follows(bits, prefix)) atomicAdd(&counts[digit.of(bits)], 1u);
  });
  __syncthreads();
  Count own[kOwnBins];
  if (blocks == 1) {
#pragma unroll
    for (int k = 0; k < kOwnBins; ++k) own[k] = counts[int(threadIdx.x) * kOwnBins + k];
    choose_digit(selection, own, digit.shift);
  } else {
    Count* all = bins + selection.bins * kBins;
    for (int k = int(threadIdx.x); k < kBins; k += kThreads)
      if (counts[k] != 0) atomicAdd(&all[k], Count(counts[k]));
    if (is_last_block(&selection.done, blocks)) {
#pragma unroll
      for (int k = 0; k < kOwnBins; ++k) {
        own[k] = all[int(threadIdx.x) * kOwnBins + k];
        all[int(threadIdx.x) * kOwnBins + k] = 0;
      }
      if (threadIdx.x == 0) selection.done = 0;
      choose_digit(selection, own, digit.shift);
    }
  }
}

// The quantiles, once all digits are known.
// gate: no spills
template <class T, class P>
__global__ void __launch_bounds__(kThreads) quantile_kernel(const __grid_constant__ Launch launch, Selection* selections,
                                                            double* out) {
  using Bits = bits_of<T>;
  using Shared = BlockStep<Squares, T>;
  FC_SHARED(Shared, block, [1]);
  const Piece piece = piece_of_block(launch.map);
  const int64_t blocks = launch.map.first_block[piece.i + 1] - launch.map.first_block[piece.i];
  Selection& selection = selections[piece.i];
  const bool between = selection.between();  // the same for all blocks of the parameter
  const Bits found = Bits(selection.prefix);
  const double low = double(bit_cast<T>(found));
  if (threadIdx.x == 0 && between) prepare_block(launch, piece.i, piece.begin, block[0]);
  __syncthreads();
  if (!between) {
    if (threadIdx.x == 0 && piece.begin == 0) out[piece.i] = low;
  } else {
    Count next = ~Count(0);
    each_magnitude<T, P>(launch, piece, block[0], [&](Bits bits) {
      if (bits > found && Count(bits) < next) next = bits;
    });
    next = block_reduce<kThreads>(next, MinOp());
    if (threadIdx.x == 0) atomicMin(&selection.next, next);
    if (is_last_block(&selection.done, blocks) && threadIdx.x == 0) {
      const double high = double(bit_cast<T>(Bits(atomicMin(&selection.next, ~Count(0)))));
      out[piece.i] = low + selection.rest * (high - low);
    }
  }
}

}  // namespace fc::optim
