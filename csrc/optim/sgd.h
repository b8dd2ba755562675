// Stochastic gradient descent with momentum as torch has it: I. Sutskever, J. Martens, G. Dahl, G. Hinton, "On the
// Importance of Initialization and Momentum in Deep Learning" (ICML 2013), the learning rate outside the buffer.
#pragma once
#include "rule.h"

namespace fc::optim {

// momentum_buffer, if there is momentum.
template <bool with_momentum>
struct SGD {
  static constexpr int states = with_momentum ? 1 : 0;
  static constexpr unsigned read_only = 0, like_parameter = 0;
  enum Hyper { lr, momentum, dampening, weight_decay, nesterov };

  template <class T>
  struct Step {
    T lr, keep, take, momentum, weight_decay;
    bool nesterov;
  };

  // The first step puts the gradient into the buffer undamped.
  template <class T>
  FC_H static Step<T> prepare(const double* h, double t, double*) {
    const bool first = t == 1;
    return {T(h[lr]),           T(first ? 0.0 : h[momentum]), T(first ? 1.0 : 1 - h[dampening]), T(h[momentum]),
            T(h[weight_decay]), h[nesterov] != 0};
  }

  template <class T, class V>
  FC_HD static void apply(const Step<T>& c, V& p, V g, V* s) {
    if (c.weight_decay != T(0)) g += p * c.weight_decay;
    if constexpr (with_momentum) {
      s[0] = s[0] * c.keep + g * c.take;
      g = c.nesterov ? g + s[0] * c.momentum : s[0];
    }
    p -= g * c.lr;
  }
};

}  // namespace fc::optim
