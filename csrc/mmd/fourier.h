// Kernels on R^d by the Fourier series of their slices: spectra, periods and windows of modes. Lengths are in units of the
// bandwidth, and F(0) = 1.
#pragma once
#include <cmath>

#include "../common/math.h"

namespace fc::mmd {

enum FourierKernel : int64_t { kGaussian = 1, kLaplace = 2, kMatern = 3, kRationalQuadratic = 4, kMultiquadric = 5 };

constexpr int64_t kMostModes = 4096;

// Log of the integral of e^(order u - e^u - a e^(-u)) over u: what a mixture of Gaussians of precision e^u leaves in
// frequency, without a Bessel function. The exponent is concave; the sum starts at its peak.
FC_HD double log_bessel_integral(double order, double a) {
  const double curvature = square_root(order * order + 4 * a);
  const double y = order > 0 ? 0.5 * (order + curvature) : 2 * a / (curvature - order), top = log(y);
  const double step = lesser(0.25, 0.6 / square_root(curvature)), peak = order * top - y - a / y;
  double total = 1;
  for (int side = -1; side <= 1; side += 2) {
    const double factor = exp(side * step);
    double e = y, u = top, added = 1;
    while (added > 1e-18) {
      u += side * step;
      e *= factor;
      added = exp(order * u - e - a / e - peak);
      total += added;
    }
  }
  return peak + log(total * step);
}

// Log of f^(s), the transform of the slices of F.
struct Spectrum {
  int64_t kernel;
  double half, shape, constant, width;  // half = d / 2; width: c of 1 / (1 + rho^2 / c^2)^shape

  FC_HD double operator()(double s) const {
    const double pi = 3.14159265358979323846, common = constant + (2 * half - 1) * log(s);
    if (kernel == kGaussian) return common - 2 * pi * pi * s * s;
    if (kernel == kLaplace || kernel == kMatern) return common - (shape + half) * log(1 + 2 * pi * pi * s * s / shape);
    const double root = pi * width * s;
    return common + log_bessel_integral(shape - half, root * root);
  }
};

inline Spectrum make_spectrum(int64_t kernel, int64_t d, double shape) {
  const double pi = 3.14159265358979323846, half = 0.5 * double(d);
  Spectrum found{kernel, half, kernel == kLaplace ? 0.5 : shape, half * std::log(pi) - std::lgamma(half), 1};
  if (kernel == kGaussian) {
    found.constant += half * std::log(2 * pi);
  } else if (kernel == kLaplace || kernel == kMatern) {
    found.constant += std::lgamma(found.shape + half) - std::lgamma(found.shape) + half * std::log(2 * pi / found.shape);
  } else {
    if (kernel == kRationalQuadratic) found.width = std::sqrt(2 * shape);
    found.constant += half * std::log(pi * found.width * found.width) - std::lgamma(shape);
  }
  return found;
}

// What the caller chose: the band of frequencies and how long a period is.
struct Band {
  double kink, low, high, stretch, margin;
};

// The next power of 2^(1/8): periods that stay as they are when a point moves a little, and that slices share.
inline double rounded_up(double size) {
  if (!(size > 0)) return 0;
  int exponent;
  const double mantissa = std::frexp(size, &exponent);
  double step = 0.5;
  for (int j = 1; step < mantissa; ++j) step = std::exp2(j / 8.0 - 1);
  return std::ldexp(step, exponent);
}

// First mode, modes taken, modes that the band holds. Where it holds more than kMostModes, those with the largest
// coefficients are taken: without a kink around the spectrum's peak, with one, whose share falls like k^-2, the first.
struct Window {
  double first, count, wanted;
};

FC_HD Window find_window(const Spectrum& spectrum, const Band& band, double length) {
  const double least = ::ceil(band.low * length), most = ::floor(band.high * length), far = 0x1p50;
  const double first = lesser(least > 1 ? least : 1, far), reach = lesser(most - first + 1, far), wanted = reach > 1 ? reach : 1;
  const double taken = double(kMostModes);
  if (wanted <= taken) return {first, wanted, wanted};
  if (band.kink != 0) return {first, taken, wanted};
  double left = first, right = first + wanted - taken;
  while (left < right) {
    const double middle = ::floor((left + right) / 2);
    if (spectrum(middle / length) < spectrum((middle + taken) / length))
      left = middle + 1;
    else
      right = middle;
  }
  return {left, taken, wanted};
}

// c_k = f^(k / T) / T at the period T, less the kink's share.
FC_HD double mode_coefficient(const Spectrum& spectrum, double kink, double length, double mode) {
  const double turn = 3.14159265358979323846 * mode;
  return exp(spectrum(mode / length)) / length - kink * length / (2 * turn * turn);
}

// Sine and cosine of 2 pi t, |t| < 2^50: errors below 3e-16.
template <class V>
struct SineCosine {
  V sine, cosine;
};

template <class V>
FC_HD SineCosine<V> sine_cosine_of_turns(V t) {
  const double magic = 0x1.8p52;
  const V whole = (t + magic) - magic, rest = t - whole;
  const V half = 0.5 * ((2.0 * rest + magic) - magic), r = rest - half, sign = 1.0 - 8.0 * (half * half);
  const V y = r * r, y2 = y * y, y4 = y2 * y2;
  const V s01 = 0x1.921fb54442d18p+2 + y * -0x1.4abbce625be52p+5, s23 = 0x1.466bc6775aa7dp+6 + y * -0x1.32d2cce627c86p+6;
  const V s45 = 0x1.5078348551854p+5 + y * -0x1.e3074dfaf87afp+3, s67 = 0x1.e8f3675ee37ddp+1 + y * -0x1.6f7acdb8f6580p-1;
  const V s = (s01 + y2 * s23) + y4 * ((s45 + y2 * s67) + y4 * 0x1.9d462020fcc78p-4);
  const V c01 = -0x1.3bd3cc9be45dep+4 + y * 0x1.03c1f081b5ac4p+6, c23 = -0x1.55d3c7e3cbfdap+6 + y * 0x1.e1f50689191cbp+5;
  const V c45 = -0x1.a6d1f2a05f609p+4 + y * 0x1.f9d38906e2150p+2, c67 = -0x1.b6e1cdea474b9p+0 + y * 0x1.20a61e049e33fp-2;
  const V c = (c01 + y2 * c23) + y4 * ((c45 + y2 * c67) + y4 * -0x1.2175e33b10f9dp-5);
  return {sign * (r * s), sign * (1.0 + y * c)};
}

}  // namespace fc::mmd
