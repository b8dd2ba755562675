// AdaBelief: J. Zhuang et al., "AdaBelief Optimizer: Adapting Stepsizes by the Belief in Observed Gradients" (NeurIPS
// 2020), with the conventions of its release.
#pragma once
#include "radam.h"

namespace fc::optim {

// exp_avg, exp_avg_var and, with amsgrad, max_exp_avg_var.
template <bool amsgrad>
struct AdaBelief {
  static constexpr int states = amsgrad ? 3 : 2;
  static constexpr unsigned read_only = 0, like_parameter = 0;
  enum Hyper { lr, beta1, beta2, eps, weight_decay, decoupled, fixed_decay, rectify, degenerated_to_sgd };

  template <class T>
  struct Step {
    T decay, coupled_decay, one_minus_beta1, beta2, one_minus_beta2, eps, step_size, inverse_root_bc2;
    bool adaptive, rectified;
  };

  template <class T>
  FC_H static Step<T> prepare(const double* h, double t, double*) {
    const bool outside = h[decoupled] != 0;
    const double bc2 = bias_correction(h[beta2], t), base = h[lr] / bias_correction(h[beta1], t);
    const double rho = radam_length(h[beta2], t);
    const bool rectified = h[rectify] != 0, adaptive = !rectified || rho >= 5;  // RAdam's own rule has > 5
    double size = base;
    if (rectified && adaptive) size *= radam_rectification(h[beta2], rho) * __builtin_sqrt(bc2);
    if (!adaptive && h[degenerated_to_sgd] == 0) size = 0;
    return {T(!outside ? 1.0 : 1 - (h[fixed_decay] != 0 ? 1.0 : h[lr]) * h[weight_decay]),
            T(outside ? 0.0 : h[weight_decay]),
            T(1 - h[beta1]),
            T(h[beta2]),
            T(1 - h[beta2]),
            T(h[eps]),
            T(size),
            T(rectified ? 1.0 : 1 / __builtin_sqrt(bc2)),
            adaptive,
            rectified};
  }

  // eps is added to the variance and stays in it; the rectified step of the release ignores the maximum of amsgrad.
  template <class T, class V>
  FC_HD static void apply(const Step<T>& c, V& p, V g, V* s) {
    if (c.coupled_decay != T(0)) g += p * c.coupled_decay;
    if (c.decay != T(1)) p *= c.decay;
    s[0] = lerp(s[0], g, c.one_minus_beta1);
    const V surprise = g - s[0];
    s[1] = (s[1] * c.beta2 + (surprise * c.one_minus_beta2) * surprise) + c.eps;
    V v = s[1];
    if constexpr (amsgrad) {
      s[2] = maximum(s[2], v);
      if (!c.rectified) v = s[2];
    }
    const V move = s[0] * c.step_size;
    p -= c.adaptive ? move / (square_root(v) * c.inverse_root_bc2 + c.eps) : move;
  }
};

}  // namespace fc::optim
