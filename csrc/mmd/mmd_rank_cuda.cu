// mmd_rank and mmd_rank_sorted on CUDA. Slices of float32 with uniform weights are ranked in shared memory where they fit,
// by buckets, and by a sort where those are of no use; all others are sorted in global memory and swept.
#include "../common/dtype_switch.h"
#include "bucket_rank.cuh"
#include "rank_sweep.cuh"

#include <algorithm>
#include <optional>
#include <tuple>

namespace fc::mmd {
namespace {

using Weights = std::optional<Tensor>;

struct Problem {
  const char* op;
  const Tensor &x, &y;
  const Weights &x_weights, &y_weights;
  bool y_is_sorted, unbiased;
  int64_t outputs;

  int64_t slices() const { return x.size(0); }
  int64_t n() const { return x.size(1); }
  int64_t m() const { return y.size(1); }
  bool is_weighted() const { return x_weights || y_weights; }
  bool wants(int64_t bits) const { return outputs & bits; }
  template <class T>
  Tensor output(int64_t bit, std::initializer_list<int64_t> shape) const {
    return wants(bit) ? new_tensor<T>(x, shape) : new_tensor<T>(x, {0});
  }
};

struct Results {
  Tensor grad_x, grad_y, value, potential_x, potential_y;
};

template <class T>
T* wanted(const Problem& p, int64_t bit, const Tensor& tensor) {
  return p.wants(bit) ? data<T>(tensor) : nullptr;
}

// Weights (count,) or (P, count); `extra` more where they are running sums. Returns the step from slice to slice.
int64_t check_weights(const Problem& p, const char* name, const Weights& weights, int64_t count) {
  if (!weights) return 0;
  const bool is_shared = weights->dim() == 1;
  if (is_shared) check_tensor(p.op, name, *weights, ScalarType::Double, {count});
  else check_tensor(p.op, name, *weights, ScalarType::Double, {p.slices(), count});
  return is_shared ? 0 : count;
}

// Which slices the buckets leave to the sort; nothing where all of them are.
Tensor try_buckets(const Problem& p, const SharedSlices& slices) {
  Tensor left = new_tensor<int32_t>(p.x, {0});
  with_buckets(p.x, p.n(), p.m(), [&](auto threads, int buckets, size_t bytes) {
    left = new_tensor<int32_t>(p.x, {p.slices()});
    launch(bucket_rank_kernel<decltype(threads)::value>, unsigned(p.slices()), threads.value, bytes, current_stream(p.x),
           slices, buckets, data<int32_t>(left));
  });
  return left;
}

bool ranked_in_shared(const Problem& p, const Results& out) {
  if (p.x.scalar_type() != ScalarType::Float || p.is_weighted() || p.wants(kPotentialX | kPotentialY)) return false;
  const int64_t longest = p.y_is_sorted ? p.n() : std::max(p.n(), p.m()), keys = p.n() + p.m() + 2 * kPad;
  return with_block(p.x, longest, keys, [&](auto threads, auto items, size_t bytes) {
    SharedSlices slices{data<float>(p.x), data<float>(p.y), int(p.n()), int(p.m()), p.y_is_sorted, p.unbiased,
                        wanted<float>(p, kGradX, out.grad_x), wanted<float>(p, kGradY, out.grad_y),
                        wanted<double>(p, kValue, out.value), nullptr};
    const Tensor left = try_buckets(p, slices);
    if (left.numel()) slices.left = data<int32_t>(left);
    launch(shared_rank_kernel<decltype(threads)::value, decltype(items)::value>, unsigned(p.slices()), threads.value,
           bytes, current_stream(p.x), slices);
  });
}

template <class T, bool weighted>
void sweep_slices(const Problem& p, const Results& out) {
  const int64_t slices = p.slices(), size = p.n() + p.m();
  const Union<T> points{data<T>(p.x), data<T>(p.y), p.n(), p.m()};
  const Masses masses{data<double>(p.x_weights), data<double>(p.y_weights),
                      check_weights(p, "x_weights", p.x_weights, p.n()),
                      check_weights(p, p.y_is_sorted ? "cumulative" : "y_weights", p.y_weights, p.m() + p.y_is_sorted),
                      p.y_is_sorted, 1.0 / double(p.n()), 1.0 / double(p.m())};
  const SortedSlices<T> sorted = sort_slices(p.op, p.x, points, slices);
  const Tensor running = new_tensor<Running<weighted>>(p.x, {slices, size + 1});
  const auto scratch = [&](int64_t bit, std::initializer_list<int64_t> shape) {
    return p.wants(bit) ? new_tensor<double>(p.x, shape) : new_tensor<double>(p.x, {0});
  };
  const Tensor rise_x = scratch(kPotentialX, {slices, size}), rise_y = scratch(kPotentialY, {slices, size});
  const Tensor start_x = scratch(kPotentialX, {slices}), start_y = scratch(kPotentialY, {slices});
  const Sweep<T, weighted> sweep{points, sorted.pairs, masses, p.unbiased, data<Running<weighted>>(running),
                                 wanted<double>(p, kPotentialX, rise_x), wanted<double>(p, kPotentialY, rise_y),
                                 data<double>(start_x), data<double>(start_y),
                                 wanted<T>(p, kGradX, out.grad_x), wanted<T>(p, kGradY, out.grad_y),
                                 wanted<double>(p, kValue, out.value),
                                 wanted<double>(p, kPotentialX, out.potential_x),
                                 wanted<double>(p, kPotentialY, out.potential_y)};
  const cudaStream_t stream = current_stream(p.x);
  launch(sweep_kernel<T, weighted>, unsigned(slices), kSweepThreads, 0, stream, sweep);
  if (!p.wants(~int64_t(kValue))) return;
  const int64_t blocks = (size + kWriteThreads - 1) / kWriteThreads;
  FC_CHECK(slices * blocks < kLongestSlice, p.op, ": too many points for one launch");
  launch(write_points_kernel<T, weighted>, unsigned(slices * blocks), kWriteThreads, 0, stream, sweep, blocks);
}

Results rank_slices(const Problem& p) {
  FC_CHECK(p.x.dim() == 2 && p.y.dim() == 2, p.op, ": expected points with 2 dimensions");
  const int64_t slices = p.slices(), n = p.n(), m = p.m();
  FC_CHECK(slices > 0 && n > 0 && m > 0 && slices < kLongestSlice, p.op, ": empty input, or too many slices");
  check_tensor(p.op, "x", p.x, p.x.scalar_type(), {slices, n});
  check_tensor(p.op, p.y_is_sorted ? "sorted" : "y", p.y, p.x.scalar_type(), {slices, m});
  FC_CHECK(!p.unbiased || (n > 1 && m > 1 && !p.is_weighted()), p.op, ": unbiased: two points or more, without weights");
  const DeviceScope device(p.x);
  return switch_floating(p.op, p.x, [&](auto zero) {
    using T = decltype(zero);
    Results out{p.output<T>(kGradX, {slices, n}), p.output<T>(kGradY, {slices, m}), p.output<double>(kValue, {slices}),
                p.output<double>(kPotentialX, {slices, n}), p.output<double>(kPotentialY, {slices, m})};
    if (!p.outputs || ranked_in_shared(p, out)) return out;
    if (p.is_weighted()) sweep_slices<T, true>(p, out);
    else sweep_slices<T, false>(p, out);
    return out;
  });
}

std::tuple<Tensor, Tensor, Tensor, Tensor, Tensor> mmd_rank(const Tensor& x, const Tensor& y, const Weights& x_weights,
                                                            const Weights& y_weights, bool unbiased, int64_t outputs) {
  const Results out = rank_slices({"mmd_rank", x, y, x_weights, y_weights, false, unbiased, outputs});
  return {out.grad_x, out.grad_y, out.value, out.potential_x, out.potential_y};
}

std::tuple<Tensor, Tensor, Tensor> mmd_rank_sorted(const Tensor& x, const Tensor& sorted, const Weights& x_weights,
                                                   const Weights& cumulative, bool unbiased, int64_t outputs) {
  const int64_t of_x = outputs & (kGradX | kValue | kPotentialX);
  const Results out = rank_slices({"mmd_rank_sorted", x, sorted, x_weights, cumulative, true, unbiased, of_x});
  return {out.grad_x, out.value, out.potential_x};
}

}  // namespace
}  // namespace fc::mmd

STABLE_TORCH_LIBRARY_IMPL(FC_OPS_NAMESPACE, FC_OPS_KEY, m) {
  m.impl("mmd_rank", TORCH_BOX(&fc::mmd::mmd_rank));
  m.impl("mmd_rank_sorted", TORCH_BOX(&fc::mmd::mmd_rank_sorted));
}
