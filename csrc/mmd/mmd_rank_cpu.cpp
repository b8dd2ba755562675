// Energy distances of projected samples: values, gradients and potentials by exact mid-ranks.
#include <torch/csrc/stable/library.h>

#include <tuple>

#include "../common/dtype_switch.h"
#include "../common/isa.h"
#include "../common/reduce.h"
#include "rank_slice.h"
#include "slice_pool.h"
#include "slice_tensors.h"

#define FC_LOOP_FILE "../mmd/mmd_rank_loop.inc"
#include "../common/foreach_isa.h"

namespace fc::mmd {
namespace {

template <class T>
RankLoops<T> pick_loops() {
  return {FC_PICK_ISA(find_range<T>), FC_PICK_ISA(find_buckets<T>), FC_PICK_ISA(rank_side<T>)};
}

SliceTensors mmd_rank(Tensor x, Tensor y, OptionalTensor x_weights, OptionalTensor y_weights, bool unbiased, int64_t outputs) {
  const char* op = "mmd_rank";
  const TwoSamples in(op, x, y, x_weights, y_weights, unbiased);
  return switch_floating(op, x, [&](auto zero) {
    using T = decltype(zero);
    const SliceTensors all = new_outputs<T>(in, x, outputs);
    const RankLoops<T> loops = pick_loops<T>();
    for_slices<SliceRanker<T>>(in.slices, in.n + in.m, [&] { return std::make_unique<SliceRanker<T>>(loops); },
                               [&](SliceRanker<T>& ranker, int64_t p) {
      ranker.run({data<T>(x) + p * in.n, data<T>(y) + p * in.m, in.n, in.m, false, in.a.row(p), in.b.row(p), unbiased},
                 slice_outputs<T>(all, in, p, outputs));
    });
    return all;
  });
}

template <class T>
struct RowSorter {
  Sorter<T> sorter;
  Places places;
};

std::tuple<Tensor, Tensor> mmd_sort(Tensor y, OptionalTensor y_weights) {
  const char* op = "mmd_sort";
  const Rows rows = check_rows(op, "y", y, y);
  const int64_t m = rows.points;
  const WeightRows weights = check_weights(op, "y_weights", y_weights, rows);
  Tensor cumulative = y_weights ? new_tensor<double>(y, {rows.slices, m + 1}) : new_tensor<double>(y, {0});
  return switch_floating(op, y, [&](auto zero) {
    using T = decltype(zero);
    Tensor sorted = new_tensor<T>(y, {rows.slices, m});
    for_slices<RowSorter<T>>(rows.slices, m, [] { return std::make_unique<RowSorter<T>>(); },
                             [&](RowSorter<T>& own, int64_t p) {
      own.places.resize(m);
      own.sorter.begin(m);
      own.sorter.add(data<T>(y) + p * m, m);
      own.sorter.sort(data<T>(sorted) + p * m, own.places.data());
      if (!weights.data) return;
      double* sums = data<double>(cumulative) + p * (m + 1);
      sums[0] = 0;
      for (int64_t k = 0; k < m; ++k) sums[k + 1] = sums[k] + weights.row(p)[own.places[k]];
    });
    return std::tuple(sorted, cumulative);
  });
}

template <class T>
struct SortedRanker {
  SliceRanker<T> ranker;
  RawVector<double> weights;
};

std::tuple<Tensor, Tensor, Tensor> mmd_rank_sorted(Tensor x, Tensor sorted, OptionalTensor x_weights, OptionalTensor cumulative,
                                                   bool unbiased, int64_t outputs) {
  const char* op = "mmd_rank_sorted";
  const Rows rows_x = check_rows(op, "x", x, x), rows_y = check_rows(op, "sorted", sorted, x);
  const int64_t slices = rows_x.slices, n = rows_x.points, m = rows_y.points;
  FC_CHECK(bool(x_weights) == bool(cumulative), op, ": `x_weights` and `cumulative` go together");
  FC_CHECK(n + m < kMostPoints, op, ": `x` and `sorted` have too many points");
  const WeightRows a = check_weights(op, "x_weights", x_weights, rows_x);
  if (cumulative) check_tensor(op, "cumulative", *cumulative, ScalarType::Double, {slices, m + 1});
  check_unbiased(op, unbiased, bool(x_weights), n, m);
  Tensor value = new_values(x, slices, outputs & kValue);
  Tensor potential_x = new_wanted<double>(x, rows_x, outputs & kPotentialX);
  return switch_floating(op, x, [&](auto zero) {
    using T = decltype(zero);
    Tensor grad_x = new_wanted<T>(x, rows_x, outputs & kGradX);
    const RankLoops<T> loops = pick_loops<T>();
    for_slices<SortedRanker<T>>(
        slices, n + m, [&] { return std::unique_ptr<SortedRanker<T>>(new SortedRanker<T>{SliceRanker<T>(loops), {}}); },
        [&](SortedRanker<T>& own, int64_t p) {
      if (cumulative) {
        const double* sums = data<double>(*cumulative) + p * (m + 1);
        own.weights.resize(m);
        for (int64_t k = 0; k < m; ++k) own.weights[k] = sums[k + 1] - sums[k];
      }
      own.ranker.run({data<T>(x) + p * n, data<T>(sorted) + p * m, n, m, true, a.row(p),
                      cumulative ? own.weights.data() : nullptr, unbiased},
                     {row<T>(grad_x, p, n, outputs & kGradX), nullptr, row<double>(value, p, 1, outputs & kValue),
                      row<double>(potential_x, p, n, outputs & kPotentialX), nullptr});
    });
    return std::tuple(grad_x, value, potential_x);
  });
}

}  // namespace
}  // namespace fc::mmd

STABLE_TORCH_LIBRARY_IMPL(fastcore_ops, CPU, m) {
  m.impl("mmd_rank", TORCH_BOX(&fc::mmd::mmd_rank));
  m.impl("mmd_sort", TORCH_BOX(&fc::mmd::mmd_sort));
  m.impl("mmd_rank_sorted", TORCH_BOX(&fc::mmd::mmd_rank_sorted));
}
