// ot_row_pass in two passes, each of which computes every score: for points, and for stored rows too long for a block.
//   point_rows / long_rows   running sum of exponentials of each row, over a range of columns
//   finish_rows              puts a row's ranges together: row_lse, and what the columns need
//   column_sums              a thread owns columns and goes down a group of rows
// Both directions keep one side in registers, so that an entry costs arithmetic and little else.
#include "two_pass.cuh"

#include <algorithm>

namespace fc::ot {
namespace {

constexpr int kThreads = 128;
template <class T>
constexpr int kRows = sizeof(T) == 4 ? 4 : 2;  // of a thread in point_rows
constexpr int kLongRows = 4;                   // of a block in long_rows: they share g
constexpr int kTile = 128;                     // columns of points in shared memory
constexpr int kChunk = 4;                      // entries of a row between two looks at its largest score
constexpr int64_t kWantedBlocks = 1056;        // 8 for each multiprocessor of an H100
constexpr int64_t kLongRange = 1 << 15;        // columns of a stored row that one block takes
constexpr int64_t kMinGroupRows = 64;

// Largest scores and sums of rows over ranges of columns: (ranges, n).
template <class T>
struct RowParts {
  T* reference;
  double* total;
};

// gate: no spills
template <class T>
__global__ void __launch_bounds__(kThreads)
finish_rows_kernel(RowParts<T> parts, const double* a, Scale<T> scale, int64_t n, int64_t ranges, double* row_lse,
                   T* row_max, double* weight) {
  const int64_t i = int64_t(blockIdx.x) * kThreads + threadIdx.x;
  if (i < n) {
    T largest = parts.reference[i];
    for (int64_t k = 1; k < ranges; ++k) largest = LargerOp()(largest, parts.reference[k * n + i]);
    // A row without a finite cost: any finite reference gives zeros instead of inf - inf.
    const T base = largest == -Limits<T>::infinity ? T(0) : largest;
    double total = 0;
    for (int64_t k = 0; k < ranges; ++k)
      total += parts.total[k * n + i] * scale.factor(parts.reference[k * n + i], base);
    row_lse[i] = static_cast<double>(base) / scale.reg + log(total);
    row_max[i] = base;
    weight[i] = total == 0 ? 0.0 : a[i] / total;
  }
}

// A thread owns kRows<T> rows and meets the columns one tile after the other.
// gate: no spills
template <int64_t metric, int D, class T>
__global__ void __launch_bounds__(kThreads, 4)
point_rows_kernel(Points<T> points, const double* g, Scale<T> scale, int64_t range, RowParts<T> parts) {
  constexpr int kCoordinates = D > 0 ? D : 1;
  FC_SHARED(T, hi, [kTile]);
  FC_SHARED(T, lo, [kTile]);
  FC_SHARED(T, tile, [kCoordinates][kTile]);
  const int64_t n = points.n, m = points.m, d = points.d;
  const int64_t i0 = int64_t(blockIdx.x) * (kRows<T> * kThreads) + threadIdx.x;
  const T* x[kRows<T>];
  T own[kRows<T>][kCoordinates];
  RunningSum<T> rows[kRows<T>];
#pragma unroll
  for (int r = 0; r < kRows<T>; ++r) {
    x[r] = points.x + (i0 + r * kThreads < n ? i0 + r * kThreads : n - 1) * d;
#pragma unroll
    for (int k = 0; k < kCoordinates; ++k) own[r][k] = x[r][k];
  }
  const int64_t begin = int64_t(blockIdx.y) * range, end = begin + range < m ? begin + range : m;
  for (int64_t j0 = begin; j0 < end; j0 += kTile) {
    __syncthreads();  // all are done with the tile before
    for (int c = int(threadIdx.x); c < kTile; c += kThreads) {
      const auto part = split_potential<T>(g, j0 + c, end);
      hi[c] = part.hi;
      lo[c] = part.lo;
      if constexpr (D > 0)
        for (int k = 0; k < D; ++k) tile[k][c] = j0 + c < end ? points.y[k * m + j0 + c] : T(0);
    }
    __syncthreads();
    const int count = int(end - j0 < kTile ? end - j0 : kTile);
    for (int c0 = 0; c0 < count; c0 += kChunk) {
      T g_hi[kChunk], g_lo[kChunk], y[kCoordinates][kChunk], cost[kRows<T>][kChunk];
      load_aligned<kChunk>(hi + c0, g_hi);
      load_aligned<kChunk>(lo + c0, g_lo);
      if constexpr (D > 0) {
#pragma unroll
        for (int k = 0; k < D; ++k) load_aligned<kChunk>(tile[k] + c0, y[k]);
        const auto y_at = [&](int c, int64_t k) { return y[k][c]; };
        distances<metric, D>(d, [&](int r, int64_t k) { return own[r][k]; }, y_at, cost);
      } else {
        const auto y_at = [&](int c, int64_t k) { return points.y[k * m + (j0 + c0 + c < m ? j0 + c0 + c : m - 1)]; };
        distances<metric, D>(d, [&](int r, int64_t k) { return x[r][k]; }, y_at, cost);
      }
#pragma unroll
      for (int r = 0; r < kRows<T>; ++r) {
        Score<T> s[kChunk];
#pragma unroll
        for (int c = 0; c < kChunk; ++c) s[c] = score<false>(g_hi[c], g_lo[c], cost[r][c]);
        rows[r].add(s, scale);
      }
    }
  }
#pragma unroll
  for (int r = 0; r < kRows<T>; ++r) {
    const int64_t i = i0 + r * kThreads;
    if (i < n) parts.reference[blockIdx.y * n + i] = rows[r].reference, parts.total[blockIdx.y * n + i] = rows[r].total;
  }
}

// A block owns a few rows over a range of columns; each thread runs along its own columns.
// gate: no spills
template <class T>
__global__ void __launch_bounds__(kThreads)
long_rows_kernel(MatrixCost<T> cost, const double* g, Scale<T> scale, RowParts<T> parts) {
  constexpr int vector = kVector<T>, stride = kThreads * vector;
  const int64_t i0 = int64_t(blockIdx.x) * kLongRows, begin = int64_t(blockIdx.y) * kLongRange;
  const int64_t end = begin + kLongRange < cost.m ? begin + kLongRange : cost.m;
  RunningSum<T> rows[kLongRows];
  T shift[kLongRows], next[kLongRows][vector];
  const int64_t start = begin + int(threadIdx.x) * vector;
#pragma unroll
  for (int r = 0; r < kLongRows; ++r) {
    shift[r] = cost.shift_of_row(i0 + r, i0 + r < cost.n);
    cost.load(i0 + r, i0 + r < cost.n, start, next[r]);
  }
  for (int64_t j = start; j < end; j += stride) {
    Potential<T> part[vector];
#pragma unroll
    for (int k = 0; k < vector; ++k) part[k] = split_potential<T>(g, j + k, end);
    T shifts[vector];
    cost.load_shifts(int(j), shifts);
#pragma unroll
    for (int r = 0; r < kLongRows; ++r) {
      T c[vector];
#pragma unroll
      for (int k = 0; k < vector; ++k) c[k] = next[r][k];
      cost.load(i0 + r, i0 + r < cost.n && j + stride < end, j + stride, next[r]);
      if (cost.is_centred()) cost.centre(shift[r], shifts, c);
      Score<T> s[vector];
#pragma unroll
      for (int k = 0; k < vector; ++k) s[k] = score<false>(part[k].hi, part[k].lo, c[k]);
      rows[r].add(s, scale);
    }
  }
#pragma unroll
  for (int r = 0; r < kLongRows; ++r) {
    const T largest = block_reduce<kThreads>(rows[r].reference, LargerOp());
    const T base = largest == -Limits<T>::infinity ? T(0) : largest;
    const double total = block_sum<kThreads>(rows[r].total * scale.factor(rows[r].reference, base));
    const int64_t at = blockIdx.y * cost.n + i0 + r;
    if (threadIdx.x == 0 && i0 + r < cost.n) parts.reference[at] = largest, parts.total[at] = total;
  }
}

// partial[group, j] = sum over the group's rows of a_i exp((g_j - C_ij) / reg - L_i), four rows at a time.
// gate: no spills
template <class T, class Columns>
__global__ void __launch_bounds__(kThreads)
column_sums_kernel(Columns source, const double* g, Scale<T> scale, int64_t n, int64_t m, int64_t group_rows,
                   const T* row_max, const double* weight, double* partial) {
  constexpr int rows = 4, columns = Columns::columns;
  const int64_t j0 = (int64_t(blockIdx.x) * kThreads + threadIdx.x) * columns;
  const int64_t first = int64_t(blockIdx.y) * group_rows, last = first + group_rows < n ? first + group_rows : n;
  source.start(j0);
  Potential<T> part[columns];
  double sums[columns] = {};
#pragma unroll
  for (int c = 0; c < columns; ++c) part[c] = split_potential<T>(g, j0 + c, m);
  for (int64_t i0 = first; i0 < last; i0 += rows) {
    int64_t i[rows];
    T cost[rows][columns];
#pragma unroll
    for (int r = 0; r < rows; ++r) i[r] = i0 + r < last ? i0 + r : last - 1;
    source.costs(i, j0, cost);
#pragma unroll
    for (int r = 0; r < rows; ++r) {
      const T reference = row_max[i[r]], bar = reference + scale.reach;
      const double w = i0 + r < last ? weight[i[r]] : 0.0;
      Score<T> s[columns];
#pragma unroll
      for (int c = 0; c < columns; ++c) s[c] = score<false>(part[c].hi, part[c].lo, cost[r][c]);
      if (!(largest_sum(s) > bar)) continue;
#pragma unroll
      for (int c = 0; c < columns; ++c) sums[c] += w * static_cast<double>(scale.entry(s[c], reference, bar));
    }
  }
#pragma unroll
  for (int c = 0; c < columns; ++c)
    if (j0 + c < m) partial[int64_t(blockIdx.y) * m + j0 + c] = sums[c];
}

// --- launches -----------------------------------------------------------------------------------

template <class T>
struct RowMemory {
  Tensor reference, total, row_max, weight;

  RowMemory(const PassArguments& args, int64_t ranges)
      : reference(new_tensor<T>(args.g, {ranges, args.n})), total(new_tensor<double>(args.g, {ranges, args.n})),
        row_max(new_tensor<T>(args.g, {args.n})), weight(new_tensor<double>(args.g, {args.n})) {}

  RowParts<T> parts() const { return {data<T>(reference), data<double>(total)}; }
};

template <class T, class Columns>
Tensor finish(const PassArguments& args, const RowMemory<T>& memory, int64_t ranges, const Columns& source) {
  const int64_t n = args.n, m = args.m;
  const cudaStream_t stream = current_stream(args.g);
  const Scale<T> scale(args.reg);
  launch(finish_rows_kernel<T>, unsigned(ceil_div(n, kThreads)), kThreads, 0, stream, memory.parts(),
         data<double>(args.a), scale, n, ranges, data<double>(args.row_lse), data<T>(memory.row_max),
         data<double>(memory.weight));
  const int64_t across = ceil_div(m, kThreads * Columns::columns);
  const int64_t wanted = std::min(std::max<int64_t>(1, kWantedBlocks / across), ceil_div(n, kMinGroupRows));
  const int64_t group_rows = ceil_div(n, wanted), groups = ceil_div(n, group_rows);
  const Tensor partial = new_tensor<double>(args.g, {groups, m});
  launch(column_sums_kernel<T, Columns>, dim3(unsigned(across), unsigned(groups)), kThreads, 0, stream, source,
         data<double>(args.g), scale, n, m, group_rows, data<T>(memory.row_max), data<double>(memory.weight),
         data<double>(partial));
  return partial;
}

template <int64_t metric, int D, class T>
Tensor run_points(const PassArguments& args, const Points<T>& points) {
  const int64_t down = ceil_div(args.n, kRows<T> * kThreads);
  const int64_t wanted = std::max<int64_t>(1, kWantedBlocks / down);
  const int64_t range = ceil_div(ceil_div(args.m, wanted), kTile) * kTile;
  const int64_t ranges = ceil_div(args.m, range);
  const RowMemory<T> memory(args, ranges);
  launch(point_rows_kernel<metric, D, T>, dim3(unsigned(down), unsigned(ranges)), kThreads, 0, current_stream(args.g),
         points, data<double>(args.g), Scale<T>(args.reg), range, memory.parts());
  return finish(args, memory, ranges, PointColumns<metric, D, T>{points, {}});
}

template <int64_t metric, class T>
Tensor run_metric(const PassArguments& args, const Points<T>& points) {
  switch (points.d) {
    case 1: return run_points<metric, 1>(args, points);
    case 2: return run_points<metric, 2>(args, points);
    case 3: return run_points<metric, 3>(args, points);
    default: return run_points<metric, 0>(args, points);
  }
}

}  // namespace

template <class T>
Tensor points_pass(const PassArguments& args, int64_t metric, const T* x, const T* y, int64_t d) {
  const Points<T> points{x, y, args.n, args.m, d};
  if (metric == sqeuclidean) return run_metric<sqeuclidean>(args, points);
  if (metric == euclidean) return run_metric<euclidean>(args, points);
  return run_metric<cityblock>(args, points);
}

template <class T>
Tensor long_rows_pass(const PassArguments& args, const MatrixCost<T>& cost) {
  const int64_t ranges = ceil_div(args.m, kLongRange);
  const RowMemory<T> memory(args, ranges);
  launch(long_rows_kernel<T>, dim3(unsigned(ceil_div(args.n, kLongRows)), unsigned(ranges)), kThreads, 0,
         current_stream(args.g), cost, data<double>(args.g), Scale<T>(args.reg), memory.parts());
  return finish(args, memory, ranges, MatrixColumns<T>{cost, {}});
}

template Tensor points_pass(const PassArguments&, int64_t, const float*, const float*, int64_t);
template Tensor points_pass(const PassArguments&, int64_t, const double*, const double*, int64_t);
template Tensor long_rows_pass(const PassArguments&, const MatrixCost<float>&);
template Tensor long_rows_pass(const PassArguments&, const MatrixCost<double>&);

}  // namespace fc::ot
