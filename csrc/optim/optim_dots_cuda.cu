// Sums over whole parameters on CUDA: a block's part of a parameter first, then a block adds up what a parameter's have found.
// Cuts depend on sizes alone and every sum has one order.
#include "../common/upload.cuh"
#include "block_map.cuh"
#include "step_arguments.h"
#include "step_elements.cuh"

#include <limits>
#include <vector>

namespace fc::optim {
namespace {

// partial[3 b …]: |p|^2, <p, g> and |g|^2 of block b's elements.
// gate: no spills
template <class T, class P>
__global__ void __launch_bounds__(kThreads) dots_kernel(BlockMap map, double* partial) {
  constexpr int vector = 16 / int(sizeof(P));
  const Piece piece = piece_of_block(map);
  const P* p = static_cast<const P*>(map.entries[piece.i].parameter) + piece.begin;
  const P* g = static_cast<const P*>(map.entries[piece.i].gradient) + piece.begin;
  const int count = int(piece.end - piece.begin), whole = (uint64_t(p) | uint64_t(g)) % 16 == 0 ? count / vector * vector : 0;
  double sums[3] = {};
  const auto add = [&](Raw<P> p_raw, Raw<P> g_raw) {
    const double x = decode<T, P>(p_raw), y = decode<T, P>(g_raw);
    sums[0] += x * x, sums[1] += x * y, sums[2] += y * y;
  };
  for (int j = int(threadIdx.x) * vector; j < whole; j += kThreads * vector) {
    Raw<P> x[vector], y[vector];
    Neighbours<P, vector>::load(p + j, x);
    Neighbours<P, vector>::load(g + j, y);
#pragma unroll
    for (int l = 0; l < vector; ++l) add(x[l], y[l]);
  }
  for (int j = whole + int(threadIdx.x); j < count; j += kThreads) {
    Raw<P> x, y;
    Neighbours<P, 1>::load(p + j, &x);
    Neighbours<P, 1>::load(g + j, &y);
    add(x, y);
  }
#pragma unroll
  for (int k = 0; k < 3; ++k) {
    const double sum = block_sum<kThreads>(sums[k]);
    if (threadIdx.x == 0) partial[3 * int64_t(blockIdx.x) + k] = sum;
  }
}

// out[k, i]: the sums of parameter i's blocks. first_block has one more entry, the number of blocks.
// gate: no spills
__global__ void __launch_bounds__(kThreads) add_dots_kernel(BlockMap map, const double* partial, double* out) {
  const int64_t i = blockIdx.x, first = map.first_block[i], last = map.first_block[i + 1];
  double sums[3] = {};
  for (int64_t b = first + threadIdx.x; b < last; b += kThreads)
#pragma unroll
    for (int k = 0; k < 3; ++k) sums[k] += partial[3 * b + k];
#pragma unroll
  for (int k = 0; k < 3; ++k) {
    const double sum = block_sum<kThreads>(sums[k]);
    if (threadIdx.x == 0) out[k * map.n + i] = sum;
  }
}

// Number of blocks, written behind the last first block too.
int64_t fill_map(const std::vector<Tensor>& params, const std::vector<Tensor>& grads, int64_t* first_block, Entry* entries) {
  int64_t blocks = 0;
  for (size_t i = 0; i < params.size(); ++i) {
    const int64_t count = Layout(params[i]).numel();
    entries[i] = {params[i].data_ptr(), grads[i].data_ptr(), count, 0, 0, 0, 0};
    first_block[i] = blocks;
    blocks += (count + kBlockElements - 1) / kBlockElements;
  }
  first_block[params.size()] = blocks;
  return blocks;
}

template <class T, class P>
void dots(const std::vector<Tensor>& params, const std::vector<Tensor>& grads, const Tensor& like, double* out) {
  const int64_t n = int64_t(params.size());
  Upload upload(like, n + 1 + n * int64_t(sizeof(Entry) / 8));
  const int64_t blocks = fill_map(params, grads, upload.at_host(), reinterpret_cast<Entry*>(upload.at_host() + n + 1));
  FC_CHECK(blocks <= std::numeric_limits<int32_t>::max(), "optim_dots: too many elements for one launch");
  upload.send();
  const BlockMap map{upload.at_device(), reinterpret_cast<const Entry*>(upload.at_device() + n + 1), n};
  const Tensor partial = new_tensor<double>(like, {blocks, 3});
  const cudaStream_t stream = current_stream(like);
  if (blocks > 0) launch(dots_kernel<T, P>, unsigned(blocks), kThreads, 0, stream, map, data<double>(partial));
  launch(add_dots_kernel, unsigned(n), kThreads, 0, stream, map, data<double>(partial), out);
}

Tensor optim_dots(std::vector<Tensor> params, std::vector<Tensor> grads, Tensor like) {
  constexpr const char* op = "optim_dots";
  const int64_t n = int64_t(params.size());
  FC_CHECK(grads.size() == params.size(), op, ": `params` and `grads` differ in length");
  const DeviceScope device(like);
  Tensor out = new_tensor<double>(like, {3, n});
  if (n == 0) return out;
  const ScalarType type = params[0].scalar_type();
  for (int64_t i = 0; i < n; ++i) {
    FC_CHECK(params[i].scalar_type() == type && grads[i].scalar_type() == type, op, ": one call has one dtype");
    for (const Tensor* tensor : {&params[i], &grads[i]})
      FC_CHECK(is_on_device(*tensor) && tensor->get_device_index() == like.get_device_index(), op,
               ": a tensor is on another device than `like`");
    const Layout layout(params[i]);
    FC_CHECK(layout == Layout(grads[i]) && layout.is_dense(), op, ": a gradient does not lie in memory as its parameter does");
  }
  double* sums = data<double>(out);
  if (type == ScalarType::Double) dots<double, double>(params, grads, like, sums);
  else if (type == ScalarType::Float) dots<float, float>(params, grads, like, sums);
  else if (type == ScalarType::BFloat16) dots<float, BFloat16>(params, grads, like, sums);
  else if (type == ScalarType::Half) dots<float, Float16>(params, grads, like, sums);
  else FC_CHECK(false, op, ": no kernel for this dtype");
  return out;
}

}  // namespace
}  // namespace fc::optim

STABLE_TORCH_LIBRARY_IMPL(FC_OPS_NAMESPACE, FC_OPS_KEY, m) { m.impl("optim_dots", TORCH_BOX(&fc::optim::optim_dots)); }
