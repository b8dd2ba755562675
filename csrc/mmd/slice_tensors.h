// The tensors of the operators that walk over slices: checked, as rows, and new ones for what is wanted.
#pragma once
#include <tuple>

#include "../common/tensor.h"
#include "rank.h"
#include "rank_slice.h"

namespace fc::mmd {

using OptionalTensor = std::optional<Tensor>;

constexpr int64_t kMostPoints = int64_t(1) << 30;  // places, and doubled ranks, are 32-bit integers

// A matrix of numbers, a slice a row; weights may have one row for all slices.
struct Rows {
  int64_t slices, points;
};

inline Rows check_rows(const char* op, const char* name, const Tensor& tensor, const Tensor& like) {
  FC_CHECK(tensor.dim() == 2, op, ": `", name, "` has ", tensor.dim(), " dimensions instead of 2");
  const Rows rows{tensor.size(0), tensor.size(1)};
  const ScalarType type = tensor.scalar_type();
  FC_CHECK(type == ScalarType::Float || type == ScalarType::Double, op, ": `", name, "` is neither float32 nor float64");
  check_tensor(op, name, tensor, like.scalar_type(), {like.size(0), rows.points});
  FC_CHECK(rows.points > 0 && rows.points < kMostPoints, op, ": `", name, "` has ", rows.points, " points");
  return rows;
}

struct WeightRows {
  const double* data = nullptr;
  int64_t stride = 0;
  const double* row(int64_t p) const { return data ? data + p * stride : nullptr; }
};

inline WeightRows check_weights(const char* op, const char* name, const OptionalTensor& weights, Rows rows) {
  if (!weights) return {};
  if (weights->dim() == 1) {
    check_tensor(op, name, *weights, ScalarType::Double, {rows.points});
    return {data<double>(*weights), 0};
  }
  check_tensor(op, name, *weights, ScalarType::Double, {rows.slices, rows.points});
  return {data<double>(*weights), rows.points};
}

inline void check_unbiased(const char* op, bool unbiased, bool weighted, int64_t n, int64_t m) {
  FC_CHECK(!unbiased || !weighted, op, ": `unbiased` has uniform weights only");
  FC_CHECK(!unbiased || (n > 1 && m > 1), op, ": `unbiased` needs two points on each side");
}

template <class T>
Tensor new_wanted(const Tensor& like, Rows rows, bool wanted) {
  return wanted ? new_tensor<T>(like, {rows.slices, rows.points}) : new_tensor<T>(like, {0});
}

inline Tensor new_values(const Tensor& like, int64_t slices, bool wanted) { return new_tensor<double>(like, {wanted ? slices : 0}); }

template <class T>
T* row(const Tensor& tensor, int64_t p, int64_t width, bool wanted) {
  return wanted ? data<T>(tensor) + p * width : nullptr;
}

// Two samples with their weights, as all operators of this shape take them.
struct TwoSamples {
  Rows rows_x, rows_y;
  WeightRows a, b;
  int64_t slices, n, m;
  bool weighted;

  TwoSamples(const char* op, const Tensor& x, const Tensor& y, const OptionalTensor& x_weights, const OptionalTensor& y_weights,
             bool unbiased)
      : rows_x(check_rows(op, "x", x, x)), rows_y(check_rows(op, "y", y, x)), slices(rows_x.slices), n(rows_x.points),
        m(rows_y.points), weighted(x_weights.has_value()) {
    FC_CHECK(bool(x_weights) == bool(y_weights), op, ": `x_weights` and `y_weights` go together");
    FC_CHECK(n + m < kMostPoints, op, ": `x` and `y` have too many points");
    a = check_weights(op, "x_weights", x_weights, rows_x);
    b = check_weights(op, "y_weights", y_weights, rows_y);
    check_unbiased(op, unbiased, weighted, n, m);
  }
};

using SliceTensors = std::tuple<Tensor, Tensor, Tensor, Tensor, Tensor>;

template <class T>
SliceTensors new_outputs(const TwoSamples& in, const Tensor& like, int64_t outputs) {
  return {new_wanted<T>(like, in.rows_x, outputs & kGradX), new_wanted<T>(like, in.rows_y, outputs & kGradY),
          new_values(like, in.slices, outputs & kValue), new_wanted<double>(like, in.rows_x, outputs & kPotentialX),
          new_wanted<double>(like, in.rows_y, outputs & kPotentialY)};
}

template <class T>
SliceOutputs<T> slice_outputs(const SliceTensors& all, const TwoSamples& in, int64_t p, int64_t outputs) {
  const auto& [grad_x, grad_y, value, potential_x, potential_y] = all;
  return {row<T>(grad_x, p, in.n, outputs & kGradX), row<T>(grad_y, p, in.m, outputs & kGradY),
          row<double>(value, p, 1, outputs & kValue), row<double>(potential_x, p, in.n, outputs & kPotentialX),
          row<double>(potential_y, p, in.m, outputs & kPotentialY)};
}

}  // namespace fc::mmd
