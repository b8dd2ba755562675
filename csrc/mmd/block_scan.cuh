// Running sums over a block, in one fixed order.
#pragma once
#include "../common/block.cuh"

namespace fc::mmd {

// The sum of `value` over the threads before this one; `total` becomes that over all. All threads must call it; it may be
// called again at once.
template <int threads, class T>
__device__ T block_scan(T value, T& total) {
  constexpr int warps = threads / kWarp;
  FC_SHARED(T, per_warp, [warps]);
  const int lane = int(threadIdx.x) % kWarp, warp = int(threadIdx.x) / kWarp;
  T upto = value;
#pragma unroll
  for (int step = 1; step < kWarp; step *= 2) {
    const T below = __shfl_up_sync(kFullWarp, upto, step);
    upto = lane >= step ? below + upto : upto;
  }
  if (lane == kWarp - 1) per_warp[warp] = upto;
  const T below = __shfl_up_sync(kFullWarp, upto, 1);
  __syncthreads();
  T before = 0;
  total = 0;
  for (int w = 0; w < warps; ++w) {
    if (w == warp) before = total;
    total += per_warp[w];
  }
  __syncthreads();  // nobody may overwrite per_warp in the next call before all have read
  return lane == 0 ? before : before + below;
}

}  // namespace fc::mmd
