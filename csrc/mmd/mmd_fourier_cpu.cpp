// Distances of projected samples for smooth kernels, by Fourier modes.
#include <torch/csrc/stable/library.h>

#include "../common/dtype_switch.h"
#include "../common/isa.h"
#include "../common/reduce.h"
#include "fourier_slice.h"
#include "slice_pool.h"
#include "slice_tensors.h"

#define FC_LOOP_FILE "../mmd/mmd_fourier_loop.inc"
#include "../common/foreach_isa.h"

namespace fc::mmd {
namespace {

std::tuple<Tensor, Tensor, Tensor, Tensor, Tensor, Tensor> mmd_fourier(
    Tensor x, Tensor y, OptionalTensor x_weights, OptionalTensor y_weights, Tensor bandwidth, int64_t kernel, int64_t d,
    double shape, double kink, double low, double high, double stretch, double margin, bool unbiased, int64_t outputs) {
  const char* op = "mmd_fourier";
  const TwoSamples in(op, x, y, x_weights, y_weights, unbiased);
  check_tensor(op, "bandwidth", bandwidth, ScalarType::Double, {});
  FC_CHECK(kernel >= kGaussian && kernel <= kMultiquadric, op, ": `kernel` ", kernel, " is unknown");
  FC_CHECK(d > 0 && margin > 0 && stretch >= 1 && high > 0, op,
           ": `d`, `high` and `margin` are positive, `stretch` at least 1");
  Tensor modes = new_tensor<int64_t>(x, {in.slices});
  SeriesStore series(make_spectrum(kernel, d, shape), {kink, low, high, stretch, margin});
  const double width = *data<double>(bandwidth);
  return switch_floating(op, x, [&](auto zero) {
    using T = decltype(zero);
    const FourierLoops<T> loops{FC_PICK_ISA(range_of<T>), FC_PICK_ISA(place_points<T>), FC_PICK_ISA(find_moments),
                                FC_PICK_ISA(sum_modes), FC_PICK_ISA(add_modes)};
    const SliceTensors all = new_outputs<T>(in, x, outputs);
    for_slices<FourierSlice<T>>(in.slices, in.n + in.m,
                                [&] { return std::make_unique<FourierSlice<T>>(loops, series, width, unbiased); },
                                [&](FourierSlice<T>& slice, int64_t p) {
      data<int64_t>(modes)[p] = slice.run(data<T>(x) + p * in.n, data<T>(y) + p * in.m, in.n, in.m, in.a.row(p), in.b.row(p),
                                          slice_outputs<T>(all, in, p, outputs));
    });
    return std::tuple_cat(all, std::tuple(modes));
  });
}

}  // namespace
}  // namespace fc::mmd

STABLE_TORCH_LIBRARY_IMPL(fastcore_ops, CPU, m) { m.impl("mmd_fourier", TORCH_BOX(&fc::mmd::mmd_fourier)); }
