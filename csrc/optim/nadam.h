// NAdam: T. Dozat, "Incorporating Nesterov Momentum into Adam" (ICLR workshop 2016), as torch has it.
#pragma once
#include "rule.h"

namespace fc::optim {

// exp_avg, exp_avg_sq; scalar mu_product.
struct NAdam {
  static constexpr int states = 2;
  static constexpr unsigned read_only = 0, like_parameter = 0;
  enum Hyper { lr, beta1, beta2, eps, weight_decay, decoupled, momentum_decay };

  template <class T>
  struct Step {
    T decay, coupled_decay, one_minus_beta1, beta2, one_minus_beta2, inverse_bc2, eps, take_gradient, take_average;
  };

  FC_H static double mu_at(const double* h, double t) { return h[beta1] * (1 - 0.5 * power(0.96, t * h[momentum_decay])); }

  template <class T>
  FC_H static Step<T> prepare(const double* h, double t, double* mu_product) {
    const double mu = mu_at(h, t), next = mu_at(h, t + 1);
    *mu_product *= mu;
    const bool outside = h[decoupled] != 0;
    return {T(outside ? 1 - h[lr] * h[weight_decay] : 1.0),
            T(outside ? 0.0 : h[weight_decay]),
            T(1 - h[beta1]),
            T(h[beta2]),
            T(1 - h[beta2]),
            T(1 / bias_correction(h[beta2], t)),
            T(h[eps]),
            T(h[lr] * (1 - mu) / (1 - *mu_product)),
            T(h[lr] * next / (1 - *mu_product * next))};
  }

  template <class T, class V>
  FC_HD static void apply(const Step<T>& c, V& p, V g, V* s) {
    if (c.coupled_decay != T(0)) g += p * c.coupled_decay;
    if (c.decay != T(1)) p *= c.decay;
    s[0] = lerp(s[0], g, c.one_minus_beta1);
    s[1] = s[1] * c.beta2 + (g * c.one_minus_beta2) * g;
    p -= (g * c.take_gradient + s[0] * c.take_average) / (square_root(s[1] * c.inverse_bc2) + c.eps);
  }
};

}  // namespace fc::optim
