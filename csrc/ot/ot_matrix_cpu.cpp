// Operators on a stored plan or kernel: preconditioned conjugate gradients for Newton's system, and Sinkhorn steps.
#include <torch/csrc/stable/library.h>

#include <cmath>
#include <limits>
#include <tuple>
#include <vector>

#include "../common/dtype_switch.h"
#include "../common/isa.h"
#include "../common/parallel.h"
#include "row_pass.h"

#define FC_LOOP_FILE "../ot/ot_matrix_loop.inc"
#include "../common/foreach_isa.h"

namespace fc::ot {
namespace {

using OptionalTensor = std::optional<Tensor>;
using Vector = std::vector<double>;

// Runs add(begin, end, out) over blocks of rows and adds the blocks' results; blocks depend on the work alone.
class RowSum {
 public:
  RowSum(int64_t rows, int64_t width, double work) : width_(width) {
    const int64_t blocks = work < 2e4 ? 1 : work < 2e5 ? 4 : 16;
    blocks_ = cut_blocks(rows, 16, blocks, kRows);
    partial_.resize(blocks_.count > 1 ? blocks_.count * width : 0);
  }

  template <class Add>
  void operator()(double* total, const Add& add) {
    if (blocks_.count == 1) {
      std::fill(total, total + width_, 0.0);
      add(0, blocks_.total, total);
      return;
    }
    for_blocks(blocks_, [&](int64_t block, int64_t begin, int64_t end) {
      double* out = partial_.data() + block * width_;
      std::fill(out, out + width_, 0.0);
      add(begin, end, out);
    });
    add_partials(partial_.data(), blocks_.count, width_, width_, total);
  }

 private:
  int64_t width_;
  Blocks blocks_;
  Vector partial_;
};

double dot(const Vector& x, const Vector& y) { return FC_PICK_ISA(dot<double>)(x.data(), y.data(), int64_t(x.size())); }

double l1_norm(const Vector& x) {
  double lanes[kLanes] = {};
  for (size_t j = 0; j < x.size(); ++j) lanes[j % kLanes] += std::abs(x[j]);
  return tree_sum(lanes);
}

// Preconditioned conjugate gradients for (diag(diagonal) - P^T diag(1/a) P) d = rhs. The matrix is semidefinite with
// null vector 1 when diagonal = column sums; that is harmless because the right-hand side sums to zero.
template <class Product>
std::tuple<Vector, int64_t, double> conjugate_gradients(const double* diagonal, const Vector& squares, const double* rhs,
                                                        double tol, int64_t max_iter, Product& product) {
  const size_t m = squares.size();
  Vector x(m, 0.0), r(rhs, rhs + m), inverse(m), z(m), p(m), q(m);
  for (size_t j = 0; j < m; ++j) inverse[j] = 1.0 / std::max(diagonal[j] - squares[j], 1e-3 * diagonal[j]);
  const double scale = l1_norm(r);
  double residual = scale > 0 ? 1.0 : 0.0, rho_before = 0;
  int64_t iteration = 0;
  while (iteration < max_iter && residual > tol) {
    for (size_t j = 0; j < m; ++j) z[j] = r[j] * inverse[j];
    const double rho = dot(r, z), beta = iteration ? rho / rho_before : 0.0;
    for (size_t j = 0; j < m; ++j) p[j] = z[j] + beta * p[j];
    product(p, q);
    for (size_t j = 0; j < m; ++j) q[j] = diagonal[j] * p[j] - q[j];
    const double curvature = dot(p, q);
    if (!(curvature > 0)) break;  // rounding has used the matrix up
    const double alpha = rho / curvature;
    for (size_t j = 0; j < m; ++j) {
      x[j] += alpha * p[j];
      r[j] -= alpha * q[j];
    }
    rho_before = rho;
    residual = l1_norm(r) / scale;
    ++iteration;
  }
  return {x, iteration, residual};
}


std::tuple<Tensor, Tensor> ot_cg(OptionalTensor indptr, OptionalTensor indices, Tensor values, Tensor a, Tensor diagonal,
                                 Tensor rhs, double tol, int64_t max_iter) {
  const char* op = "ot_cg";
  const int64_t n = a.size(0), m = diagonal.size(0);
  check_tensor(op, "a", a, ScalarType::Double, {n});
  check_tensor(op, "diagonal", diagonal, ScalarType::Double, {m});
  check_tensor(op, "rhs", rhs, ScalarType::Double, {m});
  FC_CHECK(bool(indptr) == bool(indices), op, ": `indptr` and `indices` go together");
  const double* mass = data<double>(a);
  Vector squares(m);
  std::tuple<Vector, int64_t, double> solved;
  if (indptr) {
    check_tensor(op, "indptr", *indptr, ScalarType::Long, {n + 1});
    const int64_t* rows = data<int64_t>(indptr);
    const int64_t entries = rows[n];
    check_tensor(op, "indices", *indices, ScalarType::Int, {entries});
    check_tensor(op, "values", values, ScalarType::Double, {entries});
    const int32_t* columns = data<int32_t>(indices);
    const double* entry = data<double>(values);
    RowSum sum(n, m, 4.0 * entries);
    sum(squares.data(), [&](int64_t begin, int64_t end, double* out) {
      for (int64_t i = begin; i < end; ++i)
        for (int64_t k = rows[i]; k < rows[i + 1]; ++k) out[columns[k]] += entry[k] * entry[k] / mass[i];
    });
    const auto gram = FC_PICK_ISA(gram_sparse);
    auto product = [&](const Vector& v, Vector& out) {
      sum(out.data(), [&](int64_t begin, int64_t end, double* part) { gram(rows, columns, entry, mass, v.data(), begin, end, part); });
    };
    solved = conjugate_gradients(data<double>(diagonal), squares, data<double>(rhs), tol, max_iter, product);
  } else {
    switch_floating(op, values, [&](auto zero) {
      using T = decltype(zero);
      check_tensor(op, "values", values, dtype_of<T>::value, {n, m});
      const T* plan = data<T>(values);
      RowSum sum(n, m, double(n) * m);
      const auto square = FC_PICK_ISA(square_dense<T>);
      sum(squares.data(), [&](int64_t begin, int64_t end, double* out) { square(plan, m, mass, begin, end, out); });
      const auto gram = FC_PICK_ISA(gram_dense<T>);
      auto product = [&](const Vector& v, Vector& out) {
        sum(out.data(), [&](int64_t begin, int64_t end, double* part) { gram(plan, m, mass, v.data(), begin, end, part); });
      };
      solved = conjugate_gradients(data<double>(diagonal), squares, data<double>(rhs), tol, max_iter, product);
    });
  }
  Tensor direction = new_tensor<double>(a, {m}), info = new_tensor<double>(a, {2});
  std::copy(std::get<0>(solved).begin(), std::get<0>(solved).end(), data<double>(direction));
  data<double>(info)[0] = double(std::get<1>(solved));
  data<double>(info)[1] = std::get<2>(solved);
  return {direction, info};
}

// Sinkhorn's iteration on a kernel K, one read of K per step: u = a / (K v), column sums c = v * (K^T u), v *= b / c.
// errors[s] = |b - c| of step s, measured before v moves; a step whose error meets `tol`, or that drives v beyond
// exp(limit), is the last, and later entries stay NaN. v is left as it was when the last error was measured.
std::tuple<Tensor, Tensor> sinkhorn_steps(Tensor kernel, Tensor a, Tensor b, Tensor v, int64_t steps, double tol, double limit) {
  const char* op = "sinkhorn_steps";
  FC_CHECK(kernel.dim() == 2 && steps > 0, op, ": expected a matrix and at least one step");
  const int64_t n = kernel.size(0), m = kernel.size(1);
  check_tensor(op, "a", a, ScalarType::Double, {n});
  check_tensor(op, "b", b, ScalarType::Double, {m});
  check_tensor(op, "v", v, ScalarType::Double, {m});
  Tensor u = new_tensor<double>(a, {n}), errors = new_tensor<double>(a, {steps});
  double* error = data<double>(errors);
  std::fill(error, error + steps, std::numeric_limits<double>::quiet_NaN());
  double* scaling = data<double>(v);
  const double* target = data<double>(b);
  switch_floating(op, kernel, [&](auto zero) {
    using T = decltype(zero);
    check_tensor(op, "kernel", kernel, dtype_of<T>::value, {n, m});
    const auto scale = FC_PICK_ISA(scale_rows<T>);
    RowSum sum(n, m, double(n) * m);
    Vector c(m), miss(m);
    const double largest = std::exp(limit), smallest = std::exp(-limit);
    for (int64_t s = 0; s < steps; ++s) {
      sum(c.data(), [&](int64_t begin, int64_t end, double* out) {
        scale(data<T>(kernel), m, data<double>(a), scaling, begin, end, data<double>(u), out);
      });
      bool inside = true;
      for (int64_t j = 0; j < m; ++j) {
        miss[j] = scaling[j] * c[j] - target[j];
        const double next = target[j] / c[j];
        inside &= next < largest && next > smallest;
      }
      error[s] = l1_norm(miss);
      if (error[s] <= tol || !inside || s + 1 == steps) break;
      for (int64_t j = 0; j < m; ++j) scaling[j] = target[j] / c[j];
    }
  });
  return {u, errors};
}

}  // namespace
}  // namespace fc::ot

STABLE_TORCH_LIBRARY_IMPL(fastcore_ops, CPU, m) {
  m.impl("ot_cg", TORCH_BOX(&fc::ot::ot_cg));
  m.impl("sinkhorn_steps", TORCH_BOX(&fc::ot::sinkhorn_steps));
}
