// The memory of ot_fused_cuda.cu: a ring of costs that are on their way, being worked on, or entries already; and g.
#pragma once
#include "row_pass.cuh"

namespace fc::ot {

// The ring is counted in vectors of 16 bytes per thread: two batches, or what fits.
template <class T, int kThreads, int kColumns, int kRows, int kRing>
struct Shape {
  static constexpr int threads = kThreads, columns = kColumns, rows = kRows, warps = kThreads / kWarp, ring = kRing;
  static constexpr int vector = kVector<T>, row_vectors = kColumns / vector, batch = kRows * row_vectors;
  static constexpr int chunk = sizeof(T) == 4 && kColumns == 32 ? 2 : 4;  // vectors that a thread works on at once
  static_assert(batch < ring && ring <= 2 * batch && batch % chunk == 0 && rows * warps <= kWarp);
  // g lies in shared memory, except what does not fit where a thread owns the most columns: in float32 half of its low
  // part is in registers then, and in float64 all of it is read from the second-level cache every time.
  static constexpr bool in_float32 = sizeof(T) == 4, longest = kColumns == 32;
  static constexpr int hi_columns = in_float32 || !longest ? kColumns : 0;
  static constexpr int lo_columns = !in_float32 ? 0 : longest ? kColumns / 2 : kColumns;
  static constexpr bool asks_early = !in_float32 || !longest;  // has registers to
  static constexpr size_t shared_bytes = size_t(kThreads) * sizeof(T) * (kRing * vector + hi_columns + lo_columns);

  static constexpr int stride = kThreads * vector;  // from one of a thread's vectors to its next
  // First column of the thread's vector v of a row: neighbouring threads have neighbouring vectors.
  static __device__ int column(int v) { return v * stride + int(threadIdx.x) * vector; }
};

// A thread's view of the block's ring, and of the group that it works on. Pointers are to the thread's first vector, so
// that the others stand at constant distances.
template <class S, class T>
struct Ring {
  const MatrixCost<T>& cost;
  const T* row;  // of the batch's first row
  int left;  // rows of the group from there on
  T* memory;
  int inside;  // columns from the thread's first one on
  int start = 0;  // where the batch's first vector is

  __device__ Ring(const MatrixCost<T>& cost_, T* memory_, int64_t first, int64_t last)
      : cost(cost_), row(cost.cost + first * cost.m + S::column(0)), left(int(last - first)),
        memory(memory_ + S::column(0)), inside(cost.m - S::column(0)) {}

  // Place of vector q, counted from the batch's first, q < 2 S::batch.
  __device__ T* place(int q) const {
    if (S::ring == 2 * S::batch) return memory + ((q < S::batch ? start : S::batch - start) + q % S::batch) * S::stride;
    const int at = start + q;
    return memory + (at < S::ring ? at : at < 2 * S::ring ? at - S::ring : at - 2 * S::ring) * S::stride;
  }
  __device__ void advance() {
    start = start + S::batch < S::ring ? start + S::batch : start + S::batch - S::ring;
    left -= S::rows;
    row += int64_t(S::rows) * cost.m;
  }

  // Sends for vector q, counted from the batch's first. Zeros stand for what is outside: beyond the last column g is
  // -inf, and a row behind the group has no mass.
  template <bool aligned>
  __device__ void send_for(int q, T* to) const {
    const int r = q / S::row_vectors, ahead = q % S::row_vectors * S::stride, count = r < left ? inside - ahead : 0;
    const T* p = row + int64_t(r) * cost.m + ahead;
    if constexpr (aligned) {
      copy_behind<16>(to, p, count > 0);
    } else {
#pragma unroll
      for (int k = 0; k < S::vector; ++k) copy_behind<sizeof(T)>(to + k, p + k, k < count);
    }
    close_copies();
  }
  // Before the first batch: as much as there is room for.
  __device__ void fill() const {
#pragma unroll 1
    for (int q = 0; q < S::ring; ++q) {
      if (cost.aligned) send_for<true>(q, memory + q * S::stride);
      else send_for<false>(q, memory + q * S::stride);
    }
  }
  // Sends for what goes where the batch's vectors from q on have been.
  __device__ void refill(int q) const {
    if (cost.aligned) {
#pragma unroll
      for (int k = q; k < q + S::chunk; ++k) send_for<true>(k + S::ring, place(k));
    } else {
#pragma unroll 1
      for (int k = q; k < q + S::chunk; ++k) send_for<false>(k + S::ring, place(k));
    }
  }
};

// The thread's part of g, split.
template <class S, class T>
struct Kept {
  T *hi, *lo;
  T own_lo[S::columns];  // those that are not in shared memory; the others take no register

  __device__ Kept(T* memory, const double* g, int m) : hi(memory), lo(memory + S::threads * S::columns) {
#pragma unroll
    for (int v = 0; v < S::row_vectors; ++v)
#pragma unroll
      for (int k = 0; k < S::vector; ++k) {
        const int j = S::column(v) + k;
        const auto part = split_potential<T>(g, j, m);
        if constexpr (S::hi_columns > 0) hi[j] = part.hi;
        if (S::in_float32 && v * S::vector < S::lo_columns) lo[j] = part.lo;
        else own_lo[v * S::vector + k] = part.lo;
      }
  }
  __device__ void load_lo(int v, int column, T* out) const {  // column: of the thread's first vector
    if (v * S::vector < S::lo_columns) {
      load_aligned<S::vector>(lo + column + v * S::stride, out);
    } else {
#pragma unroll
      for (int k = 0; k < S::vector; ++k) out[k] = own_lo[v * S::vector + k];
    }
  }
};

}  // namespace fc::ot
