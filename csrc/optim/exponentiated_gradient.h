// Exponentiated gradient under Dale's law, signs never change: J. Cornford et al., "Brain-like learning with exponentiated
// gradients" (2024), bioRxiv 2024.10.25.620272.
#pragma once
#include "sgd.h"

namespace fc::optim {

// p exp(-sign(p) update); the exponent stays within 80. What would fall below `least` keeps that size (0: it may vanish).
template <class T, class V>
FC_HD V multiply_in_sign(V p, V update, T least) {
  const V side = sign(p);
  const V exponent = -(side * update);
  V moved = p * exp(minimum(maximum(exponent, V{} - T(80)), V{} + T(80)));
  if (least > T(0)) moved = select(absolute(moved) < least, side * least, moved);
  return moved;
}

// The form of SGD: momentum_buffer, if there is momentum. Weight decay acts on the sign.
template <bool with_momentum>
struct ExponentiatedGradientSGD {
  static constexpr int states = with_momentum ? 1 : 0;
  static constexpr unsigned read_only = 0, like_parameter = 0;
  enum Hyper { lr, momentum, dampening, weight_decay, nesterov, min_magnitude };

  template <class T>
  struct Step {
    typename SGD<with_momentum>::template Step<T> sgd;
    T least;
  };

  template <class T>
  FC_H static Step<T> prepare(const double* h, double t, double* none) {
    return {SGD<with_momentum>::template prepare<T>(h, t, none), T(h[min_magnitude])};
  }

  template <class T, class V>
  FC_HD static void apply(const Step<T>& c, V& p, V g, V* s) {
    if (c.sgd.weight_decay != T(0)) g += sign(p) * c.sgd.weight_decay;
    if constexpr (with_momentum) {
      s[0] = s[0] * c.sgd.keep + g * c.sgd.take;
      g = c.sgd.nesterov ? g + s[0] * c.sgd.momentum : s[0];
    }
    p = multiply_in_sign(p, g * c.sgd.lr, c.least);
  }
};

// The form of AdamW: exp_avg, exp_avg_sq. Weight decay shrinks the magnitude.
struct ExponentiatedGradientAdamW {
  static constexpr int states = 2;
  static constexpr unsigned read_only = 0, like_parameter = 0;
  enum Hyper { lr, beta1, beta2, eps, weight_decay, min_magnitude };

  template <class T>
  struct Step {
    T decay, one_minus_beta1, beta2, one_minus_beta2, step_size, inverse_root_bc2, eps, least;
  };

  template <class T>
  FC_H static Step<T> prepare(const double* h, double t, double*) {
    return {T(1 - h[lr] * h[weight_decay]),
            T(1 - h[beta1]),
            T(h[beta2]),
            T(1 - h[beta2]),
            T(h[lr] / bias_correction(h[beta1], t)),
            T(1 / __builtin_sqrt(bias_correction(h[beta2], t))),
            T(h[eps]),
            T(h[min_magnitude])};
  }

  template <class T, class V>
  FC_HD static void apply(const Step<T>& c, V& p, V g, V* s) {
    if (c.decay != T(1)) p *= c.decay;
    s[0] = lerp(s[0], g, c.one_minus_beta1);
    s[1] = s[1] * c.beta2 + (g * c.one_minus_beta2) * g;
    p = multiply_in_sign(p, (s[0] * c.step_size) / (square_root(s[1]) * c.inverse_root_bc2 + c.eps), c.least);
  }
};

}  // namespace fc::optim
