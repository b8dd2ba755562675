// Formulas of entropic optimal transport shared by the CPU loops, the CUDA kernel and the probe.
// Plan: P_ij = a_i exp((g_j - C_ij) / reg - L_i) with L_i = log sum_j exp((g_j - C_ij) / reg): rows are exact by
// construction, so 0 <= P_ij <= a_i and nothing can overflow. g is the absolute potential (it carries reg log b).
#pragma once
#include "../common/math.h"

namespace fc::ot {

// How a cost is given: as a matrix, or as points between which it is computed.
enum Metric : int64_t { matrix = 0, sqeuclidean = 1, euclidean = 2, cityblock = 3 };

// Entry of the cost matrix after two-sided centring; the order of the subtractions keeps a common offset exact.
template <class T>
FC_HD T centred_cost(T cost, T row_shift, T col_shift) {
  return (cost - row_shift) - col_shift;
}

// A distance between points is finish_distance(sum over coordinates of distance_term).
template <int64_t metric, class T>
FC_HD T distance_term(T x, T y) {
  const T d = x - y;
  if constexpr (metric == cityblock) return select(d < T(0), -d, d);
  return d * d;
}

template <int64_t metric, class T>
FC_HD T finish_distance(T sum) {
  if constexpr (metric == euclidean) {
#if defined(__CUDA_ARCH__)
    return sqrt(sum);
#else
    if constexpr (sizeof(T) == 4) return __builtin_sqrtf(sum);
    else return __builtin_sqrt(sum);
#endif
  }
  return sum;
}

// g_j - C_ij as a rounded sum and what the rounding lost. In float64 the loss is not kept (0).
template <class T>
struct Score {
  T sum, lost;
};

FC_HD Score<double> score(double g_hi, double /*g_lo*/, double cost) { return {g_hi - cost, 0.0}; }

// float32: g comes as g_hi + g_lo; the error of g_hi - cost by TwoSum (Knuth). This takes the attainable marginal
// error from about 0.2 * 6e-8 * range / reg down to the rounding of the exponent itself.
FC_HD Score<float> score(float g_hi, float g_lo, float cost) {
  const float sum = g_hi - cost;
  const float from_cost = sum - g_hi;
  const float lost = (g_hi - (sum - from_cost)) - (cost + from_cost);
  return {sum, select(sum == -Limits<float>::infinity, 0.0f, lost + g_lo)};
}

// Exponent of an entry relative to its row: subtract the largest sum first, then add what was lost.
FC_HD double exponent(double sum, double /*lost*/, double row_max, double inverse_reg) { return (sum - row_max) * inverse_reg; }

FC_HD float exponent(float sum, float lost, float row_max, float inverse_reg) { return ((sum - row_max) + lost) * inverse_reg; }

// Exponents below this are taken as zero: exp(-60) = 9e-27, exp(-42) = 6e-19 of the row's largest entry. A plan that is
// stored to be scaled keeps what its type can hold: scaling may bring those entries back.
template <class T>
FC_HD T exponent_cutoff() {
  return sizeof(T) == 8 ? T(-60) : T(-42);
}

template <class T>
FC_HD T exponent_cutoff_of_storage() {
  return sizeof(T) == 8 ? T(-700) : T(-80);
}

// An entry belongs to the sparse plan when it exceeds threshold * min(a_i, b_j) (mass-relative, both sides).
FC_HD double keep_bar(double threshold_a, double threshold_b) {
  return select(threshold_a < threshold_b, threshold_a, threshold_b);
}

}  // namespace fc::ot
