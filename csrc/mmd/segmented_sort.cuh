// Slices of any length in order, with the places that their points had (segmented_sort_cuda.cu); their weights; and the runs of
// equal points in them.
#pragma once
#include "../common/tensor.h"
#include "../common/launch.cuh"
#include "rank.h"

namespace fc::mmd {

constexpr int64_t kLongestSlice = int64_t(1) << 31;  // places have 32 bits

// A slice is n points of x and then m of y, of which there may be none.
template <class T>
struct Union {
  const T *x, *y;
  int64_t n, m;

  __device__ T at(int64_t slice, int64_t k) const { return k < n ? x[slice * n + k] : y[slice * m + (k - n)]; }
  __host__ __device__ int64_t size() const { return n + m; }
};

template <class Key>
struct Pairs {
  Key* keys;
  int32_t* places;
};

template <class T>
struct [[gnu::visibility("hidden")]] SortedSlices {
  Tensor key_memory, place_memory;
  Pairs<word_of<T>> pairs;
};

// Sorts `slices` unions; equal points stay in the order of their places. `like` says the device. For float and double.
template <class T>
[[gnu::visibility("hidden")]] SortedSlices<T> sort_slices(const char* op, const Tensor& like, const Union<T>& points, int64_t slices);

// Weights of both sides; null: uniform. Those of y may be given as running sums.
struct Masses {
  const double *x, *y;
  int64_t x_step, y_step;  // from slice to slice; 0: the same for all
  bool y_is_running;
  double uniform_x, uniform_y;

  __device__ double of_x(int64_t slice, int64_t i) const { return x ? x[slice * x_step + i] : uniform_x; }
  __device__ double of_y(int64_t slice, int64_t j) const {
    if (!y) return uniform_y;
    const double* at = y + slice * y_step + j;
    return y_is_running ? at[1] - at[0] : at[0];
  }
};

// Places [low, high) of the keys equal to that of place k.
struct Run {
  int64_t low, high;
};

template <class Key>
__device__ Run run_of_place(const Key* keys, int64_t size, int64_t k) {
  const Key key = keys[k];
  Run run{k, k + 1};
  if (k > 0 && keys[k - 1] == key) {
    int64_t below = 0;  // the first place whose key is no less is in [below, run.low]
    while (below < run.low) {
      const int64_t middle = below + (run.low - below) / 2;
      if (keys[middle] < key) below = middle + 1;
      else run.low = middle;
    }
  }
  if (k + 1 < size && keys[k + 1] == key) {
    int64_t above = size;  // the first place whose key is greater is in [run.high, above]
    while (run.high < above) {
      const int64_t middle = run.high + (above - run.high) / 2;
      if (keys[middle] > key) above = middle;
      else run.high = middle + 1;
    }
  }
  return run;
}

}  // namespace fc::mmd
