// AdEMAMix: M. Pagliardini, P. Ablin, D. Grangier, "The AdEMAMix Optimizer: Better, Faster, Older" (ICLR 2025).
#pragma once
#include "rule.h"

namespace fc::optim {

// exp_avg_fast (not with beta1 = 0, where the gradient stands in), exp_avg_slow, exp_avg_sq.
template <bool fast>
struct AdEMAMix {
  static constexpr int states = fast ? 3 : 2;
  static constexpr unsigned read_only = 0, like_parameter = 0;
  enum Hyper { lr, beta1, beta2, beta3, alpha, eps, weight_decay, alpha_warmup, beta3_warmup };

  template <class T>
  struct Step {
    T one_minus_beta1, inverse_bc1, one_minus_beta3, alpha, beta2, one_minus_beta2, inverse_root_bc2, eps, weight_decay, lr;
  };

  // alpha grows linearly; the half-life of beta3 does (the 1e-8 is the release's).
  FC_H static double half_life(double beta) { return -0.6931471805599453 / __builtin_log(beta + 1e-8) - 1; }
  FC_H static double beta3_at(const double* h, double t) {
    if (!(h[beta3_warmup] > 0) || t >= h[beta3_warmup]) return h[beta3];
    const double x = t / h[beta3_warmup];
    return power(0.5, 1 / ((1 - x) * half_life(h[beta1]) + x * half_life(h[beta3]) + 1));
  }
  FC_H static double alpha_at(const double* h, double t) {
    return h[alpha_warmup] > 0 && t < h[alpha_warmup] ? h[alpha] * t / h[alpha_warmup] : h[alpha];
  }

  template <class T>
  FC_H static Step<T> prepare(const double* h, double t, double*) {
    return {T(1 - h[beta1]),
            T(1 / bias_correction(h[beta1], t)),
            T(1 - beta3_at(h, t)),
            T(alpha_at(h, t)),
            T(h[beta2]),
            T(1 - h[beta2]),
            T(1 / __builtin_sqrt(bias_correction(h[beta2], t))),
            T(h[eps]),
            T(h[weight_decay]),
            T(h[lr])};
  }

  template <class T, class V>
  FC_HD static void apply(const Step<T>& c, V& p, V g, V* s) {
    V m = g;
    if constexpr (fast) m = s[0] = lerp(s[0], g, c.one_minus_beta1);
    V &slow = s[fast ? 1 : 0], &v = s[fast ? 2 : 1];
    slow = lerp(slow, g, c.one_minus_beta3);
    v = v * c.beta2 + (g * c.one_minus_beta2) * g;
    V update = (m * c.inverse_bc1 + slow * c.alpha) / (square_root(v) * c.inverse_root_bc2 + c.eps);
    if (c.weight_decay != T(0)) update += p * c.weight_decay;
    p -= update * c.lr;
  }
};

}  // namespace fc::optim
