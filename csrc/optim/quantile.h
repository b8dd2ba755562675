// The quantile of magnitudes, linear between order statistics: X. Pan, Y. Li, "Toward Understanding Why Adam Converges Faster
// Than SGD for Transformers" (2023). Selection by the digits of the bits, from the highest on, so that nothing is copied and
// the answer is exact; NaN counts as largest.
#pragma once
#include "rule.h"

namespace fc::optim {

constexpr int kDigitBits = 11, kBins = 1 << kDigitBits;

// The digit that is looked at when all above bit `above` are known.
struct Digit {
  int shift, width;

  FC_HD explicit Digit(int above) : shift(above > kDigitBits ? above - kDigitBits : 0), width(above - shift) {}

  template <class Bits>
  FC_HD int of(Bits bits) const {
    return int(bits >> shift & Bits((1 << width) - 1));
  }
  // Whether a number begins with the digits of `prefix`.
  template <class Bits>
  FC_HD bool follows(Bits bits, Bits prefix) const {
    return shift + width >= int(sizeof(Bits)) * 8 || bits >> (shift + width) == prefix >> (shift + width);
  }
};

// Magnitudes as unsigned numbers of the same order; -0 is 0.
template <class T>
FC_HD bits_of<T> magnitude_bits(T x) {
  return bit_cast<bits_of<T>>(x) & (~bits_of<T>(0) >> 1);
}

// Between which order statistics the quantile of `size` numbers lies: that of `rank` (from 0), and `rest` of the way to the
// next.
struct Rank {
  int64_t rank;
  double rest;
};

FC_H Rank rank_of(double q, int64_t size) {
  const double at = q * double(size - 1);
  const int64_t rank = int64_t(at) < size - 1 ? int64_t(at) : size - 1;
  return {rank, at - double(rank)};
}

}  // namespace fc::optim
