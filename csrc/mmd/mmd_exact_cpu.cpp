// CPU driver of the exact kernel sums: packs the clouds, walks over pairs of panels, and widens what comes out.
#include <torch/csrc/stable/library.h>

#include <algorithm>
#include <cmath>
#include <tuple>
#include <vector>

#include "../common/aligned.h"
#include "../common/dtype_switch.h"
#include "../common/isa.h"
#include "../common/parallel.h"
#include "exact_walk.h"

#define FC_LOOP_FILE "../mmd/exact_loop.inc"
#include "../common/foreach_isa.h"

namespace fc::mmd {
namespace {

using OptionalTensor = std::optional<Tensor>;

constexpr int kGradX = 1, kGradY = 2, kSum = 4, kPotentialX = 8, kPotentialY = 16;

int64_t tiles_of(int64_t count) { return (count + kTile - 1) / kTile; }

template <class S>
double largest(const S* p, int64_t count) {
  return FC_PICK_ISA(largest_magnitude<S>)(p, count);
}

// One side, packed in the type of the computation; S is the type that came in.
template <class T>
struct PackedCloud {
  AlignedVector<T> rows, columns;
  AlignedVector<double> weights;
  double unit = 1;  // weight of the heaviest point
  Cloud<T> view;

  template <class S>
  PackedCloud(const S* points, int64_t count, int64_t d, const double* given)
      : rows(size_t(tiles_of(count) * kTile * padded(d))), columns(size_t(tiles_of(count) * kTile * d)),
        weights(size_t(tiles_of(count) * kTile)) {
    const int64_t width = padded(d);
    for (int64_t i = 0; i < count; ++i)
      for (int64_t k = 0; k < d; ++k)
        columns[size_t((i / kTile * d + k) * kTile + i % kTile)] = rows[size_t(i * width + k)] = T(points[i * d + k]);
    if (given) {
      unit = largest(given, count);
      if (unit == 0) unit = 1;
    } else {
      unit = 1.0 / double(count);
    }
    for (int64_t i = 0; i < count; ++i) weights[size_t(i)] = given ? given[i] / unit : 1.0;
    view = {rows.data(), columns.data(), weights.data(), count, tiles_of(count), d, width, !given};
  }

  static int64_t padded(int64_t d) { return (d + kLanes - 1) / kLanes * kLanes; }
};

// Rounds of pairs of panels, no panel twice in a round, so that the pairs of one round may run side by side and each
// sum is added up in the same order whatever the number of threads.
class Rounds {
 public:
  Rounds(int64_t rows, int64_t columns, bool same) : rows_(rows), columns_(columns), same_(same) {}

  int64_t count() const {
    if (!same_) return std::max(rows_, columns_);
    return rows_ == 1 ? 1 : 1 + even() - 1;  // the pairs on the diagonal, then a tournament
  }
  int64_t pairs(int64_t round) const { return !same_ ? count() : round == 0 ? rows_ : even() / 2; }
  // false where the schedule has a gap.
  bool pair(int64_t round, int64_t at, int64_t& row, int64_t& column) const {
    if (!same_) {
      row = at, column = (at + round) % count();
      return row < rows_ && column < columns_;
    }
    if (round == 0) {
      row = column = at;
      return true;
    }
    const int64_t last = even() - 1, turn = round - 1;  // all but the last stand in a circle
    row = at == 0 ? last : (turn + at) % last;
    column = at == 0 ? turn : (turn + last - at) % last;
    if (row > column) std::swap(row, column);
    return column < rows_;
  }

 private:
  int64_t even() const { return rows_ + rows_ % 2; }
  int64_t rows_, columns_;
  bool same_;
};

template <class T>
void run_walk(const ExactWalk<T>& walk, bool product) {
  const auto tile = product ? FC_PICK_ISA(exact_tile<true, T>) : FC_PICK_ISA(exact_tile<false, T>);
  // Panels of four tiles, of one where there would be too few to share.
  const int64_t most = std::max(walk.x.tiles, walk.y.tiles), panel = most >= 32 ? 4 : 1;
  const auto panels = [&](int64_t tiles) { return (tiles + panel - 1) / panel; };
  const Rounds rounds(panels(walk.x.tiles), panels(walk.y.tiles), walk.same);
  for (int64_t round = 0; round < rounds.count(); ++round) {
    const bool worthwhile = rounds.pairs(round) * panel * panel * kTile * kTile * (walk.x.d + 8) > 1'000'000;
    for_blocks(Blocks{rounds.pairs(round), 1, rounds.pairs(round)}, [&](int64_t, int64_t begin, int64_t end) {
      AlignedVector<T> memory(size_t(3 * kRows * kTile + (walk.gradient_y ? kTile * walk.y.width : 0)));
      T* at = memory.data();
      const ExactScratch<T> scratch{at, at + kRows * kTile, at + 2 * kRows * kTile, at + 3 * kRows * kTile};
      for (int64_t pair = begin; pair < end; ++pair) {
        int64_t row, column;
        if (!rounds.pair(round, pair, row, column)) continue;
        for (int64_t b = column * panel; b < std::min(walk.y.tiles, (column + 1) * panel); ++b)
          for (int64_t a = row * panel; a < std::min(walk.x.tiles, (row + 1) * panel); ++a)
            if (!walk.same || a <= b) tile(walk, a, b, scratch);
      }
    }, worthwhile);
  }
}

struct ExactArguments {
  const char* op;
  Tensor x;
  OptionalTensor y, u, v;
  int64_t kernel;
  double scale, shape;
  OptionalTensor table;
  bool diagonal;
  int64_t outputs;

  int64_t n() const { return x.size(0); }
  int64_t m() const { return y ? y->size(0) : n(); }
  int64_t d() const { return x.size(1); }
  bool needs_table() const {
    return kernel == matern && shape != 0.5 && shape != 1.5 && shape != 2.5;
  }
  void check() const {
    FC_CHECK(x.dim() == 2 && x.is_contiguous() && x.numel() > 0, op, ": `x` is not a contiguous matrix");
    if (y) {
      FC_CHECK(y->dim() == 2 && y->size(0) > 0, op, ": `y` is not a matrix");
      check_tensor(op, "y", *y, x.scalar_type(), {m(), d()});
    }
    if (u) check_tensor(op, "x_weights", *u, ScalarType::Double, {n()});
    if (v) check_tensor(op, "y_weights", *v, ScalarType::Double, {m()});
    FC_CHECK(y || !v, op, ": `y_weights` without `y`");
    FC_CHECK(kernel >= 0 && kernel < kernel_count, op, ": `kernel` is none of the codes");
    FC_CHECK(bool(table) == needs_table(), op, ": `table` is for the Matern kernel of general order, and only for it");
    if (table) check_tensor(op, "table", *table, ScalarType::Double, {kMaternRows, kMaternWidth});
  }
};

struct ExactOutputs {
  Tensor gradient_x, gradient_y, sum, potential_x, potential_y;
};

template <class S>
Tensor copied_out(const Tensor& like, const std::vector<double>& from, int64_t count, int64_t d, int64_t width,
                  double factor, bool wanted) {
  if (!wanted) return new_tensor<S>(like, {0});
  Tensor out = new_tensor<S>(like, {count, d});
  for (int64_t i = 0; i < count; ++i)
    for (int64_t k = 0; k < d; ++k) data<S>(out)[i * d + k] = S(factor * from[size_t(i * width + k)]);
  return out;
}

Tensor potentials_out(const Tensor& like, const std::vector<double>& from, int64_t count, double factor, bool wanted) {
  Tensor out = new_tensor<double>(like, {wanted ? count : 0});
  for (int64_t i = 0; wanted && i < count; ++i) data<double>(out)[i] = factor * from[size_t(i)];
  return out;
}

// T: type of the computation, S: type of the points.
template <class T, class S>
ExactOutputs compute(const ExactArguments& a, bool finite) {
  const bool same = !a.y;
  const PackedCloud<T> x(data<S>(a.x), a.n(), a.d(), data<double>(a.u));
  std::optional<PackedCloud<T>> other;
  if (!same) other.emplace(data<S>(*a.y), a.m(), a.d(), data<double>(a.v));
  const PackedCloud<T>& y = same ? x : *other;
  const size_t size_x = size_t(x.view.tiles * kTile), size_y = size_t(y.view.tiles * kTile);
  const size_t width = size_t(x.view.width);
  const bool grad_x = a.outputs & kGradX, grad_y = a.outputs & kGradY;
  std::vector<double> gx(grad_x ? size_x * width : 0), gy(grad_y && !same ? size_y * width : 0);
  std::vector<double> px(size_x), py(!same && (a.outputs & kPotentialY) ? size_y : 0);
  ExactWalk<T> walk{};
  walk.x = x.view, walk.y = y.view;
  const Form form = form_of(a.kernel, a.scale, a.shape, a.d(), data<double>(a.table), walk.numbers);
  walk.radial = FC_PICK_ISA(choose_radial<T>)(form, grad_x || grad_y);
  walk.same = same;
  walk.diagonal = a.diagonal ? T(0.5) : T(0);
  walk.gradient_x = grad_x ? gx.data() : nullptr;
  walk.gradient_y = same ? walk.gradient_x : grad_y ? gy.data() : nullptr;
  walk.potential_x = px.data();
  walk.potential_y = same ? px.data() : py.empty() ? nullptr : py.data();
  if (finite && std::isfinite(x.unit) && std::isfinite(y.unit)) run_walk(walk, is_product(form));
  else
    for (std::vector<double>* sums : {&gx, &gy, &px, &py}) std::fill(sums->begin(), sums->end(), std::nan(""));
  const double both = x.unit * y.unit * (same ? 2 : 1);
  ExactOutputs out{copied_out<S>(a.x, gx, a.n(), a.d(), x.view.width, both, grad_x),
                   copied_out<S>(a.x, gy, a.m(), a.d(), x.view.width, both, grad_y && !same),
                   new_tensor<double>(a.x, {(a.outputs & kSum) ? 1 : 0}),
                   potentials_out(a.x, px, a.n(), y.unit, a.outputs & kPotentialX),
                   potentials_out(a.x, py, a.m(), x.unit, !py.empty())};
  if (a.outputs & kSum) {
    double sum = 0;
    for (int64_t i = 0; i < a.n(); ++i)
      if (x.weights[size_t(i)] != 0) sum += x.weights[size_t(i)] * px[size_t(i)];
    data<double>(out.sum)[0] = x.unit * y.unit * sum;
  }
  return out;
}

ExactOutputs run(const ExactArguments& a) {
  a.check();
  return switch_floating(a.op, a.x, [&](auto zero) -> ExactOutputs {
    using S = decltype(zero);
    const double most_x = largest(data<S>(a.x), a.x.numel());
    const double most_y = a.y ? largest(data<S>(*a.y), a.y->numel()) : 0.0;
    const double most = std::max(most_x, most_y);
    const bool finite = std::isfinite(most_x) && std::isfinite(most_y);
    // Squares of such numbers leave the range of float32.
    const bool extreme = sizeof(S) == 4 && finite && (most > 1e17 || (most > 0 && most < 1e-15));
    return extreme ? compute<double, S>(a, finite) : compute<S, S>(a, finite);
  });
}

std::tuple<Tensor, Tensor, Tensor> mmd_exact_fwd(Tensor x, OptionalTensor y, OptionalTensor x_weights,
                                                 OptionalTensor y_weights, int64_t kernel, double scale,
                                                 double shape, OptionalTensor table, bool diagonal,
                                                 int64_t outputs) {
  const int64_t wanted = outputs & (kSum | kPotentialX | kPotentialY);
  ExactOutputs out = run({"mmd_exact_fwd", x, y, x_weights, y_weights, kernel, scale, shape, table, diagonal, wanted});
  return {out.sum, out.potential_x, out.potential_y};
}

std::tuple<Tensor, Tensor, Tensor, Tensor, Tensor> mmd_exact_bwd(Tensor x, OptionalTensor y, OptionalTensor x_weights,
                                                                 OptionalTensor y_weights, int64_t kernel, double scale,
                                                                 double shape, OptionalTensor table, bool diagonal,
                                                                 int64_t outputs) {
  ExactOutputs out = run({"mmd_exact_bwd", x, y, x_weights, y_weights, kernel, scale, shape, table, diagonal, outputs});
  return {out.gradient_x, out.gradient_y, out.sum, out.potential_x, out.potential_y};
}

}  // namespace
}  // namespace fc::mmd

STABLE_TORCH_LIBRARY_IMPL(fastcore_ops, CPU, m) {
  m.impl("mmd_exact_fwd", TORCH_BOX(&fc::mmd::mmd_exact_fwd));
  m.impl("mmd_exact_bwd", TORCH_BOX(&fc::mmd::mmd_exact_bwd));
}
