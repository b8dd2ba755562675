// The kernels of the exact kernel distances as functions of one number of a pair: its squared distance s, or for the
// polynomial its inner product. Each gives the kernel K and the slope of its gradient: grad_u K(u, v) = slope (u - v),
// for the polynomial slope v. Coinciding points have slope 0.
#pragma once
#include <cmath>

#include "../common/math.h"

namespace fc::mmd {

// In the order of the names in Python's _kernels.py.
enum Kernel : int64_t {
  riesz, gaussian, laplace, matern, rational_quadratic, imq, log_distance, thin_plate, polynomial, kernel_count
};

// The forms that loops are made for.
enum class Form {
  distance, power, gaussian, exponential, matern_three, matern_five, matern_table, rational, log, thin_plate, polynomial
};

// What a form needs: numbers in the type of the computation, and for matern_table rows of kMaternDegree + 1
// coefficients of log K, then of log |slope|, in powers of t in [-1, 1] on intervals of z = first sqrt(s):
// kMaternParts to each octave from 2^kMaternLow to 2^kMaternHigh.
constexpr int kMaternLow = -64, kMaternHigh = 10, kMaternParts = 16, kMaternDegree = 7;
constexpr int kMaternRows = (kMaternHigh - kMaternLow) * kMaternParts;
constexpr int kMaternWidth = 2 * (kMaternDegree + 1);

template <class T>
struct RadialNumbers {
  T first = 0, second = 0, third = 0;
  int degree = 0;
  const double* table = nullptr;
};

template <class T>
struct Radial {
  T value, slope;
};

// The form of a kernel and its numbers. `scale` is the bandwidth, `shape` the kernel's further number (r, nu, alpha,
// beta or degree), d the dimension of the points.
template <class T>
inline Form form_of(int64_t kernel, double scale, double shape, int64_t d, const double* table,
                    RadialNumbers<T>& numbers) {
  const double s2 = scale * scale;
  const auto set = [&](double first, double second = 0, double third = 0) {
    numbers.first = T(first), numbers.second = T(second), numbers.third = T(third);
  };
  numbers.table = table;
  switch (kernel) {
    case riesz:
      set(shape / 2, shape);
      return shape == 1 ? Form::distance : Form::power;
    case gaussian:
      set(0.5 / s2, 1 / s2);
      return Form::gaussian;
    case laplace:
      set(1 / scale);
      return Form::exponential;
    case matern:
      if (shape == 0.5) return set(1 / scale), Form::exponential;
      if (shape == 1.5) return set(1.7320508075688772 / scale, 3 / s2), Form::matern_three;
      if (shape == 2.5) return set(2.23606797749979 / scale, 5 / (3 * s2)), Form::matern_five;
      set(::sqrt(2 * shape) / scale, 1 / s2);
      return Form::matern_table;
    case rational_quadratic:
      set(0.5 / (shape * s2), shape, 1);
      return Form::rational;
    case imq:
      set(1 / s2, shape, ::pow(scale, -2 * shape));
      return Form::rational;
    case log_distance: return Form::log;
    case thin_plate: return Form::thin_plate;
    default:
      set(1.0 / double(d), shape, shape / double(d));
      numbers.degree = int(shape);
      return Form::polynomial;
  }
}

// Whether the form takes inner products.
FC_HD constexpr bool is_product(Form form) { return form == Form::polynomial; }

// Row of the table for z, and the place of z inside its interval. z below the first interval is moved into it: K
// differs from K(0) by z^min(2, 2 nu) there, and points that coincide are dealt with apart.
FC_HD int64_t matern_row(double z, double& t) {
  const double lowest = 0x1p-64, highest = 0x1.fffffffffffffp9;
  const double inside = z < lowest ? lowest : z > highest ? highest : z;
  const uint64_t bits = bit_cast<uint64_t>(inside);
  const uint64_t low = bits & 0x0000ffffffffffffull;                // what is left of the mantissa behind four bits
  t = bit_cast<double>((low << 4) | 0x3ff0000000000000ull) * 2.0 - 3.0;  // [1, 2) to [-1, 1)
  return int64_t(bits >> 48) - int64_t((1023 + kMaternLow) * kMaternParts);
}

FC_HD double matern_polynomial(const double* c, double t) {
  double p = c[kMaternDegree];
  for (int n = kMaternDegree - 1; n >= 0; --n) p = p * t + c[n];
  return p;
}

// One pair. T is float or double; the polynomial takes vectors of them too.
template <Form form, class T>
FC_HD Radial<T> radial(T s, const RadialNumbers<element_of<T>>& c) {
  const T zero{}, one = T{} + element_of<T>(1);
  if constexpr (form == Form::distance) {  // -rho
    const T rho = square_root(s);
    return {-rho, s > zero ? -one / rho : zero};
  } else if constexpr (form == Form::power) {  // -rho^r; first = r / 2, second = r
    const T power = fc::exp(c.first * fc::log(s));
    return {s > zero ? -power : zero, s > zero ? -c.second * power / s : zero};
  } else if constexpr (form == Form::gaussian) {  // first = 1 / 2 sigma^2, second = 1 / sigma^2
    const T value = fc::exp(-c.first * s);
    return {value, -c.second * value};
  } else if constexpr (form == Form::exponential) {  // first = 1 / sigma
    const T rho = square_root(s), value = fc::exp(-c.first * rho);
    return {value, s > zero ? -c.first * value / rho : zero};
  } else if constexpr (form == Form::matern_three) {  // first = sqrt(3) / sigma, second = 3 / sigma^2
    const T z = c.first * square_root(s), e = fc::exp(-z);
    return {(one + z) * e, -c.second * e};
  } else if constexpr (form == Form::matern_five) {  // first = sqrt(5) / sigma, second = 5 / 3 sigma^2
    const T z = c.first * square_root(s), e = fc::exp(-z);
    return {(one + z * (one + z * T(1.0 / 3.0))) * e, -c.second * (one + z) * e};
  } else if constexpr (form == Form::matern_table) {  // first = sqrt(2 nu) / sigma, second = 1 / sigma^2
    double t;
    const double* row = c.table + matern_row(double(c.first) * double(square_root(s)), t) * kMaternWidth;
    const double value = fc::exp(matern_polynomial(row, t));
    const double slope = fc::exp(matern_polynomial(row + kMaternDegree + 1, t));
    return {s > zero ? T(value) : one, s > zero ? T(-double(c.second) * slope) : zero};
  } else if constexpr (form == Form::rational) {  // third (1 + first s)^-second
    const T base = one + c.first * s, value = c.third * fc::exp(-c.second * fc::log(base));
    return {value, T(-2) * c.first * c.second * value / base};
  } else if constexpr (form == Form::log) {  // -log rho
    return {T(-0.5) * fc::log(s), s > zero ? -one / s : zero};
  } else if constexpr (form == Form::thin_plate) {  // rho^2 log rho
    const T l = fc::log(s);
    return {s > zero ? T(0.5) * s * l : zero, s > zero ? l + one : zero};
  } else {  // (s first + 1)^degree; first = 1 / d, third = degree / d
    const T base = s * c.first + one;
    T power = one;
    for (int n = 1; n < c.degree; ++n) power *= base;
    return {power * base, c.third * power};
  }
}

}  // namespace fc::mmd
