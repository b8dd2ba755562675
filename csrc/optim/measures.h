// Measuring rules: sums over whole parameters, or over their rows, that a step needs before it begins. A struct with
//   sums            how many; measure() gives the two factors of each, element by element
//   states, read_only, like_parameter, Step, prepare()   as a rule has them; prepare() sees the number of the coming step
//   ignores_parameter   a type of that name: the parameter is not read
#pragma once
#include "rule.h"

namespace fc::optim {

struct NoStep {
  template <class T>
  struct Step {};
  template <class T>
  FC_H static Step<T> prepare(const double*, double, double*) {
    return {};
  }
};

// |p|^2, <p, g>, |g|^2.
struct Dots : NoStep {
  static constexpr int states = 0, sums = 3;
  static constexpr unsigned read_only = 0, like_parameter = 0;

  template <class T, class V>
  FC_HD static void measure(const Step<T>&, V p, V g, V*, V* left, V* right) {
    left[0] = p, right[0] = p;
    left[1] = p, right[1] = g;
    left[2] = g, right[2] = g;
  }
};

// |g|^2.
struct Squares : NoStep {
  using ignores_parameter = void;
  static constexpr int states = 0, sums = 1;
  static constexpr unsigned read_only = 0, like_parameter = 0;

  template <class T, class V>
  FC_HD static void measure(const Step<T>&, V, V g, V*, V* left, V* right) {
    left[0] = right[0] = g;
  }
};

// |g|^2, and a copy of the gradient as the prologue leaves it.
struct Keep : NoStep {
  using ignores_parameter = void;
  static constexpr int states = 1, sums = 1;
  static constexpr unsigned read_only = 0, like_parameter = 0;

  template <class T, class V>
  FC_HD static void measure(const Step<T>&, V, V g, V* s, V* left, V* right) {
    s[0] = left[0] = right[0] = g;
  }
};

}  // namespace fc::optim
