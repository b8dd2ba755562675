// mmd_soe on CUDA: distances of projections under powers of |x - y| other than 1, its logarithm, thin plates. The union of
// a slice is sorted in global memory, its sums of exponentials are taken (soe_sums.cuh), and every point takes what it sees.
#include "../common/dtype_switch.h"
#include "soe_sums.cuh"

#include <optional>
#include <tuple>

namespace fc::mmd {
namespace {

using Weights = std::optional<Tensor>;
using Outputs5 = std::tuple<Tensor, Tensor, Tensor, Tensor, Tensor>;

constexpr int kThreads = 256, kVisitThreads = 512;

// A slice's range, halved: it may be twice what the type holds.
struct HalfRange {
  double low, high;

  __device__ double length() const { return high - low; }
  __device__ double inverse() const { return length() > 0 ? 1 / length() : 0.0; }
};

template <class T>
__device__ HalfRange half_range(const word_of<T>* keys, int64_t size) {
  return {0.5 * double(from_key<T>(keys[0])), 0.5 * double(from_key<T>(keys[size - 1]))};
}

// Which sides the points that see belong to: both, where they see the same but for the sign; or one.
struct Sides {
  bool x, y, unbiased;
};

struct Distance {
  int64_t kernel;
  double r, quadratic, scale;
};

// Places in [-1/2, 1/2], gaps, and what a point of x (or, where `sides` is y alone, of y) sees of each place: the other side's
// mass less its own, by counts where weights are uniform, so that equal ones leave nothing.
// gate: no spills
template <class T>
__global__ void __launch_bounds__(kThreads)
soe_points_kernel(Pairs<word_of<T>> sorted, Masses masses, int64_t n, int64_t m, Sides sides, SoePoints p, int64_t blocks) {
  const int64_t slice = int64_t(blockIdx.x) / blocks, k = int64_t(blockIdx.x) % blocks * kThreads + threadIdx.x;
  if (k >= p.size) return;
  const int64_t first = slice * p.size;
  const auto* keys = sorted.keys + first;
  const HalfRange range = half_range<T>(keys, p.size);
  const double here = 0.5 * double(from_key<T>(keys[k])), inverse = range.inverse();
  p.z[first + k] = (here - 0.5 * (range.low + range.high)) * inverse;
  p.gaps[first + k] = k ? (here - 0.5 * double(from_key<T>(keys[k - 1]))) * inverse : 0.0;
  double c = 0;
  if (k == 0 || keys[k - 1] != keys[k]) {
    double mass_x = 0, mass_y = 0;
    for (int64_t u = k; u < p.size && keys[u] == keys[k]; ++u) {
      const int64_t place = sorted.places[first + u];
      if (place < n) mass_x += masses.x ? masses.of_x(slice, place) : 1.0;
      else mass_y += masses.y ? masses.of_y(slice, place - n) : 1.0;
    }
    const double near = sides.x ? mass_x : mass_y, far = sides.x ? mass_y : mass_x;
    const double own = double(sides.x ? n : m), other = double(sides.x ? m : n), pairs = sides.unbiased ? own - 1 : own;
    c = masses.x ? far - near : (far * pairs - near * other) / (pairs * other);
  }
  p.c[first + k] = c;
}

// gate: no spills
template <class T>
__global__ void __launch_bounds__(kThreads)
soe_shifts_kernel(const word_of<T>* keys, int64_t size, int64_t slices, Distance distance, double* shifts) {
  const int64_t slice = int64_t(blockIdx.x) * kThreads + threadIdx.x;
  if (slice >= slices) return;
  const double length = half_range<T>(keys + slice * size, size).length();
  shifts[slice] = distance.kernel == kThinPlate && length > 0 ? log(2 * length) + distance.quadratic : 0.0;
}

template <class T>
struct SoeOutputs {
  T *grad_x, *grad_y;  // null: not wanted
  double *value, *potential_x, *potential_y;
};

// Gradients and potentials of the points, and the value: half of the sum of weight times potential, to be added to what is
// there where only one side sees at a time and the other one has been. A block a slice.
// gate: no spills
template <class T>
__global__ void __launch_bounds__(kVisitThreads, 1)
soe_visit_kernel(Pairs<word_of<T>> sorted, Masses masses, int64_t n, int64_t m, Sides sides, SoePoints p, Distance distance,
                 bool with_sum, bool adds, SoeOutputs<T> out) {
  const int64_t slice = blockIdx.x, first = slice * p.size;
  const auto* keys = sorted.keys + first;
  const HalfRange half = half_range<T>(keys, p.size);
  const bool finite = is_finite(half.low) && is_finite(half.high), flat = !(half.length() > 0);
  const double range = 2 * half.length(), nan = double(__uint_as_float(0x7fc00000u));
  const double power = distance.kernel == kRiesz ? distance.r : distance.kernel == kLog ? 0.0 : 2.0;
  const double sum_scale = distance.scale * pow(range, power), slope_scale = distance.scale * pow(range, power - 1);
  const double log_range = log(range), closest = log(kClosest), share_x = sides.unbiased ? double(n) / double(n - 1) : 1.0;
  const double share_y = sides.unbiased ? double(m) / double(m - 1) : 1.0, total = p.totals[slice];
  double value = 0;
  for (int64_t k = threadIdx.x; k < p.size; k += kVisitThreads) {
    const int64_t place = sorted.places[first + k];
    const bool is_x = place < n;
    if (!(is_x ? sides.x : sides.y)) continue;
    const double sign = is_x || !sides.x ? 1.0 : -1.0;
    const double weight = is_x ? masses.of_x(slice, place) : masses.of_y(slice, place - n);
    const int64_t u = first + run_of_place(keys, p.size, k).low;
    const int64_t at = is_x ? slice * n + place : slice * m + (place - n);
    T* gradient = is_x ? out.grad_x : out.grad_y;
    double* potential = is_x ? out.potential_x : out.potential_y;
    if (gradient) gradient[at] = T(!finite ? nan : flat ? 0.0 : sign * slope_scale * weight * p.slope[u]);
    if (with_sum) {
      double seen = sign * p.sum[u];
      const double own = (is_x ? share_x : share_y) * weight;
      if (distance.kernel == kLog) seen += (sign * p.c[u] + own) * closest + (sign * total + own) * log_range;
      seen = !finite ? nan : flat ? 0.0 : seen * sum_scale;
      if (potential) potential[at] = seen;
      value += weight * seen;
    }
  }
  value = 0.5 * block_sum<kVisitThreads>(value);
  if (threadIdx.x == 0 && out.value) out.value[slice] = (adds ? out.value[slice] : 0.0) + value;
}

unsigned blocks_of(const char* op, int64_t slices, int64_t blocks) {
  FC_CHECK(slices * blocks < kLongestSlice, op, ": too many points for one launch");
  return unsigned(slices * blocks);
}

template <class T>
struct Soe {
  const char* op;
  const Tensor& like;
  int64_t slices, n, m;
  Masses masses;
  Distance distance;
  SortedSlices<T> sorted;
  SoeTable table;

  // One set of sums, and what the points of some sides take of it.
  void run(Sides sides, bool with_sum, bool adds, const SoeOutputs<T>& out) const {
    const int64_t size = n + m, chunks = (size + kChunk - 1) / kChunk, blocks = (size + kThreads - 1) / kThreads;
    const int64_t chunk_blocks = (chunks + kSoeThreads - 1) / kSoeThreads;
    const auto scratch = [&](std::initializer_list<int64_t> shape) { return new_tensor<double>(like, shape); };
    const Tensor points = scratch({5, slices, size}), states = scratch({slices, chunks, 2 * kSoeStates<T>});
    const Tensor moments = scratch({slices, chunks, kSoeTerms}), spans = scratch({slices, chunks, 2});
    const Tensor totals = scratch({2, slices}), polynomials = scratch({slices, int64_t(2 * sizeof(PairPolynomial) / 8)});
    double* z = data<double>(points);
    const int64_t all = slices * size;
    const SoePoints p{size, chunks, z, z + all, z + 2 * all, z + 3 * all, z + 4 * all, data<double>(states),
                      data<double>(moments), data<double>(spans), data<double>(totals),
                      static_cast<PairPolynomial*>(polynomials.data_ptr())};
    double* shifts = data<double>(totals) + slices;
    const cudaStream_t stream = current_stream(like);
    const unsigned grid = blocks_of(op, slices, chunk_blocks);
    launch(soe_points_kernel<T>, blocks_of(op, slices, blocks), kThreads, 0, stream, sorted.pairs, masses, n, m, sides, p,
           blocks);
    launch(soe_shifts_kernel<T>, unsigned((slices + kThreads - 1) / kThreads), kThreads, 0, stream, sorted.pairs.keys, size,
           slices, distance, shifts);
    launch(soe_ends_kernel<T>, grid, kSoeThreads, 0, stream, p, table, chunk_blocks);
    launch(soe_starts_kernel<T>, unsigned(2 * slices), kWarp, 0, stream, p, table);
    launch(soe_polynomials_kernel, unsigned((slices + kWarp - 1) / kWarp), kWarp, 0, stream, p, table, shifts, slices);
    if (with_sum) launch(soe_sums_kernel<T, true>, grid, kSoeThreads, 0, stream, p, table, chunk_blocks);
    else launch(soe_sums_kernel<T, false>, grid, kSoeThreads, 0, stream, p, table, chunk_blocks);
    launch(soe_visit_kernel<T>, unsigned(slices), kVisitThreads, 0, stream, sorted.pairs, masses, n, m, sides, p, distance,
           with_sum, adds, out);
  }
};

int64_t weight_step(const char* op, const char* name, const Weights& weights, int64_t slices, int64_t count) {
  const bool is_shared = weights && weights->dim() == 1;
  if (is_shared) check_tensor(op, name, *weights, ScalarType::Double, {count});
  else if (weights) check_tensor(op, name, *weights, ScalarType::Double, {slices, count});
  return is_shared ? 0 : count;
}

Outputs5 mmd_soe(const Tensor& x, const Tensor& y, const Weights& x_weights, const Weights& y_weights, int64_t kernel,
                 double r, double quadratic, double scale, bool unbiased, int64_t outputs) {
  constexpr const char* op = "mmd_soe";
  FC_CHECK(x.dim() == 2 && y.dim() == 2, op, ": expected `x` and `y` with 2 dimensions");
  const int64_t slices = x.size(0), n = x.size(1), m = y.size(1);
  FC_CHECK(slices > 0 && n > 0 && m > 0 && slices < kLongestSlice / 2, op, ": empty input, or too many slices");
  check_tensor(op, "x", x, x.scalar_type(), {slices, n});
  check_tensor(op, "y", y, x.scalar_type(), {slices, m});
  FC_CHECK(x_weights.has_value() == y_weights.has_value(), op, ": weights of one side alone");
  FC_CHECK(!unbiased || (n > 1 && m > 1 && !x_weights), op, ": `unbiased` wants two points or more, and no weights");
  FC_CHECK(kernel == kRiesz || kernel == kLog || kernel == kThinPlate, op, ": `kernel` ", kernel, " is unknown");
  FC_CHECK(kernel != kRiesz || (r > 0 && r < 2 && r != 1), op, ": `r` is ", r, ", not in (0, 1) or (1, 2)");
  const Masses masses{data<double>(x_weights), data<double>(y_weights), weight_step(op, "x_weights", x_weights, slices, n),
                      weight_step(op, "y_weights", y_weights, slices, m), false, 1.0 / double(n), 1.0 / double(m)};
  const DeviceScope device(x);
  return switch_floating(op, x, [&](auto zero) -> Outputs5 {
    using T = decltype(zero);
    const auto wanted = [&](int64_t bit, auto type, std::initializer_list<int64_t> shape) {
      return outputs & bit ? new_tensor<decltype(type)>(x, shape) : new_tensor<decltype(type)>(x, {0});
    };
    const Tensor grad_x = wanted(kGradX, T(), {slices, n}), grad_y = wanted(kGradY, T(), {slices, m});
    const Tensor value = wanted(kValue, double(), {slices});
    const Tensor potential_x = wanted(kPotentialX, double(), {slices, n});
    const Tensor potential_y = wanted(kPotentialY, double(), {slices, m});
    const SoeOutputs<T> out{outputs & kGradX ? data<T>(grad_x) : nullptr, outputs & kGradY ? data<T>(grad_y) : nullptr,
                            outputs & kValue ? data<double>(value) : nullptr,
                            outputs & kPotentialX ? data<double>(potential_x) : nullptr,
                            outputs & kPotentialY ? data<double>(potential_y) : nullptr};
    if (!outputs) return {grad_x, grad_y, value, potential_x, potential_y};
    const Union<T> points{data<T>(x), data<T>(y), n, m};
    const Soe<T> soe{op, x, slices, n, m, masses, {kernel, r, quadratic, scale}, sort_slices(op, x, points, slices),
                     SoeMaker<T>::make(kernel, r)};
    const bool with_sum = outputs & (kValue | kPotentialX | kPotentialY);
    if (!unbiased) soe.run({true, true, false}, with_sum, false, out);
    if (unbiased && (out.grad_x || with_sum)) soe.run({true, false, true}, with_sum, false, out);
    if (unbiased && (out.grad_y || with_sum)) soe.run({false, true, true}, with_sum, true, out);
    return {grad_x, grad_y, value, potential_x, potential_y};
  });
}

}  // namespace
}  // namespace fc::mmd

STABLE_TORCH_LIBRARY_IMPL(FC_OPS_NAMESPACE, FC_OPS_KEY, m) { m.impl("mmd_soe", TORCH_BOX(&fc::mmd::mmd_soe)); }
