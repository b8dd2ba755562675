// What the row-pass loops of ot_loop.inc and their drivers in ot_cpu.cpp agree on. CPU only.
#pragma once
#include <cstdint>

#include "../common/reduce.h"
#include "sinkhorn_newton.h"

namespace fc::ot {

// Rows of the plan are worked on four at a time, in tiles of columns that stay in the first-level cache.
constexpr int64_t kRows = 4;
constexpr int64_t kTile = 512;
constexpr int64_t kGroup = 4 * kLanes;  // columns whose exponentials are added at once
// A sparse plan is kept in blocks of eight columns: products with it are vector instructions, and on images and
// densities, where neighbours are kept together, most of a block is used.
constexpr int64_t kBlock = 8;

template <class T>
struct CostView {
  const T *cost, *y, *row_shift, *col_shift;
  int64_t n, m, d;
};

template <class T>
struct Range {
  T low, high;
};

// Scores of row i, columns [j0, j0 + count): g_j - C_ij and what its rounding lost. Returns their range.
template <class T>
using ScoreTile = Range<T> (*)(const CostView<T>&, const T* g_hi, const T* g_lo, int64_t i, int64_t j0, int64_t count, T* sum,
                           T* lost);

template <class T>
struct RowPass {
  CostView<T> view;
  ScoreTile<T> scores;
  const T *g_hi, *g_lo;
  const double* a;
  double reg;
  double* row_lse;
  T cutoff = exponent_cutoff<T>();  // exponents below it are taken as zero

  int64_t tiles() const { return (view.m + kTile - 1) / kTile; }
  int64_t padded() const { return tiles() * kTile; }
  // What will be read after column j of row i.
  const T* ahead(int64_t i, int64_t j) const { return view.y ? view.y + j % view.m : view.cost + i * view.m + j; }
};

// Scratch of one thread, for kRows rows: unnormalised entries, the factor that makes each tile absolute, and which
// blocks of kLanes entries hold anything. Plain pointers: the loops must not instantiate library templates.
template <class T>
struct RowScratch {
  T *p, *sum, *lost, *reference;
  double* factor;
  uint8_t* active;
};

}  // namespace fc::ot
