// diffGrad: S. R. Dubey et al., "diffGrad: An Optimization Method for Convolutional Neural Networks" (IEEE TNNLS 2020).
#pragma once
#include "rule.h"

namespace fc::optim {

// exp_avg, exp_avg_sq, previous_grad.
struct DiffGrad {
  static constexpr int states = 3;
  static constexpr unsigned read_only = 0, like_parameter = 0b100;
  enum Hyper { lr, beta1, beta2, eps, weight_decay };

  template <class T>
  struct Step {
    T weight_decay, one_minus_beta1, beta2, one_minus_beta2, step_size, eps;
  };

  // eps is not divided by the root of the second correction: the release's convention.
  template <class T>
  FC_H static Step<T> prepare(const double* h, double t, double*) {
    const double size = h[lr] * __builtin_sqrt(bias_correction(h[beta2], t)) / bias_correction(h[beta1], t);
    return {T(h[weight_decay]), T(1 - h[beta1]), T(h[beta2]), T(1 - h[beta2]), T(size), T(h[eps])};
  }

  template <class T, class V>
  FC_HD static void apply(const Step<T>& c, V& p, V g, V* s) {
    if (c.weight_decay != T(0)) g += p * c.weight_decay;
    s[0] = lerp(s[0], g, c.one_minus_beta1);
    s[1] = s[1] * c.beta2 + (g * c.one_minus_beta2) * g;
    const V friction = T(1) / (exp(-absolute(s[2] - g)) + T(1));  // in [1/2, 1)
    s[2] = g;
    p -= ((friction * s[0]) * c.step_size) / (square_root(s[1]) + c.eps);
  }
};

}  // namespace fc::optim
