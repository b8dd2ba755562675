// mmd_wasserstein on CUDA: W_p^p of each slice along its quantiles. Mass is counted in units of 1 / (N M): the i-th x in
// order has the units from i M to (i + 1) M, the j-th y those from j N to (j + 1) N. A thread goes through the units of one
// point.
#include "../common/dtype_switch.h"
#include "block_scan.cuh"
#include "rank.h"
#include "segmented_sort.cuh"

#include <tuple>

namespace fc::mmd {
namespace {

constexpr int kThreads = 256;

// |gap|^p and its derivative by the gap.
struct Power {
  double p;

  __device__ double of(double gap) const { return p == 2 ? gap * gap : p == 1 ? fabs(gap) : pow(fabs(gap), p); }
  __device__ double slope(double gap) const {
    if (p == 2) return 2 * gap;
    const double sign = gap > 0 ? 1.0 : gap < 0 ? -1.0 : 0.0;
    return p == 1 ? sign : p * pow(fabs(gap), p - 1) * sign;
  }
};

template <class T>
struct Side {
  Pairs<word_of<T>> sorted;
  int64_t count;
  T* gradient;  // null: not wanted

  __device__ double at(int64_t slice, int64_t k) const { return double(from_key<T>(sorted.keys[slice * count + k])); }
  __device__ bool is_finite(int64_t slice) const {
    const word_of<T>* keys = sorted.keys + slice * count;
    return fc::mmd::is_finite(from_key<T>(keys[0])) && fc::mmd::is_finite(from_key<T>(keys[count - 1]));
  }
};

// Calls `take` with each run of units that point k of `own` shares with a point of `other`.
template <class T, class Take>
__device__ void for_shared_units(const Side<T>& own, const Side<T>& other, int64_t k, const Take& take) {
  const int64_t end = (k + 1) * other.count;
  for (int64_t unit = k * other.count; unit < end;) {
    const int64_t j = unit / own.count, next = (j + 1) * own.count < end ? (j + 1) * own.count : end;
    take(j, double(next - unit));
    unit = next;
  }
}

// gate: no spills
template <class T>
__global__ void __launch_bounds__(kThreads)
quantile_gradient_kernel(const Side<T> own, const Side<T> other, int64_t blocks, Power power) {
  const int64_t slice = int64_t(blockIdx.x) / blocks, k = int64_t(blockIdx.x) % blocks * kThreads + threadIdx.x;
  if (k >= own.count) return;
  const double at = own.at(slice, k);
  double sum = 0;
  for_shared_units(own, other, k, [&](int64_t j, double units) { sum += units * power.slope(at - other.at(slice, j)); });
  sum /= double(own.count) * double(other.count);
  if (!own.is_finite(slice) || !other.is_finite(slice)) sum = double(__uint_as_float(0x7fc00000u));
  own.gradient[slice * own.count + own.sorted.places[slice * own.count + k]] = T(sum);
}

// gate: no spills
template <class T>
__global__ void __launch_bounds__(kThreads)
quantile_value_kernel(const Side<T> x, const Side<T> y, Power power, double* value) {
  const int64_t slice = blockIdx.x;
  double sum = 0;
  for (int64_t k = threadIdx.x; k < x.count; k += kThreads) {
    const double at = x.at(slice, k);
    for_shared_units(x, y, k, [&](int64_t j, double units) { sum += units * power.of(at - y.at(slice, j)); });
  }
  sum = block_sum<kThreads>(sum) / (double(x.count) * double(y.count));
  const bool finite = x.is_finite(slice) && y.is_finite(slice);
  if (threadIdx.x == 0) value[slice] = finite ? sum : double(__uint_as_float(0x7fc00000u));
}

template <class T>
void write_gradient(const char* op, const Side<T>& own, const Side<T>& other, int64_t slices, Power power,
                    cudaStream_t stream) {
  if (!own.gradient) return;
  const int64_t blocks = (own.count + kThreads - 1) / kThreads;
  FC_CHECK(slices * blocks < kLongestSlice, op, ": too many points for one launch");
  launch(quantile_gradient_kernel<T>, unsigned(slices * blocks), kThreads, 0, stream, own, other, blocks, power);
}

std::tuple<Tensor, Tensor, Tensor> mmd_wasserstein(const Tensor& x, const Tensor& y, double p, int64_t outputs) {
  constexpr const char* op = "mmd_wasserstein";
  FC_CHECK(x.dim() == 2 && y.dim() == 2, op, ": expected points with 2 dimensions");
  const int64_t slices = x.size(0), n = x.size(1), m = y.size(1);
  FC_CHECK(slices > 0 && n > 0 && m > 0, op, ": empty input");
  check_tensor(op, "x", x, x.scalar_type(), {slices, n});
  check_tensor(op, "y", y, x.scalar_type(), {slices, m});
  const DeviceScope device(x);
  return switch_floating(op, x, [&](auto zero) -> std::tuple<Tensor, Tensor, Tensor> {
    using T = decltype(zero);
    const auto sized = [&](int64_t bit, int64_t count) {
      return outputs & bit ? new_tensor<T>(x, {slices, count}) : new_tensor<T>(x, {0});
    };
    const Tensor grad_x = sized(kGradX, n), grad_y = sized(kGradY, m);
    const Tensor value = new_tensor<double>(x, {outputs & kValue ? slices : 0});
    const SortedSlices<T> sorted_x = sort_slices(op, x, Union<T>{data<T>(x), nullptr, n, 0}, slices);
    const SortedSlices<T> sorted_y = sort_slices(op, x, Union<T>{data<T>(y), nullptr, m, 0}, slices);
    const Side<T> of_x{sorted_x.pairs, n, outputs & kGradX ? data<T>(grad_x) : nullptr};
    const Side<T> of_y{sorted_y.pairs, m, outputs & kGradY ? data<T>(grad_y) : nullptr};
    const cudaStream_t stream = current_stream(x);
    write_gradient(op, of_x, of_y, slices, Power{p}, stream);
    write_gradient(op, of_y, of_x, slices, Power{p}, stream);
    if (outputs & kValue)  // the larger side has more threads
      launch(quantile_value_kernel<T>, unsigned(slices), kThreads, 0, stream, n < m ? of_y : of_x, n < m ? of_x : of_y,
             Power{p}, data<double>(value));
    return {grad_x, grad_y, value};
  });
}

}  // namespace
}  // namespace fc::mmd

STABLE_TORCH_LIBRARY_IMPL(FC_OPS_NAMESPACE, FC_OPS_KEY, m) {
  m.impl("mmd_wasserstein", TORCH_BOX(&fc::mmd::mmd_wasserstein));
}
