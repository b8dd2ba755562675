// Ranks of a slice in shared memory: a block sorts both sides and looks its points up. Uniform weights, float32.
#pragma once
#include "shared_sort.cuh"

namespace fc::mmd {

struct SharedSlices {
  const float *x, *y;  // a slice a row
  int n, m;
  bool y_is_sorted, unbiased;
  float *grad_x, *grad_y;  // null: not wanted
  double* value;
  const int32_t* left;  // which slices to sort, those with 1; null: all
};

// Gradients at a side's points, in their own order.
template <int threads>
__device__ void write_gradients(const float* points, const uint32_t* own, int n, const uint32_t* other, int m, bool unbiased,
                                bool finite, float* gradient) {
  const UniformSide side = uniform_side(n, m, unbiased);
  for (int i = int(threadIdx.x); i < n; i += threads) {
    float g = __uint_as_float(0x7fc00000u);
    if (finite) {
      const uint32_t key = ordered_key(points[i]);
      const int q_own = doubled_rank(own, n, key, 1), q_other = doubled_rank(other, m, key, 0);
      g = float(rank_numerator(side, double(q_own), double(q_other)) * side.scale);
    }
    gradient[i] = g;
  }
}

// What the gaps behind a side's points, up to the next point of the union, add to the value; `or_equal` where equal points
// of the other side come first. `spread` becomes what the gaps up to the side's own next point add to its mean |x_i - x_k|.
template <int threads, bool or_equal>
__device__ double add_gaps(const uint32_t* own, int n, const uint32_t* other, int m, double& spread) {
  const double scale = 1.0 / (double(n) * double(m));
  double sum = 0;
  spread = 0;
  for (int i = int(threadIdx.x); i < n; i += threads) {
    const uint32_t key = own[i];
    const int below = count_below<or_equal>(other, m, key);
    const uint32_t own_next = own[i + 1], next = min(own_next, other[below]);
    const double at = double(from_key<float>(key));
    const double running = (double(m) * double(i + 1) - double(n) * double(below)) * scale;
    if (next != kLastKey<uint32_t>) sum += value_term(double(from_key<float>(next)) - at, running, 0.0);
    if (own_next != kLastKey<uint32_t>)
      spread += (double(from_key<float>(own_next)) - at) * (double(i + 1) * double(n - 1 - i));
  }
  spread *= 2.0 / (double(n) * double(n));
  return sum;
}

template <int threads>
__device__ double value_of_slice(const uint32_t* x, const uint32_t* y, const SharedSlices& slices) {
  double spread_x, spread_y;
  double value = add_gaps<threads, true>(x, slices.n, y, slices.m, spread_x);
  value = block_sum<threads>(value + add_gaps<threads, false>(y, slices.m, x, slices.n, spread_y));
  if (!slices.unbiased) return value;  // the same for the whole block
  const double of_x = block_sum<threads>(spread_x);
  const double of_y = block_sum<threads>(spread_y);
  return unbiased_value(value, of_x, of_y, slices.n, slices.m);
}

template <int threads, int items>
__device__ void rank_by_sorting(const SharedSlices& slices, int64_t slice, uint32_t* memory) {
  using Counts = DigitCounts<threads>;
  Counts& counts = *reinterpret_cast<Counts*>(memory);
  const int n = slices.n, m = slices.m;
  const float *points_x = slices.x + slice * n, *points_y = slices.y + slice * m;
  uint32_t *x = memory + sizeof(Counts) / sizeof(uint32_t), *y = x + n + kPad;
  load_sorted<threads, items>(points_x, n, false, x, counts);
  __syncthreads();
  load_sorted<threads, items>(points_y, m, slices.y_is_sorted, y, counts);
  __syncthreads();
  const bool finite = are_finite<float>(x[0], x[n - 1]) && are_finite<float>(y[0], y[m - 1]);
  if (slices.grad_x)
    write_gradients<threads>(points_x, x, n, y, m, slices.unbiased, finite, slices.grad_x + slice * n);
  if (slices.grad_y)
    write_gradients<threads>(points_y, y, m, x, n, slices.unbiased, finite, slices.grad_y + slice * m);
  if (slices.value) {
    const double value = value_of_slice<threads>(x, y, slices);
    if (threadIdx.x == 0) slices.value[slice] = finite ? value : __longlong_as_double(0x7ff8000000000000ll);
  }
}

// gate: no spills
template <int threads, int items>
__global__ void __launch_bounds__(threads) shared_rank_kernel(const SharedSlices slices) {
  FC_DYNAMIC_SHARED(uint32_t, memory);
  const int64_t slice = blockIdx.x;
  if (!slices.left || slices.left[slice]) rank_by_sorting<threads, items>(slices, slice, memory);  // all threads, or none
}

}  // namespace fc::mmd
