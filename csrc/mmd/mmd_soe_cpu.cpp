// Distances of projected samples by sums of exponentials: powers of |x - y| other than 1, its logarithm, thin plates.
#include <torch/csrc/stable/library.h>

#include "../common/dtype_switch.h"
#include "../common/isa.h"
#include "../common/reduce.h"
#include "slice_pool.h"
#include "slice_tensors.h"
#include "soe_slice.h"

#define FC_LOOP_FILE "../mmd/mmd_soe_loop.inc"
#include "../common/math.h"
#include "../common/foreach_isa.h"

namespace fc::mmd {
namespace {

SliceTensors mmd_soe(Tensor x, Tensor y, OptionalTensor x_weights, OptionalTensor y_weights, int64_t kernel, double r,
                     double quadratic, double scale, bool unbiased, int64_t outputs) {
  const char* op = "mmd_soe";
  const TwoSamples in(op, x, y, x_weights, y_weights, unbiased);
  FC_CHECK(kernel == kRiesz || kernel == kLog || kernel == kThinPlate, op, ": `kernel` ", kernel, " is unknown");
  FC_CHECK(kernel != kRiesz || (r > 0 && r < 2 && r != 1), op, ": `r` is ", r, ", not in (0, 1) or (1, 2)");
  const SoeJob job{kernel, r, quadratic, scale, unbiased};
  return switch_floating(op, x, [&](auto zero) {
    using T = decltype(zero);
    const SliceTensors all = new_outputs<T>(in, x, outputs);
    const SoeTable table = SoeMaker<T>::make(kernel, r);
    const SoeSums sums = FC_PICK_ISA(soe_sums<T>);
    for_slices<SoeSlice<T>>(in.slices, 4 * (in.n + in.m), [&] { return std::make_unique<SoeSlice<T>>(job, table, sums); },
                            [&](SoeSlice<T>& slice, int64_t p) {
      slice.run(data<T>(x) + p * in.n, data<T>(y) + p * in.m, in.n, in.m, in.a.row(p), in.b.row(p),
                slice_outputs<T>(all, in, p, outputs));
    });
    return all;
  });
}

}  // namespace
}  // namespace fc::mmd

STABLE_TORCH_LIBRARY_IMPL(fastcore_ops, CPU, m) { m.impl("mmd_soe", TORCH_BOX(&fc::mmd::mmd_soe)); }
