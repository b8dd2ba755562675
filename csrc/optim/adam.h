// AdamW: I. Loshchilov, F. Hutter, "Decoupled Weight Decay Regularization" (ICLR 2019). Adam: D. P. Kingma, J. Ba (ICLR
// 2015). With a third state AMSGrad: S. J. Reddi, S. Kale, S. Kumar, "On the Convergence of Adam and Beyond" (ICLR 2018).
#pragma once
#include "rule.h"

namespace fc::optim {

// exp_avg, exp_avg_sq and, with amsgrad, max_exp_avg_sq.
template <bool amsgrad>
struct Adam {
  static constexpr int states = amsgrad ? 3 : 2;
  static constexpr unsigned read_only = 0, like_parameter = 0;
  enum Hyper { lr, beta1, beta2, eps, weight_decay, decoupled };

  template <class T>
  struct Step {
    T decay, coupled_decay, one_minus_beta1, beta2, one_minus_beta2, step_size, inverse_root_bc2, eps;
  };

  template <class T>
  FC_H static Step<T> prepare(const double* h, double t, double*) {
    const bool outside = h[decoupled] != 0;
    return {T(outside ? 1 - h[lr] * h[weight_decay] : 1.0),
            T(outside ? 0.0 : h[weight_decay]),
            T(1 - h[beta1]),
            T(h[beta2]),
            T(1 - h[beta2]),
            T(h[lr] / bias_correction(h[beta1], t)),
            T(1 / __builtin_sqrt(bias_correction(h[beta2], t))),
            T(h[eps])};
  }

  template <class T, class V>
  FC_HD static void apply(const Step<T>& c, V& p, V g, V* s) {
    if (c.coupled_decay != T(0)) g += p * c.coupled_decay;
    if (c.decay != T(1)) p *= c.decay;
    s[0] = lerp(s[0], g, c.one_minus_beta1);
    s[1] = s[1] * c.beta2 + (g * c.one_minus_beta2) * g;
    V v = s[1];
    if constexpr (amsgrad) v = s[2] = maximum(s[2], v);
    p -= (s[0] * c.step_size) / (square_root(v) * c.inverse_root_bc2 + c.eps);
  }
};

}  // namespace fc::optim
