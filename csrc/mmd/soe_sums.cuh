// Sums of exponentials along sorted slices. On the CPU lanes are nodes and a recurrence goes through all points; here a thread
// goes through a chunk of points with all nodes in registers, so that nothing is summed over lanes, and the recurrence is cut
// as linear ones can be: every chunk's state from zero; then, a lane a node, the states that chunks start from; then the
// chunks again, with what their points see. Polynomials go the same way, with moments for states. Coinciding points are one:
// the first of a run has its mass, the others none and no gap before them.
#pragma once
#include "../common/block.cuh"
#include "../common/math.h"
#include "segmented_sort.cuh"
#include "soe.h"

namespace fc::mmd {

constexpr int kChunk = 64, kSoeThreads = 128;

template <class T>
constexpr int kSoeStates = SoeNodes<T>::families * SoeNodes<T>::octaves * kSoeLanes;  // of a chunk, in one direction

struct SoePoints {
  int64_t size, chunks;  // of a slice
  double *z, *gaps, *c;  // (slices, size); a gap is that before a point
  double *slope, *sum;   // (slices, size); what the points see
  double *states;        // (slices, chunks, 2, kSoeStates): from the left, from the right; from zero, then where chunks start
  double *moments;       // (slices, chunks, kSoeTerms), likewise
  double *spans;         // (slices, chunks, 2): from the end of the chunk before; to the start of the next
  double *totals;        // (slices): of c
  PairPolynomial* polynomials;  // (slices, 2): of the slope, of the sum

  __device__ int64_t end_of_chunk(int64_t chunk) const {
    return (chunk + 1) * kChunk < size ? (chunk + 1) * kChunk : size;
  }
};

// A thread's chunk. Blocks do not go over the end of a slice.
struct ChunkOfThread {
  int64_t slice, chunk, begin, end;
  bool inside;

  __device__ ChunkOfThread(const SoePoints& p, int64_t blocks)
      : slice(int64_t(blockIdx.x) / blocks), chunk(int64_t(blockIdx.x) % blocks * kSoeThreads + threadIdx.x),
        begin(slice * p.size + chunk * kChunk), end(slice * p.size + p.end_of_chunk(chunk)), inside(chunk < p.chunks) {}
};

__device__ inline double soe_decay(double gap, double node) {
  const double exponent = -gap * node;
  return exp_bounded(exponent < -700.0 ? -700.0 : exponent);
}

// All nodes of a family over a gap: each state times its decay, which `use` may look at, then `mass` is added.
template <class T, class Use>
__device__ void step_family(const SoeTable& table, int family, double gap, double mass,
                            double (&states)[SoeNodes<T>::octaves * kSoeLanes], const Use& use) {
#pragma unroll
  for (int l = 0; l < kSoeLanes; ++l) {
    double decay = soe_decay(gap, table.base[family * kSoeLanes + l]);
#pragma unroll
    for (int j = 0; j < SoeNodes<T>::octaves; ++j) {
      double& state = states[j * kSoeLanes + l];
      state *= decay;
      use(j * kSoeLanes + l, state);
      state += mass;
      decay *= decay;
    }
  }
}

// gate: no spills
template <class T>
__global__ void __launch_bounds__(kSoeThreads) soe_ends_kernel(const SoePoints p, const SoeTable table, int64_t blocks) {
  constexpr int count = SoeNodes<T>::octaves * kSoeLanes;
  const ChunkOfThread mine(p, blocks);
  if (!mine.inside) return;
  const int64_t at = mine.slice * p.chunks + mine.chunk, last = (mine.slice + 1) * p.size;
  const auto nothing = [](int, double) {};
  for (int family = 0; family < SoeNodes<T>::families; ++family) {
    double* out = p.states + at * 2 * kSoeStates<T> + family * count;
    double left[count] = {}, right[count] = {};
    for (int64_t u = mine.begin; u < mine.end; ++u) step_family<T>(table, family, p.gaps[u], p.c[u], left, nothing);
#pragma unroll
    for (int k = 0; k < count; ++k) out[k] = left[k];
    for (int64_t u = mine.end - 1; u >= mine.begin; --u)
      step_family<T>(table, family, u + 1 < last ? p.gaps[u + 1] : 0.0, p.c[u], right, nothing);
#pragma unroll
    for (int k = 0; k < count; ++k) out[kSoeStates<T> + k] = right[k];
  }
  double moments[kSoeTerms] = {}, span = 0;
  for (int64_t u = mine.begin; u < mine.end; ++u) {
    double term = p.c[u];
    span += p.gaps[u];
#pragma unroll
    for (int i = 0; i < kSoeTerms; ++i, term *= p.z[u]) moments[i] += term;
  }
#pragma unroll
  for (int i = 0; i < kSoeTerms; ++i) p.moments[at * kSoeTerms + i] = moments[i];
  p.spans[2 * at] = span;
  p.spans[2 * at + 1] = span - p.gaps[mine.begin] + (mine.end < last ? p.gaps[mine.end] : 0.0);
}

// The states that chunks start from: a warp a slice and direction, a lane a node.
// gate: no spills
template <class T>
__global__ void __launch_bounds__(kWarp) soe_starts_kernel(const SoePoints p, const SoeTable table) {
  constexpr int octaves = SoeNodes<T>::octaves;
  const int64_t slice = int64_t(blockIdx.x) / 2, first = slice * p.chunks;
  const int direction = int(blockIdx.x % 2), lane = int(threadIdx.x);
  for (int k = lane; k < kSoeStates<T>; k += kWarp) {
    const int family = k / (octaves * kSoeLanes), octave = k / kSoeLanes % octaves;
    double state = 0, node = table.base[family * kSoeLanes + k % kSoeLanes];
    for (int j = 0; j < octave; ++j) node *= 2;
#pragma unroll 4
    for (int64_t q = 0; q < p.chunks; ++q) {
      const int64_t at = first + (direction ? p.chunks - 1 - q : q);
      double& here = p.states[(at * 2 + direction) * kSoeStates<T> + k];
      const double end = here;
      here = state;
      state = state * soe_decay(p.spans[2 * at + direction], node) + end;
    }
  }
  if (direction == 0 && lane < kSoeTerms) {
    double sum = 0;
#pragma unroll 4
    for (int64_t at = first; at < first + p.chunks; ++at) {
      double& here = p.moments[at * kSoeTerms + lane];
      const double mass = here;
      here = sum;
      sum += mass;
    }
    p.polynomials[2 * slice].rest[lane] = sum;  // the totals wait there for the polynomials to be made of them
    if (lane == 0) p.totals[slice] = sum;
  }
}

namespace {

// log_shifts (slices): t^2 times it is added to h, and its derivative to h'.
__global__ void soe_polynomials_kernel(const SoePoints p, const SoeTable table, const double* log_shifts, int64_t slices) {
  const int64_t slice = int64_t(blockIdx.x) * kWarp + threadIdx.x;
  if (slice >= slices) return;
  ExponentialSum slope = table.slope, sum = table.sum;
  slope.polynomial[1] += 2 * log_shifts[slice];
  sum.polynomial[2] += log_shifts[slice];
  double all[kSoeTerms];
  for (int i = 0; i < kSoeTerms; ++i) all[i] = p.polynomials[2 * slice].rest[i];
  p.polynomials[2 * slice] = pair_polynomial(slope.polynomial, all, true);
  p.polynomials[2 * slice + 1] = pair_polynomial(sum.polynomial, all, false);
}

}  // namespace

__device__ inline double polynomial_at(const PairPolynomial& p, const double (&moments)[kSoeTerms], double z, double c) {
  double rest = p.rest[kSoeTerms - 1];
#pragma unroll
  for (int j = kSoeTerms - 2; j >= 0; --j) rest = rest * z + p.rest[j];
  double total = rest + c * p.own;
#pragma unroll
  for (int i = 0; i < kSoeTerms; ++i) {
    double value = p.before[i][kSoeTerms - 1 - i];
#pragma unroll
    for (int j = kSoeTerms - 2 - i; j >= 0; --j) value = value * z + p.before[i][j];
    total += moments[i] * value;
  }
  return total;
}

// What each point sees: slope, and sum where it is wanted.
// No promise about spills: all nodes' states are in registers, and where sums are wanted some 260 bytes a thread spill.
template <class T, bool with_sum>
__global__ void __launch_bounds__(kSoeThreads)
soe_sums_kernel(const SoePoints p, const SoeTable table, int64_t blocks) {
  constexpr int count = SoeNodes<T>::octaves * kSoeLanes;
  FC_SHARED(PairPolynomial, polynomials, [2]);
  const ChunkOfThread mine(p, blocks);
  const double* from = reinterpret_cast<const double*>(p.polynomials + 2 * mine.slice);
  for (int k = int(threadIdx.x); k < int(2 * sizeof(PairPolynomial) / sizeof(double)); k += kSoeThreads)
    reinterpret_cast<double*>(polynomials)[k] = from[k];
  __syncthreads();
  if (!mine.inside) return;
  const int64_t at = mine.slice * p.chunks + mine.chunk, last = (mine.slice + 1) * p.size;

  double moments[kSoeTerms];
#pragma unroll
  for (int i = 0; i < kSoeTerms; ++i) moments[i] = p.moments[at * kSoeTerms + i];
  for (int64_t u = mine.begin; u < mine.end; ++u) {
    const double z = p.z[u], c = p.c[u];
    p.slope[u] = polynomial_at(polynomials[0], moments, z, c);
    if (with_sum) p.sum[u] = polynomial_at(polynomials[1], moments, z, c);
    double term = c;
#pragma unroll
    for (int i = 0; i < kSoeTerms; ++i, term *= z) moments[i] += term;
  }
  for (int family = 0; family < SoeNodes<T>::families; ++family)
#pragma unroll 1
    for (int direction = 0; direction < 2; ++direction) {
      const double* start = p.states + (at * 2 + direction) * kSoeStates<T> + family * count;
      const double *slope_weights = table.slope.weight + family * count, *sum_weights = table.sum.weight + family * count;
      double states[count];
#pragma unroll
      for (int k = 0; k < count; ++k) states[k] = start[k];
      for (int64_t q = mine.begin; q < mine.end; ++q) {
        const int64_t u = direction ? mine.begin + mine.end - 1 - q : q, next = direction ? u + 1 : u;
        double slope = 0, sum = 0;
        step_family<T>(table, family, next < last ? p.gaps[next] : 0.0, p.c[u], states, [&](int k, double state) {
          slope += slope_weights[k] * state;
          if (with_sum) sum += sum_weights[k] * state;
        });
        p.slope[u] += direction ? -slope : slope;
        if (with_sum) p.sum[u] += sum;
      }
    }
}

}  // namespace fc::mmd
