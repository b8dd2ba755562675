// Lion: X. Chen et al., "Symbolic Discovery of Optimization Algorithms" (NeurIPS 2023).
#pragma once
#include "rule.h"

namespace fc::optim {

// exp_avg.
struct Lion {
  static constexpr int states = 1;
  static constexpr unsigned read_only = 0, like_parameter = 0;
  enum Hyper { lr, beta1, beta2, weight_decay };

  template <class T>
  struct Step {
    T decay, lr, one_minus_beta1, one_minus_beta2;
  };

  template <class T>
  FC_H static Step<T> prepare(const double* h, double, double*) {
    return {T(1 - h[lr] * h[weight_decay]), T(h[lr]), T(1 - h[beta1]), T(1 - h[beta2])};
  }

  template <class T, class V>
  FC_HD static void apply(const Step<T>& c, V& p, V g, V* s) {
    if (c.decay != T(1)) p *= c.decay;
    p -= sign(lerp(s[0], g, c.one_minus_beta1)) * c.lr;
    s[0] = lerp(s[0], g, c.one_minus_beta2);
  }
};

}  // namespace fc::optim
