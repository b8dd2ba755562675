// mmd_permutation on CUDA: D^2 of each slice under many labellings. A slice is sorted once; then a warp sweeps a chunk of it
// under 32 labellings, one a lane. A labelling's running mass N M (F - G) = n #x - k N is an integer, so that chunks start
// where the labels before them say, exactly.
#include "../common/block.cuh"
#include "../common/dtype_switch.h"
#include "rank.h"
#include "segmented_sort.cuh"

namespace fc::mmd {
namespace {

constexpr int kThreads = 256, kChunks = kThreads / kWarp;

// words[i, w]: point i's labels of labellings 32 w … 32 w + 31, a bit each. blockIdx.y strides over w.
// gate: no spills
__global__ void __launch_bounds__(kThreads)
pack_labels_kernel(const uint8_t* labels, int64_t n, int64_t labellings, int64_t row_words, uint32_t* words) {
  const int64_t i = int64_t(blockIdx.x) * kThreads + threadIdx.x;
  if (i >= n) return;
  for (int64_t w = blockIdx.y; w < row_words; w += gridDim.y) {
    uint32_t word = 0;
#pragma unroll 8
    for (int b = 0; b < kWarp; ++b) {
      const int64_t labelling = w * kWarp + b;
      if (labelling < labellings) word |= uint32_t(labels[labelling * n + i] & 1) << b;
    }
    words[i * row_words + w] = word;
  }
}

// What a lane holds of place k of a slice, to be handed to all lanes: labels, and the gap to the next place.
template <class T>
struct Held {
  uint32_t word = 0;
  double gap = 0;

  __device__ Held(const Pairs<word_of<T>>& slice, const uint32_t* words, int64_t row_words, int64_t k, int64_t end, int64_t n) {
    if (k >= end) return;
    word = words[slice.places[k] * row_words];
    if (k + 1 < n) gap = double(from_key<T>(slice.keys[k + 1])) - double(from_key<T>(slice.keys[k]));
  }
};

// A block is a slice and 32 labellings; its warps have a chunk of the slice each.
// gate: no spills
template <class T>
__global__ void __launch_bounds__(kThreads)
permutation_kernel(const Pairs<word_of<T>> sorted, const uint32_t* words, int64_t n, int64_t labellings, int64_t row_words,
                   double* out) {
  FC_SHARED(int64_t, chunk_counts, [kChunks][kWarp]);
  FC_SHARED(double, chunk_sums, [kChunks][kWarp]);
  const int lane = int(threadIdx.x) % kWarp, chunk = int(threadIdx.x) / kWarp;
  const int64_t slice_index = int64_t(blockIdx.x) / row_words, w = int64_t(blockIdx.x) % row_words;
  const Pairs<word_of<T>> slice{sorted.keys + slice_index * n, sorted.places + slice_index * n};
  const int64_t length = ((n + kChunks - 1) / kChunks + kWarp - 1) / kWarp * kWarp;
  const int64_t begin = chunk * length < n ? chunk * length : n, end = begin + length < n ? begin + length : n;

  int64_t count = 0;
  for (int64_t k = begin; k < end; k += kWarp) {
    const uint32_t word = k + lane < end ? words[slice.places[k + lane] * row_words + w] : 0;
#pragma unroll 8
    for (int q = 0; q < kWarp; ++q) count += __shfl_sync(kFullWarp, word, q) >> lane & 1;
  }
  chunk_counts[chunk][lane] = count;
  __syncthreads();
  int64_t before = 0, all = 0;
  for (int c = 0; c < kChunks; ++c) {
    if (c == chunk) before = all;
    all += chunk_counts[c][lane];
  }

  double running = double(n * before - begin * all), sum = 0;
  const double up = double(n - all), down = -double(all);
  for (int64_t k = begin; k < end; k += kWarp) {
    const Held<T> held(slice, words + w, row_words, k + lane, end, n);
#pragma unroll 8
    for (int q = 0; q < kWarp; ++q) {  // places beyond the end have no gap
      running += __shfl_sync(kFullWarp, held.word, q) >> lane & 1 ? up : down;
      sum += __shfl_sync(kFullWarp, held.gap, q) * (running * running);
    }
  }
  chunk_sums[chunk][lane] = sum;
  __syncthreads();
  if (chunk == 0 && w * kWarp + lane < labellings) {
    for (int c = 1; c < kChunks; ++c) sum += chunk_sums[c][lane];
    const double pairs = double(all) * double(n - all);
    const bool finite = is_finite(from_key<T>(slice.keys[0])) && is_finite(from_key<T>(slice.keys[n - 1]));
    out[slice_index * labellings + w * kWarp + lane] = finite ? sum / (pairs * pairs) : double(__uint_as_float(0x7fc00000u));
  }
}

Tensor mmd_permutation(const Tensor& z, const Tensor& labels) {
  constexpr const char* op = "mmd_permutation";
  FC_CHECK(z.dim() == 2 && labels.dim() == 2, op, ": expected `z` and `labels` with 2 dimensions");
  const int64_t slices = z.size(0), n = z.size(1), labellings = labels.size(0);
  FC_CHECK(slices > 0 && n > 0 && labellings > 0, op, ": empty input");
  check_tensor(op, "z", z, z.scalar_type(), {slices, n});
  check_tensor(op, "labels", labels, ScalarType::Byte, {labellings, n});
  const int64_t row_words = (labellings + kWarp - 1) / kWarp;
  FC_CHECK(slices * row_words < kLongestSlice, op, ": too many labellings for one launch");
  const DeviceScope device(z);
  const cudaStream_t stream = current_stream(z);
  const Tensor word_memory = new_tensor<int32_t>(z, {n, row_words});
  auto* words = static_cast<uint32_t*>(word_memory.data_ptr());
  const unsigned strides = unsigned(row_words < 1024 ? row_words : 1024);
  launch(pack_labels_kernel, dim3(unsigned((n + kThreads - 1) / kThreads), strides), kThreads, 0, stream,
         data<uint8_t>(labels), n, labellings, row_words, words);
  const Tensor out = new_tensor<double>(z, {slices, labellings});
  switch_floating(op, z, [&](auto zero) {
    using T = decltype(zero);
    const SortedSlices<T> sorted = sort_slices(op, z, Union<T>{data<T>(z), nullptr, n, 0}, slices);
    launch(permutation_kernel<T>, unsigned(slices * row_words), kThreads, 0, stream, sorted.pairs, words, n, labellings,
           row_words, data<double>(out));
  });
  return out;
}

}  // namespace
}  // namespace fc::mmd

STABLE_TORCH_LIBRARY_IMPL(FC_OPS_NAMESPACE, FC_OPS_KEY, m) {
  m.impl("mmd_permutation", TORCH_BOX(&fc::mmd::mmd_permutation));
}
