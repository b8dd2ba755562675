// Sorts numbers together with their places: 64-bit words, the upper half a key in the order of the numbers, the lower the
// place, by a radix sort from the lowest digit. Places ascend among equal numbers.
#pragma once
#include <algorithm>
#include <utility>

#include "../common/aligned.h"
#include "rank.h"

namespace fc::mmd {

using Places = RawVector<int32_t>;

// By the upper halves of words[0, n), `spare` as large; the sorted words are where the returned pointer says.
template <int bits>
uint64_t* radix_passes(uint64_t* words, uint64_t* spare, int64_t n) {
  constexpr int passes = (32 + bits - 1) / bits, bins = 1 << bits;
  uint32_t counts[passes][bins] = {};
  for (int64_t i = 0; i < n; ++i)
    for (int pass = 0; pass < passes; ++pass) ++counts[pass][(words[i] >> (32 + pass * bits)) & (bins - 1)];
  for (int pass = 0; pass < passes; ++pass) {
    const int shift = 32 + pass * bits;
    uint32_t* at = counts[pass];
    if (at[(words[0] >> shift) & (bins - 1)] == n) continue;  // all digits are the same
    uint32_t sum = 0;
    for (int bin = 0; bin < bins; ++bin) sum += std::exchange(at[bin], sum);
    for (int64_t i = 0; i < n; ++i) spare[at[(words[i] >> shift) & (bins - 1)]++] = words[i];
    std::swap(words, spare);
  }
  return words;
}

inline uint64_t* sort_words(uint64_t* words, uint64_t* spare, int64_t n) {
  if (n < 64) {
    std::sort(words, words + n);
    return words;
  }
  return n < 6000 ? radix_passes<8>(words, spare, n) : radix_passes<11>(words, spare, n);
}

// A sorted sequence: numbers (zeros without a sign) and where they came from.
template <class T>
struct Sorted {
  RawVector<T> values;
  Places places;
};

// Sorts what pieces of memory hold, the places counted through them.
template <class T>
class Sorter {
 public:
  void begin(int64_t n) {
    size_ = 0;
    if (int64_t(words_.size()) < n) {
      words_.resize(n);
      spare_.resize(n);
      if (sizeof(T) == 8) keys_.resize(n);
    }
  }
  void add(const T* points, int64_t n) {
    constexpr int drop = 8 * (sizeof(T) - 4);  // float64: the upper half of the key first
    for (int64_t i = 0; i < n; ++i) {
      const auto key = ordered_key(points[i]);
      words_[size_ + i] = uint64_t(key >> drop) << 32 | uint32_t(size_ + i);
      if constexpr (sizeof(T) == 8) keys_[size_ + i] = key;
    }
    size_ += n;
  }
  void sort(T* values, int32_t* places) {
    uint64_t* words = sort_words(words_.data(), spare_.data(), size_);
    if constexpr (sizeof(T) == 8) finish(words, words == words_.data() ? spare_.data() : words_.data());
    for (int64_t k = 0; k < size_; ++k) {
      places[k] = int32_t(uint32_t(words[k]));
      if constexpr (sizeof(T) == 8)
        values[k] = from_key<T>(keys_[places[k]]);
      else
        values[k] = from_key<T>(uint32_t(words[k] >> 32));
    }
  }

 private:
  // Runs with the same upper half are sorted by the lower one.
  void finish(uint64_t* words, uint64_t* spare) {
    for (int64_t k = 0, end; k < size_; k = end) {
      for (end = k + 1; end < size_ && words[end] >> 32 == words[k] >> 32; ++end) {}
      if (end == k + 1) continue;
      for (int64_t i = k; i < end; ++i) words[i] = keys_[uint32_t(words[i])] << 32 | uint32_t(words[i]);
      if (end - k < 1000) {
        std::sort(words + k, words + end);
      } else if (uint64_t* sorted = sort_words(words + k, spare + k, end - k); sorted != words + k) {
        std::copy(sorted, sorted + (end - k), words + k);
      }
    }
  }

  int64_t size_ = 0;
  RawVector<uint64_t> words_, spare_, keys_;
};

}  // namespace fc::mmd
