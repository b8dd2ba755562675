// Adagrad: J. Duchi, E. Hazan, Y. Singer, "Adaptive Subgradient Methods for Online Learning and Stochastic Optimization"
// (JMLR 2011), as torch has it.
#pragma once
#include "rule.h"

namespace fc::optim {

// sum.
struct Adagrad {
  static constexpr int states = 1;
  static constexpr unsigned read_only = 0, like_parameter = 0;
  enum Hyper { lr, lr_decay, weight_decay, eps };

  template <class T>
  struct Step {
    T step_size, weight_decay, eps;
  };

  template <class T>
  FC_H static Step<T> prepare(const double* h, double t, double*) {
    return {T(h[lr] / (1 + (t - 1) * h[lr_decay])), T(h[weight_decay]), T(h[eps])};
  }

  template <class T, class V>
  FC_HD static void apply(const Step<T>& c, V& p, V g, V* s) {
    if (c.weight_decay != T(0)) g += p * c.weight_decay;
    s[0] += g * g;
    p -= (g * c.step_size) / (square_root(s[0]) + c.eps);
  }
};

}  // namespace fc::optim
