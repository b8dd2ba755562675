// ot_row_pass on CUDA: row log-sum-exps and column sums of the plan, from a cost matrix or from points. This file
// checks the arguments, chooses the way (see row_pass.cuh) and adds the partial column sums.
#include "../common/dtype_switch.h"
#include "row_pass.cuh"

#include <cstdint>
#include <initializer_list>
#include <optional>
#include <tuple>

namespace fc::ot {
namespace {

constexpr int64_t kMostColumns = 1 << 30;  // of a stored cost: indices inside a row have 32 bits
constexpr int kLanes = 16;  // threads of a column: one alone would wait for memory

// col_sum[j] = sum of partial[:, j]: each of a column's threads takes every 16th group in order, then they are added in
// order. The block is (columns, lanes).
// gate: no spills
__global__ void __launch_bounds__(kWarp * kLanes)
add_partials_kernel(const double* partial, int64_t groups, int64_t m, double* col_sum) {
  FC_SHARED(double, lane_sums, [kLanes][kWarp]);
  const int64_t j = int64_t(blockIdx.x) * kWarp + threadIdx.x;
  double sum = 0;
  if (j < m) {
#pragma unroll 8
    for (int64_t group = threadIdx.y; group < groups; group += kLanes) sum += partial[group * m + j];
  }
  lane_sums[threadIdx.y][threadIdx.x] = sum;
  __syncthreads();
  if (threadIdx.y == 0 && j < m) {
    for (int lane = 1; lane < kLanes; ++lane) sum += lane_sums[lane][threadIdx.x];
    col_sum[j] = sum;
  }
}

void add_partials(const PassArguments& args, const Tensor& partial) {
  launch(add_partials_kernel, unsigned(ceil_div(args.m, kWarp)), dim3(kWarp, kLanes), 0, current_stream(args.g),
         data<double>(partial), partial.size(0), args.m, data<double>(args.col_sum));
}

bool at_16_bytes(const void* p) { return reinterpret_cast<uintptr_t>(p) % 16 == 0; }

template <class T>
Tensor matrix_pass(const PassArguments& args, const T* cost, const T* row_shift, const T* col_shift) {
  const bool aligned = args.m % kVector<T> == 0 && at_16_bytes(cost) && at_16_bytes(col_shift) &&
                       at_16_bytes(data<double>(args.g));
  const MatrixCost<T> matrix{cost, row_shift, col_shift, args.n, int(args.m), aligned};
  const auto partial = fused_pass(args, matrix);
  return partial ? *partial : long_rows_pass(args, matrix);
}

std::tuple<Tensor, Tensor> ot_row_pass(const Tensor& cost, const std::optional<Tensor>& y, int64_t metric,
                                       const std::optional<Tensor>& row_shift,
                                       const std::optional<Tensor>& col_shift, const Tensor& g, const Tensor& a,
                                       double reg) {
  constexpr const char* op = "ot_row_pass";
  FC_CHECK(cost.dim() == 2 && g.dim() == 1, op, ": expected `cost` with 2 dimensions and `g` with 1");
  FC_CHECK(metric >= matrix && metric <= cityblock, op, ": unknown metric ", metric);
  FC_CHECK((metric == matrix) == !y.has_value(), op, ": `y` goes with a metric of points");
  const int64_t n = cost.size(0), m = g.size(0), width = cost.size(1);
  FC_CHECK(n > 0 && m > 0 && width > 0, op, ": empty input");
  const auto dtype = cost.scalar_type();
  const auto check = [&](const char* name, const Tensor& tensor, ScalarType type, std::initializer_list<int64_t> shape) {
    check_tensor(op, name, tensor, type, shape);
    FC_CHECK(tensor.get_device_index() == cost.get_device_index(), op, ": `", name, "` is on another device than `cost`");
  };
  FC_CHECK(metric != matrix || m <= kMostColumns, op, ": `cost` has more than 2^30 columns");
  check("cost", cost, dtype, {n, metric == matrix ? m : width});
  check("g", g, ScalarType::Double, {m});
  check("a", a, ScalarType::Double, {n});
  if (y) check("y", *y, dtype, {width, m});
  if (row_shift) check("row_shift", *row_shift, dtype, {n});
  if (col_shift) check("col_shift", *col_shift, dtype, {m});

  const DeviceScope device(cost);
  const PassArguments args{g, a, reg, n, m, new_tensor<double>(g, {n}), new_tensor<double>(g, {m})};
  const Tensor partial = switch_floating(op, cost, [&](auto zero) {
    using T = decltype(zero);
    if (metric != matrix) return points_pass(args, metric, data<T>(cost), data<T>(*y), width);
    return matrix_pass(args, data<T>(cost), data<T>(row_shift), data<T>(col_shift));
  });
  add_partials(args, partial);
  return {args.row_lse, args.col_sum};
}

}  // namespace
}  // namespace fc::ot

STABLE_TORCH_LIBRARY_IMPL(FC_OPS_NAMESPACE, FC_OPS_KEY, m) { m.impl("ot_row_pass", TORCH_BOX(&fc::ot::ot_row_pass)); }
