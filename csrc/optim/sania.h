// SANIA: F. Abdukhakimov, C. Xiang, D. Kamzolov, R. Gower, M. Takac, "SANIA: Polyak-Type Optimization Framework Leads to
// Scale Invariant Stochastic Algorithms" (2023), with the AdaGrad-SQR and Adam-SQR preconditioners.
#pragma once
#include "measures.h"

namespace fc::optim {

// What both passes make of the state: the diagonal B of the preconditioner.
struct SANIAPreconditioner {
  static constexpr int states = 1;
  static constexpr unsigned like_parameter = 0;
  // beta2 = 1 sums squares (AdaGrad), else it averages them (Adam).
  enum Hyper { lr, beta2, eps, is_sqrt };

  template <class T>
  struct Step {
    T beta2, one_minus_beta2, inverse_bc2, eps, size;
    bool averages, takes_root;
  };

  template <class T>
  FC_H static Step<T> prepare(const double* h, double t, double* own) {
    const bool averages = h[beta2] != 1;
    return {T(h[beta2]),
            T(1 - h[beta2]),
            T(averages ? 1 / bias_correction(h[beta2], t) : 1.0),
            T(h[eps]),
            T(own ? own[0] : 0.0),
            averages,
            h[is_sqrt] != 0};
  }

  // B^-1 g. Where nothing was summed yet the gradient is 0, and so is this.
  template <class T, class V>
  FC_HD static V preconditioned(const Step<T>& c, V v, V g) {
    V b = maximum(v * c.inverse_bc2, V{} + c.eps);
    if (c.takes_root) b = square_root(b);
    return select(b == V{}, V{}, g / b);
  }
};

// <g, B^-1 g>, after the state has taken the gradient in.
struct SANIASums : SANIAPreconditioner {
  using ignores_parameter = void;
  static constexpr int sums = 1;
  static constexpr unsigned read_only = 0;

  template <class T, class V>
  FC_HD static void measure(const Step<T>& c, V, V g, V* s, V* left, V* right) {
    s[0] = c.averages ? s[0] * c.beta2 + (g * c.one_minus_beta2) * g : s[0] + g * g;
    left[0] = g;
    right[0] = preconditioned(c, s[0], g);
  }
};

// p - size B^-1 g.
struct SANIA : SANIAPreconditioner {
  static constexpr int numbers = 1;
  static constexpr unsigned read_only = 1;

  template <class T, class V>
  FC_HD static void apply(const Step<T>& c, V& p, V g, V* s) {
    p -= preconditioned(c, s[0], g) * c.size;
  }
};

}  // namespace fc::optim
