// What a launch over many parameters knows: a table in the device's memory, and what all parameters share.
#pragma once
#include "chunk.h"

namespace fc::optim {

constexpr int kMostHyper = 16;
constexpr int64_t kBlockElements = 1 << 14;  // of a block: many waves of blocks, and a start that costs a hundredth

// A parameter of the list, or a row of one. Empty ones have no block, but their steps advance too.
struct Entry {
  void* parameter;
  const void* gradient;
  int64_t count, start, slot, id, prepared;  // start: in the flat states; prepared: where its Step stands
  int64_t column, place;  // column: of the coefficients; place: of its first element in the whole parameter
};

// The rows of an entry where a launch looks at rows: those of a parameter if a block has room for one, else a single one.
struct RowSpan {
  int64_t length, rows;  // elements of a row; rows
  int64_t first;         // place of its first row among the rows of all parameters
  int64_t head, tail;    // the entries of its parameter: [head, tail)

  FC_HD bool fits() const { return length <= kBlockElements; }
  // Blocks of rows that fit have whole ones.
  FC_HD int64_t block_elements() const {
    return fits() && length > 0 ? kBlockElements / length * length : kBlockElements;
  }
};

// Which blocks belong to which entry: first_block[i] of `n` never falls; behind them stands the number of blocks.
struct BlockMap {
  const int64_t* first_block;
  const Entry* entries;
  int64_t n;
  const RowSpan* rows;  // null: nobody looks at rows
};

// One number, on the device or known already.
struct Number {
  const void* at;  // null: known
  double value;
  bool wide;  // float64, else float32

  FC_HD double read() const {
    if (at == nullptr) return value;
    return wide ? *static_cast<const double*>(at) : double(*static_cast<const float*>(at));
  }
};

// Counters on the device: every block computes what the next step makes of the hyper-parameters, and the last one to finish
// advances them. Counters on the host (`steps` is null): they have been advanced, and what was made of them stands at
// `prepared`, each a step number and a Step.
struct Counters {
  void* steps;
  bool wide;  // float64, else float32
  double* products;
  const unsigned char* prepared;
  uint32_t* blocks_done;  // 0 when the launch begins

  FC_HD double next(int64_t slot) const {
    if (wide) return static_cast<const double*>(steps)[slot] + 1;
    return double(static_cast<const float*>(steps)[slot] + 1);
  }
  FC_HD void write(int64_t slot, double t) const {
    if (wide) static_cast<double*>(steps)[slot] = t;
    else static_cast<float*>(steps)[slot] = float(t);
  }
};

struct Launch {
  BlockMap map;
  Counters counters;
  void *states[kMostStates], *extra;
  int64_t extra_bytes, rounding, seed;
  double hyper[kMostHyper], side;  // side: -1 to climb
  Number lr, grad_scale, found_inf;
  const double* coefficients;  // null, or (4 + numbers, columns)
  int64_t columns;
};

// A step number and the Step that a rule made of it.
template <class Step>
struct PreparedStep {
  int64_t t;
  Step step;
};

}  // namespace fc::optim
