// mmd_split on CUDA: float32 numbers in bfloat16 parts, laid out so that one product of bfloat16 matrices with an inner
// dimension six times as long adds up the products of the parts. Bound by memory: 4 bytes read and 12 written a number.
#include "../common/block.cuh"
#include "../common/tensor.h"
#include "split.h"

namespace fc::mmd {
namespace {

constexpr int kThreads = 128, kMostRows = 65535;

// `rows` of `width` numbers each; of a number, part k goes `k * part_stride` further.
struct Split {
  const float *in, *shift;
  BFloat16* out;
  int64_t rows, width, in_stride, out_stride, part_stride;
  int64_t given_rows, given_width;  // beyond them are zeros
  bool partner;
};

template <int lanes>
struct alignas(lanes * sizeof(float)) Numbers {
  float lane[lanes];
};
template <int lanes>
struct alignas(lanes * sizeof(BFloat16)) Parts {
  BFloat16 lane[lanes];
};

template <int lanes>
__device__ void split_lanes(const Split& split, int64_t row, int64_t column) {
  Numbers<lanes> numbers{};
  if (row < split.given_rows && column < split.given_width) {
    numbers = *reinterpret_cast<const Numbers<lanes>*>(split.in + row * split.in_stride + column);
    if (split.shift)
      for (int lane = 0; lane < lanes; ++lane) numbers.lane[lane] -= split.shift[column + lane];
  }
  Parts<lanes> parts[3];
  for (int lane = 0; lane < lanes; ++lane) {
    const SplitNumber number = split_number(numbers.lane[lane]);
    for (int k = 0; k < 3; ++k) parts[k].lane[lane] = number.part[k];
  }
  BFloat16* out = split.out + row * split.out_stride + column;
#pragma unroll
  for (int k = 0; k < kSplitTerms; ++k)
    *reinterpret_cast<Parts<lanes>*>(out + k * split.part_stride) = split.partner ? parts[split_part(k, true)] : parts[split_part(k, false)];
}

// gate: no spills
template <int lanes>
__global__ void __launch_bounds__(kThreads) split_kernel(const Split split) {
  const int64_t column = (int64_t(blockIdx.x) * kThreads + threadIdx.x) * lanes;
  if (column >= split.width) return;
  for (int64_t row = blockIdx.y; row < split.rows; row += gridDim.y) split_lanes<lanes>(split, row, column);
}

template <int lanes>
void launch_split(const Tensor& like, const Split& split) {
  const int64_t groups = (split.width + lanes - 1) / lanes;
  const dim3 grid(unsigned((groups + kThreads - 1) / kThreads), unsigned(split.rows < kMostRows ? split.rows : kMostRows));
  launch(split_kernel<lanes>, grid, kThreads, 0, current_stream(like), split);
}

bool in_fours(const Split& split) {
  const auto whole = [](int64_t n) { return n % 4 == 0; };
  return whole(split.width) && whole(split.in_stride) && whole(split.given_width) && reinterpret_cast<uintptr_t>(split.in) % 16 == 0;
}

Tensor mmd_split(const Tensor& x, const std::optional<Tensor>& shift, int64_t first, int64_t count, bool stacked, bool partner) {
  constexpr const char* op = "mmd_split";
  FC_CHECK(x.dim() == 2, op, ": `x` has ", x.dim(), " dimensions instead of 2");
  const int64_t rows = x.size(0), columns = x.size(1), given = x.size(stacked ? 1 : 0) - first;
  check_tensor(op, "x", x, ScalarType::Float, {rows, columns});
  if (shift) check_tensor(op, "shift", *shift, ScalarType::Float, {1, columns});
  FC_CHECK(!shift || !stacked, op, ": a `shift` is of parts beside each other");
  FC_CHECK(first >= 0 && given > 0 && count > 0 && rows > 0 && columns > 0, op, ": nothing from ", first, " on");
  const DeviceScope device(x);
  const int64_t sizes[] = {stacked ? kSplitTerms * rows : count, stacked ? count : kSplitTerms * columns};
  const Tensor out = torch::stable::new_empty(x, torch::headeronly::IntHeaderOnlyArrayRef(sizes, 2), ScalarType::BFloat16);
  Split split{data<float>(x), data<float>(shift), data<BFloat16>(out)};
  split.partner = partner;
  split.in_stride = columns;
  split.in += stacked ? first : first * columns;
  split.rows = stacked ? rows : count;
  split.width = stacked ? count : columns;
  split.given_rows = stacked ? rows : given;
  split.given_width = stacked ? given : columns;
  split.out_stride = sizes[1];
  split.part_stride = stacked ? rows * count : columns;
  if (in_fours(split)) launch_split<4>(x, split);
  else launch_split<1>(x, split);
  return out;
}

}  // namespace
}  // namespace fc::mmd

STABLE_TORCH_LIBRARY_IMPL(FC_OPS_NAMESPACE, FC_OPS_KEY, m) { m.impl("mmd_split", TORCH_BOX(&fc::mmd::mmd_split)); }
