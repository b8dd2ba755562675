// CUDA kernels of ot_row_pass: row log-sum-exps and column sums of the plan, from a cost matrix or
// from points. Three launches (four in float32, where the potential is split first):
//   split_potential   g -> g_hi + g_lo (float32 only)
//   row_lse           one block per row: largest score, then the sum of exponentials
//   column_partials   one thread per column and group of rows, rows in order
//   add_partials      one thread per column, groups in order
// Nothing depends on timing: the cuts depend on n and m alone and every sum has one order.
// Compiled without contraction (--fmad=false), so that entries have the bits of the CPU loops.
#include "../common/block.cuh"
#include "../common/dtype_switch.h"
#include "../common/launch.cuh"
#include "sinkhorn_newton.h"

#include <algorithm>
#include <initializer_list>
#include <optional>
#include <tuple>

namespace {

using fc::Tensor;

constexpr int kThreads = 256;           // columns per block in the column kernels, and long rows
constexpr int64_t kShortRow = 256;      // a row up to this length is one warp's work
constexpr int64_t kMaxGrid = 1 << 20;   // blocks take several rows or columns beyond this
constexpr int64_t kWantedBlocks = 2048; // enough for any GPU, and few enough partial sums
constexpr int64_t kMinGroupRows = 16;

template <class T>
struct MatrixCost {
  const T *cost, *row_shift, *col_shift;  // shifts may be null
  int64_t m;

  __device__ T operator()(int64_t i, int64_t j) const {
    return fc::ot::centred_cost(cost[i * m + j], row_shift ? row_shift[i] : T(0),
                                col_shift ? col_shift[j] : T(0));
  }
};

template <int64_t metric, class T>
struct PointCost {
  const T *x, *y;  // (n, d) and (d, m): neighbouring columns lie side by side
  int64_t m, d;

  __device__ T operator()(int64_t i, int64_t j) const {
    T sum = 0;
    for (int64_t k = 0; k < d; ++k)
      sum += fc::ot::distance_term<metric>(x[i * d + k], y[k * m + j]);
    return fc::ot::finish_distance<metric>(sum);
  }
};

template <class T>
struct Potential {
  const T *hi, *lo;  // lo is null in float64

  __device__ fc::ot::Score<T> score(int64_t j, T cost) const {
    return fc::ot::score(hi[j], lo ? lo[j] : T(0), cost);
  }
};

// gate: no spills
__global__ void split_potential_kernel(const double* g, int64_t m, float* hi, float* lo) {
  for (int64_t j = int64_t(blockIdx.x) * kThreads + threadIdx.x; j < m; j += int64_t(gridDim.x) * kThreads) {
    hi[j] = static_cast<float>(g[j]);
    lo[j] = static_cast<float>(g[j] - hi[j]);
  }
}

// Writes row_lse and, for the column kernel, row_max and weight = a / sum of exponentials.
// gate: no spills
template <int threads, class T, class Cost>
__global__ void row_lse_kernel(Cost cost, Potential<T> g, const double* a, double reg, int64_t n, int64_t m,
                               double* row_lse, T* row_max, double* weight) {
  constexpr T inf = fc::Limits<T>::infinity;
  const T inverse_reg = static_cast<T>(1.0 / reg);
  for (int64_t i = blockIdx.x; i < n; i += gridDim.x) {
    T largest = -inf;
    for (int64_t j = threadIdx.x; j < m; j += threads)
      largest = fc::MaxOp()(largest, g.score(j, cost(i, j)).sum);
    largest = fc::block_max<threads>(largest);
    // A row without a finite cost: any finite reference gives zeros instead of inf - inf.
    const T reference = largest == -inf ? T(0) : largest;
    double sum = 0;
    for (int64_t j = threadIdx.x; j < m; j += threads) {
      const auto s = g.score(j, cost(i, j));
      sum += fc::exp(fc::ot::exponent(s.sum, s.lost, reference, inverse_reg));
    }
    sum = fc::block_sum<threads>(sum);
    if (threadIdx.x == 0) {
      row_lse[i] = static_cast<double>(reference) / reg + fc::log(sum);
      row_max[i] = reference;
      weight[i] = sum == 0 ? 0.0 : a[i] / sum;
    }
  }
}

// partial[group, j] = sum over the group's rows of a_i exp((g_j - C_ij) / reg - L_i).
// gate: no spills
template <class T, class Cost>
__global__ void column_partials_kernel(Cost cost, Potential<T> g, double reg, int64_t n, int64_t m,
                                       int64_t group_rows, const T* row_max, const double* weight,
                                       double* partial) {
  const T inverse_reg = static_cast<T>(1.0 / reg);
  const int64_t first = int64_t(blockIdx.y) * group_rows;
  const int64_t last = first + group_rows < n ? first + group_rows : n;
  for (int64_t j = int64_t(blockIdx.x) * kThreads + threadIdx.x; j < m; j += int64_t(gridDim.x) * kThreads) {
    double sum = 0;
    for (int64_t i = first; i < last; ++i) {
      const auto s = g.score(j, cost(i, j));
      sum += weight[i] * fc::exp(fc::ot::exponent(s.sum, s.lost, row_max[i], inverse_reg));
    }
    partial[int64_t(blockIdx.y) * m + j] = sum;
  }
}

// gate: no spills
__global__ void add_partials_kernel(const double* partial, int64_t groups, int64_t m, double* col_sum) {
  for (int64_t j = int64_t(blockIdx.x) * kThreads + threadIdx.x; j < m; j += int64_t(gridDim.x) * kThreads) {
    double sum = 0;
    for (int64_t group = 0; group < groups; ++group) sum += partial[group * m + j];
    col_sum[j] = sum;
  }
}

int64_t ceil_div(int64_t a, int64_t b) { return (a + b - 1) / b; }

dim3 column_grid(int64_t m, int64_t groups = 1) {
  return dim3(unsigned(std::min(ceil_div(m, kThreads), kMaxGrid)), unsigned(groups));
}

struct Arguments {
  const Tensor &g, &a;
  double reg;
  int64_t n, m;
  Tensor row_lse, col_sum;
};

template <class T, class Cost>
void run_row_pass(const Arguments& args, Cost cost) {
  const int64_t n = args.n, m = args.m;
  const cudaStream_t stream = fc::current_stream(args.g);
  Potential<T> g{};
  Tensor split;
  if constexpr (std::is_same_v<T, double>) {
    g.hi = fc::data<double>(args.g);
  } else {
    split = fc::new_tensor<float>(args.g, {2, m});
    float* hi = fc::data<float>(split);
    g = {hi, hi + m};
    fc::launch(split_potential_kernel, column_grid(m), kThreads, 0, stream, fc::data<double>(args.g), m, hi, hi + m);
  }

  const Tensor row_max = fc::new_tensor<T>(args.g, {n}), weight = fc::new_tensor<double>(args.g, {n});
  const int row_threads = m <= kShortRow ? fc::kWarp : kThreads;
  const auto row_kernel = m <= kShortRow ? row_lse_kernel<fc::kWarp, T, Cost> : row_lse_kernel<kThreads, T, Cost>;
  fc::launch(row_kernel, unsigned(std::min(n, kMaxGrid)), row_threads, 0, stream, cost, g, fc::data<double>(args.a),
             args.reg, n, m, fc::data<double>(args.row_lse), fc::data<T>(row_max), fc::data<double>(weight));

  const int64_t wanted_groups = std::max<int64_t>(1, kWantedBlocks / ceil_div(m, kThreads));
  const int64_t group_rows = std::max(kMinGroupRows, ceil_div(n, wanted_groups));
  const int64_t groups = ceil_div(n, group_rows);
  const Tensor partial = fc::new_tensor<double>(args.g, {groups, m});
  fc::launch(column_partials_kernel<T, Cost>, column_grid(m, groups), kThreads, 0, stream, cost, g, args.reg, n, m,
             group_rows, fc::data<T>(row_max), fc::data<double>(weight), fc::data<double>(partial));
  fc::launch(add_partials_kernel, column_grid(m), kThreads, 0, stream, fc::data<double>(partial), groups, m,
             fc::data<double>(args.col_sum));
}

template <int64_t metric, class T>
void run_points(const Arguments& args, const Tensor& x, const Tensor& y) {
  run_row_pass<T>(args, PointCost<metric, T>{fc::data<T>(x), fc::data<T>(y), args.m, x.size(1)});
}

std::tuple<Tensor, Tensor> ot_row_pass(const Tensor& cost, const std::optional<Tensor>& y, int64_t metric,
                                       const std::optional<Tensor>& row_shift,
                                       const std::optional<Tensor>& col_shift, const Tensor& g, const Tensor& a,
                                       double reg) {
  constexpr const char* op = "ot_row_pass";
  FC_CHECK(cost.dim() == 2 && g.dim() == 1, op, ": expected `cost` with 2 dimensions and `g` with 1");
  FC_CHECK(metric >= fc::ot::matrix && metric <= fc::ot::cityblock, op, ": unknown metric ", metric);
  FC_CHECK((metric == fc::ot::matrix) == !y.has_value(), op, ": `y` goes with a metric of points");
  const int64_t n = cost.size(0), m = g.size(0), width = cost.size(1);
  FC_CHECK(n > 0 && m > 0 && width > 0, op, ": empty input");
  const auto dtype = cost.scalar_type();
  const auto check = [&](const char* name, const Tensor& tensor, fc::ScalarType type, std::initializer_list<int64_t> shape) {
    fc::check_tensor(op, name, tensor, type, shape);
    FC_CHECK(tensor.get_device_index() == cost.get_device_index(), op, ": `", name, "` is on another device than `cost`");
  };
  check("cost", cost, dtype, {n, metric == fc::ot::matrix ? m : width});
  check("g", g, fc::ScalarType::Double, {m});
  check("a", a, fc::ScalarType::Double, {n});
  if (y) check("y", *y, dtype, {width, m});
  if (row_shift) check("row_shift", *row_shift, dtype, {n});
  if (col_shift) check("col_shift", *col_shift, dtype, {m});

  const fc::DeviceScope device(cost);
  Arguments args{g, a, reg, n, m, fc::new_tensor<double>(g, {n}), fc::new_tensor<double>(g, {m})};
  fc::switch_floating(op, cost, [&](auto zero) {
    using T = decltype(zero);
    switch (metric) {
      case fc::ot::sqeuclidean: return run_points<fc::ot::sqeuclidean, T>(args, cost, *y);
      case fc::ot::euclidean: return run_points<fc::ot::euclidean, T>(args, cost, *y);
      case fc::ot::cityblock: return run_points<fc::ot::cityblock, T>(args, cost, *y);
      default:
        return run_row_pass<T>(args, MatrixCost<T>{fc::data<T>(cost), fc::data<T>(row_shift), fc::data<T>(col_shift), m});
    }
  });
  return {args.row_lse, args.col_sum};
}

}  // namespace

STABLE_TORCH_LIBRARY_IMPL(FC_OPS_NAMESPACE, FC_OPS_KEY, m) { m.impl("ot_row_pass", TORCH_BOX(&ot_row_pass)); }
