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
  return scramble(place ^ key.first) ^ key.second;
}

// Split master: a float32 x as bfloat16 p, rounded half away from zero, and 16 bits that give x back: bits(x) -
// (bits(p) << 16). Magnitudes that would round p to infinity are cut to the largest that does not; infinities and NaN live in
// p alone.
template <class V>
struct Split {
  bits_of<V> high, low;  // only the lower 16 bits of `low` count
};

template <class V>
FC_HD Split<V> split(V x) {
  using Bits = bits_of<V>;
  const Bits bits = bit_cast<Bits>(x), magnitude = bits & 0x7fffffffu, most = Bits{} + 0x7f7f7fffu;
  const Bits kept = select(magnitude < most, magnitude, most) | (bits & 0x80000000u);
  const Bits high = (kept + 0x8000u) >> 16, low = kept - (high << 16);
  const Bits special = select(magnitude > Bits{} + 0x7f800000u, bits | 0x00400000u, bits) >> 16;
  const auto finite = magnitude < Bits{} + 0x7f800000u;
  return {select(finite, high, special), select(finite, low, Bits{})};
}

// `low` holds 16 bits, to be read as a signed number.
template <class V>
FC_HD V split_join(bits_of<V> high, bits_of<V> low) {
  return bit_cast<V>((high << 16) + ((low ^ 0x8000u) - 0x8000u));
}

}  // namespace fc::optim
