// The energy distance along the sorted union of two samples: exact mid-ranks under ties, weights, potentials.
#pragma once
#include "radix_sort.h"

namespace fc::mmd {

// The sorted union; places below n are of x, the others of y.
template <class T>
struct Union {
  const T* values;
  const int32_t* places;
  int64_t n, m;

  int64_t size() const { return n + m; }
  bool of_x(int64_t k) const { return places[k] < n; }
  double gap(int64_t k) const { return double(values[k]) - double(values[k - 1]); }
  int64_t run_end(int64_t k) const {
    int64_t end = k + 1;
    while (end < size() && values[end] == values[k]) ++end;
    return end;
  }
};

// Sums along the union for the value and the U-statistic, in integers times gaps.
struct CountSums {
  double value = 0, spread_x = 0, spread_y = 0;
};

// Uniform weights: gradients of both sides into gradient[place], from integer counts. The branches follow the ties, not the
// sides, which no processor could foresee.
template <bool with_sums, class T>
CountSums sweep_counts(const Union<T>& all, bool unbiased, T* gradient) {
  const UniformSide x = uniform_side(all.n, all.m, unbiased), y = uniform_side(all.m, all.n, unbiased);
  // numerator = by_x (q_x - N) + by_y (q_y - M), for points of y and of x
  const double by_x[2] = {y.pairs, -x.other}, by_y[2] = {-y.other, x.pairs}, scale[2] = {y.scale, x.scale};
  const int64_t size = all.size();
  int64_t count_x = 0;
  CountSums sums;
  for (int64_t k = 0, end; k < size; k = end) {
    int64_t run_x = all.of_x(k);
    for (end = k + 1; end < size && all.values[end] == all.values[k]; ++end) run_x += all.of_x(end);
    const double rank_x = double(2 * count_x + run_x) - x.own;
    const double rank_y = double(2 * (k - count_x) + (end - k - run_x)) - y.own;
    for (int64_t i = k; i < end; ++i) {
      const int side = all.of_x(i);
      gradient[all.places[i]] = T((by_x[side] * rank_x + by_y[side] * rank_y) * scale[side]);
    }
    count_x += run_x;
    if (!with_sums || end == size) continue;
    const double gap = all.gap(end), below_x = double(count_x), below_y = double(end - count_x);
    sums.value += value_term(gap, y.own * below_x - x.own * below_y, 0.0);
    sums.spread_x += gap * (below_x * (x.own - below_x));
    sums.spread_y += gap * (below_y * (y.own - below_y));
  }
  return sums;
}

template <class T>
void sweep_counts(const Union<T>& all, bool unbiased, T* gradient, double* value) {
  if (!value) {
    sweep_counts<false>(all, unbiased, gradient);
    return;
  }
  const CountSums sums = sweep_counts<true>(all, unbiased, gradient);
  const double n = double(all.n), m = double(all.m);
  *value = sums.value / (n * m) / (n * m);
  if (unbiased) *value = unbiased_value(*value, 2 * sums.spread_x / (n * n), 2 * sums.spread_y / (m * m), all.n, all.m);
}

// Weights of a union: given ones, x's and then y's, or uniform as the integers m and n, whose sums are exact, in units of
// 1 / (n m).
template <class T>
struct Weights {
  const Union<T>& all;
  const double* given;
  double uniform[2], unit;

  Weights(const Union<T>& all, const double* given)
      : all(all), given(given), uniform{double(all.n), double(all.m)},
        unit(given ? 1.0 : 1.0 / (double(all.n) * double(all.m))) {}
  double at(int64_t k) const { return given ? given[all.places[k]] : uniform[all.of_x(k)]; }
};

// Masses of x and of y up to a place of the union, in the same order however they interleave: equal samples give equal bits.
struct Masses {
  double x = 0, y = 0;
  void add(bool of_x, double weight) {
    const double to_x = weight * double(of_x);  // no branch: nobody could foresee it
    x += to_x;
    y += weight - to_x;
  }
  double running() const { return x - y; }
};

struct Totals {
  Masses mass;
  double height, self_x, self_y;  // at the first point: potential, and sums of weight * distance to x and to y
};

template <class T>
Totals sum_totals(const Union<T>& all, const Weights<T>& weights) {
  Masses mass;
  double of_running = 0, of_x = 0, of_y = 0;
  for (int64_t k = 0; k < all.size(); ++k) {
    const double gap = k > 0 ? all.gap(k) : 0.0;
    of_running += gap * mass.running();
    of_x += gap * mass.x;
    of_y += gap * mass.y;
    mass.add(all.of_x(k), weights.at(k));
  }
  const double span = double(all.values[all.size() - 1]) - double(all.values[0]);
  return {mass, of_running - mass.running() * span, mass.x * span - of_x, mass.y * span - of_y};
}

// Any weights: gradients and potentials of both sides by their places (null: not wanted). Returns the biased value: the
// U-statistic has uniform weights and its value comes from the counts.
template <class T>
double sweep_weights(const Union<T>& all, const double* given, bool unbiased, T* gradient, double* potential) {
  const Weights<T> weights(all, given);
  const Totals total = sum_totals(all, weights);
  const double unit = weights.unit, end_running = total.mass.running();
  const double sign_of[2] = {-1.0, 1.0};
  const double own_x = unbiased ? unit / double(all.n - 1) : 0.0, own_y = unbiased ? unit / double(all.m - 1) : 0.0;
  double height = total.height, self_x = total.self_x, self_y = total.self_y, value = 0;
  Masses mass;
  for (int64_t k = 0, end; k < all.size(); k = end) {
    end = all.run_end(k);
    const Masses before = mass;
    for (int64_t i = k; i < end; ++i) mass.add(all.of_x(i), weights.at(i));
    const double slope = ((before.y + mass.y) - total.mass.y) - ((before.x + mass.x) - total.mass.x);
    const double level[2] = {-height * unit - self_y * own_y, height * unit - self_x * own_x};
    for (int64_t i = k; i < end; ++i) {
      const int32_t place = all.places[i];
      const int side = all.of_x(i);
      if (gradient) gradient[place] = T(weights.at(i) * unit * (sign_of[side] * slope * unit));
      if (potential) potential[place] = level[side];
    }
    if (end == all.size()) break;
    const double gap = all.gap(end);
    value += value_term(gap, mass.running(), end_running);
    height += gap * potential_slope(mass.running(), end_running);
    self_x += gap * (2 * mass.x - total.mass.x);
    self_y += gap * (2 * mass.y - total.mass.y);
  }
  return value * unit * unit;
}

}  // namespace fc::mmd
