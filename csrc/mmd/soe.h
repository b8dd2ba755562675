// Sums of exponentials: functions of a distance t in [0, 1] as sum_k w_k e^(-s_k t) + sum_m p_m t^m, whose sums over sorted
// points are recurrences. Powers come from t^beta = 1 / Gamma(-beta) int (e^(-ts) - its Taylor terms below beta) s^(-beta-1) ds
// by the trapezoidal rule in log s; nodes below the first are the polynomial (to t^9), those above the last are negligible.
#pragma once
#include <cmath>

#include "../common/hd.h"

namespace fc::mmd {

enum SoeKernel : int64_t { kRiesz = 0, kLog = 6, kThinPlate = 7 };

constexpr int kSoeLanes = 8, kSoeTerms = 10;
// log: points that coincide count as this far apart, in units of the slice's range.
constexpr double kClosest = 0x1p-24;

// Node (family e, octave j, lane l) is first * 2^(e / families + j + octaves * l): a lane's decays are one exponential
// a family, squared from octave to octave. Float32 resolves distances down to its rounding, with errors of 1e-5 at most;
// float64 down to 1e-12 of the range, with errors of 1e-11.
template <class T>
struct SoeNodes;
template <>
struct SoeNodes<float> {
  static constexpr int families = 1, octaves = 4;
  static constexpr double first = 0.5;
};
template <>
struct SoeNodes<double> {
  static constexpr int families = 2, octaves = 6;
  static constexpr double first = 0.125;
};

constexpr int kMostSoeNodes = 2 * 6 * kSoeLanes;

struct ExponentialSum {
  double weight[kMostSoeNodes], polynomial[kSoeTerms];
};

// h' and h, and the nodes of the first octave.
struct SoeTable {
  double base[2 * kSoeLanes];
  ExponentialSum slope, sum;
};

template <class T>
struct SoeMaker {
  using Nodes = SoeNodes<T>;
  static constexpr int families = Nodes::families, octaves = Nodes::octaves;
  static constexpr double step = 0.693147180559945309417 / families;

  // In ascending order, from 0; negative: below the first.
  static double node(int i) { return Nodes::first * std::exp2(double(i) / families); }
  static int place(int i) {
    const int octave = i / families;
    return (i % families * octaves + octave % octaves) * kSoeLanes + octave / octaves;
  }

  // Adds factor * sum over all nodes of step * s^(-beta) e^(-s t), regularised: powers of t other than t^beta sum to
  // geometric series, whichever side of the first node they converge on.
  static void add_nodes(ExponentialSum& f, double beta, double factor) {
    for (int i = 0; i < families * octaves * kSoeLanes; ++i)
      f.weight[place(i)] += factor * step * std::exp(-beta * std::log(node(i)));
    double term = factor * step;
    for (int m = 0; m < kSoeTerms; term *= -1.0 / ++m) {
      const double p = m - beta;
      f.polynomial[m] += p == 0 ? term * logarithmic_term() : term * std::exp(p * std::log(node(0))) / std::expm1(p * step);
    }
  }
  // For t^n log t, n an integer, the term t^n is regularised by e^(-s).
  static double logarithmic_term() {
    double sum = 0;
    for (int i = 0; node(i) < 700; ++i) sum -= std::exp(-node(i));
    for (int i = -1; node(i) > 1e-20; --i) sum -= std::expm1(-node(i));
    return sum;
  }

  static void add_power(ExponentialSum& f, double beta, double factor) { add_nodes(f, beta, factor / std::tgamma(-beta)); }
  static void add_power_log(ExponentialSum& f, int n, double factor) {
    double factorial = 1, harmonic = 0;
    for (int k = 1; k <= n; ++k) factorial *= -k, harmonic += 1.0 / k;
    add_nodes(f, n, -factor * factorial);
    f.polynomial[n] += factor * harmonic;
  }

  // h(t) = t^r, log t, or t^2 log t.
  static SoeTable make(int64_t kernel, double r) {
    SoeTable table{};
    for (int e = 0; e < families; ++e)
      for (int l = 0; l < kSoeLanes; ++l) table.base[e * kSoeLanes + l] = node(families * octaves * l + e);
    if (kernel == kRiesz) {
      add_power(table.slope, r - 1, r);
      add_power(table.sum, r, 1);
    } else if (kernel == kLog) {
      add_power(table.slope, -1, 1);
      add_power_log(table.sum, 0, 1);
    } else {
      add_power_log(table.slope, 1, 2);
      table.slope.polynomial[1] += 1;
      add_power_log(table.sum, 2, 1);
    }
    return table;
  }
};

// Polynomials of pairs along the sorted points: with M_i the sum of c z^i over the points before a point at z,
// sum_v c_v P(|z - z_v|) (times the sign of z - z_v, where odd) = sum_i M_i before_i(z) + rest(z) + c own.
struct PairPolynomial {
  double before[kSoeTerms][kSoeTerms], rest[kSoeTerms], own;
};

// `all`: the sums of c z^i over all points.
FC_HD PairPolynomial pair_polynomial(const double* polynomial, const double* all, bool odd) {
  PairPolynomial found{};
  found.own = odd ? polynomial[0] : -polynomial[0];
  for (int m = 0; m < kSoeTerms; ++m) {
    const bool even_power = m % 2 == 0;
    double binomial = 1;
    for (int i = 0; i <= m; ++i) {
      const double left = polynomial[m] * (i % 2 ? -binomial : binomial), right = even_power ? left : -left;
      if (even_power == odd) found.before[i][m - i] = 2 * left;
      found.rest[m - i] += odd ? -all[i] * right : all[i] * right;
      binomial = binomial * (m - i) / (i + 1);
    }
  }
  return found;
}

}  // namespace fc::mmd
