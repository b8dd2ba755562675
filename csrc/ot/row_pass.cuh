// What the CUDA row passes share. Two ways to run one:
//   ot_fused_cuda.cu     a stored cost whose rows fit a block: one read of the cost, one exponential per entry
//   ot_two_pass_cuda.cu  points and longer rows: row log-sum-exps first, then column sums
// Both leave partial column sums, which ot_cuda.cu adds in order. Cuts depend on n and m alone and every sum has one
// order. Compiled without contraction (--fmad=false), so that entries have the bits of the CPU loops.
#pragma once
#include "../common/block.cuh"
#include "../common/tensor.h"
#include "sinkhorn_newton.h"

#include <optional>

namespace fc::ot {

struct __attribute__((visibility("hidden"))) PassArguments {  // as Tensor is
  Tensor g, a;  // float64
  double reg;
  int64_t n, m;
  Tensor row_lse, col_sum;
};

template <class T>
struct MatrixCost;

// These write row_lse and return partial column sums, (groups, m), to be added in the order of the groups.
template <class T>
std::optional<Tensor> fused_pass(const PassArguments& args, const MatrixCost<T>& cost);  // none: rows too long
template <class T>
Tensor long_rows_pass(const PassArguments& args, const MatrixCost<T>& cost);
template <class T>
Tensor points_pass(const PassArguments& args, int64_t metric, const T* x, const T* y, int64_t d);

inline int64_t ceil_div(int64_t a, int64_t b) { return (a + b - 1) / b; }

// --- 16 bytes at once ---------------------------------------------------------------------------

template <class T>
inline constexpr int kVector = 16 / int(sizeof(T));

template <class T>
struct VectorOf;
template <>
struct VectorOf<float> {
  using type = float4;
};
template <>
struct VectorOf<double> {
  using type = double2;
};

__device__ inline void unpack(float4 v, float* out) { out[0] = v.x, out[1] = v.y, out[2] = v.z, out[3] = v.w; }
__device__ inline void unpack(double2 v, double* out) { out[0] = v.x, out[1] = v.y; }
__device__ inline float4 pack(const float* p) { return make_float4(p[0], p[1], p[2], p[3]); }
__device__ inline double2 pack(const double* p) { return make_double2(p[0], p[1]); }

// `count` elements, a multiple of a vector, from an address aligned to 16 bytes.
template <int count, class T>
__device__ void load_aligned(const T* p, T* out) {
#pragma unroll
  for (int k = 0; k < count; k += kVector<T>)
    unpack(*reinterpret_cast<const typename VectorOf<T>::type*>(p + k), out + k);
}

template <int count, class T>
__device__ void store_aligned(T* p, const T* values) {
#pragma unroll
  for (int k = 0; k < count; k += kVector<T>)
    *reinterpret_cast<typename VectorOf<T>::type*>(p + k) = pack(values + k);
}

// A vector of an array of which `inside` elements are left; `fill` beyond. `aligned` arrays end at whole vectors.
template <class T>
__device__ void load_guarded(const T* p, int inside, bool aligned, T fill, T* out) {
  if (aligned && inside > 0) {
    unpack(*reinterpret_cast<const typename VectorOf<T>::type*>(p), out);
  } else {
#pragma unroll
    for (int k = 0; k < kVector<T>; ++k) out[k] = k < inside ? p[k] : fill;
  }
}

// --- costs and scores ---------------------------------------------------------------------------

template <class T>
struct MatrixCost {
  const T *cost, *row_shift, *col_shift;  // shifts may be null
  int64_t n;
  int m;
  bool aligned;  // every row and col_shift start at 16 bytes, and m is a multiple of a vector

  // One vector of row i; +inf, as forbidden entries, outside the matrix. Read once: not to be kept in a cache.
  __device__ void load(int64_t i, bool row_inside, int j, T* out) const {
    const T* p = cost + i * m + j;
    if (aligned && row_inside && j < m)
      unpack(__ldcs(reinterpret_cast<const typename VectorOf<T>::type*>(p)), out);
    else
      load_guarded(p, row_inside ? m - j : 0, false, Limits<T>::infinity, out);
  }

  __device__ T shift_of_row(int64_t i, bool row_inside) const { return row_shift && row_inside ? row_shift[i] : T(0); }

  // Where there are no shifts nothing is subtracted: x - 0 = x.
  __device__ bool is_centred() const { return row_shift || col_shift; }
  __device__ void load_shifts(int j, T* out) const {
    if (col_shift) {
      load_guarded(col_shift + j, m - j, aligned, T(0), out);
    } else {
#pragma unroll
      for (int k = 0; k < kVector<T>; ++k) out[k] = T(0);
    }
  }
  __device__ static void centre(T shift, const T* shifts, T* costs) {
#pragma unroll
    for (int k = 0; k < kVector<T>; ++k) costs[k] = centred_cost(costs[k], shift, shifts[k]);
  }
};

// g as hi + lo. Columns beyond the last have -inf: whatever their cost, nothing comes of them.
template <class T>
struct Potential {
  T hi, lo;
};

template <class T>
__device__ Potential<T> split_potential(const double* g, int64_t j, int64_t m) {
  if (j >= m) return {-Limits<T>::infinity, T(0)};
  const T hi = static_cast<T>(g[j]);
  return {hi, sizeof(T) == 8 ? T(0) : static_cast<T>(g[j] - static_cast<double>(hi))};
}

// The larger one; `a` where b is NaN.
struct LargerOp {
  __device__ float operator()(float a, float b) const { return max(a, b); }
  __device__ double operator()(double a, double b) const { return b > a ? b : a; }
};

template <int count, class T>
__device__ T largest_sum(const Score<T> (&s)[count]) {
  T largest = s[0].sum;
#pragma unroll
  for (int k = 1; k < count; ++k) largest = LargerOp()(largest, s[k].sum);
  return largest;
}

// How exponents are formed, and how far below its row's reference an entry still counts, as a score.
template <class T>
struct Scale {
  double reg;
  T inverse_reg, reach;

  explicit Scale(double reg_)
      : reg(reg_), inverse_reg(static_cast<T>(1.0 / reg)), reach(exponent_cutoff<T>() / inverse_reg) {}

  // An entry relative to its reference; 0 below the bar, where forbidden costs are too: their scores need no care.
  __device__ T entry(Score<T> s, T reference, T bar) const {
    return select(s.sum > bar, exp_bounded(exponent(s.sum, s.lost, reference, inverse_reg)), T(0));
  }
  // exp of a difference of references.
  __device__ double factor(T from, T to) const {
    return fc::exp((static_cast<double>(from) - static_cast<double>(to)) / reg);
  }
};

// A sum of exponentials relative to the largest score so far; -inf and 0 before the first.
template <class T>
struct RunningSum {
  T reference = -Limits<T>::infinity, bar = -Limits<T>::infinity;
  double total = 0;

  __device__ void raise(T largest, const Scale<T>& scale) {
    if (total != 0) total *= scale.factor(reference, largest);
    reference = largest;
    bar = largest + scale.reach;
  }
  template <int count>
  __device__ void add(const Score<T> (&s)[count], const Scale<T>& scale) {
    const T largest = largest_sum(s);
    if (largest > reference) raise(largest, scale);
    if (largest > bar) {
#pragma unroll
      for (int k = 0; k < count; ++k) total += static_cast<double>(scale.entry(s[k], reference, bar));
    }
  }
};

}  // namespace fc::ot
