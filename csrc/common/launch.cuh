// Kernel launch, shared memory, stream and the operators' namespace. With block.cuh the only
// code that knows which of two builds is running:
//
//   nvcc          the real thing: namespace fastcore_ops, dispatch key CUDA;
//   g++ (tests)   the CPU twin: threads are fibers, the very same kernels, launchers and
//                 registrations run on CPU tensors in the namespace fastcore_cuda_on_cpu.
//
// A kernel file includes this header, block.cuh and formula headers, and nothing of CUDA. It
// writes launch(...) for <<<...>>>, FC_SHARED / FC_DYNAMIC_SHARED for __shared__, and
//   STABLE_TORCH_LIBRARY_IMPL(FC_OPS_NAMESPACE, FC_OPS_KEY, m) { m.impl("op", TORCH_BOX(&op)); }
// Further rules: no early return before a barrier, one barrier per source line, no spinning on
// another block, int64 indices, kernels in an anonymous namespace.
#pragma once

#ifdef __CUDACC__
#include <cuda_runtime.h>

#define FC_OPS_NAMESPACE fastcore_ops
#define FC_OPS_KEY CUDA
// Static shared array: FC_SHARED(float, tile, [32][33]); the type must not contain a comma.
#define FC_SHARED(T, name, dims) __shared__ T name dims
// Dynamic shared memory of the launch as T*, aligned for any built-in vector type.
#define FC_DYNAMIC_SHARED(T, name)                                         \
  extern __shared__ __align__(16) unsigned char fc_dynamic_shared_bytes[]; \
  T* name = reinterpret_cast<T*>(fc_dynamic_shared_bytes)
#else
#include "cuda_on_cpu.h"

#define FC_OPS_NAMESPACE fastcore_cuda_on_cpu
#define FC_OPS_KEY CPU
// The lambda's type is unique to this place in the source: it is what finds the variable.
#define FC_SHARED(T, name, dims)     \
  typedef T name##_shared_type dims; \
  auto& name = ::cuda_on_cpu::shared<name##_shared_type>([] {})
#define FC_DYNAMIC_SHARED(T, name) T* name = static_cast<T*>(::cuda_on_cpu::dynamic_shared())
#endif

#include <torch/csrc/inductor/aoti_torch/c/shim.h>
#include <torch/csrc/stable/accelerator.h>
#include <torch/csrc/stable/library.h>
#include <torch/csrc/stable/macros.h>
#include <torch/csrc/stable/ops.h>
#include <torch/csrc/stable/tensor.h>

#include <cstddef>
#include <cstdint>
#include <utility>

namespace fc {

// Makes the tensor's device current for a launcher's lifetime.
#ifdef __CUDACC__
struct DeviceScope {
  explicit DeviceScope(const torch::stable::Tensor& t) : guard(t.get_device_index()) {}
  torch::stable::accelerator::DeviceGuard guard;
};
#else
struct DeviceScope {
  explicit DeviceScope(const torch::stable::Tensor&) {}
};
#endif

// PyTorch's current stream on the tensor's device.
inline cudaStream_t current_stream([[maybe_unused]] const torch::stable::Tensor& t) {
#ifdef __CUDACC__
  void* stream = nullptr;
  TORCH_ERROR_CODE_CHECK(aoti_torch_get_current_cuda_stream(t.get_device_index(), &stream));
  return static_cast<cudaStream_t>(stream);
#else
  return nullptr;
#endif
}

// Whether kernels can reach the tensor's memory. (The twin's kernels reach all memory: there a test says what is taken to
// be out of reach.)
inline bool is_on_device([[maybe_unused]] const torch::stable::Tensor& t) {
#ifdef __CUDACC__
  return !t.is_cpu();
#else
  return ::cuda_on_cpu::reaches(t.data_ptr());
#endif
}

// Whether the stream is being recorded into a graph: then nothing on the host may be read later.
inline bool is_capturing([[maybe_unused]] cudaStream_t stream) {
#ifdef __CUDACC__
  cudaStreamCaptureStatus status = cudaStreamCaptureStatusNone;
  STD_CUDA_CHECK(cudaStreamIsCapturing(stream, &status));
  return status != cudaStreamCaptureStatusNone;
#else
  return ::cuda_on_cpu::is_capturing();
#endif
}

// Whether host memory that a copy reads later must be pinned.
#ifdef __CUDACC__
constexpr bool kHasPinnedMemory = true;
#else
constexpr bool kHasPinnedMemory = false;
#endif

// Whether a kernel may have 32764 bytes of arguments, as from CUDA 12.1 on, instead of 4096.
#ifdef __CUDACC__
constexpr bool kCompilesLargeArguments = CUDART_VERSION >= 12010;
#else
constexpr bool kCompilesLargeArguments = true;
#endif
inline bool takes_large_arguments() {
#ifdef __CUDACC__
  int driver = 0;
  STD_CUDA_CHECK(cudaDriverGetVersion(&driver));
  return kCompilesLargeArguments && driver >= 12010;
#else
  return true;
#endif
}

// How much shared memory a block may have on the tensor's device: 227 KB on an H100, 99 KB on the smallest.
inline size_t shared_bytes_per_block([[maybe_unused]] const torch::stable::Tensor& t) {
#ifdef __CUDACC__
  int bytes = 0;
  STD_CUDA_CHECK(cudaDeviceGetAttribute(&bytes, cudaDevAttrMaxSharedMemoryPerBlockOptin, t.get_device_index()));
  return size_t(bytes);
#else
  return size_t(227) << 10;
#endif
}

// Copies 4, 8 or 16 aligned bytes from global to shared memory while the thread goes on; zeros, and nothing is read,
// where `wanted` is false. Until a barrier only the thread that copied may read them. (The twin copies at once: it cannot
// show that a wait is missing.)
template <int bytes>
__device__ inline void copy_behind(void* shared, const void* global, bool wanted) {
#ifdef __CUDACC__
  const unsigned to = static_cast<unsigned>(__cvta_generic_to_shared(shared)), size = wanted ? bytes : 0;
  if constexpr (bytes == 16)
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(to), "l"(global), "r"(size) : "memory");
  else
    asm volatile("cp.async.ca.shared.global [%0], [%1], %2, %3;" ::"r"(to), "l"(global), "n"(bytes), "r"(size) : "memory");
#else
  struct alignas(bytes) Bytes { char b[bytes]; };
  *static_cast<Bytes*>(shared) = wanted ? *static_cast<const Bytes*>(global) : Bytes{};
#endif
}

// Makes one group of the copies begun since the last call, were it none.
__device__ inline void close_copies() {
#ifdef __CUDACC__
  asm volatile("cp.async.commit_group;" ::: "memory");
#endif
}

// Returns when all groups but the last `pending` are there.
template <int pending>
__device__ inline void wait_for_copies() {
#ifdef __CUDACC__
  asm volatile("cp.async.wait_group %0;" ::"n"(pending) : "memory");
#endif
}

// Makes the compiler forget where a number or pointer came from. What it would derive from it ahead of a long loop, and
// keep in registers that are not there, it then derives where it is used.
template <class T>
__device__ inline void forget_origin(T& x) {
#ifdef __CUDACC__
  if constexpr (sizeof(T) == 8) asm volatile("" : "+l"(x));
  else asm volatile("" : "+r"(x));
#else
  (void)x;
#endif
}

// kernel<<<grid, block, shared_bytes, stream>>>(args...), checked. Arguments are converted to
// the kernel's parameter types; a kernel template needs its arguments written out.
template <class... Params, class... Args>
void launch(void (*kernel)(Params...), dim3 grid, dim3 block, size_t shared_bytes,
            cudaStream_t stream, Args&&... args) {
#ifdef __CUDACC__
  if (shared_bytes > size_t(32) << 10)  // beyond 48 KB, with its static variables, a kernel has to ask
    STD_CUDA_CHECK(cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize,
                                        static_cast<int>(shared_bytes)));
  cudaLaunchConfig_t config{};
  config.gridDim = grid;
  config.blockDim = block;
  config.dynamicSmemBytes = shared_bytes;
  config.stream = stream;
  STD_CUDA_CHECK(cudaLaunchKernelEx(&config, kernel, std::forward<Args>(args)...));
#else
  (void)stream;
  ::cuda_on_cpu::launch(kernel, grid, block, shared_bytes, std::forward<Args>(args)...);
#endif
}

}  // namespace fc
