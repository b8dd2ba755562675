// DoG and L-DoG: M. Ivgi, O. Hinder, Y. Carmon, "DoG is SGD's Best Friend: A Parameter-Free Dynamic Step Size Schedule"
// (ICML 2023). AdaGrad-Norm: R. Ward, X. Wu, L. Bottou, "AdaGrad Stepsizes: Sharp Convergence over Nonconvex Landscapes"
// (ICML 2019). Both are gradient steps whose size comes from sums.
#pragma once
#include "measures.h"

namespace fc::optim {

// |p - x0|^2, |g|^2 with weight decay, |p|^2. x0: the parameter at its first step.
struct DoGSums {
  static constexpr int states = 1, sums = 3;
  static constexpr unsigned read_only = 1, like_parameter = 1;
  enum Hyper { lr, weight_decay };

  template <class T>
  struct Step {
    T weight_decay;
  };

  template <class T>
  FC_H static Step<T> prepare(const double* h, double, double*) {
    return {T(h[weight_decay])};
  }

  template <class T, class V>
  FC_HD static void measure(const Step<T>& c, V p, V g, V* s, V* left, V* right) {
    if (c.weight_decay != T(0)) g += p * c.weight_decay;
    left[0] = right[0] = p - s[0];
    left[1] = right[1] = g;
    left[2] = right[2] = p;
  }
};

// |g|^2 with weight decay.
struct GradientSquares {
  static constexpr int states = 0, sums = 1;
  static constexpr unsigned read_only = 0, like_parameter = 0;
  enum Hyper { lr, weight_decay };

  template <class T>
  using Step = DoGSums::Step<T>;

  template <class T>
  FC_H static Step<T> prepare(const double* h, double t, double* own) {
    return DoGSums::prepare<T>(h, t, own);
  }

  template <class T, class V>
  FC_HD static void measure(const Step<T>& c, V p, V g, V*, V* left, V* right) {
    if (c.weight_decay != T(0)) g += p * c.weight_decay;
    left[0] = right[0] = g;
  }
};

// p - size (g + weight_decay p); the size is a number of each parameter's (or row's) own.
struct Scaled {
  static constexpr int states = 0, numbers = 1;
  static constexpr unsigned read_only = 0, like_parameter = 0;
  enum Hyper { lr, weight_decay };

  template <class T>
  struct Step {
    T size, weight_decay;
  };

  template <class T>
  FC_H static Step<T> prepare(const double* h, double, double* own) {
    return {T(own[0]), T(h[weight_decay])};
  }

  template <class T, class V>
  FC_HD static void apply(const Step<T>& c, V& p, V g, V*) {
    if (c.weight_decay != T(0)) g += p * c.weight_decay;
    p -= g * c.size;
  }
};

// The same, row by row: what the rows of a parameter share.
struct ScaledRows : NoStep {
  static constexpr int states = 0;
  static constexpr unsigned read_only = 0, like_parameter = 0;
};

}  // namespace fc::optim
