// One step of a rule over many parameters, in one launch. A block has a part of one parameter.
#pragma once
#include "block_step.cuh"

namespace fc::optim {

// Blocks that a multiprocessor should hold. AdaBelief with 82 registers, of which two blocks fit, ran at 0.87 of its speed
// with 80, of which three do. Only float32 has been tried.
template <class P, class S>
constexpr int kResidentBlocks = sizeof(P) == 4 && sizeof(S) == 4 ? 3 : 2;

// gate: no spills
template <class Rule, class T, class P, class S>
__global__ void __launch_bounds__(kThreads, kResidentBlocks<P, S>) step_kernel(const __grid_constant__ Launch launch) {
  using Shared = BlockStep<Rule, T>;
  FC_SHARED(Shared, block, [1]);
  const bool skipped = launch.found_inf.read() != 0;  // the same for all blocks
  const Piece piece = piece_of_block(launch.map);
  if (threadIdx.x == 0 && !skipped) prepare_block(launch, piece.i, piece.begin, block[0]);
  __syncthreads();
  if (!skipped) {
    const Entry& entry = launch.map.entries[piece.i];
    const Elements<Rule, T, P, S, true> elements(launch, block[0], entry, piece.begin);
    const auto step = block[0].step;  // a copy: nothing that is stored can change it
    elements.all(launch, int(piece.end - piece.begin),
                 [&](int, T& x, T g, T* s) { Rule::apply(step, x, g, s); });
  }
  if (launch.counters.steps != nullptr)
    if (is_last_block(launch.counters.blocks_done, gridDim.x) && !skipped) advance_counters<Rule, T>(launch, block[0].hyper);
}

}  // namespace fc::optim
