// vector_exp and vector_log: the library's own functions on whole tensors. They are the arithmetic ceiling that
// benchmarks compare with, and how tests reach every instruction set.
#include <torch/csrc/stable/library.h>

#include "dtype_switch.h"
#include "isa.h"
#include "math.h"
#include "parallel.h"

#define FC_LOOP_FILE "vector_math_loop.inc"
#include "foreach_isa.h"

namespace fc {
namespace {

template <class T>
using Loop = void (*)(const T*, T*, int64_t);

template <class T>
Tensor apply_loop(const Tensor& x, Loop<T> loop) {
  FC_CHECK(x.is_contiguous(), "vector math: `x` is not contiguous");
  Tensor y = torch::stable::empty_like(x);
  for_blocks(cut_blocks(x.numel(), 8192, 4096, 64),
             [&](int64_t, int64_t begin, int64_t end) { loop(data<T>(x) + begin, data<T>(y) + begin, end - begin); });
  return y;
}

Tensor vector_exp(Tensor x) {
  return switch_floating("vector_exp", x, [&](auto zero) {
    using T = decltype(zero);
    return apply_loop<T>(x, FC_PICK_ISA(exp_loop<T>));
  });
}

Tensor vector_log(Tensor x) {
  return switch_floating("vector_log", x, [&](auto zero) {
    using T = decltype(zero);
    return apply_loop<T>(x, FC_PICK_ISA(log_loop<T>));
  });
}

}  // namespace
}  // namespace fc

STABLE_TORCH_LIBRARY_IMPL(fastcore_ops, CPU, m) {
  m.impl("vector_exp", TORCH_BOX(&fc::vector_exp));
  m.impl("vector_log", TORCH_BOX(&fc::vector_log));
}
