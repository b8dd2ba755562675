// Energy distances of one sample split in many ways: each slice is sorted once and swept for 64 labellings at a time.
#include <torch/csrc/stable/library.h>

#include <limits>

#include "../common/dtype_switch.h"
#include "../common/isa.h"
#include "../common/reduce.h"
#include "radix_sort.h"
#include "slice_pool.h"

#define FC_LOOP_FILE "../mmd/mmd_permutation_loop.inc"
#include "../common/foreach_isa.h"

namespace fc::mmd {
namespace {

constexpr int64_t kGroup = 64;

// Labels (B, n) as words (B / 64, n), a bit a labelling; the number of points of x, the same in each.
class LabelWords {
 public:
  LabelWords(const char* op, const uint8_t* labels, int64_t rows, int64_t n)
      : n_(n), groups_((rows + kGroup - 1) / kGroup), words_(groups_ * n, 0) {
    for (int64_t b = 0; b < rows; ++b) {
      uint64_t* to = words_.data() + b / kGroup * n;
      int64_t count = 0;
      for (int64_t i = 0; i < n; ++i) {
        const uint64_t of_x = labels[b * n + i] != 0;
        to[i] |= of_x << (b % kGroup);
        count += int64_t(of_x);
      }
      if (b == 0) in_x_ = count;
      FC_CHECK(count == in_x_, op, ": `labels` has ", count, " points of x in row ", b, " and ", in_x_, " in the first");
    }
    FC_CHECK(in_x_ > 0 && in_x_ < n, op, ": `labels` leaves one side without a point");
  }
  int64_t groups() const { return groups_; }
  int64_t in_x() const { return in_x_; }
  const uint64_t* group(int64_t g) const { return words_.data() + g * n_; }

 private:
  int64_t n_, groups_, in_x_ = 0;
  AlignedVector<uint64_t> words_;
};

template <class T>
struct LabelSweeper {
  Sorter<T> sorter;
  Sorted<T> sorted;
};

Tensor mmd_permutation(Tensor z, Tensor labels) {
  const char* op = "mmd_permutation";
  FC_CHECK(z.dim() == 2, op, ": `z` has ", z.dim(), " dimensions instead of 2");
  FC_CHECK(labels.dim() == 2, op, ": `labels` has ", labels.dim(), " dimensions instead of 2");
  const int64_t slices = z.size(0), n = z.size(1), rows = labels.size(0);
  check_tensor(op, "z", z, z.scalar_type(), {slices, n});
  check_tensor(op, "labels", labels, ScalarType::Byte, {rows, n});
  FC_CHECK(n > 1 && n < int64_t(1) << 30, op, ": `z` has ", n, " points");
  Tensor value = new_tensor<double>(z, {slices, rows});
  if (rows == 0) return value;
  const LabelWords words(op, static_cast<const uint8_t*>(labels.data_ptr()), rows, n);
  const double pairs = double(words.in_x()) * double(n - words.in_x());
  switch_floating(op, z, [&](auto zero) {
    using T = decltype(zero);
    const auto sweep = FC_PICK_ISA(sweep_labels<T>);
    const auto make = [&] {
      auto made = std::make_unique<LabelSweeper<T>>();
      made->sorted.values.resize(n);
      made->sorted.places.resize(n);
      return made;
    };
    for_slices<LabelSweeper<T>>(slices, n * words.groups(), make, [&](LabelSweeper<T>& own, int64_t p) {
      own.sorter.begin(n);
      own.sorter.add(data<T>(z) + p * n, n);
      own.sorter.sort(own.sorted.values.data(), own.sorted.places.data());
      const bool finite = is_finite(own.sorted.values[0]) && is_finite(own.sorted.values[n - 1]);
      for (int64_t g = 0; g < words.groups(); ++g) {
        double total[kGroup];
        if (finite) sweep(own.sorted, words.group(g), n, double(words.in_x()), total);
        double* to = data<double>(value) + p * rows + g * kGroup;
        for (int64_t l = 0; l < std::min(kGroup, rows - g * kGroup); ++l)
          to[l] = finite ? total[l] / pairs / pairs : std::numeric_limits<double>::quiet_NaN();
      }
    });
  });
  return value;
}

}  // namespace
}  // namespace fc::mmd

STABLE_TORCH_LIBRARY_IMPL(fastcore_ops, CPU, m) { m.impl("mmd_permutation", TORCH_BOX(&fc::mmd::mmd_permutation)); }
