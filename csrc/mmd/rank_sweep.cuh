// What is said of a slice along its sorted union: values, potentials, and gradients by running masses. For slices of any
// length, weights and float64. Two launches: a block sweeps a slice and leaves the running masses (and the rise of the
// potentials) at each place; then every point looks up those around its run of equal ones.
#pragma once
#include "../common/tensor.h"
#include "block_radix.cuh"
#include "block_scan.cuh"
#include "segmented_sort.cuh"

namespace fc::mmd {

constexpr int kSweepThreads = 512, kSweepItems = 4, kSweepTile = kSweepThreads * kSweepItems, kWriteThreads = 256;

// A running mass is F - G with weights, or the number of x points.
template <bool weighted>
using Running = std::conditional_t<weighted, double, int32_t>;

template <class T, bool weighted>
struct Sweep {
  Union<T> points;
  Pairs<word_of<T>> sorted;
  Masses masses;
  bool unbiased;
  Running<weighted>* running;  // (slices, size + 1), before each place
  double *rise_x, *rise_y;     // (slices, size): of the potential, from the first point to each; null: not wanted
  double *start_x, *start_y;   // (slices): the potential at the first point
  T *grad_x, *grad_y;          // null: not wanted
  double *value, *potential_x, *potential_y;
};

// F and G behind a place of a sorted union, and what follows from them over the gap there.
struct Behind {
  double f, g, running, total;  // with weights only the last two
  bool is_uniform;

  // Of sum_j b_j |t - y_j| - pairs sum_i a_i |t - x_i|, pairs = N / (N - 1) for the U-statistic, else 1; and of the same
  // with x and y exchanged.
  __device__ double slope_x(double pairs) const {
    return is_uniform ? (2 * g - 1) - pairs * (2 * f - 1) : potential_slope(running, total);
  }
  __device__ double slope_y(double pairs) const {
    return is_uniform ? (2 * f - 1) - pairs * (2 * g - 1) : -potential_slope(running, total);
  }
  __device__ double start_x(double gap, double pairs) const {
    return is_uniform ? gap * ((1 - g) - pairs * (1 - f)) : potential_start_term(gap, running, total);
  }
  __device__ double start_y(double gap, double pairs) const {
    return is_uniform ? gap * ((1 - f) - pairs * (1 - g)) : -potential_start_term(gap, running, total);
  }
};

// Difference of the totals of a slice's weights.
template <class T, bool weighted>
__device__ double total_of_slice(const Sweep<T, weighted>& sweep, int64_t slice) {
  if constexpr (!weighted) return 0;
  double total = 0;
  for (int64_t i = threadIdx.x; i < sweep.points.n; i += kSweepThreads) total += sweep.masses.of_x(slice, i);
  for (int64_t j = threadIdx.x; j < sweep.points.m; j += kSweepThreads) total -= sweep.masses.of_y(slice, j);
  return block_sum<kSweepThreads>(total);
}

template <class T, bool weighted>
__device__ Running<weighted> mass_at(const Sweep<T, weighted>& sweep, int64_t slice, int64_t place) {
  const int64_t n = sweep.points.n;
  if constexpr (weighted)
    return place < n ? sweep.masses.of_x(slice, place) : -sweep.masses.of_y(slice, place - n);
  else
    return place < n;
}

// With `running` of the first `k` points.
template <class T, bool weighted>
__device__ Behind behind(const Sweep<T, weighted>& sweep, Running<weighted> running, int64_t k, double total) {
  if constexpr (weighted) {
    return {0, 0, running, total, false};
  } else {
    const double n = double(sweep.points.n), m = double(sweep.points.m), x = double(running), y = double(k) - x;
    return {x / n, y / m, (m * x - n * y) / (n * m), 0, true};
  }
}

// The running sum of a tile's rises, before each place. Returns it behind the tile.
__device__ inline double write_rise(double* out, int64_t size, int64_t first, double before,
                                    const double (&rises)[kSweepItems], double sum) {
  double all;
  double here = before + block_scan<kSweepThreads>(sum, all);
#pragma unroll
  for (int k = 0; k < kSweepItems; ++k) {
    if (first + k < size) out[first + k] = here;
    here += rises[k];
  }
  return before + all;
}

// gate: no spills
template <class T, bool weighted>
__global__ void __launch_bounds__(kSweepThreads, 1) sweep_kernel(const Sweep<T, weighted> sweep) {
  using Mass = Running<weighted>;
  const int64_t slice = blockIdx.x, n = sweep.points.n, m = sweep.points.m, size = n + m;
  const auto* keys = sweep.sorted.keys + slice * size;
  const int32_t* places = sweep.sorted.places + slice * size;
  Mass* running = sweep.running + slice * (size + 1);
  const double pairs_x = sweep.unbiased ? double(n) / double(n - 1) : 1.0;
  const double pairs_y = sweep.unbiased ? double(m) / double(m - 1) : 1.0;
  const double total = total_of_slice(sweep, slice);
  Mass before = 0;
  double rise_x = 0, rise_y = 0, value = 0, start_x = 0, start_y = 0, spread_x = 0, spread_y = 0;
  if (threadIdx.x == 0) running[0] = 0;
  for (int64_t tile = 0; tile < size; tile += kSweepTile) {
    const int64_t first = tile + int64_t(threadIdx.x) * kSweepItems;
    Mass masses[kSweepItems], sum = 0, all;
#pragma unroll
    for (int k = 0; k < kSweepItems; ++k) {
      masses[k] = first + k < size ? mass_at(sweep, slice, places[first + k]) : Mass(0);
      sum += masses[k];
    }
    Mass here = before + block_scan<kSweepThreads>(sum, all);
    before += all;
    double up_x[kSweepItems] = {}, up_y[kSweepItems] = {}, sum_x = 0, sum_y = 0;
#pragma unroll
    for (int k = 0; k < kSweepItems; ++k) {
      here += masses[k];
      if (first + k < size) running[first + k + 1] = here;
      if (first + k + 1 < size) {
        const double gap = double(from_key<T>(keys[first + k + 1])) - double(from_key<T>(keys[first + k]));
        const Behind at = behind(sweep, here, first + k + 1, total);
        value += value_term(gap, at.running, at.total);
        spread_x += 2 * gap * (at.f * (1 - at.f));
        spread_y += 2 * gap * (at.g * (1 - at.g));
        up_x[k] = gap * at.slope_x(pairs_x);
        up_y[k] = gap * at.slope_y(pairs_y);
        start_x += at.start_x(gap, pairs_x);
        start_y += at.start_y(gap, pairs_y);
      }
      sum_x += up_x[k];
      sum_y += up_y[k];
    }
    if (sweep.rise_x) rise_x = write_rise(sweep.rise_x + slice * size, size, first, rise_x, up_x, sum_x);
    if (sweep.rise_y) rise_y = write_rise(sweep.rise_y + slice * size, size, first, rise_y, up_y, sum_y);
  }
  value = block_sum<kSweepThreads>(value);
  spread_x = block_sum<kSweepThreads>(spread_x);
  spread_y = block_sum<kSweepThreads>(spread_y);
  start_x = block_sum<kSweepThreads>(start_x);
  start_y = block_sum<kSweepThreads>(start_y);
  if (threadIdx.x == 0) {
    const bool finite = are_finite<T>(keys[0], keys[size - 1]);
    if (sweep.unbiased) value = unbiased_value(value, spread_x, spread_y, n, m);
    if (sweep.value) sweep.value[slice] = finite ? value : double(__uint_as_float(0x7fc00000u));
    if (sweep.rise_x) sweep.start_x[slice] = start_x;
    if (sweep.rise_y) sweep.start_y[slice] = start_y;
  }
}

template <class T, bool weighted>
__device__ double gradient_at(const Sweep<T, weighted>& sweep, int64_t slice, int64_t place, Run run,
                              const Running<weighted>* running) {
  const int64_t n = sweep.points.n, m = sweep.points.m;
  const bool is_x = place < n;
  const Running<weighted> low = running[run.low], high = running[run.high];
  if constexpr (weighted) {
    const double signs = low + high - running[n + m];
    return is_x ? -sweep.masses.of_x(slice, place) * signs : sweep.masses.of_y(slice, place - n) * signs;
  } else {
    const double q_x = double(int64_t(low) + high), q_y = double(run.low + run.high) - q_x;
    const UniformSide side = is_x ? uniform_side(n, m, sweep.unbiased) : uniform_side(m, n, sweep.unbiased);
    return rank_numerator(side, is_x ? q_x : q_y, is_x ? q_y : q_x) * side.scale;
  }
}

// gate: no spills
template <class T, bool weighted>
__global__ void __launch_bounds__(kWriteThreads) write_points_kernel(const Sweep<T, weighted> sweep, int64_t blocks) {
  const int64_t n = sweep.points.n, m = sweep.points.m, size = n + m;
  const int64_t slice = int64_t(blockIdx.x) / blocks, k = int64_t(blockIdx.x) % blocks * kWriteThreads + threadIdx.x;
  if (k >= size) return;
  const auto* keys = sweep.sorted.keys + slice * size;
  const int64_t place = sweep.sorted.places[slice * size + k];
  const bool finite = are_finite<T>(keys[0], keys[size - 1]);
  const double nan = double(__uint_as_float(0x7fc00000u));
  const bool is_x = place < n;
  T* gradient = is_x ? sweep.grad_x : sweep.grad_y;
  double* potential = is_x ? sweep.potential_x : sweep.potential_y;
  const int64_t at = is_x ? slice * n + place : slice * m + (place - n);
  if (gradient) {
    const Run run = run_of_place(keys, size, k);
    const double g = gradient_at(sweep, slice, place, run, sweep.running + slice * (size + 1));
    gradient[at] = T(finite ? g : nan);
  }
  if (potential) {
    const double h = is_x ? sweep.start_x[slice] + sweep.rise_x[slice * size + k]
                          : sweep.start_y[slice] + sweep.rise_y[slice * size + k];
    potential[at] = finite ? h : nan;
  }
}

}  // namespace fc::mmd
