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

// What a row's product with v is turned into before the row is added: Newton's matrix, or Sinkhorn's iteration.
enum class RowWeight { gram, scaling };

template <class T>
using WeighRows = void (*)(const StoredMatrix<T>&, const double* a, const double* v, int64_t begin, int64_t end,
                           double* weights, double* out);

}  // namespace fc::ot
