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

// kernel<<<grid, block, shared_bytes, stream>>>(args...), checked. Arguments are converted to
// the kernel's parameter types; a kernel template needs its arguments written out.
template <class... Params, class... Args>
void launch(void (*kernel)(Params...), dim3 grid, dim3 block, size_t shared_bytes,
            cudaStream_t stream, Args&&... args) {
#ifdef __CUDACC__
  if (shared_bytes > size_t(48) << 10)  // beyond 48 KB a kernel has to ask
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
