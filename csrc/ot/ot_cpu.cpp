// CPU drivers of the row passes: cut the rows into blocks, run the loops of ot_loop.inc, add the column sums.
#include <torch/csrc/stable/library.h>

#include <algorithm>
#include <atomic>
#include <memory>
#include <tuple>
#include <vector>

#include "../common/aligned.h"
#include "../common/dtype_switch.h"
#include "../common/isa.h"
#include "../common/parallel.h"
#include "row_pass.h"

#define FC_LOOP_FILE "../ot/ot_loop.inc"
#include "../common/foreach_isa.h"

namespace fc::ot {
namespace {

using OptionalTensor = std::optional<Tensor>;

// The cost as it crosses the operators' boundary.
struct CostArguments {
  const char* op;
  Tensor cost;
  OptionalTensor y;
  int64_t metric;
  OptionalTensor row_shift, col_shift;
  int64_t n = 0, m = 0, d = 0;

  void check() {
    FC_CHECK(metric >= matrix && metric <= cityblock, op, ": unknown metric ", metric);
    FC_CHECK(cost.dim() == 2 && cost.is_contiguous(), op, ": `cost` is not a contiguous matrix");
    FC_CHECK((metric == matrix) == !y, op, ": `y` goes with points, and only with them");
    n = cost.size(0);
    d = metric == matrix ? 0 : cost.size(1);
    m = metric == matrix ? cost.size(1) : y->size(1);
    FC_CHECK(n > 0 && m > 0, op, ": empty cost");
    if (y) check_tensor(op, "y", *y, cost.scalar_type(), {d, m});
    if (row_shift) check_tensor(op, "row_shift", *row_shift, cost.scalar_type(), {n});
    if (col_shift) check_tensor(op, "col_shift", *col_shift, cost.scalar_type(), {m});
  }
};

// A job and the memory it points into.
template <class T>
struct PreparedPass {
  RowPass<T> job;
  AlignedVector<T> g_hi, g_lo;

  PreparedPass(const CostArguments& c, const double* g, const double* a, double reg, double* row_lse)
      : g_hi(c.m), g_lo(c.m) {
    for (int64_t j = 0; j < c.m; ++j) {
      g_hi[j] = T(g[j]);
      g_lo[j] = T(g[j] - double(g_hi[j]));
    }
    job.view = {data<T>(c.cost), data<T>(c.y), data<T>(c.row_shift), data<T>(c.col_shift), c.n, c.m, c.d};
    job.scores = FC_PICK_ISA(choose_scores<T>)(c.metric, c.d, bool(c.col_shift));
    job.g_hi = g_hi.data();
    job.g_lo = g_lo.data();
    job.a = a;
    job.reg = reg;
    job.row_lse = row_lse;
  }
};

// One thread's scratch, in one allocation per type.
template <class T>
struct OwnedScratch {
  AlignedVector<T> values;
  std::vector<double> factor;
  std::vector<uint8_t> active;
  RowScratch<T> view;

  explicit OwnedScratch(const RowPass<T>& job)
      : values(kRows * job.padded() + 2 * kTile + kRows * job.tiles()), factor(kRows * job.tiles()),
        active(kRows * job.padded() / kLanes) {
    view.p = values.data();
    view.sum = view.p + kRows * job.padded();
    view.lost = view.sum + kTile;
    view.reference = view.lost + kTile;
    view.factor = factor.data();
    view.active = active.data();
  }
};

Blocks row_blocks(int64_t n) { return cut_blocks(n, 16, n >= 4096 ? 32 : 16, kRows); }

// Runs the job over all rows; visit(block, i, rows, scratch) sees each group of rows while it is in cache.
template <class T, class Visit>
void visit_rows(const RowPass<T>& job, const Visit& visit) {
  const auto exp_rows = FC_PICK_ISA(exp_rows<T>);
  for_blocks(row_blocks(job.view.n), [&](int64_t block, int64_t begin, int64_t end) {
    OwnedScratch<T> scratch(job);
    for (int64_t i = begin; i < end; i += kRows) {
      const int64_t rows = std::min(kRows, end - i);
      exp_rows(job, i, rows, scratch.view);
      visit(block, i, rows, scratch.view);
    }
  }, job.view.n * job.view.m > 50'000);
}

// The evaluation pass: column sums of the plan, and whatever emit(block, i, rows, scratch) takes from each group.
template <class T, class Emit>
void evaluate(const RowPass<T>& job, double* col_sum, const Emit& emit) {
  const int64_t stride = job.padded(), blocks = row_blocks(job.view.n).count;
  AlignedVector<double> partial(blocks * stride);
  const auto add = FC_PICK_ISA(add_rows<T>);
  visit_rows(job, [&](int64_t block, int64_t i, int64_t rows, const RowScratch<T>& scratch) {
    emit(block, i, rows, scratch);
    add(job, rows, scratch, partial.data() + block * stride);
  });
  add_partials(partial.data(), blocks, stride, job.view.m, col_sum);
}

CostArguments checked(const char* op, Tensor cost, OptionalTensor y, int64_t metric, OptionalTensor row_shift,
                      OptionalTensor col_shift, const Tensor& g, const Tensor& a) {
  CostArguments arguments{op, cost, y, metric, row_shift, col_shift};
  arguments.check();
  check_tensor(op, "g", g, ScalarType::Double, {arguments.m});
  check_tensor(op, "a", a, ScalarType::Double, {arguments.n});
  return arguments;
}

// Two-sided centring: row minima, then column minima of what is left, and the largest finite entry of each column.
std::tuple<Tensor, Tensor, Tensor> ot_centre(Tensor cost) {
  FC_CHECK(cost.dim() == 2 && cost.is_contiguous() && cost.numel() > 0, "ot_centre: `cost` is not a contiguous matrix");
  const int64_t n = cost.size(0), m = cost.size(1);
  return switch_floating("ot_centre", cost, [&](auto zero) -> std::tuple<Tensor, Tensor, Tensor> {
    using T = decltype(zero);
    Tensor row_shift = new_tensor<T>(cost, {n}), low = new_tensor<T>(cost, {m}), top = new_tensor<T>(cost, {m});
    const Blocks blocks = row_blocks(n);
    std::vector<T> lows(blocks.count * m, Limits<T>::infinity), tops(blocks.count * m, -Limits<T>::infinity);
    const auto centre = FC_PICK_ISA(centre_row<T>);
    for_blocks(blocks, [&](int64_t block, int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; ++i)
        data<T>(row_shift)[i] = centre(data<T>(cost) + i * m, m, lows.data() + block * m, tops.data() + block * m);
    });
    for (int64_t j = 0; j < m; ++j) {
      T least = lows[j], most = tops[j];
      for (int64_t block = 1; block < blocks.count; ++block) {
        least = std::min(least, lows[block * m + j]);
        most = std::max(most, tops[block * m + j]);
      }
      data<T>(low)[j] = least;
      data<T>(top)[j] = most;
    }
    return {row_shift, low, top};
  });
}

std::tuple<Tensor, Tensor> ot_row_pass(Tensor cost, OptionalTensor y, int64_t metric, OptionalTensor row_shift,
                                       OptionalTensor col_shift, Tensor g, Tensor a, double reg) {
  const auto c = checked("ot_row_pass", cost, y, metric, row_shift, col_shift, g, a);
  Tensor row_lse = new_tensor<double>(g, {c.n}), col_sum = new_tensor<double>(g, {c.m});
  switch_floating("ot_row_pass", cost, [&](auto zero) {
    using T = decltype(zero);
    const PreparedPass<T> pass(c, data<double>(g), data<double>(a), reg, data<double>(row_lse));
    evaluate(pass.job, data<double>(col_sum), [](auto...) {});
  });
  return {row_lse, col_sum};
}

std::tuple<Tensor, Tensor> ot_dense_build(Tensor cost, OptionalTensor y, int64_t metric, OptionalTensor row_shift,
                                          OptionalTensor col_shift, Tensor g, Tensor a, double reg, Tensor plan) {
  const auto c = checked("ot_dense_build", cost, y, metric, row_shift, col_shift, g, a);
  Tensor row_lse = new_tensor<double>(g, {c.n}), col_sum = new_tensor<double>(g, {c.m});
  switch_floating("ot_dense_build", cost, [&](auto zero) {
    using T = decltype(zero);
    check_tensor("ot_dense_build", "plan", plan, dtype_of<T>::value, {c.n, c.m});
    prefer_huge_pages(data<T>(plan), size_t(c.n * c.m) * sizeof(T));
    PreparedPass<T> pass(c, data<double>(g), data<double>(a), reg, data<double>(row_lse));
    pass.job.cutoff = exponent_cutoff_of_storage<T>();
    const auto emit = FC_PICK_ISA(emit_dense<T>);
    evaluate(pass.job, data<double>(col_sum), [&](int64_t, int64_t i, int64_t rows, const RowScratch<T>& scratch) {
      for (int64_t r = 0; r < rows; ++r) emit(pass.job, r, scratch, data<T>(plan) + (i + r) * c.m);
    });
  });
  return {row_lse, col_sum};
}

// What one block of rows keeps, and room for one more row.
template <class T>
struct KeptBlocks {
  std::vector<int32_t> blocks, row_blocks;
  std::vector<T> values, row_values;

  void append(int64_t count) {
    blocks.insert(blocks.end(), row_blocks.begin(), row_blocks.begin() + count);
    values.insert(values.end(), row_values.begin(), row_values.begin() + count * kBlock);
  }
};

// Evaluation pass that keeps the sparse plan; more than `max_entries` entries are not kept (the outputs are then empty).
template <class T>
std::pair<Tensor, Tensor> build_sparse(const RowPass<T>& job, const Tensor& b, double threshold, int64_t max_entries,
                                       double* col_sum, int64_t* indptr) {
  const int64_t n = job.view.n, m = job.view.m, block_count = (m + kBlock - 1) / kBlock;
  std::vector<double> threshold_b(block_count, Limits<double>::infinity);
  for (int64_t j = 0; j < m; ++j) threshold_b[j / kBlock] = std::min(threshold_b[j / kBlock], threshold * data<double>(b)[j]);
  const Blocks cuts = row_blocks(n);
  std::vector<KeptBlocks<T>> kept(cuts.count);
  std::atomic<int64_t> total{0};
  const auto emit = FC_PICK_ISA(emit_sparse<T>);
  evaluate(job, col_sum, [&](int64_t cut, int64_t i, int64_t rows, const RowScratch<T>& scratch) {
    KeptBlocks<T>& own = kept[cut];
    own.row_blocks.resize(block_count);
    own.row_values.resize(block_count * kBlock);
    for (int64_t r = 0; r < rows; ++r) {
      indptr[i + r + 1] = 0;
      if (total.load(std::memory_order_relaxed) * kBlock > max_entries) continue;
      const int64_t count = emit(job, r, scratch, threshold * job.a[i + r], threshold_b.data(), own.row_blocks.data(),
                                 own.row_values.data());
      own.append(count);
      indptr[i + r + 1] = count;
      total.fetch_add(count, std::memory_order_relaxed);
    }
  });
  const bool fits = total.load() * kBlock <= max_entries;
  const int64_t entries = fits ? total.load() : 0;
  indptr[0] = 0;
  for (int64_t i = 0; i < n; ++i) indptr[i + 1] = fits ? indptr[i] + indptr[i + 1] : 0;
  Tensor blocks = new_tensor<int32_t>(b, {entries}), values = new_tensor<T>(b, {entries, kBlock});
  for (int64_t cut = 0; fits && cut < cuts.count; ++cut) {
    const int64_t at = indptr[cuts.begin(cut)];
    std::copy(kept[cut].blocks.begin(), kept[cut].blocks.end(), data<int32_t>(blocks) + at);
    std::copy(kept[cut].values.begin(), kept[cut].values.end(), data<T>(values) + at * kBlock);
  }
  return {blocks, values};
}

std::tuple<Tensor, Tensor, Tensor, Tensor, Tensor> ot_sparse_build(Tensor cost, OptionalTensor y, int64_t metric,
                                                                   OptionalTensor row_shift, OptionalTensor col_shift,
                                                                   Tensor g, Tensor a, Tensor b, double reg,
                                                                   double threshold, int64_t max_entries) {
  const char* op = "ot_sparse_build";
  const auto c = checked(op, cost, y, metric, row_shift, col_shift, g, a);
  check_tensor(op, "b", b, ScalarType::Double, {c.m});
  FC_CHECK(c.m <= INT32_MAX, op, ": more than 2^31 - 1 columns");
  Tensor row_lse = new_tensor<double>(g, {c.n}), col_sum = new_tensor<double>(g, {c.m});
  Tensor indptr = new_tensor<int64_t>(g, {c.n + 1});
  auto [blocks, values] = switch_floating(op, cost, [&](auto zero) {
    using T = decltype(zero);
    const PreparedPass<T> pass(c, data<double>(g), data<double>(a), reg, data<double>(row_lse));
    return build_sparse(pass.job, b, threshold, max_entries, data<double>(col_sum), data<int64_t>(indptr));
  });
  return {row_lse, col_sum, indptr, blocks, values};
}

// rows_k = P v_k and cols_k = P^T w_k, entries recomputed on the fly; without w the product of Newton's matrix,
// cols_k = P^T (rows_k / a).
std::tuple<Tensor, Tensor> ot_plan_product(Tensor cost, OptionalTensor y, int64_t metric, OptionalTensor row_shift,
                                           OptionalTensor col_shift, Tensor g, Tensor a, double reg, OptionalTensor v,
                                           OptionalTensor w) {
  const char* op = "ot_plan_product";
  const auto c = checked(op, cost, y, metric, row_shift, col_shift, g, a);
  FC_CHECK(v || w, op, ": `v` or `w` must be given");
  const int64_t k_rows = v ? v->size(0) : 0, k_cols = w ? w->size(0) : k_rows;
  if (v) check_tensor(op, "v", *v, ScalarType::Double, {k_rows, c.m});
  if (w) check_tensor(op, "w", *w, ScalarType::Double, {k_cols, c.n});
  Tensor rows_out = new_tensor<double>(g, {k_rows, c.n}), cols_out = new_tensor<double>(g, {k_cols, c.m});
  std::vector<double> row_lse(c.n);
  double* row_product = data<double>(rows_out);
  switch_floating(op, cost, [&](auto zero) {
    using T = decltype(zero);
    const PreparedPass<T> pass(c, data<double>(g), data<double>(a), reg, row_lse.data());
    const int64_t stride = pass.job.padded(), tiles = pass.job.tiles(), blocks = row_blocks(c.n).count;
    AlignedVector<double> partial(blocks * k_cols * stride);
    const auto add = FC_PICK_ISA(add_rows<T>);
    const auto dot = FC_PICK_ISA(dot_row<T>);
    visit_rows(pass.job, [&](int64_t block, int64_t i, int64_t rows, const RowScratch<T>& scratch) {
      for (int64_t k = 0; k < k_rows; ++k)
        for (int64_t r = 0; r < rows; ++r) row_product[k * c.n + i + r] = dot(pass.job, r, scratch, data<double>(v) + k * c.m);
      std::vector<double> weighted(kRows * tiles);
      RowScratch<T> view = scratch;
      view.factor = weighted.data();
      for (int64_t k = 0; k < k_cols; ++k) {
        for (int64_t r = 0; r < rows; ++r) {
          const double mass = pass.job.a[i + r];
          const double weight = w ? data<double>(w)[k * c.n + i + r] : mass > 0 ? row_product[k * c.n + i + r] / mass : 0.0;
          for (int64_t t = 0; t < tiles; ++t) weighted[r * tiles + t] = weight * scratch.factor[r * tiles + t];
        }
        add(pass.job, rows, view, partial.data() + (block * k_cols + k) * stride);
      }
    });
    for (int64_t k = 0; k < k_cols; ++k)
      add_partials(partial.data() + k * stride, blocks, k_cols * stride, c.m, data<double>(cols_out) + k * c.m);
  });
  return {rows_out, cols_out};
}

}  // namespace
}  // namespace fc::ot

STABLE_TORCH_LIBRARY_IMPL(fastcore_ops, CPU, m) {
  m.impl("ot_centre", TORCH_BOX(&fc::ot::ot_centre));
  m.impl("ot_row_pass", TORCH_BOX(&fc::ot::ot_row_pass));
  m.impl("ot_dense_build", TORCH_BOX(&fc::ot::ot_dense_build));
  m.impl("ot_plan_product", TORCH_BOX(&fc::ot::ot_plan_product));
  m.impl("ot_sparse_build", TORCH_BOX(&fc::ot::ot_sparse_build));
}
