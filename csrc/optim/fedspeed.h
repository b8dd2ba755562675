// FedSpeed's local step: Y. Sun et al., "FedSpeed: Larger Local Interval, Less Communication Round, and Higher
// Generalization Accuracy" (ICLR 2023): the gradient, pulled to the weights that came from the server less a correction.
#pragma once
#include "measures.h"

namespace fc::optim {

// correction, anchor and, with momentum, momentum_buffer.
struct FedSpeedGradient {
  static constexpr unsigned like_parameter = 0b010;
  enum Hyper { lr, prox, weight_decay, momentum };

  template <class T>
  struct Step {
    T lr, prox, decay_and_prox, keep, clip;
  };

  template <class T>
  FC_H static Step<T> prepare(const double* h, double t, double* own) {
    return {T(h[lr]), T(h[prox]), T(h[weight_decay] + h[prox]), T(t == 1 ? 0.0 : h[momentum]), T(own ? own[0] : 1.0)};
  }

  template <class T, class V>
  FC_HD static V pulled(const Step<T>& c, V p, V g, const V* s) {
    return g + p * c.decay_and_prox + (s[0] - s[1]) * c.prox;
  }
};

// The square of the pulled gradient.
struct FedSpeedSums : FedSpeedGradient {
  static constexpr int states = 2, sums = 1;
  static constexpr unsigned read_only = 0b011;

  template <class T, class V>
  FC_HD static void measure(const Step<T>& c, V p, V g, V* s, V* left, V* right) {
    left[0] = right[0] = pulled(c, p, g, s);
  }
};

template <bool with_momentum>
struct FedSpeed : FedSpeedGradient {
  static constexpr int states = with_momentum ? 3 : 2, numbers = 1;
  static constexpr unsigned read_only = 0b011;

  template <class T, class V>
  FC_HD static void apply(const Step<T>& c, V& p, V g, V* s) {
    V d = pulled(c, p, g, s) * c.clip;
    if constexpr (with_momentum) d = s[2] = s[2] * c.keep + d;
    p -= d * c.lr;
  }
};

}  // namespace fc::optim
