// One slice's energy distance: by buckets where that is cheap, else along the sorted union.
#pragma once
#include "buckets.h"
#include "union_sweep.h"

namespace fc::mmd {

// The loops of one instruction set.
template <class T>
struct RankLoops {
  Range<T> (*find_range)(const T*, int64_t);
  void (*find_buckets)(const T*, int64_t, T, T, int32_t, int32_t*);
  BucketSums (*rank_side)(const Bucketed<T>&, const Bucketed<T>&, int64_t, UniformSide, double, T*, bool);
};

// Where a slice's results go; null where they are not wanted.
template <class T>
struct SliceOutputs {
  T *grad_x, *grad_y;
  double *value, *potential_x, *potential_y;
};

template <class T>
struct SliceInputs {
  const T *x, *y;
  int64_t n, m;
  bool y_sorted;
  const double *x_weights, *y_weights;
  bool unbiased;
};

// Comparisons per point of x and y above which sorting is faster: Cauchy, lognormal, far clusters, many ties.
constexpr double kMostWork = 100;

// Memory for one slice, used again for the next.
template <class T>
class SliceRanker {
 public:
  explicit SliceRanker(const RankLoops<T>& loops) : loops_(loops) {}

  void run(const SliceInputs<T>& in, const SliceOutputs<T>& out) {
    const Range<T> range = join(loops_.find_range(in.x, in.n), loops_.find_range(in.y, in.m));
    if (!range.finite) {
      spoil(in, out);
      return;
    }
    const bool potentials = out.potential_x || out.potential_y;
    if (!in.x_weights && !potentials && rank_in_buckets(in, out, range)) return;
    const Union<T> all = sort_union(in);
    T* gradient = out.grad_x || out.grad_y || out.value ? grow(gradient_, all.size()) : nullptr;
    double* potential = potentials ? grow(potential_, all.size()) : nullptr;
    if (in.x_weights) {
      double* weights = grow(weights_, all.size());
      std::copy_n(in.y_weights, in.m, std::copy_n(in.x_weights, in.n, weights));
      const double value = sweep_weights(all, weights, false, gradient, potential);
      if (out.value) *out.value = value;
    } else {
      if (potential) sweep_weights<T>(all, nullptr, in.unbiased, nullptr, potential);
      if (gradient) sweep_counts(all, in.unbiased, gradient, out.value);
    }
    if (out.grad_x) std::copy_n(gradient, in.n, out.grad_x);
    if (out.grad_y) std::copy_n(gradient + in.n, in.m, out.grad_y);
    if (out.potential_x) std::copy_n(potential, in.n, out.potential_x);
    if (out.potential_y) std::copy_n(potential + in.n, in.m, out.potential_y);
  }

 private:
  template <class V>
  static V* grow(RawVector<V>& vector, int64_t size) {
    if (int64_t(vector.size()) < size) vector.resize(size);
    return vector.data();
  }

  static void spoil(const SliceInputs<T>& in, const SliceOutputs<T>& out) {
    const auto fill = [](auto* p, int64_t count) {
      if (p) std::fill_n(p, count, std::numeric_limits<std::remove_pointer_t<decltype(p)>>::quiet_NaN());
    };
    fill(out.grad_x, in.n);
    fill(out.grad_y, in.m);
    fill(out.value, 1);
    fill(out.potential_x, in.n);
    fill(out.potential_y, in.m);
  }

  bool rank_in_buckets(const SliceInputs<T>& in, const SliceOutputs<T>& out, const Range<T>& range) {
    const Layout<T> layout(range, in.n + in.m);
    if (!layout.usable()) return false;
    const int64_t buckets = layout.count;
    x_.reserve(in.n, buckets);
    y_.reserve(in.m, buckets);
    loops_.find_buckets(in.x, in.n, layout.low, layout.scale, layout.count, x_.where.data());
    loops_.find_buckets(in.y, in.m, layout.low, layout.scale, layout.count, y_.where.data());
    x_.count(in.n, buckets);
    y_.count(in.m, buckets);
    const bool rank_y = out.grad_y || out.value;
    if (sum_counts(x_, y_, buckets, rank_y) > kMostWork * double(in.n + in.m) * (rank_y ? 2 : 1)) return false;
    x_.scatter(in.x, in.n);
    if (in.y_sorted)
      y_.copy(in.y, in.m, buckets);
    else
      y_.scatter(in.y, in.m);
    const double origin = double(range.low) + 0.5 * (double(range.high) - double(range.low));
    const UniformSide x = uniform_side(in.n, in.m, in.unbiased), y = uniform_side(in.m, in.n, in.unbiased);
    BucketSums sum_x{}, sum_y{};
    if (out.grad_x || out.value) sum_x = loops_.rank_side(x_, y_, buckets, x, origin, x_.gradient.data(), out.value != nullptr);
    if (rank_y) sum_y = loops_.rank_side(y_, x_, buckets, y, origin, y_.gradient.data(), out.value != nullptr);
    if (out.grad_x) x_.gather(in.n, out.grad_x);
    if (out.grad_y) y_.gather(in.m, out.grad_y);
    return !out.value || put_value(in, range, x, y, sum_x, sum_y, *out.value);
  }

  // False where the value is so far below the range that Euler's sums, whose terms cancel, say too little of it.
  static bool put_value(const SliceInputs<T>& in, const Range<T>& range, const UniformSide& x, const UniformSide& y,
                        BucketSums sum_x, BucketSums sum_y, double& value) {
    const double pairs = x.own * y.own;
    value = sum_x.value / x.own / pairs + sum_y.value / y.own / pairs;
    if (value < kLeastShare * (double(range.high) - double(range.low)) && value != 0) return false;
    if (in.unbiased)
      value = unbiased_value(value, 2 * sum_x.spread / (x.own * x.own), 2 * sum_y.spread / (y.own * y.own), in.n, in.m);
    return true;
  }

  // x with y: both sorted together, or x sorted and merged with a sorted y.
  Union<T> sort_union(const SliceInputs<T>& in) {
    const int64_t size = in.n + in.m;
    grow(all_.values, size);
    grow(all_.places, size);
    sorter_.begin(in.y_sorted ? in.n : size);
    sorter_.add(in.x, in.n);
    if (in.y_sorted) {
      merge(in);
    } else {
      sorter_.add(in.y, in.m);
      sorter_.sort(all_.values.data(), all_.places.data());
    }
    return {all_.values.data(), all_.places.data(), in.n, in.m};
  }

  void merge(const SliceInputs<T>& in) {
    grow(own_.values, in.n);
    grow(own_.places, in.n);
    sorter_.sort(own_.values.data(), own_.places.data());
    for (int64_t i = 0, j = 0, k = 0; k < in.n + in.m; ++k) {
      const bool take_x = i < in.n && (j == in.m || own_.values[i] <= in.y[j]);
      all_.values[k] = take_x ? own_.values[i] : in.y[j];
      all_.places[k] = take_x ? own_.places[i] : int32_t(in.n + j);
      i += take_x;
      j += !take_x;
    }
  }

  RankLoops<T> loops_;
  Bucketed<T> x_, y_;
  Sorter<T> sorter_;
  Sorted<T> all_, own_;
  RawVector<T> gradient_;
  RawVector<double> potential_, weights_;
};

}  // namespace fc::mmd
