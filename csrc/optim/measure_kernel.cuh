// Sums over parameters or rows: a block's part first, then a block adds up what those of a parameter have found. Cuts depend
// on sizes alone and every sum has one order.
#pragma once
#include "block_sums.cuh"

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
    elements.all(launch, int(piece.end - piece.begin),
                 [&](int, T x, T g, T* s) { add_products<Rule>(step, x, g, s, sums); });
  }
#pragma unroll
  for (int k = 0; k < Rule::sums; ++k) {
    const double sum = block_sum<kThreads>(sums[k]);
    if (threadIdx.x == 0) partial[Rule::sums * int64_t(blockIdx.x) + k] = sum;
  }
}

// out[k, i]: the sums of entry i.
// gate: no spills
template <int count>
__global__ void __launch_bounds__(kThreads) add_sums_kernel(BlockMap map, const double* partial, double* out) {
  const int64_t i = blockIdx.x;
  add_blocks<count>(partial, map.first_block[i], map.first_block[i + 1], out + i, map.n);
}

// The same by row. out[k, row]: the sums of a row that fits a block, which is then done; partial: those of a block of one
// that does not.
// gate: no spills
template <class Rule, class T, class P, class S>
__global__ void __launch_bounds__(kThreads, 2) measure_rows_kernel(const __grid_constant__ Launch launch, double* partial,
                                                                   double* out, int64_t all_rows) {
  using Shared = BlockStep<Rule, T>;
  FC_SHARED(Shared, block, [1]);
  const bool skipped = launch.found_inf.read() != 0;
  const Piece piece = piece_of_block(launch.map);
  if (threadIdx.x == 0 && !skipped) prepare_block(launch, piece.i, piece.begin, block[0]);
  __syncthreads();
  const RowSpan& span = launch.map.rows[piece.i];
  const RowGroups groups(span.fits() ? span.length : piece.end - piece.begin, piece.end - piece.begin);
  double* found = span.fits() ? out + span.first + piece.begin / span.length : partial + Rule::sums * int64_t(blockIdx.x);
  const int64_t stride = span.fits() ? all_rows : 1;
  for (int first = 0; first < groups.rows; first += groups.count) {
    const int row = first + groups.group;
    double sums[Rule::sums] = {};
    if (!skipped && row < groups.rows) {
      const Entry& entry = launch.map.entries[piece.i];
      const Elements<Rule, T, P, S, false> elements(launch, block[0], entry, piece.begin);
      const auto step = block[0].step;
      elements.shared_out(launch, row * groups.length, groups.length, groups.lane, groups.lanes,
                          [&](int, T x, T g, T* s) { add_products<Rule>(step, x, g, s, sums); });
    }
#pragma unroll
    for (int k = 0; k < Rule::sums; ++k) {
      const double sum = groups.sum(sums[k]);
      if (groups.lane == 0 && row < groups.rows) found[k * stride + row] = sum;
    }
  }
}

// Of rows that are longer than a block; and rows of nothing, which have none.
// gate: no spills
template <int count>
__global__ void __launch_bounds__(kThreads) add_row_sums_kernel(BlockMap map, const double* partial, double* out,
                                                                int64_t all_rows) {
  const int64_t i = blockIdx.x;
  const RowSpan& span = map.rows[i];
  if (!span.fits()) add_blocks<count>(partial, map.first_block[i], map.first_block[i + 1], out + span.first, all_rows);
  for (int64_t row = threadIdx.x; span.length == 0 && row < span.rows; row += kThreads)
#pragma unroll
    for (int k = 0; k < count; ++k) out[k * all_rows + span.first + row] = 0;
}

}  // namespace fc::optim
