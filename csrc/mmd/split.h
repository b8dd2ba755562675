// A float32 number as the sum of three bfloat16 numbers, for products on tensor cores: with eight significant bits each they
// hold its twenty-four, so the sum is exact (but for what is below 2^-133, bfloat16's smallest number). What is not finite
// gives a part that is not.
#pragma once
#include "../common/half.h"
#include "../common/hd.h"

namespace fc::mmd {

constexpr int kSplitTerms = 6;

// The six largest of the nine products of parts (0 the largest), small ones first: what is left out is below 2^-26 of the
// product. A matrix and its partner take their parts in these orders.
FC_HD int split_part(int term, bool partner) {
  const int parts[kSplitTerms] = {2, 1, 0, 1, 0, 0}, partner_parts[kSplitTerms] = {0, 1, 2, 0, 1, 0};
  return partner ? partner_parts[term] : parts[term];
}

struct SplitNumber {
  BFloat16 part[3];
};

FC_HD SplitNumber split_number(float x) {
  SplitNumber split;
  for (int k = 0; k < 3; ++k) {
    const uint32_t bits = to_bfloat16(x);
    split.part[k].bits = uint16_t(bits);
    x -= from_bfloat16<float>(bits);
  }
  return split;
}

}  // namespace fc::mmd
