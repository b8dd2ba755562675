// Ranks of a block's keys by eight of their bits: the step that every radix sort here is made of. Stable, and the same
// whatever the order of threads. Keys stand in the order (warp, item, lane): a warp goes through its items one after the
// other; lanes with equal digits find one another and the first of them counts for all.
#pragma once
#include "../common/block.cuh"
#include "../common/math.h"
#include "rank.h"

namespace fc::mmd {

constexpr int kDigitBits = 8, kDigits = 1 << kDigitBits, kDigitPairs = kDigits / 2;

// Behind every number: no finite number has it.
template <class Key>
constexpr Key kLastKey = ~Key(0);

// Whether a sorted slice between these two keys is finite.
template <class T>
__device__ bool are_finite(word_of<T> first, word_of<T> last) {
  return first > ordered_key(-Limits<T>::infinity) && last < ordered_key(Limits<T>::infinity);
}

// Items of a thread are used by fours: then four searches for equal digits are under way at once.
constexpr int kAtOnce = 4;

// How many items a thread of a block uses for `count` keys.
template <int threads>
__device__ int items_in_use(int count) {
  return (count + threads * kAtOnce - 1) / (threads * kAtOnce) * kAtOnce;
}

// Lanes whose digit is this lane's.
__device__ inline unsigned lanes_with(unsigned digit) { return __match_any_sync(kFullWarp, digit); }

template <class Key>
__device__ unsigned digit_of(Key key, int shift) {
  return unsigned(key >> shift) & (kDigits - 1);
}

// Counters of 16 bits, as halves of words: a block has at most 2^15 keys. Two digits are added at once.
union DigitRow {
  uint16_t half[kDigits];
  uint32_t word[kDigitPairs];
};

template <int threads>
struct DigitCounts {
  static constexpr int warps = threads / kWarp, groups = threads / kDigitPairs, rows = warps / groups;
  static_assert(threads % kDigitPairs == 0 && threads <= 1024, "a thread of each group for every two digits");
  DigitRow of_warp[warps], of_group[groups];
  DigitRow start;  // of each digit among the block's keys
};

// Numbers below 2^16, two in a register.
template <int items>
struct PackedRanks {
  uint32_t words[(items + 1) / 2];

  __device__ int operator[](int k) const { return int(words[k / 2] >> 16 * (k % 2) & 0xffff); }
  __device__ void set(int k, uint32_t rank) { words[k / 2] = k % 2 ? words[k / 2] | rank << 16 : rank; }
  __device__ void add(int k, uint32_t rank) { words[k / 2] += rank << 16 * (k % 2); }
};

// A warp's keys, counted by digit; each key's rank among its warp's of that digit.
template <int items, class Key>
__device__ void count_digits(const Key (&keys)[items], int used, int shift, DigitRow& row, PackedRanks<items>& ranks) {
  const int lane = int(threadIdx.x) % kWarp;
#pragma unroll
  for (int k = lane; k < kDigitPairs; k += kWarp) row.word[k] = 0;
  __syncwarp();
#pragma unroll
  for (int first = 0; first < items; first += kAtOnce) {
    if (first < used) {  // the same for the whole block
      unsigned digits[kAtOnce], peers[kAtOnce];
#pragma unroll
      for (int q = 0; q < kAtOnce; ++q) {  // none waits for another here
        digits[q] = digit_of(keys[first + q], shift);
        peers[q] = lanes_with(digits[q]);
      }
#pragma unroll
      for (int q = 0; q < kAtOnce; ++q) {
        const unsigned before = peers[q] & ((1u << lane) - 1), seen = row.half[digits[q]];
        __syncwarp();
        if (before == 0) row.half[digits[q]] = uint16_t(seen + unsigned(__popc(peers[q])));
        ranks.set(first + q, seen + unsigned(__popc(before)));
        __syncwarp();
      }
    }
  }
}

// Where each digit starts, from the groups' sums. One warp does it; a lane has eight digits.
template <int threads>
__device__ void find_starts(DigitCounts<threads>& counts) {
  constexpr int pairs = kDigitPairs / kWarp;
  const int lane = int(threadIdx.x) % kWarp;
  uint32_t sums[pairs], mine = 0;
#pragma unroll
  for (int q = 0; q < pairs; ++q) {
    sums[q] = 0;
#pragma unroll
    for (int group = 0; group < DigitCounts<threads>::groups; ++group)
      sums[q] += counts.of_group[group].word[pairs * lane + q];
    mine += (sums[q] & 0xffff) + (sums[q] >> 16);
  }
  uint32_t upto = mine;
#pragma unroll
  for (int step = 1; step < kWarp; step *= 2) {
    const uint32_t below = __shfl_up_sync(kFullWarp, upto, step);
    upto += lane >= step ? below : 0;
  }
  uint32_t start = upto - mine;
#pragma unroll
  for (int q = 0; q < pairs; ++q) {
    const uint32_t second = start + (sums[q] & 0xffff);
    counts.start.word[pairs * lane + q] = start | second << 16;
    start = second + (sums[q] >> 16);
  }
}

// The place of each of a block's keys in the order of a digit. All threads must call it; `counts` may be used again after
// a barrier.
template <int threads, int items, class Key>
__device__ void rank_digits(const Key (&keys)[items], int used, int shift, DigitCounts<threads>& counts,
                            PackedRanks<items>& ranks) {
  using Counts = DigitCounts<threads>;
  const int warp = int(threadIdx.x) / kWarp;
  const int pair = int(threadIdx.x) % kDigitPairs, group = int(threadIdx.x) / kDigitPairs;
  count_digits(keys, used, shift, counts.of_warp[warp], ranks);
  __syncthreads();
  uint32_t before[Counts::rows], sum = 0;
#pragma unroll
  for (int r = 0; r < Counts::rows; ++r) {
    before[r] = sum;
    sum += counts.of_warp[group * Counts::rows + r].word[pair];
  }
  counts.of_group[group].word[pair] = sum;
  __syncthreads();
  if (warp == 0) find_starts(counts);
  __syncthreads();
  uint32_t start = counts.start.word[pair];
#pragma unroll
  for (int g = 0; g < Counts::groups - 1; ++g) start += g < group ? counts.of_group[g].word[pair] : 0;
#pragma unroll
  for (int r = 0; r < Counts::rows; ++r) counts.of_warp[group * Counts::rows + r].word[pair] = start + before[r];
  __syncthreads();
#pragma unroll
  for (int k = 0; k < items; ++k)
    if (k < used) ranks.add(k, counts.of_warp[warp].half[digit_of(keys[k], shift)]);
}

// The place of item k of this thread, `used` of them being in use.
__device__ inline int place_of_item(int k, int used) {
  const int lane = int(threadIdx.x) % kWarp, warp = int(threadIdx.x) / kWarp;
  return (warp * used + k) * kWarp + lane;
}

}  // namespace fc::mmd
