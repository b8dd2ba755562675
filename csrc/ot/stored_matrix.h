// What the loops of ot_matrix_loop.inc and their drivers in ot_matrix_cpu.cpp agree on. CPU only.
#pragma once
#include <cstdint>

#include "row_pass.h"

namespace fc::ot {

// A dense matrix (n, m), or blocks of kBlock columns when `indptr` is set.
template <class T>
struct StoredMatrix {
  const int64_t* indptr;
  const int32_t* blocks;
  const T* values;
  int64_t n, m;

  int64_t padded() const { return (m + kBlock - 1) / kBlock * kBlock; }
  double entries() const { return indptr ? double(indptr[n]) * kBlock : double(n) * double(m); }
};

// out += sum over rows of u_i row_i with u_i = a_i / <row_i, v>: Sinkhorn's iteration.
template <class T>
using ScaleRows = void (*)(const StoredMatrix<T>&, const double* a, const double* v, int64_t begin, int64_t end, double* u,
                           double* out);

// Rows of Newton's matrix in blocks: S = diag(column sums) - P^T diag(1 / row sums) P is a graph Laplacian. Entries in
// float32 cost no digits that matter: with sums of the rounded entries constants stay in the null space, and every weight
// is right to 6e-8. Its product with v is taken row by row. Subtracting P_ij <P_i, v> / row sum from P_ij v_j is quick, and
// exact enough unless one entry is nearly the whole row; there it is formed from differences, P_ij (v_j - mean) with the
// mean relative to the largest entry, and does not cancel even where P is a permutation but for 1e-12.
constexpr double kCancellation = 1e-6;  // share of a row beside its largest entry
struct LaplacianRows {
  const int64_t* indptr;
  const int32_t* blocks;
  const float* values;
  const double* row_sum;
  const int32_t* reference;  // column of the row's largest entry
  const uint8_t* by_differences;
  int64_t width;  // columns, padded to whole blocks
};

// Of conjugate gradients: |r|_1 and <r, z>.
struct Residual {
  double norm, rho;
};

// What compressing one row of P = diag(u) K diag(v) found: blocks kept, their sum, and the largest entry's column.
struct Compressed {
  int64_t kept;
  double sum;
  int32_t reference;
};

}  // namespace fc::ot
