// A radix sort of slices in global memory, eight bits a pass. Each pass counts the digits of every tile of a slice, adds the
// counts up digit by digit, and moves the tile's points to their places. Stable and deterministic: no atomics between blocks.
#include "segmented_sort.cuh"

#include <utility>

#include "block_radix.cuh"
#include "block_scan.cuh"

namespace fc::mmd {
namespace {

constexpr int kSortThreads = 256, kSortItems = 16, kTile = kSortThreads * kSortItems;

// Where the keys of a pass come from: the points, or the pass before.
template <class T, bool is_first>
struct SortSource {
  using Key = word_of<T>;
  Union<T> points;
  Pairs<Key> pairs;

  __device__ Key key(int64_t slice, int64_t k) const {
    return is_first ? ordered_key(points.at(slice, k)) : pairs.keys[slice * points.size() + k];
  }
  __device__ int32_t place(int64_t slice, int64_t k) const {
    return is_first ? int32_t(k) : pairs.places[slice * points.size() + k];
  }
};

// Which slice, and which of its tiles, a block works on.
struct Tile {
  int64_t slice, index, begin;
  int count;
};

__device__ Tile tile_of_block(int64_t size, int64_t tiles) {
  const int64_t slice = int64_t(blockIdx.x) / tiles, index = int64_t(blockIdx.x) % tiles, begin = index * kTile;
  return {slice, index, begin, int(size - begin < kTile ? size - begin : kTile)};
}

// counts[slice, digit, tile]
// gate: no spills
template <class T, bool is_first>
__global__ void __launch_bounds__(kSortThreads)
count_tiles_kernel(SortSource<T, is_first> source, int shift, int64_t tiles, uint32_t* counts) {
  FC_SHARED(uint32_t, histogram, [kDigits]);
  const Tile tile = tile_of_block(source.points.size(), tiles);
  for (int d = int(threadIdx.x); d < kDigits; d += kSortThreads) histogram[d] = 0;
  __syncthreads();
  for (int k = int(threadIdx.x); k < tile.count; k += kSortThreads)
    atomicAdd(&histogram[digit_of(source.key(tile.slice, tile.begin + k), shift)], 1u);
  __syncthreads();
  for (int d = int(threadIdx.x); d < kDigits; d += kSortThreads)
    counts[(tile.slice * kDigits + d) * tiles + tile.index] = histogram[d];
}

// Each slice's counts become the places where they start.
// gate: no spills
__global__ void __launch_bounds__(kSortThreads) scan_tiles_kernel(uint32_t* counts, int64_t tiles) {
  uint32_t* mine = counts + int64_t(blockIdx.x) * kDigits * tiles;
  uint32_t before = 0;
  for (int64_t begin = 0; begin < kDigits * tiles; begin += kSortThreads) {
    const int64_t k = begin + threadIdx.x;
    uint32_t total;
    const uint32_t count = k < kDigits * tiles ? mine[k] : 0, start = block_scan<kSortThreads>(count, total);
    if (k < kDigits * tiles) mine[k] = before + start;
    before += total;
  }
}

// gate: no spills
template <class T, bool is_first>
__global__ void __launch_bounds__(kSortThreads)
move_tiles_kernel(SortSource<T, is_first> source, int shift, int64_t tiles, const uint32_t* starts, Pairs<word_of<T>> to) {
  using Key = word_of<T>;
  using Counts = DigitCounts<kSortThreads>;
  FC_SHARED(Counts, counts, [1]);
  FC_SHARED(int32_t, shifts, [kDigits]);
  const Tile tile = tile_of_block(source.points.size(), tiles);
  const int used = items_in_use<kSortThreads>(tile.count);
  Key keys[kSortItems];
  PackedRanks<kSortItems> ranks;
#pragma unroll
  for (int k = 0; k < kSortItems; ++k) {
    const int place = place_of_item(k, used);
    keys[k] = k < used && place < tile.count ? source.key(tile.slice, tile.begin + place) : kLastKey<Key>;
  }
  rank_digits(keys, used, shift, counts[0], ranks);
  for (int d = int(threadIdx.x); d < kDigits; d += kSortThreads)
    shifts[d] = int32_t(starts[(tile.slice * kDigits + d) * tiles + tile.index]) - int32_t(counts[0].start.half[d]);
  __syncthreads();
  const int64_t first = tile.slice * source.points.size();
#pragma unroll
  for (int k = 0; k < kSortItems; ++k) {
    const int place = place_of_item(k, used);
    if (k < used && place < tile.count) {
      const int64_t at = first + shifts[digit_of(keys[k], shift)] + ranks[k];
      to.keys[at] = keys[k];
      to.places[at] = source.place(tile.slice, tile.begin + place);
    }
  }
}

template <class T>
SortedSlices<T> new_pairs(const Tensor& like, int64_t slices, int64_t size) {
  using Word = std::conditional_t<sizeof(T) == 8, int64_t, int32_t>;
  Tensor keys = new_tensor<Word>(like, {slices, size}), places = new_tensor<int32_t>(like, {slices, size});
  auto* words = static_cast<word_of<T>*>(keys.data_ptr());
  return {keys, places, {words, data<int32_t>(places)}};
}

}  // namespace

template <class T>
SortedSlices<T> sort_slices(const char* op, const Tensor& like, const Union<T>& points, int64_t slices) {
  constexpr int bits = 8 * int(sizeof(T));
  const int64_t size = points.size(), tiles = (size + kTile - 1) / kTile;
  FC_CHECK(size < kLongestSlice, op, ": a slice has 2^31 points or more");
  const cudaStream_t stream = current_stream(like);
  SortedSlices<T> to = new_pairs<T>(like, slices, size), from = new_pairs<T>(like, slices, size);
  Tensor count_memory = new_tensor<int32_t>(like, {slices, kDigits, tiles});
  auto* counts = static_cast<uint32_t*>(count_memory.data_ptr());
  FC_CHECK(slices * tiles < kLongestSlice, op, ": too many points for one launch");
  const unsigned blocks = unsigned(slices * tiles);
  const auto pass = [&](auto source, int shift) {
    constexpr bool is_first = std::is_same_v<decltype(source), SortSource<T, true>>;
    launch(count_tiles_kernel<T, is_first>, blocks, kSortThreads, 0, stream, source, shift, tiles, counts);
    launch(scan_tiles_kernel, unsigned(slices), kSortThreads, 0, stream, counts, tiles);
    launch(move_tiles_kernel<T, is_first>, blocks, kSortThreads, 0, stream, source, shift, tiles, counts, to.pairs);
  };
  pass(SortSource<T, true>{points, {nullptr, nullptr}}, 0);
  for (int shift = kDigitBits; shift < bits; shift += kDigitBits) {
    std::swap(from, to);
    pass(SortSource<T, false>{points, from.pairs}, shift);
  }
  return to;
}

template SortedSlices<float> sort_slices<float>(const char*, const Tensor&, const Union<float>&, int64_t);
template SortedSlices<double> sort_slices<double>(const char*, const Tensor&, const Union<double>&, int64_t);

}  // namespace fc::mmd
