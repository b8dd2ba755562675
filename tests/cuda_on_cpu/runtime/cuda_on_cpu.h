// Tests only: what g++ sees in place of CUDA when it compiles a .cu file. Kernels run on the
// CPU, one block after another, the threads of a block as fibers. README.md of the folder above
// says what this finds and what it cannot.
#pragma once
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <tuple>
#include <type_traits>
#include <utility>

#define __global__
#define __device__
#define __host__
#define __constant__ static
#define __forceinline__ inline
#define __launch_bounds__(...)
#define __grid_constant__
#ifndef __restrict__
#define __restrict__ __restrict
#endif

#include "device_functions.h"

struct dim3 {
  unsigned x, y, z;
  constexpr dim3(unsigned x_ = 1, unsigned y_ = 1, unsigned z_ = 1) : x(x_), y(y_), z(z_) {}
};
using cudaStream_t = void*;
constexpr int warpSize = 32;

namespace cuda_on_cpu {

// Where a kernel called a collective: filled in by default arguments at the call.
struct Place {
  const char* file;
  int line;
};
#define CUDA_ON_CPU_PLACE ::cuda_on_cpu::Place place = {__builtin_FILE(), __builtin_LINE()}

extern uint3 thread_index, block_index;
extern dim3 block_size, grid_size;

enum class Collective { kShuffle, kVote, kMatch, kSyncWarp };

// What a lane knows after a warp collective: the value of each lane that took part.
struct Gathered {
  const uint64_t* values;
  unsigned present;
};

unsigned lane_index();
Gathered gather_warp(Collective kind, unsigned mask, uint64_t value, Place place);
int wait_for_block(int predicate, Place place);  // returns the sum of the predicates
void fence();
void* shared_variable(const void* key, size_t bytes, size_t alignment);
void* dynamic_shared();
void launch_blocks(dim3 grid, dim3 block, size_t shared_bytes, void (*body)(void*), void* argument);

// What a test says of the host: memory that kernels are taken not to reach; whether a graph is being recorded.
bool reaches(const void* address);
bool is_capturing();

// The block's shared variable declared at one place in the source, which the lambda's type names.
template <class T, class Lambda>
T& shared(Lambda) {
  static const char key = 0;
  return *static_cast<T*>(shared_variable(&key, sizeof(T), alignof(T) < 16 ? 16 : alignof(T)));
}

template <class... Params, class... Args>
void launch(void (*kernel)(Params...), dim3 grid, dim3 block, size_t shared_bytes, Args&&... args) {
  // Copied before the launch, as a device would.
  auto call = std::make_pair(kernel, std::tuple<std::decay_t<Params>...>(std::forward<Args>(args)...));
  auto body = [](void* p) {
    auto& c = *static_cast<decltype(call)*>(p);
    std::apply(c.first, c.second);
  };
  launch_blocks(grid, block, shared_bytes, body, &call);
}

template <class T>
uint64_t to_bits(T value) {
  static_assert(sizeof(T) <= 8, "a shuffle moves at most 8 bytes");
  uint64_t bits = 0;
  memcpy(&bits, &value, sizeof value);
  return bits;
}
template <class T>
T from_bits(uint64_t bits) {
  T value;
  memcpy(&value, &bits, sizeof value);
  return value;
}

// A lane that is not there has no value to give: NaN or -1, so that it shows.
template <class T>
T shuffle(unsigned mask, T value, int source, Place place) {
  Gathered all = gather_warp(Collective::kShuffle, mask, to_bits(value), place);
  return from_bits<T>(all.present >> source & 1 ? all.values[source] : ~uint64_t(0));
}

}  // namespace cuda_on_cpu

#define threadIdx (::cuda_on_cpu::thread_index)
#define blockIdx (::cuda_on_cpu::block_index)
#define blockDim (::cuda_on_cpu::block_size)
#define gridDim (::cuda_on_cpu::grid_size)

inline void __syncthreads(CUDA_ON_CPU_PLACE) { cuda_on_cpu::wait_for_block(0, place); }
inline int __syncthreads_count(int p, CUDA_ON_CPU_PLACE) {
  return cuda_on_cpu::wait_for_block(p != 0, place);
}
inline int __syncthreads_or(int p, CUDA_ON_CPU_PLACE) {
  return cuda_on_cpu::wait_for_block(p != 0, place) != 0;
}
inline int __syncthreads_and(int p, CUDA_ON_CPU_PLACE) {
  return cuda_on_cpu::wait_for_block(p == 0, place) == 0;
}
inline void __syncwarp(unsigned mask = 0xffffffffu, CUDA_ON_CPU_PLACE) {
  cuda_on_cpu::gather_warp(cuda_on_cpu::Collective::kSyncWarp, mask, 0, place);
}
inline void __threadfence() { cuda_on_cpu::fence(); }
inline void __threadfence_block() { cuda_on_cpu::fence(); }
unsigned __activemask() = delete;  // forbidden: CUDA promises nothing about its value

// Shuffles inside segments of `width` lanes (a power of two), as the CUDA guide defines them.
template <class T>
T __shfl_sync(unsigned mask, T value, int source, int width = 32, CUDA_ON_CPU_PLACE) {
  int first = int(cuda_on_cpu::lane_index()) & ~(width - 1);
  return cuda_on_cpu::shuffle(mask, value, first + (source & (width - 1)), place);
}
template <class T>
T __shfl_xor_sync(unsigned mask, T value, int bits, int width = 32, CUDA_ON_CPU_PLACE) {
  int lane = int(cuda_on_cpu::lane_index()), source = lane ^ bits;
  bool beyond = (source & ~(width - 1)) > (lane & ~(width - 1));
  return cuda_on_cpu::shuffle(mask, value, beyond ? lane : source, place);
}
template <class T>
T __shfl_down_sync(unsigned mask, T value, unsigned delta, int width = 32, CUDA_ON_CPU_PLACE) {
  int lane = int(cuda_on_cpu::lane_index());
  bool inside = (lane & (width - 1)) + int64_t(delta) < width;
  return cuda_on_cpu::shuffle(mask, value, inside ? lane + int(delta) : lane, place);
}
template <class T>
T __shfl_up_sync(unsigned mask, T value, unsigned delta, int width = 32, CUDA_ON_CPU_PLACE) {
  int lane = int(cuda_on_cpu::lane_index());
  bool inside = (lane & (width - 1)) >= int64_t(delta);
  return cuda_on_cpu::shuffle(mask, value, inside ? lane - int(delta) : lane, place);
}
inline unsigned __ballot_sync(unsigned mask, int predicate, CUDA_ON_CPU_PLACE) {
  auto all = cuda_on_cpu::gather_warp(cuda_on_cpu::Collective::kVote, mask, predicate != 0, place);
  unsigned result = 0;
  for (int lane = 0; lane < 32; ++lane)
    if (all.present >> lane & 1) result |= unsigned(all.values[lane]) << lane;
  return result;
}
inline int __any_sync(unsigned mask, int predicate, CUDA_ON_CPU_PLACE) {
  return __ballot_sync(mask, predicate, place) != 0;
}
inline int __all_sync(unsigned mask, int predicate, CUDA_ON_CPU_PLACE) {
  return __ballot_sync(mask, !predicate, place) == 0;
}
template <class T>
unsigned __match_any_sync(unsigned mask, T value, CUDA_ON_CPU_PLACE) {
  uint64_t mine = cuda_on_cpu::to_bits(value);
  auto all = cuda_on_cpu::gather_warp(cuda_on_cpu::Collective::kMatch, mask, mine, place);
  unsigned result = 0;
  for (int lane = 0; lane < 32; ++lane)
    if ((all.present >> lane & 1) && all.values[lane] == mine) result |= 1u << lane;
  return result;
}
