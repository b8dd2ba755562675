// The arguments of mmd_hadamard, checked.
#pragma once
#include "../common/tensor.h"

namespace fc::mmd {

// Points of `width` coordinates, `slices` rows of `transforms` matrices of order `depth`.
struct HadamardShape {
  int64_t points, width, slices, depth, transforms;
};

inline HadamardShape check_hadamard(const char* op, const Tensor& x, const Tensor& signs, int64_t size, bool transpose) {
  FC_CHECK(x.dim() == 2, op, ": `x` has ", x.dim(), " dimensions instead of 2");
  FC_CHECK(signs.dim() == 2 || signs.dim() == 3, op, ": `signs` has ", signs.dim(), " dimensions instead of 2 or 3");
  const bool one = signs.dim() == 2;
  const int64_t transforms = one ? 1 : signs.size(0), depth = signs.size(one ? 1 : 2);
  const HadamardShape shape{x.size(transpose ? 1 : 0), transpose ? size : x.size(1), transpose ? x.size(0) : size, depth, transforms};
  check_tensor(op, "x", x, x.scalar_type(), {x.size(0), x.size(1)});
  if (one) check_tensor(op, "signs", signs, x.scalar_type(), {3, depth});
  else check_tensor(op, "signs", signs, x.scalar_type(), {transforms, 3, depth});
  FC_CHECK(depth > 0 && (depth & (depth - 1)) == 0, op, ": `signs` has ", depth, " columns, not a power of 2");
  const char* of_slices = transpose ? "x" : "size";
  const char* of_width = transpose ? "size" : "x";
  FC_CHECK(shape.width > 0 && shape.width <= depth, op, ": `", of_width, "` has ", shape.width, " coordinates, not 1 ... ", depth);
  FC_CHECK(shape.slices > (transforms - 1) * depth && shape.slices <= transforms * depth, op, ": `", of_slices, "` has ", shape.slices,
           " slices where `signs` has ", transforms, " transforms of ", depth, " rows");
  return shape;
}

}  // namespace fc::mmd
