// Operators on a stored plan: preconditioned conjugate gradients for Newton's system, and Sinkhorn's iteration.
#include <torch/csrc/stable/library.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <tuple>
#include <vector>

#include "../common/dtype_switch.h"
#include "../common/isa.h"
#include "../common/parallel.h"
#include "stored_matrix.h"

#define FC_LOOP_FILE "../ot/ot_matrix_loop.inc"
#include "../common/foreach_isa.h"

namespace fc::ot {
namespace {

using OptionalTensor = std::optional<Tensor>;
using Vector = std::vector<double>;

template <class T>
StoredMatrix<T> view_matrix(const char* op, const OptionalTensor& indptr, const OptionalTensor& blocks, const Tensor& values,
                            int64_t n, int64_t m) {
  FC_CHECK(bool(indptr) == bool(blocks), op, ": `indptr` and `blocks` go together");
  StoredMatrix<T> matrix{data<int64_t>(indptr), data<int32_t>(blocks), data<T>(values), n, m};
  if (!indptr) {
    check_tensor(op, "values", values, dtype_of<T>::value, {n, m});
    return matrix;
  }
  check_tensor(op, "indptr", *indptr, ScalarType::Long, {n + 1});
  check_tensor(op, "blocks", *blocks, ScalarType::Int, {matrix.indptr[n]});
  check_tensor(op, "values", values, dtype_of<T>::value, {matrix.indptr[n], kBlock});
  return matrix;
}

// Runs add(begin, end, out) over cuts of the rows and adds what they give; the cuts depend on the work alone.
class RowSum {
 public:
  template <class T>
  explicit RowSum(const StoredMatrix<T>& matrix) : width_(matrix.padded()) {
    const double work = matrix.entries();
    cuts_ = cut_blocks(matrix.n, 16, work < 3e4 ? 1 : work < 3e5 ? 4 : 16, kRows);
    partial_.resize(cuts_.count > 1 ? cuts_.count * width_ : 0);
  }

  template <class Add>
  void operator()(double* total, const Add& add) {
    if (cuts_.count == 1) {
      std::fill(total, total + width_, 0.0);
      add(0, cuts_.total, total);
      return;
    }
    for_blocks(cuts_, [&](int64_t cut, int64_t begin, int64_t end) {
      double* out = partial_.data() + cut * width_;
      std::fill(out, out + width_, 0.0);
      add(begin, end, out);
    });
    add_partials(partial_.data(), cuts_.count, width_, width_, total);
  }

 private:
  int64_t width_;
  Blocks cuts_;
  Vector partial_;
};

double l1_norm(const Vector& x) { return FC_PICK_ISA(vector_norm)(x.data(), int64_t(x.size())); }

double dot(const Vector& x, const Vector& y, int64_t m) { return FC_PICK_ISA(vector_dot)(x.data(), y.data(), m); }

// Preconditioned conjugate gradients for (diag(diagonal) - M^T diag(1/a) M) d = rhs, M = matrix * diag(scale). The system
// is semidefinite with null vector 1 when diagonal = column sums; that is harmless because the right-hand side sums to zero.
// Returns (iterations, relative L1 residual); x has room for the padded width.
template <class T>
std::pair<int64_t, double> conjugate_gradients(const StoredMatrix<T>& matrix, const double* scale, const double* a,
                                               const double* diagonal, const double* rhs, double tol, int64_t max_iter, Vector& x) {
  const int64_t m = matrix.m, width = matrix.padded();
  Vector r(rhs, rhs + m), inverse(m), p(m, 0.0), moved(width, 0.0), q(width), squares(width);
  RowSum sum(matrix);
  const auto add_squares = FC_PICK_ISA(add_squares<T>);
  sum(squares.data(), [&](int64_t begin, int64_t end, double* out) { add_squares(matrix, a, begin, end, out); });
  for (int64_t j = 0; j < m; ++j)
    inverse[j] = 1.0 / std::max(diagonal[j] - scale[j] * scale[j] * squares[j], 1e-3 * diagonal[j]);
  const auto gram = FC_PICK_ISA(choose_weigh<T, RowWeight::gram>)(matrix.indptr != nullptr);
  const double size = l1_norm(r);
  double residual = size > 0 ? 1.0 : 0.0, rho_before = 0;
  int64_t iteration = 0;
  Vector& z = squares;  // its work is done
  while (iteration < max_iter && residual > tol) {
    for (int64_t j = 0; j < m; ++j) z[j] = r[j] * inverse[j];
    const double rho = dot(r, z, m), beta = iteration ? rho / rho_before : 0.0;
    for (int64_t j = 0; j < m; ++j) {
      p[j] = z[j] + beta * p[j];
      moved[j] = scale[j] * p[j];
    }
    sum(q.data(), [&](int64_t begin, int64_t end, double* out) { gram(matrix, a, moved.data(), begin, end, nullptr, out); });
    for (int64_t j = 0; j < m; ++j) q[j] = diagonal[j] * p[j] - scale[j] * q[j];
    const double curvature = dot(p, q, m);
    if (!(curvature > 0)) break;  // rounding has used the matrix up
    const double alpha = rho / curvature;
    for (int64_t j = 0; j < m; ++j) {
      x[j] += alpha * p[j];
      r[j] -= alpha * q[j];
    }
    rho_before = rho;
    residual = l1_norm(r) / size;
    ++iteration;
  }
  return {iteration, residual};
}

std::tuple<Tensor, Tensor> ot_cg(OptionalTensor indptr, OptionalTensor blocks, Tensor values, OptionalTensor scale, Tensor a,
                                 Tensor diagonal, Tensor rhs, double tol, int64_t max_iter) {
  const char* op = "ot_cg";
  const int64_t n = a.size(0), m = diagonal.size(0);
  check_tensor(op, "a", a, ScalarType::Double, {n});
  check_tensor(op, "diagonal", diagonal, ScalarType::Double, {m});
  check_tensor(op, "rhs", rhs, ScalarType::Double, {m});
  if (scale) check_tensor(op, "scale", *scale, ScalarType::Double, {m});
  const Vector ones(scale ? 0 : m, 1.0);
  const double* factor = scale ? data<double>(scale) : ones.data();
  Tensor direction = new_tensor<double>(a, {m}), info = new_tensor<double>(a, {2});
  switch_floating(op, values, [&](auto zero) {
    using T = decltype(zero);
    const auto matrix = view_matrix<T>(op, indptr, blocks, values, n, m);
    Vector x(matrix.padded(), 0.0);
    const auto [iterations, residual] = conjugate_gradients(matrix, factor, data<double>(a), data<double>(diagonal),
                                                            data<double>(rhs), tol, max_iter, x);
    std::copy(x.begin(), x.begin() + m, data<double>(direction));
    data<double>(info)[0] = double(iterations);
    data<double>(info)[1] = residual;
  });
  return {direction, info};
}

// Sinkhorn's iteration on a stored kernel K, one read per step: u = a / (K v), column sums c = v * (K^T u), then
// v *= b / c. errors[s] = |b - c| of step s, measured before v moves. A step whose error meets `tol`, after which v would
// leave [exp(-limit), exp(limit)], or the last one, leaves v as it was measured; later errors stay NaN.
std::tuple<Tensor, Tensor, Tensor> sinkhorn_steps(OptionalTensor indptr, OptionalTensor blocks, Tensor values, Tensor a,
                                                  Tensor b, Tensor v, int64_t steps, double tol, double limit) {
  const char* op = "sinkhorn_steps";
  const int64_t n = a.size(0), m = b.size(0);
  FC_CHECK(steps > 0, op, ": expected at least one step");
  check_tensor(op, "a", a, ScalarType::Double, {n});
  check_tensor(op, "b", b, ScalarType::Double, {m});
  check_tensor(op, "v", v, ScalarType::Double, {m});
  Tensor u = new_tensor<double>(a, {n}), col_sum = new_tensor<double>(a, {m}), errors = new_tensor<double>(a, {steps});
  double *error = data<double>(errors), *c = data<double>(col_sum);
  std::fill(error, error + steps, std::numeric_limits<double>::quiet_NaN());
  const double* target = data<double>(b);
  switch_floating(op, values, [&](auto zero) {
    using T = decltype(zero);
    const auto matrix = view_matrix<T>(op, indptr, blocks, values, n, m);
    const auto scale = FC_PICK_ISA(choose_weigh<T, RowWeight::scaling>)(bool(indptr));
    RowSum sum(matrix);
    Vector scaling(matrix.padded(), 0.0), product(matrix.padded()), miss(m);
    std::copy(data<double>(v), data<double>(v) + m, scaling.begin());
    const double largest = std::exp(limit), smallest = std::exp(-limit);
    for (int64_t s = 0; s < steps; ++s) {
      sum(product.data(), [&](int64_t begin, int64_t end, double* out) {
        scale(matrix, data<double>(a), scaling.data(), begin, end, data<double>(u), out);
      });
      bool inside = true;
      for (int64_t j = 0; j < m; ++j) {
        c[j] = scaling[j] * product[j];
        miss[j] = c[j] - target[j];
        const double next = target[j] / product[j];
        inside &= next < largest && next > smallest;
      }
      error[s] = l1_norm(miss);
      if (error[s] <= tol || !inside || s + 1 == steps) break;
      for (int64_t j = 0; j < m; ++j) scaling[j] = target[j] / product[j];
    }
    std::copy(scaling.begin(), scaling.begin() + m, data<double>(v));
  });
  return {u, col_sum, errors};
}

}  // namespace
}  // namespace fc::ot

STABLE_TORCH_LIBRARY_IMPL(fastcore_ops, CPU, m) {
  m.impl("ot_cg", TORCH_BOX(&fc::ot::ot_cg));
  m.impl("sinkhorn_steps", TORCH_BOX(&fc::ot::sinkhorn_steps));
}
