// Ranking without sorting: points go into buckets of equal width, in the order of the numbers, and are compared within one.
#pragma once
#include <algorithm>
#include <limits>

#include "../common/aligned.h"
#include "rank.h"

namespace fc::mmd {

template <class T>
struct Range {
  T low, high;
  bool finite;
};

template <class T>
Range<T> join(const Range<T>& a, const Range<T>& b) {
  return {std::min(a.low, b.low), std::max(a.high, b.high), a.finite && b.finite};
}

constexpr int64_t kPad = 32;             // elements that vector loops may touch beyond the last
constexpr int64_t kPointsPerBucket = 8;  // of both sides together, on the mean

// How points are put into buckets; usable unless all are equal or the range overflows.
template <class T>
struct Layout {
  T low, scale;
  int32_t count;

  Layout(const Range<T>& range, int64_t points)
      : low(range.low), scale(0), count(int32_t(std::max<int64_t>(1, points / kPointsPerBucket))) {
    const T width = range.high - range.low;
    if (width > 0 && is_finite(width)) scale = T(count) / width;
  }
  bool usable() const { return scale > 0 && is_finite(scale); }
};

// One sample in buckets: bucket b holds keys[start[b], start[b + 1]); where[i] is the place of point i.
template <class T>
struct Bucketed {
  RawVector<T> keys, gradient;
  RawVector<int32_t> where, start;

  void reserve(int64_t n, int64_t buckets) {
    if (int64_t(keys.size()) < n + kPad) {
      keys.resize(n + kPad);
      gradient.resize(n + kPad);
      where.resize(n + kPad);
    }
    if (int64_t(start.size()) < buckets + 2) start.resize(buckets + 2);
  }
  // From the bucket of each point in `where`: start[b + 1] becomes where bucket b begins, until `scatter` fills it.
  void count(int64_t n, int64_t buckets) {
    std::fill(start.begin(), start.begin() + buckets + 2, 0);
    int32_t* counts = start.data() + 2;
    for (int64_t i = 0; i < n; ++i) ++counts[where[i]];
  }
  void scatter(const T* points, int64_t n) {
    int32_t* next = start.data() + 1;
    for (int64_t i = 0; i < n; ++i) {
      const int32_t at = next[where[i]]++;
      keys[at] = points[i];
      where[i] = at;
    }
    close(n);
  }
  // The same for points that are sorted.
  void copy(const T* points, int64_t n, int64_t buckets) {
    std::copy(points, points + n, keys.begin());
    std::copy(start.begin() + 2, start.begin() + buckets + 2, start.begin() + 1);
    close(n);
  }
  void gather(int64_t n, T* out) const {
    for (int64_t i = 0; i < n; ++i) out[i] = gradient[where[i]];
  }

 private:
  // Beyond the last point stand numbers that are greater than all.
  void close(int64_t n) { std::fill_n(keys.begin() + n, kPad, std::numeric_limits<T>::infinity()); }
};

// Counts of buckets become their beginnings; returns how many comparisons ranking x, and y too, takes.
template <class T>
double sum_counts(Bucketed<T>& x, Bucketed<T>& y, int64_t buckets, bool both) {
  int32_t *at_x = x.start.data() + 2, *at_y = y.start.data() + 2;
  int32_t sum_x = 0, sum_y = 0;
  double work = 0;
  for (int64_t b = 0; b < buckets; ++b) {
    const int32_t in_x = at_x[b], in_y = at_y[b];
    work += double(both ? in_x + in_y : in_x) * double(in_x + in_y);
    at_x[b] = sum_x += in_x;
    at_y[b] = sum_y += in_y;
  }
  return work;
}

// Euler's sums over one side: of t * numerator, and of t * (doubled rank in the own sample - size).
struct BucketSums {
  double value, spread;
};

}  // namespace fc::mmd
