// The energy distance of two samples on a line by ranks: what its CPU loops and CUDA kernels share.
//
// F and G are the mid-distribution functions of x and y. A point's doubled rank among others is q = 2 #less + #equal, an
// integer; uniform weights leave the gradient of D^2 an integer numerator, exactly 0 where F = G.
#pragma once
#include "../common/hd.h"

namespace fc::mmd {

// What is wanted, added up in `outputs`.
enum Outputs : int64_t { kGradX = 1, kGradY = 2, kValue = 4, kPotentialX = 8, kPotentialY = 16 };

template <class T>
struct Word;
template <>
struct Word<float> {
  using type = uint32_t;
};
template <>
struct Word<double> {
  using type = uint64_t;
};
template <class T>
using word_of = typename Word<T>::type;

// Integers in the order of the numbers; -0 is first made +0, so that the two tie. NaN sorts beyond the infinities.
template <class T>
FC_HD word_of<T> ordered_key(T value) {
  using W = word_of<T>;
  constexpr W sign = W(1) << (8 * sizeof(W) - 1);
  const W bits = bit_cast<W>(value + T(0));
  return bits & sign ? W(~bits) : W(bits | sign);
}

// The number of a key.
template <class T>
FC_HD T from_key(word_of<T> key) {
  using W = word_of<T>;
  constexpr W sign = W(1) << (8 * sizeof(W) - 1);
  return bit_cast<T>(key & sign ? W(key ^ sign) : W(~key));
}

template <class T>
FC_HD bool is_finite(T value) {
  return value - value == T(0);
}

// Uniform weights: the gradient of D^2 at a point of x is numerator * scale with
//   numerator = pairs * (q_other - other) - other * (q_own - own),
// q the point's doubled ranks in its own sample (itself one equal) and in the other, `own` and `other` their sizes, and
// pairs = own, or own - 1 for the U-statistic (own = 1: nothing to be paired, and the result is NaN). Both products are integers below 2^53: float64 holds them exactly, and it
// converts from 32 bits on every instruction set.
struct UniformSide {
  double pairs, own, other, scale;
};

FC_HD UniformSide uniform_side(int64_t own, int64_t other, bool unbiased) {
  const double pairs = double(unbiased ? own - 1 : own);
  return {pairs, double(own), double(other), 1.0 / (double(own) * pairs * double(other))};
}

template <class V>
FC_HD V rank_numerator(const UniformSide& side, V q_own, V q_other) {
  return side.pairs * (q_other - side.other) - side.other * (q_own - side.own);
}

// Value by Euler's theorem, D^2 = sum over x and y of t * gradient (of the biased distance, with t from a common origin); V
// of x, the mean of |x_i - x_k|, is 2 / N^2 times the sum of t * (q_own - N).
FC_HD double unbiased_value(double value, double spread_x, double spread_y, int64_t n, int64_t m) {
  return value - spread_x / (2.0 * double(n - 1)) - spread_y / (2.0 * double(m - 1));
}

// Values below this share of the range are summed along the sorted union: Euler's sums keep nine digits above it.
constexpr double kLeastShare = 1e-7;

// Value along the sorted union: each gap (z_{k+1} - z_k) times C_k (C_k - C_total), C_k = F - G up to z_k. With uniform
// weights C_k is an integer, M #x - N #y, over N M. Never negative where the totals agree: no cancellation.
FC_HD double value_term(double gap, double running, double total) { return gap * (running * (running - total)); }

// The potential H(t) = sum_j b_j |t - y_j| - sum_i a_i |t - x_i| (the derivative by the weight of an x at t; that of a y is
// -H) is linear between neighbours of the union: these are its slope there, and what the gap adds to H at the first point.
FC_HD double potential_slope(double running, double total) { return total - 2.0 * running; }
FC_HD double potential_start_term(double gap, double running, double total) { return gap * (running - total); }

}  // namespace fc::mmd
