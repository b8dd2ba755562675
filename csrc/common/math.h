// exp and log that compilers vectorise and that give the same bits on every instruction set and on the GPU
// (compiled without contraction). Coefficients: own minimax fits (Remez, relative error); reduction constants in
// two parts, so that k * hi is exact. No fma and no rint: on the baseline they are library calls.
#pragma once
#include "hd.h"

namespace fc {

template <class T>
struct Limits;
template <>
struct Limits<double> {
  static constexpr double infinity = __builtin_inf();
  static constexpr double exp_low = -708.0;  // below: 0, never a denormal number
  static constexpr double exp_high = 709.7;
};
template <>
struct Limits<float> {
  static constexpr float infinity = __builtin_inff();
  static constexpr float exp_low = -87.0f;
  static constexpr float exp_high = 88.7f;
};

// exp(x) for -708 <= x <= 709, in float32 for -87 <= x <= 88 (anything else gives garbage); relative error below 2.3e-16
// and 1.2e-7.
template <class V>
FC_HD V exp_bounded(V x) {
  using Bits = bits_of<V>;
  if constexpr (sizeof(element_of<V>) == 8) {
    const double magic = 0x1.8p52;
    const V shifted = x * 1.4426950408889634074 + magic;  // round(x / log 2) in the low bits
    const V k = shifted - magic;
    const V r = (x - k * 0x1.62e42feep-1) - k * 0x1.a39ef35793c76p-33;
    const V r2 = r * r, r4 = r2 * r2;
    const V q01 = 0x1.000000000000ap-1 + r * 0x1.55555555554fap-3;
    const V q23 = 0x1.555555555087cp-5 + r * 0x1.1111111127be5p-7;
    const V q45 = 0x1.6c16c1842a11dp-10 + r * 0x1.a01a012a57b51p-13;
    const V q67 = 0x1.a0199a0c677acp-16 + r * 0x1.71df2552390c1p-19;
    const V q89 = 0x1.28ad72cc30d6cp-22 + r * 0x1.ad7f6f0799fb6p-26;
    const V q = (q01 + r2 * q23) + r4 * ((q45 + r2 * q67) + r4 * q89);
    const V p = 1.0 + (r + r2 * q);
    return bit_cast<V>(bit_cast<Bits>(p) + (bit_cast<Bits>(shifted) << 52));
  } else {
    const float magic = 0x1.8p23f;
    const V shifted = x * 1.44269504f + magic;
    const V k = shifted - magic;
    const V r = (x - k * 0x1.62e4p-1f) - k * 0x1.7f7d1cp-20f;
    const V r2 = r * r;
    const V q01 = 0x1.fffffcp-2f + r * 0x1.555492p-3f;
    const V q23 = 0x1.5558f2p-5f + r * 0x1.1239e2p-7f;
    const V q = (q01 + r2 * q23) + (r2 * r2) * 0x1.6a2434p-10f;
    const V p = 1.0f + (r + r2 * q);
    return bit_cast<V>(bit_cast<Bits>(p) + (bit_cast<Bits>(shifted) << 23));
  }
}

// exp(x): 0 below -708 (float32: -87), infinity above 709.7 (88.7), NaN for NaN.
template <class V>
FC_HD V exp(V x) {
  using L = Limits<element_of<V>>;
  V y = exp_bounded(x);
  y = select(x < L::exp_low, V{}, y);
  y = select(x > L::exp_high, V{} + L::infinity, y);
  return select(x == x, y, x);
}

// log(x) for normal x > 0, relative error below 4e-16; -infinity for 0 and denormal numbers, infinity for
// infinity, NaN for negative x and NaN.
FC_HD double log(double x) {
  const uint64_t bits = bit_cast<uint64_t>(x);
  // Mantissa into [sqrt(1/2), sqrt(2)). The exponent becomes a double by magic: AVX2 converts no 64-bit integers.
  const uint64_t root = 0x3fe6a09e667f3bcdull, moved = bits + (0x3ff0000000000000ull - root);
  const double k = bit_cast<double>((moved >> 52) | 0x4330000000000000ull) - (0x1p52 + 1023.0);
  const double m = bit_cast<double>((moved & 0x000fffffffffffffull) + root);
  const double d = m - 1.0, s = d / (m + 1.0), z = s * s, z2 = z * z;
  const double q01 = 0x1.5555555555593p-1 + z * 0x1.999999997fb31p-2;
  const double q23 = 0x1.2492494217a45p-2 + z * 0x1.c71c51e7f56c8p-3;
  const double q45 = 0x1.7466462ce5de0p-3 + z * 0x1.39a0f4fa41586p-3;
  const double q = (q01 + z2 * q23) + (z2 * z2) * (q45 + z2 * 0x1.2f0d8ee30acd0p-3);
  // log(m) = 2 s + s z q = d - (s d - s z q): the leading term d is exact.
  double y = k * 0x1.62e42feep-1 + (d - (s * d - (s * z * q + k * 0x1.a39ef35793c76p-33)));
  y = select(x < 0x1p-1022, -Limits<double>::infinity, y);
  y = select(x == Limits<double>::infinity, x, y);
  return select(x >= 0.0, y, __builtin_nan(""));
}

FC_HD float log(float x) {
  const uint32_t bits = bit_cast<uint32_t>(x);
  const uint32_t offset = bits - 0x3f3504f3u;
  const float k = float(int32_t(offset) >> 23);
  const float m = bit_cast<float>(bits - (offset & 0xff800000u));
  const float d = m - 1.0f, s = d / (m + 1.0f), z = s * s;
  const float q = 0x1.55557ap-1f + z * (0x1.995e9cp-2f + z * 0x1.31e678p-2f);
  float y = k * 0x1.62e4p-1f + (d - (s * d - (s * z * q + k * 0x1.7f7d1cp-20f)));
  y = select(x < 0x1p-126f, -Limits<float>::infinity, y);
  y = select(x == Limits<float>::infinity, x, y);
  return select(x >= 0.0f, y, __builtin_nanf(""));
}

template <class V>
FC_HD V absolute(V x) {
  return select(x < V{}, -x, x);
}

// -1, 0 or 1; 0 for NaN.
template <class V>
FC_HD V sign(V x) {
  const element_of<V> one = 1;
  return select(x > V{}, V{} + one, select(x < V{}, V{} - one, V{}));
}

// The second where they do not compare.
template <class V>
FC_HD V maximum(V x, V y) {
  return select(x > y, x, y);
}
template <class V>
FC_HD V minimum(V x, V y) {
  return select(x < y, x, y);
}

template <class T>
FC_HD T square_root_of_number(T x) {
#if defined(__CUDA_ARCH__)
  return sqrt(x);
#else
  if constexpr (sizeof(T) == 4) return __builtin_sqrtf(x);
  else return __builtin_sqrt(x);
#endif
}

template <class V>
FC_HD V square_root(V x) {
  using T = element_of<V>;
  if constexpr (sizeof(V) == sizeof(T)) return square_root_of_number(x);
  else {
    for (int l = 0; l < int(sizeof(V) / sizeof(T)); ++l) x[l] = square_root_of_number<T>(x[l]);
    return x;
  }
}

// A third, but for a few units, without a division: 1/4 + 1/16 + 1/64 + …
template <class Bits>
FC_HD Bits third_of_bits(Bits bits) {
  Bits third = (bits >> 2) + (bits >> 4);
  third += third >> 4;
  third += third >> 8;
  return third + (third >> 16);
}

// The real cube root, without a division: Newton's steps r += r (1 - a r^3) / 3 towards a^(-1/3) from a third of the exponent
// in the bits, then a r^2 with the rest of the error taken out, in which rounding errors largely cancel (relative error
// below 1.2e-7 in float32, 2.2e-16 in float64). Denormal numbers are scaled first.
template <class V>
FC_HD V cube_root(V x) {
  using T = element_of<V>;
  using Bits = bits_of<V>;
  constexpr bool wide = sizeof(T) == 8;
  const T small = wide ? T(0x1p-1000) : T(0x1p-120);
  const V size = absolute(x);
  const V down = select(size < small, V{} + T(0x1p54), V{} + T(1)), up = select(size < small, V{} + T(0x1p-18), V{} + T(1));
  const V a = size * down;
  constexpr std::conditional_t<wide, uint64_t, uint32_t> four_thirds_of_bias = wide ? 0x553ef0ffull << 32 : 0x54a2fa8cull;
  V r = bit_cast<V>(four_thirds_of_bias - third_of_bits(bit_cast<Bits>(a)));
  for (int step = 0; step < (wide ? 3 : 2); ++step) {
    const V rest = T(1) - ((r * r) * a) * r;
    r = r + (r * rest) * T(1.0 / 3.0);
  }
  const V near = (r * r) * a, rest = T(1) - near * r;
  V y = near + (near * rest) * T(2.0 / 3.0);
  // Not one select inside another with the same alternative: GCC would join their conditions, number by number.
  y = select(size > V{}, y * up, V{});
  y = select(size < Limits<T>::infinity, y, size);
  return select(x < V{}, -y, y);
}

}  // namespace fc
