// Sorting a side of a slice in shared memory, and finding places in it.
//
// Why keys alone, and each side apart: at N = M = 20 000 the union has 40 000 keys. As pairs with an index of 16 or 32 bits
// and two buffers it would be 480 or 640 KB; a block has 227. What the sorted order is wanted for are counts: how many x and
// y lie below t. Those a binary search in the sorted sides gives, for points read once more in their own order, so that
// gradients are written side by side and no index need travel through the passes. Keys on their way from one pass to the
// next wait in registers (40 a thread of 512, with 20 words of ranks, under the limit of 128), so that a side needs one
// buffer: 4 bytes a point, 55 000 points a block. Estimates for a slice at that size on an H100: a pass over 20 000 keys
// takes 625 warp-steps of about 60 instructions, 10 000 clocks; the two sides' eight passes 80 000; the x points' searches,
// 2 x 15 probes of about three bank conflicts, 60 000. Global memory sees 240 KB of it, a tenth of what it could move.
#pragma once
#include "../common/tensor.h"
#include "block_radix.cuh"

namespace fc::mmd {

constexpr int kPad = 32;  // keys behind a sorted side that are after every number: searches look a little beyond its end

// Sorts the threads' keys, last keys beyond the end, into `sorted`, of which `stored` places are written. All threads must
// call it, with a barrier after it.
template <int threads, int items, class Key>
__device__ void sort_in_shared(Key (&keys)[items], int used, Key* sorted, int stored, DigitCounts<threads>& counts) {
  constexpr int bits = 8 * int(sizeof(Key));
  PackedRanks<items> ranks;
#pragma unroll 1
  for (int shift = 0; shift < bits; shift += kDigitBits) {
    rank_digits(keys, used, shift, counts, ranks);
#pragma unroll
    for (int k = 0; k < items; ++k)
      if (k < used && ranks[k] < stored) sorted[ranks[k]] = keys[k];
    if (shift + kDigitBits == bits) break;
    __syncthreads();
#pragma unroll
    for (int k = 0; k < items; ++k) {
      const int place = place_of_item(k, used);
      if (k < used) keys[k] = place < stored ? sorted[place] : kLastKey<Key>;
    }
  }
}

// A slice's side into shared memory, in order, followed by kPad last keys. With a barrier before and after it.
template <int threads, int items, class T>
__device__ void load_sorted(const T* points, int count, bool is_sorted, word_of<T>* sorted, DigitCounts<threads>& counts) {
  using Key = word_of<T>;
  if (is_sorted) {
    for (int k = int(threadIdx.x); k < count; k += threads) sorted[k] = ordered_key(points[k]);
  } else {
    const int used = items_in_use<threads>(count);
    Key keys[items];
#pragma unroll
    for (int k = 0; k < items; ++k) {
      const int place = place_of_item(k, used);
      keys[k] = k < used && place < count ? ordered_key(points[place]) : kLastKey<Key>;
    }
    sort_in_shared(keys, used, sorted, count, counts);
  }
  for (int k = int(threadIdx.x); k < kPad; k += threads) sorted[count + k] = kLastKey<Key>;
}

// Number of keys below `key`, or at most `key` where or_equal. Halves are odd, or a warp's probes would fall on a few banks;
// so a search may look beyond the end, by less than kPad.
template <bool or_equal, class Key>
__device__ int count_below(const Key* sorted, int count, Key key) {
  int below = 0;
  for (int left = count; left > 0;) {
    const int half = (left >> 1) | 1;
    const Key probe = sorted[below + half - 1];
    below += (or_equal ? probe <= key : probe < key) ? half : 0;
    left = left - half > half - 1 ? left - half : half - 1;
  }
  return below;
}

// 2 #{keys < key} + #{keys = key}. Equal keys beyond the first, of which there may be none, are looked for only where there
// are some.
template <class Key>
__device__ int doubled_rank(const Key* sorted, int count, Key key, int own) {
  const int below = count_below<false>(sorted, count, key);
  if (sorted[below + own] != key) return 2 * below + own;
  return below + count_below<true>(sorted, count, key);
}

template <int value>
using Number = std::integral_constant<int, value>;

// Calls `body` with the smallest block that holds `longest` keys of a side, and with the bytes of shared memory that `keys`
// in all take. False where there is none, or the device's blocks have less.
template <class Body>
bool with_block(const Tensor& like, int64_t longest, int64_t keys, const Body& body) {
  const auto attempt = [&](auto threads, auto items) {
    constexpr int t = decltype(threads)::value, i = decltype(items)::value;
    const size_t bytes = sizeof(DigitCounts<t>) + size_t(keys) * sizeof(uint32_t);
    if (longest > t * i || bytes + 1024 > shared_bytes_per_block(like)) return false;  // 1024: static variables
    body(threads, items, bytes);
    return true;
  };
  return attempt(Number<128>(), Number<8>()) || attempt(Number<256>(), Number<16>()) ||
         attempt(Number<512>(), Number<16>()) || attempt(Number<512>(), Number<40>()) ||
         attempt(Number<512>(), Number<48>());
}

}  // namespace fc::mmd
