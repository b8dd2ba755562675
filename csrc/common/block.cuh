// Reductions over a warp and over a block, by shuffles: one fixed order, so equal inputs give
// equal bits on every GPU (and on the CPU twin). Every thread receives the result.
#pragma once
#include "launch.cuh"

namespace fc {

constexpr int kWarp = 32;
constexpr unsigned kFullWarp = 0xffffffffu;

struct MinOp {
  template <class T>
  __device__ T operator()(T a, T b) const { return b < a ? b : a; }
};

struct SumOp {
  template <class T>
  __device__ T operator()(T a, T b) const { return a + b; }
};

// The larger value; NaN only where both are NaN.
struct MaxOp {
  template <class T>
  __device__ T operator()(T a, T b) const { return a < b || a != a ? b : a; }
};

// Butterfly: at each step both partners combine the same two values, and op is commutative,
// so all 32 lanes hold the same bits at the end. All 32 lanes must call it.
template <class T, class Op>
__device__ T warp_reduce(T value, Op op) {
  for (int step = kWarp / 2; step > 0; step /= 2)
    value = op(value, __shfl_xor_sync(kFullWarp, value, step));
  return value;
}

// Over a one-dimensional block of kThreads threads, all of which must call it. May be called
// again at once, in a loop too.
template <int kThreads, class T, class Op>
__device__ T block_reduce(T value, Op op) {
  static_assert(kThreads % kWarp == 0 && kThreads <= 1024, "whole warps only");
  value = warp_reduce(value, op);
  if constexpr (kThreads > kWarp) {
    constexpr int kWarps = kThreads / kWarp;
    FC_SHARED(T, per_warp, [kWarps]);
    if (threadIdx.x % kWarp == 0) per_warp[threadIdx.x / kWarp] = value;
    __syncthreads();
    value = per_warp[0];
    for (int w = 1; w < kWarps; ++w) value = op(value, per_warp[w]);
    __syncthreads();  // nobody may overwrite per_warp in the next call before all have read
  }
  return value;
}

template <int kThreads, class T>
__device__ T block_sum(T value) {
  return block_reduce<kThreads>(value, SumOp());
}

template <int kThreads, class T>
__device__ T block_max(T value) {
  return block_reduce<kThreads>(value, MaxOp());
}

}  // namespace fc
