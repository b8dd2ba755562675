// Operators on a stored plan: preconditioned conjugate gradients for Newton's system, and Sinkhorn's iteration.
#include <torch/csrc/stable/library.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <tuple>
#include <vector>

#include "../common/aligned.h"
#include "../common/dtype_switch.h"
#include "../common/isa.h"
#include "../common/parallel.h"
#include "stored_matrix.h"

#define FC_LOOP_FILE "../ot/ot_matrix_loop.inc"
#include "../common/foreach_isa.h"

namespace fc::ot {
namespace {

using OptionalTensor = std::optional<Tensor>;
using Vector = AlignedVector<double>;

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

// Cuts of the rows that depend on the work alone.
Blocks cut_rows(int64_t n, double entries) { return cut_blocks(n, 16, entries < 3e4 ? 1 : entries < 3e5 ? 4 : 16, kRows); }

constexpr double kWorthSharing = 6e4;  // entries read: below, waking other threads costs more than they save

// Vectors of the linear systems are padded with zeros to whole lanes.
int64_t pad_lanes(int64_t width) { return (width + kLanes - 1) / kLanes * kLanes; }

// Runs add(begin, end, out) over the cuts and adds what they give, in their order.
class RowSum {
 public:
  RowSum(Blocks cuts, int64_t width, double entries)
      : width_(width), stride_(pad_lanes(width)), cuts_(cuts), worthwhile_(entries > kWorthSharing),
        partial_(cuts.count > 1 ? cuts.count * stride_ : 0) {}

  template <class Add>
  void operator()(double* total, const Add& add) {
    if (cuts_.count == 1) {
      std::fill(total, total + width_, 0.0);
      add(0, cuts_.total, total);
      return;
    }
    for_blocks(cuts_, [&](int64_t cut, int64_t begin, int64_t end) {
      double* out = partial_.data() + cut * stride_;
      std::fill(out, out + width_, 0.0);
      add(begin, end, out);
    }, worthwhile_);
    add_partials(partial_.data(), cuts_.count, stride_, width_, total);
  }

 private:
  int64_t width_, stride_;
  Blocks cuts_;
  bool worthwhile_;
  Vector partial_;
};

double l1_norm(const Vector& x) { return FC_PICK_ISA(vector_norm)(x.data(), int64_t(x.size())); }

// Newton's matrix diag(diagonal) - P^T diag(1/a) P for P = diag(u) K diag(v), without the blocks of P below
// threshold * min(a_i, diagonal_j): the Laplacian of what is kept, plus a diagonal `extra` for what is not.
class NewtonMatrix {
 public:
  template <class T>
  NewtonMatrix(const StoredMatrix<T>& matrix, const double* u, const double* v, const double* a, const double* diagonal,
               double threshold)
      : m_(matrix.m), width_(pad_lanes(matrix.m)), row_width_(matrix.padded()), indptr_(matrix.n + 1), row_sum_(matrix.n), reference_(matrix.n),
        by_differences_(matrix.n, 0), column_term_(width_, 0.0), preconditioner_(width_, 0.0) {
    Vector scale(width_, 0.0), sums(width_), bars(width_ / kBlock, Limits<double>::infinity);
    std::copy(v, v + m_, scale.begin());
    for (int64_t j = 0; j < m_; ++j) bars[j / kBlock] = std::min(bars[j / kBlock], threshold * diagonal[j]);
    const Blocks cuts = cut_rows(matrix.n, matrix.entries());
    std::vector<RawVector<int32_t>> blocks(cuts.count);
    std::vector<RawVector<float>> values(cuts.count);
    const auto compress = FC_PICK_ISA(compress_row<T>);
    RowSum sum(cuts, width_, matrix.entries());
    sum(sums.data(), [&](int64_t begin, int64_t end, double* out) {
      const int64_t cut = begin / cuts.size, row_blocks = row_width_ / kBlock;
      int64_t used = 0;
      blocks[cut].resize((end - begin) * row_blocks);  // the pages that stay unused cost nothing
      values[cut].resize((end - begin) * row_blocks * kBlock);
      for (int64_t i = begin; i < end; ++i) {
        const Compressed row = compress(matrix, i, u[i], scale.data(), threshold * a[i], bars.data(), blocks[cut].data() + used,
                                        values[cut].data() + used * kBlock, out);
        used += row.kept;
        indptr_[i + 1] = row.kept;
        row_sum_[i] = row.sum;
        reference_[i] = row.reference;
      }
      blocks[cut].resize(used);
      values[cut].resize(used * kBlock);
    });
    for (int64_t i = 0; i < matrix.n; ++i) indptr_[i + 1] += indptr_[i];
    blocks_.resize(indptr_[matrix.n]);
    values_.resize(indptr_[matrix.n] * kBlock);
    for_blocks(cuts, [&](int64_t cut, int64_t begin, int64_t) {
      std::copy(blocks[cut].begin(), blocks[cut].end(), blocks_.begin() + indptr_[begin]);
      std::copy(values[cut].begin(), values[cut].end(), values_.begin() + indptr_[begin] * kBlock);
    }, matrix.entries() > kWorthSharing);
    cuts_ = cut_rows(matrix.n, double(values_.size()));
    Vector columns(2 * width_);  // diagonal of the Laplacian; sums of the rows multiplied without differences
    RowSum add(cuts_, 2 * width_, double(values_.size()));
    add(columns.data(), [&](int64_t begin, int64_t end, double* out) {
      FC_PICK_ISA(add_diagonal)(rows(), begin, end, by_differences_.data(), out, out + width_);
    });
    for (int64_t j = 0; j < m_; ++j) {
      const double missing = diagonal[j] - sums[j];
      const double extra = missing > 1e-13 * diagonal[j] ? missing : 0.0;  // below, it is rounding
      column_term_[j] = columns[width_ + j] + extra;
      preconditioner_[j] = 1.0 / std::max(columns[j] + extra, 1e-14 * diagonal[j]);
    }
  }

  int64_t width() const { return width_; }
  const Vector& preconditioner() const { return preconditioner_; }
  RowSum row_sum() const { return RowSum(cuts_, width_, double(values_.size())); }

  // What each column's own entry adds to out = (L + extra) v, and the rest of it.
  const Vector& column_term() const { return column_term_; }
  void product(RowSum& sum, const Vector& v, Vector& out) const {
    const auto multiply = dense() ? FC_PICK_ISA(newton_rows_dense) : FC_PICK_ISA(newton_rows);
    const LaplacianRows view = rows();
    sum(out.data(), [&](int64_t begin, int64_t end, double* part) { multiply(view, v.data(), begin, end, part); });
  }

 private:
  LaplacianRows rows() const {
    return {indptr_.data(),    blocks_.data(),         values_.data(), row_sum_.data(),
            reference_.data(), by_differences_.data(), row_width_};
  }
  bool dense() const { return int64_t(values_.size()) == int64_t(row_sum_.size()) * row_width_; }

  int64_t m_, width_, row_width_;
  std::vector<int64_t> indptr_;
  RawVector<int32_t> blocks_;
  RawVector<float> values_;
  Vector row_sum_;
  std::vector<int32_t> reference_;
  std::vector<uint8_t> by_differences_;
  Vector column_term_, preconditioner_;
  Blocks cuts_;
};

// Jacobi-preconditioned conjugate gradients; the null vector 1 is harmless since the right-hand side sums to zero.
// Returns (iterations, relative L1 residual).
std::pair<int64_t, double> conjugate_gradients(const NewtonMatrix& matrix, const double* rhs, int64_t m, double tol,
                                               int64_t max_iter, Vector& x) {
  const int64_t width = matrix.width();
  Vector r(width, 0.0), z(width), p(width, 0.0), q(width, 0.0);
  std::copy(rhs, rhs + m, r.begin());
  RowSum sum = matrix.row_sum();
  const double* inverse = matrix.preconditioner().data();
  const auto curvature_of = FC_PICK_ISA(cg_curvature);
  const auto advance = FC_PICK_ISA(cg_advance);
  const auto turn = FC_PICK_ISA(cg_turn);
  Residual now = advance(0.0, p.data(), q.data(), inverse, x.data(), r.data(), z.data(), width);
  const double size = now.norm;
  double residual = size > 0 ? 1.0 : 0.0, beta = 0;
  int64_t iteration = 0;
  while (iteration < max_iter && residual > tol) {
    turn(beta, z.data(), p.data(), width);
    matrix.product(sum, p, q);
    const double curvature = curvature_of(matrix.column_term().data(), p.data(), q.data(), width);
    if (!(curvature > 0)) break;  // rounding has used the matrix up
    const double rho = now.rho;
    now = advance(rho / curvature, p.data(), q.data(), inverse, x.data(), r.data(), z.data(), width);
    beta = now.rho / rho;
    residual = now.norm / size;
    ++iteration;
  }
  return {iteration, residual};
}

std::tuple<Tensor, Tensor> ot_cg(OptionalTensor indptr, OptionalTensor blocks, Tensor values, Tensor u, Tensor v, Tensor a,
                                 Tensor diagonal, Tensor rhs, double threshold, double tol, int64_t max_iter) {
  const char* op = "ot_cg";
  const int64_t n = a.size(0), m = diagonal.size(0);
  check_tensor(op, "a", a, ScalarType::Double, {n});
  check_tensor(op, "u", u, ScalarType::Double, {n});
  check_tensor(op, "v", v, ScalarType::Double, {m});
  check_tensor(op, "diagonal", diagonal, ScalarType::Double, {m});
  check_tensor(op, "rhs", rhs, ScalarType::Double, {m});
  Tensor direction = new_tensor<double>(a, {m}), info = new_tensor<double>(a, {2});
  switch_floating(op, values, [&](auto zero) {
    using T = decltype(zero);
    const auto stored = view_matrix<T>(op, indptr, blocks, values, n, m);
    const NewtonMatrix matrix(stored, data<double>(u), data<double>(v), data<double>(a), data<double>(diagonal), threshold);
    Vector x(matrix.width(), 0.0);
    const auto [iterations, residual] = conjugate_gradients(matrix, data<double>(rhs), m, tol, max_iter, x);
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
    const auto scale = FC_PICK_ISA(choose_scale<T>)(bool(indptr));
    RowSum sum(cut_rows(n, matrix.entries()), matrix.padded(), matrix.entries());
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
