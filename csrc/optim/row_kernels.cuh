// Steps that look at rows, in a fixed number of launches: AdamP's and SGDP's projections, and sizes that differ from row to
// row. Nobody on the host knows how a parameter is projected; blocks that have nothing to do leave at once.
#pragma once
#include "adamp.h"
#include "block_sums.cuh"
#include "dog.h"

namespace fc::optim {

__device__ inline int projection_of(const Launch& launch, int64_t i) {
  return int(launch.coefficients[launch.map.entries[i].column + 4 * launch.columns]);
}

// partial[2 b …]: the sums of block b, if its parameter is projected as a whole or along a row that does not fit a block.
// gate: no spills
template <class Rule, class T, class P, class S>
__global__ void __launch_bounds__(kThreads, 2) direction_kernel(const __grid_constant__ Launch launch, double* partial) {
  using Looking = DirectionSums<Rule>;
  using Shared = BlockStep<Rule, T>;
  FC_SHARED(Shared, block, [1]);
  const Piece piece = piece_of_block(launch.map);
  const int how = projection_of(launch, piece.i);
  const bool apart = how == of_whole || (how == of_rows && !launch.map.rows[piece.i].fits());
  const bool wanted = apart && launch.found_inf.read() == 0;  // the same for the whole block
  if (threadIdx.x == 0 && wanted) prepare_block(launch, piece.i, piece.begin, block[0]);
  __syncthreads();
  if (wanted) {
    const Elements<Looking, T, P, S, false> elements(launch, block[0], launch.map.entries[piece.i], piece.begin);
    const auto step = block[0].step;
    double sums[2] = {};
    elements.all(launch, int(piece.end - piece.begin),
                 [&](int, T x, T g, T* s) { add_products<Looking>(step, x, g, s, sums); });
#pragma unroll
    for (int k = 0; k < 2; ++k) {
      const double sum = block_sum<kThreads>(sums[k]);
      if (threadIdx.x == 0) partial[2 * int64_t(blockIdx.x) + k] = sum;
    }
  }
}

// shares[i]: what is taken out along entry i; for a whole parameter, at its first entry.
// gate: no spills
template <class Rule>
__global__ void __launch_bounds__(kThreads) shares_kernel(const __grid_constant__ Launch launch, const double* partial,
                                                          double* shares) {
  FC_SHARED(double, sums, [2]);
  const int64_t i = blockIdx.x;
  const RowSpan& span = launch.map.rows[i];
  const int how = projection_of(launch, i);
  const bool whole = how == of_whole && span.head == i, row = how == of_rows && !span.fits();
  if ((whole || row) && launch.found_inf.read() == 0) {  // the same for the whole block
    add_blocks<2>(partial, launch.map.first_block[i], launch.map.first_block[whole ? span.tail : i + 1], sums, 1);
    if (threadIdx.x == 0) shares[i] = share_along(sums, launch.hyper[Rule::eps]);
  }
}

// The step. Rows that fit a block are summed and stepped while they are in the cache.
// gate: no spills
template <class Rule, class T, class P, class S>
__global__ void __launch_bounds__(kThreads, 2) project_kernel(const __grid_constant__ Launch launch, const double* shares) {
  using Looking = DirectionSums<Rule>;
  using Shared = BlockStep<Rule, T>;
  FC_SHARED(Shared, block, [1]);
  const bool skipped = launch.found_inf.read() != 0;
  const Piece piece = piece_of_block(launch.map);
  if (threadIdx.x == 0 && !skipped) prepare_block(launch, piece.i, piece.begin, block[0]);
  __syncthreads();
  if (!skipped) {
    const Entry& entry = launch.map.entries[piece.i];
    const RowSpan& span = launch.map.rows[piece.i];
    const int how = projection_of(launch, piece.i);
    const bool here = how == of_rows && span.fits(), projected = how != none;
    const RowGroups groups(here ? span.length : piece.end - piece.begin, piece.end - piece.begin);
    const Elements<Looking, T, P, S, false> looking(launch, block[0], entry, piece.begin);
    const Elements<Rule, T, P, S, true> elements(launch, block[0], entry, piece.begin);
    const auto step = block[0].step;
    double share = here || !projected ? 0.0 : shares[how == of_whole ? span.head : piece.i];
    for (int first = 0; first < groups.rows; first += groups.count) {
      const int row = first + groups.group, begin = row * groups.length;
      if (here) {
        double sums[2] = {};
        if (row < groups.rows)
          looking.shared_out(launch, begin, groups.length, groups.lane, groups.lanes,
                             [&](int, T x, T g, T* s) { add_products<Looking>(step, x, g, s, sums); });
        sums[0] = groups.sum(sums[0]);
        sums[1] = groups.sum(sums[1]);
        share = share_along(sums, launch.hyper[Rule::eps]);
      }
      if (row >= groups.rows) continue;
      const T along = T(share);
      elements.shared_out(launch, begin, groups.length, groups.lane, groups.lanes, [&](int, T& x, T g, T* s) {
        T u = Rule::direction(step, x, g, s);
        if (projected) u -= x * along;
        Rule::move(step, x, u, s, projected);
      });
    }
  }
  if (launch.counters.steps != nullptr)
    if (is_last_block(launch.counters.blocks_done, gridDim.x) && !skipped) advance_counters<Rule, T>(launch, block[0].hyper);
}

// A gradient step whose size is that of the element's row.
// gate: no spills
template <class T, class P, class S>
__global__ void __launch_bounds__(kThreads, 2) scaled_rows_kernel(const __grid_constant__ Launch launch, const double* sizes) {
  using Shared = BlockStep<ScaledRows, T>;
  FC_SHARED(Shared, block, [1]);
  const bool skipped = launch.found_inf.read() != 0;
  const Piece piece = piece_of_block(launch.map);
  if (threadIdx.x == 0 && !skipped) prepare_block(launch, piece.i, piece.begin, block[0]);
  __syncthreads();
  if (!skipped && piece.end > piece.begin) {
    const RowSpan& span = launch.map.rows[piece.i];
    const Elements<Scaled, T, P, S, true> elements(launch, block[0], launch.map.entries[piece.i], piece.begin);
    const unsigned length = unsigned(span.fits() ? span.length : kBlockElements);
    const double* size = sizes + span.first + (span.fits() ? piece.begin / span.length : 0);
    elements.all(launch, int(piece.end - piece.begin), [&](int j, T& x, T g, T* s) {
      double own = size[unsigned(j) / length];
      Scaled::apply(Scaled::prepare<T>(launch.hyper, 0, &own), x, g, s);
    });
  }
  if (launch.counters.steps != nullptr)
    if (is_last_block(launch.counters.blocks_done, gridDim.x) && !skipped)
      advance_counters<ScaledRows, T>(launch, block[0].hyper);
}

}  // namespace fc::optim
