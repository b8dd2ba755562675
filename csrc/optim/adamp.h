// AdamP and SGDP: B. Heo et al., "AdamP: Slowing Down the Slowdown for Momentum Optimizers on Scale-invariant Weights" (ICLR
// 2021). Where a gradient stands almost at right angles to the parameter, its row or the whole, the part of the direction
// along it is taken out. A projected rule has direction(), which moves the states, and move(), which moves the parameter.
#pragma once
#include "rule.h"

namespace fc::optim {

// How a parameter is projected, as the caller has decided.
enum Projection { none = 0, of_rows = 1, of_whole = 2 };

// What is taken out along the parameter, per unit of it: of |p|^2 and <p, direction>.
FC_H double share_along(const double* sums, double eps) {
  const double length = __builtin_sqrt(sums[0]) + eps;
  return sums[0] == 0 ? 0.0 : sums[1] / (length * length);
}

// exp_avg, exp_avg_sq.
struct AdamP {
  static constexpr int states = 2;
  static constexpr unsigned read_only = 0, like_parameter = 0;
  enum Hyper { lr, beta1, beta2, eps, weight_decay, wd_ratio, nesterov };

  template <class T>
  struct Step {
    T decay, decay_projected, beta1, one_minus_beta1, beta2, one_minus_beta2, step_size, inverse_root_bc2, eps;
    bool nesterov;
  };

  template <class T>
  FC_H static Step<T> prepare(const double* h, double t, double*) {
    return {T(1 - h[lr] * h[weight_decay]),
            T(1 - h[lr] * h[weight_decay] * h[wd_ratio]),
            T(h[beta1]),
            T(1 - h[beta1]),
            T(h[beta2]),
            T(1 - h[beta2]),
            T(h[lr] / bias_correction(h[beta1], t)),
            T(1 / __builtin_sqrt(bias_correction(h[beta2], t))),
            T(h[eps]),
            h[nesterov] != 0};
  }

  template <class T, class V>
  FC_HD static V direction(const Step<T>& c, V, V g, V* s) {
    s[0] = lerp(s[0], g, c.one_minus_beta1);
    s[1] = s[1] * c.beta2 + (g * c.one_minus_beta2) * g;
    const V m = c.nesterov ? s[0] * c.beta1 + g * c.one_minus_beta1 : s[0];
    return m / (square_root(s[1]) * c.inverse_root_bc2 + c.eps);
  }

  template <class T, class V>
  FC_HD static void move(const Step<T>& c, V& p, V u, V*, bool projected) {
    const T decay = projected ? c.decay_projected : c.decay;
    if (decay != T(1)) p *= decay;
    p -= u * c.step_size;
  }
};

// momentum.
struct SGDP {
  static constexpr int states = 1;
  static constexpr unsigned read_only = 0, like_parameter = 0;
  enum Hyper { lr, momentum, dampening, eps, weight_decay, wd_ratio, nesterov, projects_momentum };

  template <class T>
  struct Step {
    T lr, decay, decay_projected, momentum, take;
    bool nesterov, projects_momentum;
  };

  template <class T>
  FC_H static Step<T> prepare(const double* h, double, double*) {
    const double decay = h[lr] * h[weight_decay] / (1 - h[momentum]);
    return {T(h[lr]),        T(1 - decay),      T(1 - decay * h[wd_ratio]), T(h[momentum]), T(1 - h[dampening]),
            h[nesterov] != 0, h[projects_momentum] != 0};
  }

  template <class T, class V>
  FC_HD static V direction(const Step<T>& c, V, V g, V* s) {
    s[0] = s[0] * c.momentum + g * c.take;
    return c.nesterov ? g + s[0] * c.momentum : s[0];
  }

  // The release projects the buffer itself where there is no nesterov: both are one tensor there.
  template <class T, class V>
  FC_HD static void move(const Step<T>& c, V& p, V u, V* s, bool projected) {
    if (c.projects_momentum && !c.nesterov && projected) s[0] = u;
    const T decay = projected ? c.decay_projected : c.decay;
    if (decay != T(1)) p *= decay;
    p -= u * c.lr;
  }
};

// |p|^2 and <p, direction> of a projected rule, as a measuring rule that writes nothing.
template <class Rule>
struct DirectionSums : Rule {
  static constexpr int sums = 2;
  static constexpr unsigned read_only = ~0u;

  template <class T, class V>
  FC_HD static void measure(const typename Rule::template Step<T>& c, V p, V g, V* s, V* left, V* right) {
    left[0] = right[0] = left[1] = p;
    right[1] = Rule::direction(c, p, g, s);
  }
};

}  // namespace fc::optim
