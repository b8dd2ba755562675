// W_p^p of projected samples, and its gradients: both sides sorted, quantiles matched.
#include <torch/csrc/stable/library.h>

#include <cmath>
#include <tuple>

#include "../common/dtype_switch.h"
#include "quantiles.h"
#include "radix_sort.h"
#include "slice_pool.h"

namespace fc::mmd {
namespace {

template <class T>
struct QuantileMatcher {
  Sorter<T> sorter;
  Sorted<T> x, y;
};

template <class T>
void sort_side(Sorter<T>& sorter, const T* points, int64_t n, Sorted<T>& sorted) {
  sorted.values.resize(n);
  sorted.places.resize(n);
  sorter.begin(n);
  sorter.add(points, n);
  sorter.sort(sorted.values.data(), sorted.places.data());
}

template <class T>
bool all_finite(const Sorted<T>& sorted) {
  return is_finite(sorted.values.front()) && is_finite(sorted.values.back());
}

// Walks the cuts of [0, 1) in units of 1 / (n m): between two of them both quantile functions are constant.
template <class T>
double match(const Sorted<T>& x, const Sorted<T>& y, double p, T* grad_x, T* grad_y) {
  const int64_t n = int64_t(x.values.size()), m = int64_t(y.values.size());
  const double unit = 1.0 / (double(n) * double(m));
  double value = 0, slope_x = 0, slope_y = 0;
  for (int64_t i = 0, j = 0, at = 0; i < n;) {
    const int64_t end_x = (i + 1) * m, end_y = (j + 1) * n, end = std::min(end_x, end_y);
    const double mass = double(end - at) * unit;
    const Transport t = transport(double(x.values[i]) - double(y.values[j]), p);
    value += mass * t.cost;
    slope_x += mass * t.slope;
    slope_y -= mass * t.slope;
    at = end;
    if (end == end_x) {
      if (grad_x) grad_x[x.places[i]] = T(slope_x);
      slope_x = 0;
      ++i;
    }
    if (end == end_y) {
      if (grad_y) grad_y[y.places[j]] = T(slope_y);
      slope_y = 0;
      ++j;
    }
  }
  return value;
}

std::tuple<Tensor, Tensor, Tensor> mmd_wasserstein(Tensor x, Tensor y, double p, int64_t outputs) {
  const char* op = "mmd_wasserstein";
  FC_CHECK(x.dim() == 2, op, ": `x` has ", x.dim(), " dimensions instead of 2");
  FC_CHECK(y.dim() == 2, op, ": `y` has ", y.dim(), " dimensions instead of 2");
  const int64_t slices = x.size(0), n = x.size(1), m = y.size(1), most = int64_t(1) << 30;
  check_tensor(op, "x", x, x.scalar_type(), {slices, n});
  check_tensor(op, "y", y, x.scalar_type(), {slices, m});
  FC_CHECK(n > 0 && n < most, op, ": `x` has ", n, " points");
  FC_CHECK(m > 0 && m < most, op, ": `y` has ", m, " points");
  FC_CHECK(p >= 1, op, ": `p` is ", p, ", below 1");
  const bool want_x = outputs & kGradX, want_y = outputs & kGradY, want_value = outputs & kValue;
  Tensor value = new_tensor<double>(x, {want_value ? slices : 0});
  return switch_floating(op, x, [&](auto zero) {
    using T = decltype(zero);
    Tensor grad_x = want_x ? new_tensor<T>(x, {slices, n}) : new_tensor<T>(x, {0});
    Tensor grad_y = want_y ? new_tensor<T>(x, {slices, m}) : new_tensor<T>(x, {0});
    for_slices<QuantileMatcher<T>>(slices, n + m, [] { return std::make_unique<QuantileMatcher<T>>(); },
                                   [&](QuantileMatcher<T>& own, int64_t s) {
      sort_side(own.sorter, data<T>(x) + s * n, n, own.x);
      sort_side(own.sorter, data<T>(y) + s * m, m, own.y);
      T* to_x = want_x ? data<T>(grad_x) + s * n : nullptr;
      T* to_y = want_y ? data<T>(grad_y) + s * m : nullptr;
      double found = std::numeric_limits<double>::quiet_NaN();
      if (all_finite(own.x) && all_finite(own.y)) {
        found = match(own.x, own.y, p, to_x, to_y);
      } else {
        if (to_x) std::fill_n(to_x, n, std::numeric_limits<T>::quiet_NaN());
        if (to_y) std::fill_n(to_y, m, std::numeric_limits<T>::quiet_NaN());
      }
      if (want_value) data<double>(value)[s] = found;
    });
    return std::tuple(grad_x, grad_y, value);
  });
}

}  // namespace
}  // namespace fc::mmd

STABLE_TORCH_LIBRARY_IMPL(fastcore_ops, CPU, m) { m.impl("mmd_wasserstein", TORCH_BOX(&fc::mmd::mmd_wasserstein)); }
