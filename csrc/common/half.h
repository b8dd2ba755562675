// bfloat16 and float16 as bits, to float32 and back, for numbers and vectors of them. Integer arithmetic, not conversion
// instructions: the same bits on every instruction set. The 16 bits stand in the low half of each element.
#pragma once
#include "math.h"

namespace fc {

struct BFloat16 {
  uint16_t bits;
};
struct Float16 {
  uint16_t bits;
};

template <class V>
FC_HD V from_bfloat16(bits_of<V> h) {
  return bit_cast<V>(h << 16);
}

template <class V>
FC_HD V from_float16(bits_of<V> h) {
  using Bits = bits_of<V>;
  // The bits moved into place are the number over 2^112, its subnormal ones too.
  const Bits magnitude = bit_cast<Bits>(bit_cast<V>((h & 0x7fffu) << 13) * 0x1p112f);
  const Bits exponent = h & 0x7c00u;
  return bit_cast<V>(select(exponent == Bits{} + 0x7c00u, magnitude | 0x7f800000u, magnitude) | ((h & 0x8000u) << 16));
}

// To nearest, ties to even, of what is not NaN.
template <class V>
FC_HD bits_of<V> number_to_bfloat16(V x) {
  const bits_of<V> bits = bit_cast<bits_of<V>>(x);
  return (bits + (((bits >> 16) & 1u) + 0x7fffu)) >> 16;
}

// NaN stays NaN.
template <class V>
FC_HD bits_of<V> to_bfloat16(V x) {
  using Bits = bits_of<V>;
  const Bits bits = bit_cast<Bits>(x);
  return select(x == x, bits + (((bits >> 16) & 1u) + 0x7fffu), bits | 0x00400000u) >> 16;
}

// Chosen by the magnitude's bits: below 2^-14, normal, infinite (whatever is too large becomes so), NaN.
template <class V>
FC_HD bits_of<V> finished_float16(bits_of<V> magnitude, bits_of<V> subnormal, bits_of<V> normal) {
  using Bits = bits_of<V>;
  const Bits most = Bits{} + 0x7c00u;
  Bits h = select(magnitude < Bits{} + 0x38800000u, subnormal, normal);
  h = select(h < most, h, most);
  return select(magnitude > Bits{} + 0x7f800000u, Bits{} + 0x7e00u, h);
}

template <class V>
FC_HD bits_of<V> to_float16(V x) {
  using Bits = bits_of<V>;
  const Bits bits = bit_cast<Bits>(x), side = (bits >> 16) & 0x8000u, magnitude = bits & 0x7fffffffu;
  const V size = bit_cast<V>(magnitude);
  const Bits normal = (magnitude + (0xc8000fffu + ((magnitude >> 13) & 1u))) >> 13;  // exponent down by 112
  const Bits subnormal = bit_cast<Bits>(size + 0.5f) - 0x3f000000u;  // the addition rounds to steps of 2^-24
  return finished_float16<V>(magnitude, subnormal, normal) | side;
}

// Rounded up with the probability that makes the mean exact, by the low bits of `random`; infinities and NaN stay.
template <class V>
FC_HD bits_of<V> to_bfloat16(V x, bits_of<V> random) {
  using Bits = bits_of<V>;
  const Bits bits = bit_cast<Bits>(x);
  const Bits special = select(x == x, bits, bits | 0x00400000u);
  return select((bits & 0x7f800000u) == Bits{} + 0x7f800000u, special, bits + (random & 0xffffu)) >> 16;
}

template <class V>
FC_HD bits_of<V> to_float16(V x, bits_of<V> random) {
  using Bits = bits_of<V>;
  const Bits bits = bit_cast<Bits>(x), side = (bits >> 16) & 0x8000u, magnitude = bits & 0x7fffffffu;
  const V size = bit_cast<V>(magnitude);
  const Bits normal = (magnitude + (0xc8000000u + (random & 0x1fffu))) >> 13;
  // Steps of 2^-24: the random part of one, in [0, 1), is added before the rest is cut off.
  const V steps = size * 0x1p24f + bit_cast<V>((random & 0x7fffu) << 8 | 0x3f800000u) - 1.0f;
  const V whole = (steps + 0x1p23f) - 0x1p23f;
  const Bits subnormal = bit_cast<Bits>(select(whole > steps, whole - 1.0f, whole) + 0x1p23f) & 0x7fffffu;
  return finished_float16<V>(magnitude, subnormal, normal) | side;
}

}  // namespace fc
