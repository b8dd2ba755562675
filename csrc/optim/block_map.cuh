// Which part of which parameter a block works on.
#pragma once
#include "../common/block.cuh"
#include "step_launch.h"

namespace fc::optim {

constexpr int kThreads = 256;

// The parameter whose blocks hold block `b`: the last that begins no later. A block's threads look at 256 places at a time.
// All threads must call it.
__device__ inline int64_t parameter_of_block(const BlockMap& map, int64_t b) {
  int64_t low = 0, count = map.n;
  while (count > 1) {
    const int64_t stride = (count + kThreads - 1) / kThreads, mine = int64_t(threadIdx.x) * stride;
    const int begun = __syncthreads_count(mine < count && map.first_block[low + mine] <= b);
    low += (begun - 1) * stride;
    count = count - (begun - 1) * stride < stride ? count - (begun - 1) * stride : stride;
  }
  return low;
}

// Elements [begin, end) of parameter `i`.
struct Piece {
  int64_t i, begin, end;
};

__device__ inline Piece piece_of_block(const BlockMap& map) {
  const int64_t b = blockIdx.x, i = parameter_of_block(map, b);
  const int64_t elements = map.rows ? map.rows[i].block_elements() : kBlockElements;
  const int64_t begin = (b - map.first_block[i]) * elements, count = map.entries[i].count, end = begin + elements;
  return {i, begin, end < count ? end : count};
}

// Whether this block is the last of so many to come here; what the others wrote before is there then. All threads must call
// it, once.
__device__ inline bool is_last_block(uint32_t* blocks_done, int64_t blocks) {
  FC_SHARED(bool, last, [1]);
  __syncthreads();
  if (threadIdx.x == 0) {
    __threadfence();
    last[0] = int64_t(atomicAdd(blocks_done, 1u)) == blocks - 1;
    __threadfence();
  }
  __syncthreads();
  return last[0];
}

}  // namespace fc::optim
