// Grams: Y. Cao, X. Li, Z. Song, "Grams: Gradient Descent with Adaptive Momentum Scaling" (2024), arXiv:2412.17107.
#pragma once
#include "rule.h"

namespace fc::optim {

// exp_avg, exp_avg_sq.
struct Grams {
  static constexpr int states = 2;
  static constexpr unsigned read_only = 0, like_parameter = 0;
  enum Hyper { lr, beta1, beta2, eps, weight_decay, correct_bias };

  template <class T>
  struct Step {
    T decay, one_minus_beta1, beta2, one_minus_beta2, step_size, eps;
  };

  template <class T>
  FC_H static Step<T> prepare(const double* h, double t, double*) {
    const double corrected = __builtin_sqrt(bias_correction(h[beta2], t)) / bias_correction(h[beta1], t);
    return {T(1 - h[lr] * h[weight_decay]),
            T(1 - h[beta1]),
            T(h[beta2]),
            T(1 - h[beta2]),
            T(h[lr] * (h[correct_bias] != 0 ? corrected : 1.0)),
            T(h[eps])};
  }

  template <class T, class V>
  FC_HD static void apply(const Step<T>& c, V& p, V g, V* s) {
    if (c.decay != T(1)) p *= c.decay;
    s[0] = lerp(s[0], g, c.one_minus_beta1);
    s[1] = s[1] * c.beta2 + (g * c.one_minus_beta2) * g;
    p -= (sign(g) * (absolute(s[0]) * c.step_size)) / (square_root(s[1]) + c.eps);
  }
};

}  // namespace fc::optim
