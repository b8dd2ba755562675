// Random Hadamard projections of points on slices, and back.
#include <torch/csrc/stable/library.h>

#include <cmath>

#include "../common/aligned.h"
#include "../common/dtype_switch.h"
#include "../common/isa.h"
#include "../common/parallel.h"
#include "../common/reduce.h"
#include "hadamard.h"
#include "slice_pool.h"

#define FC_LOOP_FILE "../mmd/mmd_hadamard_loop.inc"
#include "../common/foreach_isa.h"

namespace fc::mmd {
namespace {

constexpr int64_t kLane = 16;  // points: a multiple of every vector's width

// Points whose tiles are in the second cache together, so that rows of slices are written in long stretches.
int64_t group_points(int64_t depth, int64_t element_bytes) {
  const int64_t fitting = (int64_t(512) << 10) / (depth * element_bytes);
  return std::clamp<int64_t>(fitting / kLane * kLane, kLane, 128);
}

Tensor mmd_hadamard(Tensor x, Tensor signs, int64_t size, bool transpose) {
  const char* op = "mmd_hadamard";
  FC_CHECK(x.dim() == 2, op, ": `x` has ", x.dim(), " dimensions instead of 2");
  FC_CHECK(signs.dim() == 2, op, ": `signs` has ", signs.dim(), " dimensions instead of 2");
  const int64_t depth = signs.size(1), points = x.size(transpose ? 1 : 0), rows = x.size(transpose ? 0 : 1);
  check_tensor(op, "x", x, x.scalar_type(), {x.size(0), x.size(1)});
  check_tensor(op, "signs", signs, x.scalar_type(), {3, depth});
  FC_CHECK(depth > 0 && (depth & (depth - 1)) == 0, op, ": `signs` has ", depth, " columns, not a power of 2");
  FC_CHECK(rows <= depth, op, ": `x` has ", rows, " rows of the transform, of ", depth);
  FC_CHECK(size > 0 && size <= depth, op, ": `size` is ", size, ", not in 1 ... ", depth);
  return switch_floating(op, x, [&](auto zero) {
    using T = decltype(zero);
    Tensor out = transpose ? new_tensor<T>(x, {points, size}) : new_tensor<T>(x, {size, points});
    const T scale = T(std::pow(double(depth), -1.5));  // before the sums: no result exceeds the point's length
    AlignedVector<T> factor(depth);
    for (int64_t k = 0; k < depth; ++k) factor[k] = data<T>(signs)[k] * scale;
    const HadamardPlan plan(depth);
    const HadamardArguments<T> arguments{data<T>(x), data<T>(signs), factor.data(), data<T>(out), points, rows, size, scale, transpose};
    const auto project = FC_PICK_ISA(hadamard_group<T>);
    const int64_t group = group_points(depth, sizeof(T));
    using Tiles = RawVector<T>;
    for_slices<Tiles>((points + group - 1) / group, group * depth, [&] { return std::make_unique<Tiles>(group * depth); },
                      [&](Tiles& tiles, int64_t p) {
      project(plan, arguments, p * group, std::min(points, (p + 1) * group), tiles.data());
    });
    return out;
  });
}

}  // namespace
}  // namespace fc::mmd

STABLE_TORCH_LIBRARY_IMPL(fastcore_ops, CPU, m) { m.impl("mmd_hadamard", TORCH_BOX(&fc::mmd::mmd_hadamard)); }
