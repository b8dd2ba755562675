// MADGRAD and Mirror MADGRAD: A. Defazio, S. Jelassi, "Adaptivity without Compromise: A Momentumized, Adaptive, Dual
// Averaged Gradient Method for Stochastic Optimization" (JMLR 2022), with the conventions of its release.
#pragma once
#include "rule.h"

namespace fc::optim {

// grad_sum_sq, s and, with momentum, x0: the parameter at its first step.
template <bool with_momentum>
struct MADGRAD {
  static constexpr int states = with_momentum ? 3 : 2;
  static constexpr unsigned read_only = with_momentum ? 0b100 : 0, like_parameter = read_only;
  enum Hyper { lr, momentum, weight_decay, eps, decoupled };

  template <class T>
  struct Step {
    T coupled_decay, decay, weight, momentum, one_minus_momentum, eps;
  };

  template <class T>
  FC_H static Step<T> prepare(const double* h, double t, double*) {
    const double size = h[lr] != 0 ? h[lr] + h[eps] : 0.0;
    const bool outside = h[decoupled] != 0;
    return {T(outside ? 0.0 : h[weight_decay]), T(outside ? size * h[weight_decay] : 0.0), T(size * __builtin_sqrt(t)),
            T(h[momentum]), T(1 - h[momentum]), T(h[eps])};
  }

  // Where nothing was summed yet and eps is 0 the coordinate does not move: the denominator is infinite there.
  template <class T, class V>
  FC_HD static V denominator(V sum, T eps) {
    const V root = cube_root(sum) + eps;
    return select(root == V{}, V{} + Limits<T>::infinity, root);
  }

  template <class T, class V>
  FC_HD static void apply(const Step<T>& c, V& p, V g, V* s) {
    const V before = p;
    if (c.coupled_decay != T(0)) g += p * c.coupled_decay;
    V x0 = p;
    if constexpr (with_momentum) x0 = s[2];
    else if (c.weight != T(0)) x0 = p + s[1] / denominator(s[0], c.eps);
    if (c.weight != T(0)) {  // a learning rate of 0 leaves only the pull towards z
      s[0] += (g * c.weight) * g;
      s[1] += g * c.weight;
    }
    if (with_momentum || c.weight != T(0)) {
      const V z = x0 - s[1] / denominator(s[0], c.eps);
      p = with_momentum ? p * c.momentum + z * c.one_minus_momentum : z;
    }
    if (c.decay != T(0)) p -= before * c.decay;
  }
};

// grad_sum_sq, z: the parameter at its first step.
struct MirrorMADGRAD {
  static constexpr int states = 2;
  static constexpr unsigned read_only = 0, like_parameter = 0;
  enum Hyper { lr, momentum, weight_decay, eps, decoupled };

  template <class T>
  struct Step {
    T coupled_decay, decay, keep, weight, momentum, one_minus_momentum, eps;
  };

  template <class T>
  FC_H static Step<T> prepare(const double* h, double t, double*) {
    const double size = h[lr] != 0 ? h[lr] + h[eps] : 0.0;
    const bool outside = h[decoupled] != 0;
    return {T(outside ? 0.0 : h[weight_decay]), T(outside ? 1 - size * h[weight_decay] : 1.0), T(__builtin_sqrt((t - 1) / t)),
            T(size * __builtin_cbrt(t)),        T(h[momentum]),                                T(1 - h[momentum]),
            T(h[eps])};
  }

  template <class T, class V>
  FC_HD static void apply(const Step<T>& c, V& p, V g, V* s) {
    if (c.coupled_decay != T(0)) g += p * c.coupled_decay;
    s[0] = s[0] * c.keep + g * g;
    if (c.decay != T(1)) s[1] *= c.decay;
    if (c.weight != T(0)) s[1] -= (g * c.weight) / MADGRAD<false>::denominator(s[0], c.eps);
    p = p * c.momentum + s[1] * c.one_minus_momentum;
  }
};

}  // namespace fc::optim
