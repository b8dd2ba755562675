// Costs as the kernels of ot_two_pass_cuda.cu want them: of some rows and columns at once, from points or a matrix.
#pragma once
#include "row_pass.cuh"

namespace fc::ot {

template <class T>
struct Points {
  const T *x, *y;  // (n, d) and (d, m)
  int64_t n, m, d;
};

// Distances between `rows` points and `columns` points; x(r, k) and y(c, k) are their coordinates. D is the dimension,
// or 0 where it is known at run time only.
template <int64_t metric, int D, class T, int rows, int columns, class X, class Y>
__device__ void distances(int64_t d, const X& x, const Y& y, T (&cost)[rows][columns]) {
  const auto add = [&](int64_t k, bool is_first) {
#pragma unroll
    for (int c = 0; c < columns; ++c) {
      const T y_k = y(c, k);
#pragma unroll
      for (int r = 0; r < rows; ++r) {
        const T term = distance_term<metric>(x(r, k), y_k);
        cost[r][c] = is_first ? term : cost[r][c] + term;
      }
    }
  };
  add(0, true);
  if constexpr (D > 0) {
#pragma unroll
    for (int k = 1; k < D; ++k) add(k, false);
  } else {
    for (int64_t k = 1; k < d; ++k) add(k, false);
  }
#pragma unroll
  for (int r = 0; r < rows; ++r)
#pragma unroll
    for (int c = 0; c < columns; ++c) cost[r][c] = finish_distance<metric>(cost[r][c]);
}

// Costs of a thread's columns, down the rows.
template <int64_t metric, int D, class T>
struct PointColumns {
  static constexpr int columns = 4;
  Points<T> points;
  T own[D > 0 ? D : 1][columns];

  __device__ void start(int64_t j0) {
    if constexpr (D > 0) {
#pragma unroll
      for (int k = 0; k < D; ++k)
#pragma unroll
        for (int c = 0; c < columns; ++c) own[k][c] = points.y[k * points.m + column(j0 + c)];
    }
  }
  __device__ int64_t column(int64_t j) const { return j < points.m ? j : points.m - 1; }

  template <int rows>
  __device__ void costs(const int64_t (&i)[rows], [[maybe_unused]] int64_t j0, T (&cost)[rows][columns]) const {
    const auto x = [&](int r, int64_t k) { return points.x[i[r] * points.d + k]; };
    const auto y = [&](int c, int64_t k) {
      if constexpr (D > 0) return own[k][c];
      else return points.y[k * points.m + column(j0 + c)];
    };
    distances<metric, D>(points.d, x, y, cost);
  }
};

// The same for a stored matrix.
template <class T>
struct MatrixColumns {
  static constexpr int columns = kVector<T>;
  MatrixCost<T> cost;
  T shifts[columns];

  __device__ void start(int64_t j0) { cost.load_shifts(int(j0), shifts); }

  template <int rows>
  __device__ void costs(const int64_t (&i)[rows], int64_t j0, T (&out)[rows][columns]) const {
#pragma unroll
    for (int r = 0; r < rows; ++r) cost.load(i[r], true, j0, out[r]);
    if (!cost.is_centred()) return;
#pragma unroll
    for (int r = 0; r < rows; ++r) cost.centre(cost.shift_of_row(i[r], true), shifts, out[r]);
  }
};

}  // namespace fc::ot
