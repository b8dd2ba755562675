// Ranks of a slice without sorting it, in shared memory: points go into buckets of equal width, in the order of the
// numbers, and are compared within one. A block a slice; uniform weights, float32.
//
// Why three points a bucket, of both sides together: a point reads its bucket, at random places of shared memory, where a
// warp's reads meet on three or four of the banks. A normal sample puts 2.3 times the mean into the bucket that a point
// finds itself in, so that eight points a bucket would be 18 reads a point; three are seven. The words that say where
// buckets begin are few against that: both sides share a word, 13 000 words at N = M = 20 000, 213 KB with the keys.
// Estimates for such a slice on an H100, in clocks: range 8 000 (memory), counting 10 000, places 4 000, moving keys
// 17 000, ranking a side 25 000; sorting takes 440 000. Atomics are on integers, and neither counts nor ranks depend on the
// order within a bucket: results repeat bit for bit.
//
// A warp waits for the lane with the longest bucket. So slices with a crowded one (ties, clusters, heavy tails), slices
// that have no buckets (a single number, an infinite range, NaN), and values for which Euler's sums say too little are left
// to the sort: nothing takes much longer here than it would there.
#pragma once
#include <algorithm>

#include "block_scan.cuh"
#include "shared_rank.cuh"

namespace fc::mmd {

constexpr int kPointsPerBucket = 3, kMostPointsPerBucket = 12;  // on the mean; where memory is short
constexpr unsigned kCrowded = 160;                              // a bucket with more takes longer than sorting
constexpr int kAbreast = 2;                                     // keys of a bucket that are read at once
constexpr int kHalf = 16;                                       // bits of a count; the upper ones of a word are of y

// Which bucket a number falls into. Difference, product and conversion are monotone: buckets are in the points' order.
struct BucketLine {
  float low, high, scale;
  int last;

  __device__ BucketLine(float low, float high, int buckets) : low(low), high(high), scale(0), last(buckets - 1) {
    const float width = high - low;
    if (width > 0 && is_finite(width)) scale = float(buckets) / width;
  }
  __device__ bool is_usable() const { return scale > 0 && is_finite(scale); }
  __device__ double range() const { return double(high) - double(low); }
  __device__ double origin() const { return double(low) + 0.5 * range(); }
  __device__ int of(float point) const { return min(int((point - low) * scale), last); }
};

// One sample: its points in their own order, and its keys bucket by bucket, followed by infinities.
struct BucketSide {
  const float* points;  // read by __ldg: several are under way while atomics wait
  float *gradient, *keys;
  int count, shift;  // which half of a word counts it

  __device__ int half_of(uint32_t word) const { return int(word >> shift & 0xffffu); }
};

struct EulerSums {
  double value, spread;  // of t * numerator, and of t * (doubled rank in the own sample - size)
};

template <int threads>
__device__ void widen(const BucketSide& side, float& low, float& high, float& odd) {
#pragma unroll 4
  for (int i = int(threadIdx.x); i < side.count; i += threads) {
    const float point = __ldg(side.points + i);
    low = min(low, point);
    high = max(high, point);
    odd += point - point;  // 0, but NaN for infinities and NaN
  }
}

template <int threads>
__device__ void count_points(const BucketSide& side, const BucketLine& line, uint32_t* counts) {
#pragma unroll 4
  for (int i = int(threadIdx.x); i < side.count; i += threads)
    atomicAdd(&counts[line.of(__ldg(side.points + i))], 1u << side.shift);
}

// Counts become the places where buckets begin. False, for the whole block, where a bucket is crowded.
template <int threads>
__device__ bool find_places(uint32_t* counts, int buckets) {
  const int each = (buckets + threads - 1) / threads | 1;  // odd: a warp's words are on different banks
  const int first = min(int(threadIdx.x) * each, buckets), end = min(first + each, buckets);
  uint32_t sum = 0, total;
  bool crowded = false;
  for (int b = first; b < end; ++b) {
    const uint32_t count = counts[b];
    crowded |= (count & 0xffffu) + (count >> kHalf) > kCrowded;
    sum += count;
  }
  uint32_t place = block_scan<threads>(sum, total);
  for (int b = first; b < end; ++b) {
    const uint32_t count = counts[b];
    counts[b] = place;
    place += count;
  }
  return !__syncthreads_or(crowded);
}

// Afterwards a bucket's word says where it ends.
template <int threads>
__device__ void place_keys(const BucketSide& side, const BucketLine& line, uint32_t* places) {
#pragma unroll 4
  for (int i = int(threadIdx.x); i < side.count; i += threads) {
    const float point = __ldg(side.points + i);
    side.keys[side.half_of(atomicAdd(&places[line.of(point)], 1u << side.shift))] = point;
  }
}

// 2 #{keys < point} + #{keys = point}. Keys behind the bucket are greater than the point and count as nothing.
__device__ inline int rank_in_bucket(const BucketSide& side, uint32_t start, uint32_t stop, float point) {
  const int begin = side.half_of(start), end = side.half_of(stop);
  int doubled = 2 * begin;
#pragma unroll 1  // most buckets are done after one or two steps
  for (int k = begin; k < end; k += kAbreast) {
    float keys[kAbreast];
#pragma unroll
    for (int q = 0; q < kAbreast; ++q) keys[q] = side.keys[k + q];
#pragma unroll
    for (int q = 0; q < kAbreast; ++q) doubled += int(keys[q] < point) + int(keys[q] <= point);
  }
  return doubled;
}

// Gradients at a side's points, in their own order, and the thread's share of Euler's sums over them. Bucket b is from
// starts[b] to starts[b + 1].
template <int threads>
__device__ EulerSums rank_side(const BucketSide& own, const BucketSide& other, const BucketLine& line,
                               const uint32_t* starts, bool unbiased, bool with_value) {
  const UniformSide side = uniform_side(own.count, other.count, unbiased);
  const double origin = line.origin();
  EulerSums sums{0, 0};
  for (int i = int(threadIdx.x); i < own.count; i += threads) {
    const float point = __ldg(own.points + i);
    const int bucket = line.of(point);
    const uint32_t start = starts[bucket], stop = starts[bucket + 1];
    const double q_own = double(rank_in_bucket(own, start, stop, point));
    const double q_other = double(rank_in_bucket(other, start, stop, point));
    if (own.gradient) own.gradient[i] = float(rank_numerator(side, q_own, q_other) * side.scale);
    if (with_value) {
      const double t = double(point) - origin, centred = q_own - side.own;
      sums.value += t * ((q_other - side.other) * side.own - centred * side.other);
      sums.spread += t * centred;
    }
  }
  sums.value = sums.value / side.own / (side.own * side.other);
  sums.spread = 2 * sums.spread / (side.own * side.own);
  return sums;
}

// False, for the whole block, where the sort has to do it: gradients may be written by then, but no value.
template <int threads>
__device__ bool rank_in_buckets(const SharedSlices& slices, int64_t slice, int buckets, uint32_t* memory) {
  const int n = slices.n, m = slices.m;
  float *keys_x = reinterpret_cast<float*>(memory + buckets + 1), *keys_y = keys_x + n + kAbreast;
  const BucketSide x{slices.x + slice * n, slices.grad_x ? slices.grad_x + slice * n : nullptr, keys_x, n, 0};
  const BucketSide y{slices.y + slice * m, slices.grad_y ? slices.grad_y + slice * m : nullptr, keys_y, m, kHalf};
  for (int b = int(threadIdx.x); b <= buckets; b += threads) memory[b] = 0;
  if (threadIdx.x < kAbreast) {
    x.keys[n + int(threadIdx.x)] = Limits<float>::infinity;
    y.keys[m + int(threadIdx.x)] = Limits<float>::infinity;
  }
  float low = Limits<float>::infinity, high = -low, odd = 0;
  widen<threads>(x, low, high, odd);
  widen<threads>(y, low, high, odd);
  const bool finite = !__syncthreads_or(!(odd == 0));
  low = block_reduce<threads>(low, MinOp());
  high = block_reduce<threads>(high, MaxOp());
  const BucketLine line(low, high, buckets);
  if (!finite || !line.is_usable()) return false;
  count_points<threads>(x, line, memory + 1);
  count_points<threads>(y, line, memory + 1);
  __syncthreads();
  if (!find_places<threads>(memory + 1, buckets)) return false;
  place_keys<threads>(x, line, memory + 1);
  place_keys<threads>(y, line, memory + 1);
  __syncthreads();
  const bool with_value = slices.value;
  double value = 0, spread_x = 0, spread_y = 0;
#pragma unroll 1  // both sides by one loop, or registers would not do
  for (int turn = 0; turn < 2; ++turn) {
    const BucketSide own = turn ? y : x, other = turn ? x : y;
    if (!own.gradient && !with_value) continue;
    const EulerSums sums = rank_side<threads>(own, other, line, memory, slices.unbiased, with_value);
    value += sums.value;
    spread_x = spread_y;
    spread_y = sums.spread;
  }
  if (!with_value) return true;
  value = block_sum<threads>(value);
  if (value < kLeastShare * line.range() && value != 0) return false;
  if (slices.unbiased) {
    spread_x = block_sum<threads>(spread_x);
    spread_y = block_sum<threads>(spread_y);
    value = unbiased_value(value, spread_x, spread_y, n, m);
  }
  if (threadIdx.x == 0) slices.value[slice] = value;
  return true;
}

// left[slice]: 1 where the sort has to do it.
// gate: no spills
template <int threads>
__global__ void __launch_bounds__(threads, 1024 / threads)
bucket_rank_kernel(const SharedSlices slices, int buckets, int32_t* left) {
  FC_DYNAMIC_SHARED(uint32_t, memory);
  const bool is_ranked = rank_in_buckets<threads>(slices, blockIdx.x, buckets, memory);
  if (threadIdx.x == 0) left[blockIdx.x] = !is_ranked;
}

// Calls `body` with a block's number of threads, the number of buckets and the bytes of shared memory for slices of n and m
// points. False where too few buckets would fit.
template <class Body>
bool with_buckets(const Tensor& like, int64_t n, int64_t m, const Body& body) {
  const int64_t points = n + m, keys = points + 2 * kAbreast + 1;
  const int64_t room = (int64_t(shared_bytes_per_block(like)) - 1024) / int64_t(sizeof(uint32_t)) - keys;  // 1024: static
  const int64_t buckets = std::min(std::max<int64_t>(1, points / kPointsPerBucket), room);
  if (buckets * kMostPointsPerBucket < points || std::max(n, m) >= int64_t(1) << kHalf) return false;
  const size_t bytes = size_t(buckets + keys) * sizeof(uint32_t);
  if (points <= 1024) body(Number<128>(), int(buckets), bytes);
  else if (points <= 4096) body(Number<256>(), int(buckets), bytes);
  else if (points <= 8192) body(Number<512>(), int(buckets), bytes);
  else body(Number<1024>(), int(buckets), bytes);
  return true;
}

}  // namespace fc::mmd
