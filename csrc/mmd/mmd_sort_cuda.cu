// mmd_sort on CUDA: slices in order, with the running sums of their weights. Without weights and in float32 in shared memory
// where a slice fits.
#include "../common/dtype_switch.h"
#include "block_scan.cuh"
#include "segmented_sort.cuh"
#include "shared_sort.cuh"

#include <optional>
#include <tuple>

namespace fc::mmd {
namespace {

constexpr int kScanThreads = 512, kCopyThreads = 256;

// gate: no spills
template <int threads, int items>
__global__ void __launch_bounds__(threads) shared_sort_kernel(const float* points, int n, float* out) {
  using Counts = DigitCounts<threads>;
  FC_DYNAMIC_SHARED(uint32_t, memory);
  Counts& counts = *reinterpret_cast<Counts*>(memory);
  uint32_t* sorted = memory + sizeof(Counts) / sizeof(uint32_t);
  const int64_t first = int64_t(blockIdx.x) * n;
  load_sorted<threads, items>(points + first, n, false, sorted, counts);
  __syncthreads();
  for (int k = int(threadIdx.x); k < n; k += threads) out[first + k] = from_key<float>(sorted[k]);
}

// gate: no spills
template <class T>
__global__ void __launch_bounds__(kCopyThreads) write_sorted_kernel(const word_of<T>* keys, int64_t count, T* out) {
  const int64_t k = int64_t(blockIdx.x) * kCopyThreads + threadIdx.x;
  if (k < count) out[k] = from_key<T>(keys[k]);
}

// cumulative[slice, k]: the weight of the first k of a sorted slice's points. A block a slice.
// gate: no spills
__global__ void __launch_bounds__(kScanThreads)
running_weights_kernel(const int32_t* places, const double* weights, int64_t step, int64_t m, double* cumulative) {
  const int64_t slice = blockIdx.x;
  double* out = cumulative + slice * (m + 1);
  double before = 0;
  for (int64_t begin = 0; begin < m; begin += kScanThreads) {
    const int64_t k = begin + threadIdx.x;
    const double weight = k < m ? weights[slice * step + places[slice * m + k]] : 0.0;
    double total;
    const double upto = before + block_scan<kScanThreads>(weight, total);
    if (k < m) out[k] = upto;
    before += total;
  }
  if (threadIdx.x == 0) out[m] = before;
}

bool sorted_in_shared(const Tensor& y, const Tensor& out) {
  if (y.scalar_type() != ScalarType::Float) return false;
  return with_block(y, y.size(1), y.size(1) + kPad, [&](auto threads, auto items, size_t bytes) {
    launch(shared_sort_kernel<decltype(threads)::value, decltype(items)::value>, unsigned(y.size(0)), threads.value,
           bytes, current_stream(y), data<float>(y), int(y.size(1)), data<float>(out));
  });
}

std::tuple<Tensor, Tensor> mmd_sort(const Tensor& y, const std::optional<Tensor>& y_weights) {
  constexpr const char* op = "mmd_sort";
  FC_CHECK(y.dim() == 2 && y.size(0) > 0 && y.size(1) > 0, op, ": expected points with 2 dimensions, not empty");
  const int64_t slices = y.size(0), m = y.size(1);
  check_tensor(op, "y", y, y.scalar_type(), {slices, m});
  const bool is_shared = y_weights && y_weights->dim() == 1;
  if (is_shared) check_tensor(op, "y_weights", *y_weights, ScalarType::Double, {m});
  else if (y_weights) check_tensor(op, "y_weights", *y_weights, ScalarType::Double, {slices, m});
  const DeviceScope device(y);
  return switch_floating(op, y, [&](auto zero) -> std::tuple<Tensor, Tensor> {
    using T = decltype(zero);
    const Tensor out = new_tensor<T>(y, {slices, m});
    if (!y_weights && sorted_in_shared(y, out)) return {out, new_tensor<double>(y, {0})};
    const cudaStream_t stream = current_stream(y);
    const SortedSlices<T> sorted = sort_slices(op, y, Union<T>{data<T>(y), nullptr, m, 0}, slices);
    const int64_t blocks = (slices * m + kCopyThreads - 1) / kCopyThreads;
    FC_CHECK(blocks < kLongestSlice, op, ": too many points for one launch");
    launch(write_sorted_kernel<T>, unsigned(blocks), kCopyThreads, 0, stream, sorted.pairs.keys, slices * m, data<T>(out));
    if (!y_weights) return {out, new_tensor<double>(y, {0})};
    const Tensor cumulative = new_tensor<double>(y, {slices, m + 1});
    launch(running_weights_kernel, unsigned(slices), kScanThreads, 0, stream, sorted.pairs.places,
           data<double>(*y_weights), is_shared ? int64_t(0) : m, m, data<double>(cumulative));
    return {out, cumulative};
  });
}

}  // namespace
}  // namespace fc::mmd

STABLE_TORCH_LIBRARY_IMPL(FC_OPS_NAMESPACE, FC_OPS_KEY, m) { m.impl("mmd_sort", TORCH_BOX(&fc::mmd::mmd_sort)); }
