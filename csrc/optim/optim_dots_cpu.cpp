// Sums over whole parameters that a step may need before it begins: norms and the share along the parameter.
#include <torch/csrc/stable/library.h>

#include <algorithm>
#include <vector>

#include "../common/isa.h"
#include "../common/parallel.h"
#include "../common/tensor.h"
#include "chunk.h"
#include "step_arguments.h"

#define FC_LOOP_FILE "../optim/optim_loop.inc"
#include "../common/foreach_isa.h"

namespace fc::optim {
namespace {

constexpr int64_t kPiece = 1 << 15;  // elements of a partial sum: cut by size alone, added in order

struct Piece {
  int64_t parameter, begin, count;
};

template <class T, class P>
void dots(const std::vector<Tensor>& params, const std::vector<Tensor>& grads, double* out) {
  const int64_t n = int64_t(params.size());
  std::vector<Piece> pieces;
  int64_t elements = 0;
  for (int64_t i = 0; i < n; ++i) {
    const int64_t size = params[i].numel();
    elements += size;
    for (int64_t begin = 0; begin < size; begin += kPiece) pieces.push_back({i, begin, std::min(kPiece, size - begin)});
  }
  std::vector<double> partial(3 * pieces.size());
  const auto add = FC_PICK_ISA(add_dots<T, P>);
  for_blocks(cut_blocks(int64_t(pieces.size()), 1, 256), [&](int64_t, int64_t begin, int64_t end) {
    for (int64_t k = begin; k < end; ++k)
      add(static_cast<const P*>(params[pieces[k].parameter].data_ptr()) + pieces[k].begin,
          static_cast<const P*>(grads[pieces[k].parameter].data_ptr()) + pieces[k].begin, pieces[k].count, partial.data() + 3 * k);
  }, elements > kPiece);
  std::fill(out, out + 3 * n, 0.0);
  for (size_t k = 0; k < pieces.size(); ++k)
    for (int row = 0; row < 3; ++row) out[row * n + pieces[k].parameter] += partial[3 * k + row];
}

Tensor optim_dots(std::vector<Tensor> params, std::vector<Tensor> grads, Tensor like) {
  constexpr const char* op = "optim_dots";
  const int64_t n = int64_t(params.size());
  FC_CHECK(grads.size() == params.size(), op, ": `params` and `grads` differ in length");
  Tensor out = new_tensor<double>(like, {3, n});
  if (n == 0) return out;
  const ScalarType type = params[0].scalar_type();
  for (int64_t i = 0; i < n; ++i) {
    FC_CHECK(params[i].scalar_type() == type && grads[i].scalar_type() == type, op, ": one call has one dtype");
    const Layout layout(params[i]);
    FC_CHECK(layout == Layout(grads[i]) && layout.is_dense(), op, ": a gradient does not lie in memory as its parameter does");
  }
  double* sums = data<double>(out);
  if (type == ScalarType::Double) dots<double, double>(params, grads, sums);
  else if (type == ScalarType::Float) dots<float, float>(params, grads, sums);
  else if (type == ScalarType::BFloat16) dots<float, BFloat16>(params, grads, sums);
  else if (type == ScalarType::Half) dots<float, Float16>(params, grads, sums);
  else FC_CHECK(false, op, ": no kernel for this dtype");
  return out;
}

}  // namespace
}  // namespace fc::optim

STABLE_TORCH_LIBRARY_IMPL(fastcore_ops, CPU, m) { m.impl("optim_dots", TORCH_BOX(&fc::optim::optim_dots)); }
