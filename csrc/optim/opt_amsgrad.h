// OPT-AMSGrad: J.-K. Wang, X. Li, B. Karimi, P. Li, "An Optimistic Acceleration of AMSGrad for Nonconvex Optimization" (ACML
// 2021): the step is taken twice, with the gradient that came and with a forecast of the next.
#pragma once
#include "rule.h"

namespace fc::optim {

// exp_avg, exp_avg_sq, max_exp_avg_sq, half_step (w at the half step), forecast of this gradient, forecast of the next.
struct OPTAMSGrad {
  static constexpr int states = 6;
  static constexpr unsigned read_only = 0b100000, like_parameter = 0;
  enum Hyper { lr, beta1, beta2, eps, previous };

  template <class T>
  struct Step {
    T lr, beta1, one_minus_beta1, beta2, one_minus_beta2, eps;
    bool previous;
  };

  template <class T>
  FC_H static Step<T> prepare(const double* h, double, double*) {
    return {T(h[lr]),        T(h[beta1]), T(1 - h[beta1]),   T(h[beta2]),
            T(1 - h[beta2]), T(h[eps]),   h[previous] != 0};
  }

  // Algorithm 2; the listing extrapolates from the average before this gradient (`previous`).
  template <class T, class V>
  FC_HD static void apply(const Step<T>& c, V& p, V g, V* s) {
    const V before = s[0], surprise = g - s[4];
    s[0] = lerp(s[0], g, c.one_minus_beta1);
    s[1] = s[1] * c.beta2 + (surprise * c.one_minus_beta2) * surprise;
    s[2] = maximum(s[2], s[1]);
    const V root = square_root(maximum(s[2], V{} + c.eps));
    s[3] -= (s[0] * c.lr) / root;
    s[4] = s[5];
    p = s[3] - ((c.previous ? before : s[0]) * c.beta1 + s[5] * c.one_minus_beta1) * c.lr / root;
  }
};

}  // namespace fc::optim
