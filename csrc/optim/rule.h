// What every optimizer's formula is made of. A rule is a struct with
//   states          how many state tensors it has; bit k of read_only: the k-th is not written; of like_parameter: it has
//                   the parameter's dtype, being a copy of it or of its gradient
//   Step<T>         what one step number makes of the hyper-parameters; T is float or double
//   prepare<T>()    computes it, in double. Its last argument is what a parameter has of its own: a running product, which
//                   prepare() advances, or
//   numbers         so many numbers that were made of sums over the parameters; absent where there are none
//   apply()         the formula for one element, or a vector of them: moves p and the states s
// The hyper-parameters come as an array of double, the learning rate first; each rule names their order.
#pragma once
#include "../common/math.h"

// Host and device, but nothing that a loop must dissolve.
#if defined(__CUDACC__)
#define FC_H __host__ __device__ inline
#else
#define FC_H inline
#endif

namespace fc::optim {

template <class Rule>
constexpr int numbers_of() {
  if constexpr (requires { Rule::numbers; }) return Rule::numbers;
  else return 0;
}

FC_H double power(double base, double exponent) { return __builtin_pow(base, exponent); }

// 1 - beta^t, without cancellation for beta near 1 and small t.
FC_H double bias_correction(double beta, double t) { return beta > 0 ? -__builtin_expm1(t * __builtin_log(beta)) : 1.0; }

// m + (1 - beta) (g - m): one rounding less than the two-product form, and no drift for a constant g.
template <class T, class V>
FC_HD V lerp(V m, V g, T one_minus_beta) {
  return m + (g - m) * one_minus_beta;
}

}  // namespace fc::optim
