// Random Hadamard projections of points on slices, and back.
#include <torch/csrc/stable/library.h>

#include <cmath>
#include <vector>

#include "../common/aligned.h"
#include "../common/dtype_switch.h"
#include "../common/isa.h"
#include "../common/parallel.h"
#include "../common/reduce.h"
#include "hadamard.h"
#include "hadamard_tensors.h"
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

// Of each transform its signs, the first of them times the scale, and its rows of the slices.
template <class T>
std::vector<HadamardArguments<T>> each_transform(const Tensor& x, const HadamardShape& shape, const Tensor& signs, AlignedVector<T>& factors,
                                                 T* out, bool transpose) {
  const T scale = T(std::pow(double(shape.depth), -1.5));  // before the sums: no result exceeds the point's length
  std::vector<HadamardArguments<T>> found;
  for (int64_t k = 0; k < shape.transforms; ++k) {
    const T* mine = data<T>(signs) + k * 3 * shape.depth;
    T* factor = factors.data() + k * shape.depth;
    for (int64_t e = 0; e < shape.depth; ++e) factor[e] = mine[e] * scale;
    const int64_t first = k * shape.depth, slices = std::min(shape.depth, shape.slices - first);
    const T* in = data<T>(x) + (transpose ? first * shape.points : 0);
    T* to = out + (transpose ? 0 : first * shape.points);
    found.push_back({in, mine, factor, to, shape.points, transpose ? slices : shape.width, transpose ? shape.width : slices, scale,
                     transpose, k > 0});
  }
  return found;
}

Tensor mmd_hadamard(Tensor x, Tensor signs, int64_t size, bool transpose) {
  const HadamardShape shape = check_hadamard("mmd_hadamard", x, signs, size, transpose);
  return switch_floating("mmd_hadamard", x, [&](auto zero) {
    using T = decltype(zero);
    Tensor out = transpose ? new_tensor<T>(x, {shape.points, size}) : new_tensor<T>(x, {size, shape.points});
    AlignedVector<T> factors(shape.transforms * shape.depth);
    const auto transforms = each_transform<T>(x, shape, signs, factors, data<T>(out), transpose);
    const HadamardPlan plan(shape.depth);
    const auto project = FC_PICK_ISA(hadamard_group<T>);
    const int64_t group = group_points(shape.depth, sizeof(T));
    using Tiles = RawVector<T>;
    for_slices<Tiles>((shape.points + group - 1) / group, shape.transforms * group * shape.depth,
                      [&] { return std::make_unique<Tiles>(group * shape.depth); }, [&](Tiles& tiles, int64_t p) {
      for (const auto& transform : transforms)
        project(plan, transform, p * group, std::min(shape.points, (p + 1) * group), tiles.data());
    });
    return out;
  });
}

}  // namespace
}  // namespace fc::mmd

STABLE_TORCH_LIBRARY_IMPL(fastcore_ops, CPU, m) { m.impl("mmd_hadamard", TORCH_BOX(&fc::mmd::mmd_hadamard)); }
