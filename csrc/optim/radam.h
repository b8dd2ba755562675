// RAdam: L. Liu et al., "On the Variance of the Adaptive Learning Rate and Beyond" (ICLR 2020), as torch has it.
#pragma once
#include "rule.h"

namespace fc::optim {

// Length of the approximated simple moving average after t steps, and the factor that rectifies its variance.
FC_H double radam_length(double beta2, double t) {
  return 2 / (1 - beta2) - 1 - 2 * t * power(beta2, t) / bias_correction(beta2, t);
}
FC_H double radam_rectification(double beta2, double rho) {
  const double most = 2 / (1 - beta2) - 1;
  return __builtin_sqrt((rho - 4) * (rho - 2) * most / ((most - 4) * (most - 2) * rho));
}

// exp_avg, exp_avg_sq.
struct RAdam {
  static constexpr int states = 2;
  static constexpr unsigned read_only = 0, like_parameter = 0;
  enum Hyper { lr, beta1, beta2, eps, weight_decay, decoupled };

  template <class T>
  struct Step {
    T decay, coupled_decay, one_minus_beta1, beta2, one_minus_beta2, step_size, eps;
    bool rectified;
  };

  template <class T>
  FC_H static Step<T> prepare(const double* h, double t, double*) {
    const double rho = radam_length(h[beta2], t), base = h[lr] / bias_correction(h[beta1], t);
    const bool rectified = rho > 5, outside = h[decoupled] != 0;
    const double factor = rectified ? radam_rectification(h[beta2], rho) * __builtin_sqrt(bias_correction(h[beta2], t)) : 1.0;
    return {T(outside ? 1 - h[lr] * h[weight_decay] : 1.0),
            T(outside ? 0.0 : h[weight_decay]),
            T(1 - h[beta1]),
            T(h[beta2]),
            T(1 - h[beta2]),
            T(base * factor),
            T(h[eps]),
            rectified};
  }

  template <class T, class V>
  FC_HD static void apply(const Step<T>& c, V& p, V g, V* s) {
    if (c.coupled_decay != T(0)) g += p * c.coupled_decay;
    if (c.decay != T(1)) p *= c.decay;
    s[0] = lerp(s[0], g, c.one_minus_beta1);
    s[1] = s[1] * c.beta2 + (g * c.one_minus_beta2) * g;
    const V move = s[0] * c.step_size;
    p -= c.rectified ? move / (square_root(s[1]) + c.eps) : move;
  }
};

}  // namespace fc::optim
