// ot_row_pass over a stored cost whose rows fit a block: the cost is read once, an entry's exponential is taken once.
// A block owns a group of rows and goes through it a batch of rows at a time; a thread owns columns, 16 bytes of them
// side by side. Costs are on their way into a ring in shared memory long before their batch's turn. A batch is swept
// twice:
//   take_entries   costs become entries, in place, and are summed
//   exchange       entries, now with their row's weight, are added to the thread's column sums, which stay in registers
//                  for the whole group; a later batch is sent for; the next one's largest scores are found meanwhile
// After each sweep the block waits for one reduction. Of the ring a thread meets only what it sent for itself, so that
// nothing else needs a barrier.
#include "fused_memory.cuh"

#include <algorithm>

namespace fc::ot {
namespace {

// Groups of rows, in blocks of 256 threads or more: two for each multiprocessor of an H100.
constexpr int64_t kGroups = 264;

// The largest score of each row of a batch, some vectors at a time. Leaves in the ring what take_entries needs: centred
// costs or, in float64, scores, which say all there.
template <class S, class T>
struct Largest {
  T of_row[S::rows];
  T row_shift[S::rows];
  T beside[S::chunk][S::vector];  // col_shift or g of a chunk, where they come from far

  // What must be asked for early. The batch's first row is i.
  __device__ void start(const MatrixCost<T>& cost, int64_t i, int left) {
#pragma unroll
    for (int r = 0; r < S::rows; ++r) {
      row_shift[r] = cost.shift_of_row(i + r, r < left);
      of_row[r] = -Limits<T>::infinity;
    }
  }
  __device__ void ask(const MatrixCost<T>& cost, const double* g, int q, int column) {
    if constexpr (S::asks_early) {
      if (S::hi_columns > 0 && !cost.is_centred()) return;
#pragma unroll
      for (int k = 0; k < S::chunk; ++k) {
        const int j = column + (q + k) % S::row_vectors * S::stride;
        if constexpr (S::hi_columns > 0) cost.load_shifts(j, beside[k]);
        else load_guarded(g + j, cost.m - j, cost.aligned, -Limits<T>::infinity, beside[k]);
      }
    }
  }
  // Vectors from q on, which are there; `at` says where.
  template <class Place>
  __device__ void take(const MatrixCost<T>& cost, const Kept<S, T>& kept, int q, int column, const Place& at) {
    const bool is_centred = cost.is_centred();
#pragma unroll
    for (int k = 0; k < S::chunk; ++k) {
      const int r = (q + k) / S::row_vectors, j = column + (q + k) % S::row_vectors * S::stride;
      T c[S::vector], hi[S::vector];
      Score<T> s[S::vector];
      load_aligned<S::vector>(at(q + k), c);
      if constexpr (S::hi_columns > 0) load_aligned<S::vector>(kept.hi + j, hi);
      if (is_centred) {
        T shifts[S::vector];
        constexpr bool is_asked = S::asks_early && S::hi_columns > 0;
        if constexpr (!is_asked) cost.load_shifts(j, shifts);
        cost.centre(row_shift[r], is_asked ? beside[k] : shifts, c);
      }
#pragma unroll
      for (int e = 0; e < S::vector; ++e) s[e] = score<false>(S::hi_columns > 0 ? hi[e] : beside[k][e], T(0), c[e]);
      of_row[r] = LargerOp()(of_row[r], largest_sum(s));
#pragma unroll
      for (int e = 0; e < S::vector; ++e) c[e] = S::in_float32 ? c[e] : s[e].sum;
      if (!S::in_float32 || is_centred) store_aligned<S::vector>(at(q + k), c);
    }
  }
};

// Entries in place of the costs of one vector of row r. Returns their sum.
template <class S, class T>
__device__ double take_vector(const Ring<S, T>& ring, const Kept<S, T>& kept, const Scale<T>& scale, int r, int v,
                              int column, T reference, T bar) {
  T* at = ring.place(r * S::row_vectors + v);
  T c[S::vector], p[S::vector] = {};
  Score<T> s[S::vector];
  load_aligned<S::vector>(at, c);
  if constexpr (S::in_float32) {
    T hi[S::vector], lo[S::vector];
    load_aligned<S::vector>(kept.hi + column + v * S::stride, hi);
    kept.load_lo(v, column, lo);
#pragma unroll
    for (int k = 0; k < S::vector; ++k) s[k] = score<false>(hi[k], lo[k], c[k]);
  } else {
#pragma unroll
    for (int k = 0; k < S::vector; ++k) s[k] = {c[k], T(0)};
  }
  double sum = 0;
  if (largest_sum(s) > bar) {
#pragma unroll
    for (int k = 0; k < S::vector; ++k) {
      p[k] = scale.entry(s[k], reference, bar);
      sum += static_cast<double>(p[k]);
    }
  }
  store_aligned<S::vector>(at, p);
  return sum;
}

// Entries of row r in place of its costs. Returns their sum.
template <class S, class T>
__device__ double take_entries(const Ring<S, T>& ring, const Kept<S, T>& kept, const Scale<T>& scale, int r,
                               T reference) {
  constexpr int rolled = S::in_float32 ? S::lo_columns / S::vector : S::row_vectors;  // the others' lo: in registers
  const T bar = reference + scale.reach;
  int column = S::column(0);
  forget_origin(column);
  double total = 0;
#pragma unroll(S::longest && !S::in_float32 ? 4 : 2)
  for (int v = 0; v < rolled; ++v) total += take_vector(ring, kept, scale, r, v, column, reference, bar);
#pragma unroll
  for (int v = rolled; v < S::row_vectors; ++v) total += take_vector(ring, kept, scale, r, v, column, reference, bar);
  return total;
}

// Adds the entries of the batch from row i on, of which a lane has the weight of row `lane / warps`, and finds the next
// batch's largest scores.
template <class S, class T>
__device__ void exchange(Ring<S, T> ring, int64_t i, const Kept<S, T>& kept, const double* g, double weight,
                         double (&sums)[S::columns], Largest<S, T>& largest) {
  int column = S::column(0);
  forget_origin(column);
  forget_origin(ring.row);
  forget_origin(ring.inside);
  double w[S::rows];
#pragma unroll
  for (int r = 0; r < S::rows; ++r) w[r] = __shfl_sync(kFullWarp, weight, r * S::warps);
  largest.start(ring.cost, i + S::rows, ring.left - S::rows);
#pragma unroll
  for (int q = 0; q < S::batch; q += S::chunk) {
    largest.ask(ring.cost, g, q, column);
#pragma unroll
    for (int k = q; k < q + S::chunk; ++k) {
      T p[S::vector];
      load_aligned<S::vector>(ring.place(k), p);
#pragma unroll
      for (int e = 0; e < S::vector; ++e)
        sums[k % S::row_vectors * S::vector + e] += w[k / S::row_vectors] * static_cast<double>(p[e]);
    }
    ring.refill(q);
    wait_for_copies<S::ring - S::batch>();
    largest.take(ring.cost, kept, q, column, [&](int k) { return ring.place(k + S::batch); });
  }
}

// Each row's values over the block. A lane receives the result of row `lane / warps`; lanes beyond repeat.
template <class S, class V, class Op>
__device__ V reduce_rows(const V (&values)[S::rows], Op op, V (&shared)[S::rows * S::warps]) {
  const int lane = int(threadIdx.x) % kWarp, warp = int(threadIdx.x) / kWarp;
#pragma unroll
  for (int r = 0; r < S::rows; ++r) {
    const V value = warp_reduce(values[r], op);
    if (lane == 0) shared[r * S::warps + warp] = value;
  }
  __syncthreads();
  V result = shared[lane % (S::rows * S::warps)];
#pragma unroll
  for (int step = S::warps / 2; step > 0; step /= 2) result = op(result, __shfl_xor_sync(kFullWarp, result, step));
  return result;
}

// gate: no spills
template <class T, int threads, int columns, int rows, int ring_vectors>
__global__ void __launch_bounds__(threads, 512 / threads)
fused_pass_kernel(MatrixCost<T> cost, const double* g, const double* a, Scale<T> scale, int64_t group_rows,
                  T* reference, double* row_lse, double* partial) {
  using S = Shape<T, threads, columns, rows, ring_vectors>;
  FC_DYNAMIC_SHARED(T, memory);
  FC_SHARED(T, maxima, [S::rows * S::warps]);
  FC_SHARED(double, totals, [S::rows * S::warps]);
  const int64_t first = int64_t(blockIdx.x) * group_rows;
  const int64_t last = first + group_rows < cost.n ? first + group_rows : cost.n;
  Ring<S, T> ring(cost, memory, first, last);
  ring.fill();
  const Kept<S, T> kept(memory + S::ring * S::threads * S::vector, g, cost.m);

  const int row_of_lane = int(threadIdx.x) % kWarp % (rows * S::warps) / S::warps;
  double sums[columns] = {};
  Largest<S, T> largest;
  largest.start(cost, first, ring.left);
  wait_for_copies<S::ring - S::batch>();
#pragma unroll
  for (int q = 0; q < S::batch; q += S::chunk) {
    largest.ask(cost, g, q, S::column(0));
    largest.take(cost, kept, q, S::column(0), [&](int k) { return ring.place(k); });
  }
  for (; ring.left > 0; ring.advance()) {
    const int64_t i = last - ring.left, mine = i + row_of_lane;
    const bool is_inside = row_of_lane < ring.left;
    const bool writes = is_inside && threadIdx.x < rows * S::warps && threadIdx.x % S::warps == 0;  // once for a row
    T base = reduce_rows<S>(largest.of_row, LargerOp(), maxima);
    // A row without a finite cost: any finite reference gives zeros instead of inf - inf.
    base = base == -Limits<T>::infinity ? T(0) : base;
    if (writes) reference[mine] = base;
    double total[rows];
#pragma unroll
    for (int r = 0; r < rows; ++r)
      total[r] = take_entries(ring, kept, scale, r, __shfl_sync(kFullWarp, base, r * S::warps));
    const double mass = is_inside ? a[mine] : 0.0;
    const double sum = reduce_rows<S>(total, SumOp(), totals);
    if (writes) row_lse[mine] = sum;
    exchange(ring, i, kept, g, sum == 0 ? 0.0 : mass / sum, sums, largest);
  }
  wait_for_copies<0>();
  __syncthreads();  // all rows have their sums; their logarithms now, since in a batch all would wait for one thread
  for (int64_t i = first + threadIdx.x; i < last; i += threads)
    row_lse[i] = static_cast<double>(reference[i]) / scale.reg + log(row_lse[i]);
  double* out = partial + int64_t(blockIdx.x) * cost.m;
#pragma unroll
  for (int v = 0; v < S::row_vectors; ++v)
#pragma unroll
    for (int k = 0; k < S::vector; ++k)
      if (S::column(v) + k < cost.m) out[S::column(v) + k] = sums[v * S::vector + k];
}

template <class T, int threads, int columns, int rows, int ring = 2 * rows * columns / kVector<T>>
std::optional<Tensor> launch_fused(const PassArguments& args, const MatrixCost<T>& cost) {
  using S = Shape<T, threads, columns, rows, ring>;
  if (S::shared_bytes + 1024 > shared_bytes_per_block(args.g)) return std::nullopt;  // 1024: static variables
  // Small blocks are more, or they would leave the multiprocessors idle.
  const int64_t group_rows = ceil_div(ceil_div(args.n, kGroups * std::max(1, 256 / threads)), rows) * rows;
  const int64_t groups = ceil_div(args.n, group_rows);
  const Tensor partial = new_tensor<double>(args.g, {groups, args.m}), reference = new_tensor<T>(args.g, {args.n});
  launch(fused_pass_kernel<T, threads, columns, rows, ring>, unsigned(groups), threads, S::shared_bytes,
         current_stream(args.g), cost, data<double>(args.g), data<double>(args.a), Scale<T>(args.reg), group_rows,
         data<T>(reference), data<double>(args.row_lse), data<double>(partial));
  return partial;
}

}  // namespace

template <class T>
std::optional<Tensor> fused_pass(const PassArguments& args, const MatrixCost<T>& cost) {
  constexpr bool in_float32 = sizeof(T) == 4;
  const int64_t m = args.m;
  constexpr int some = in_float32 ? 4 : 2, few = some / 2;  // rows in a batch: 128 bytes and more for a thread
  if (m <= 32 * 8) return launch_fused<T, 32, 8, some>(args, cost);
  if (m <= 128 * 8) return launch_fused<T, 128, 8, some>(args, cost);
  if (m <= 256 * 8) return launch_fused<T, 256, 8, some>(args, cost);
  if (m <= 256 * 16) return launch_fused<T, 256, 16, few>(args, cost);
  if (m <= 8192) return launch_fused<T, in_float32 ? 256 : 512, in_float32 ? 32 : 16, 1>(args, cost);
  if (m <= 512 * 32) return launch_fused<T, 512, 32, 1, in_float32 ? 16 : 28>(args, cost);
  return std::nullopt;
}

template std::optional<Tensor> fused_pass(const PassArguments&, const MatrixCost<float>&);
template std::optional<Tensor> fused_pass(const PassArguments&, const MatrixCost<double>&);

}  // namespace fc::ot
