// Formulas of entropic optimal transport shared by the CPU loops, the CUDA kernel and the probe.
// Plan: P_ij = a_i exp((g_j - C_ij) / reg - L_i) with L_i = log sum_j exp((g_j - C_ij) / reg): rows are exact by
// construction, so 0 <= P_ij <= a_i and nothing can overflow. g is the absolute potential (it carries reg log b).
#pragma once
#include "../common/math.h"

namespace fc::ot {

// How a cost is given: as a matrix, or as points between which it is computed.
enum Metric : int64_t { matrix = 0, sqeuclidean = 1, euclidean = 2, cityblock = 3 };

// Here V is a number, or in the CPU loops a vector of them; T is the number.

// Entry of the cost matrix after two-sided centring; the order of the subtractions keeps a common offset exact.
template <class T, class V>
FC_HD V centred_cost(V cost, T row_shift, V col_shift) {
  return (cost - row_shift) - col_shift;
}

// A distance between points is finish_distance(sum over coordinates of distance_term).
template <int64_t metric, class T, class V>
FC_HD V distance_term(T x, V y) {
  const V d = x - y;
  if constexpr (metric == cityblock) return select(d < V{}, -d, d);
  return d * d;
}

template <int64_t metric, class V>
FC_HD V finish_distance(V sum) {
  if constexpr (metric == euclidean) return square_root(sum);
  else return sum;
}

// g_j - C_ij as a rounded sum and what the rounding lost. In float64 the loss is not kept (0).
template <class V>
struct Score {
  V sum, lost;
};

// float32: g comes as g_hi + g_lo; the error of g_hi - cost by TwoSum (Knuth). This takes the attainable marginal
// error from about 0.2 * 6e-8 * range / reg down to the rounding of the exponent itself.
// `forbidden`: the cost may be infinite.
template <bool forbidden = true, class V>
FC_HD Score<V> score(V g_hi, V g_lo, V cost) {
  const V sum = g_hi - cost;
  if constexpr (sizeof(element_of<V>) == 8) return {sum, V{}};
  else {
    const V from_cost = sum - g_hi;
    const V lost = (g_hi - (sum - from_cost)) - (cost + from_cost);
    return {sum, forbidden ? select(sum == -Limits<float>::infinity, V{}, lost + g_lo) : lost + g_lo};
  }
}

// Exponent of an entry relative to its row: subtract the largest sum first, then add what was lost.
template <class T, class V>
FC_HD V exponent(V sum, V lost, T row_max, T inverse_reg) {
  if constexpr (sizeof(T) == 8) return (sum - row_max) * inverse_reg;
  else return ((sum - row_max) + lost) * inverse_reg;
}

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
