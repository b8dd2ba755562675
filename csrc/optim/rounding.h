// How 16-bit parameters and states are written. Random bits are a hash of a key and of the element's place, so that they
// do not depend on how the work is cut. P. Zamirai et al., "Revisiting BFloat16 Training" (2020), arXiv:2010.06192.
#pragma once
#include "../common/half.h"

namespace fc::optim {

enum Rounding : int64_t { to_nearest = 0, stochastic = 1, kahan = 2, split_master = 3, master = 4 };

// A finaliser of 32 bits with full avalanche (multipliers of C. Wellons' search).
template <class Bits>
FC_HD Bits scramble(Bits x) {
  x ^= x >> 16;
  x *= 0x7feb352du;
  x ^= x >> 15;
  x *= 0x846ca68bu;
  return x ^ (x >> 16);
}

FC_HD uint64_t mix64(uint64_t x) {
  x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9ull;
  x = (x ^ (x >> 27)) * 0x94d049bb133111ebull;
  return x ^ (x >> 31);
}

struct RandomKey {
  uint32_t first, second;
};

// One stream per seed, step, parameter, slot (0: the parameter, k: its k-th state) and upper half of the element's place.
FC_HD RandomKey random_key(int64_t seed, int64_t step, int64_t parameter, int64_t slot, int64_t upper) {
  uint64_t x = mix64(uint64_t(seed) + 0x9e3779b97f4a7c15ull);
  x = mix64(x ^ uint64_t(step));
  x = mix64(x ^ (uint64_t(parameter) * 16 + uint64_t(slot)));
  x = mix64(x ^ uint64_t(upper));
  return {uint32_t(x), uint32_t(x >> 32)};
}

template <class Bits>
FC_HD Bits random_bits(const RandomKey& key, Bits place) {
  return scramble(scramble(place ^ key.first) + key.second);
}

// Split master: a float32 x as bfloat16 p, rounded half away from zero, and 16 bits that give x back: bits(x) -
// (bits(p) << 16). Magnitudes that would round p to infinity are cut to the largest that does not.
template <class V>
FC_HD V clamp_master(V x) {
  const V most = V{} + bit_cast<float>(0x7f7f7fffu);
  const V cut = select(x > most, most, select(x < -most, -most, x));
  const bits_of<V> magnitude = bit_cast<bits_of<V>>(x) & 0x7fffffffu;
  return select(magnitude == bits_of<V>{} + 0x7f800000u, x, cut);
}

template <class V>
FC_HD bits_of<V> split_high(V x) {
  using Bits = bits_of<V>;
  const Bits bits = bit_cast<Bits>(x), exponent = bits & 0x7f800000u;
  const Bits special = select(x == x, bits, bits | 0x00400000u);
  return select(exponent == Bits{} + 0x7f800000u, special, bits + 0x8000u) >> 16;
}

template <class V>
FC_HD bits_of<V> split_low(V x, bits_of<V> high) {
  const bits_of<V> low = (bit_cast<bits_of<V>>(x) - (high << 16)) & 0xffffu;
  return select(x - x == V{}, low, bits_of<V>{});  // infinities and NaN live in p alone
}

// `low` holds 16 bits, to be read as a signed number.
template <class V>
FC_HD V split_join(bits_of<V> high, bits_of<V> low) {
  return bit_cast<V>((high << 16) + ((low ^ 0x8000u) - 0x8000u));
}

}  // namespace fc::optim
