// mmd_hadamard on CUDA: D^(-3/2) H S3 H S2 H S1 of padded points, or its transpose. A block transforms a tile of points in
// shared memory: a thread takes up to 16 entries of a point into registers and goes through four levels of butterflies, so
// that at D = 1024 a transform is three sweeps of the tile. Points too long for shared memory are swept in global memory.
// Several transforms of the same points go side by side; transposed, one after the other in the same block, which adds up.
#include "../common/block.cuh"
#include "../common/dtype_switch.h"
#include "../common/hd.h"
#include "../common/tensor.h"
#include "hadamard_tensors.h"

#include <cmath>
#include <type_traits>

namespace fc::mmd {
namespace {

constexpr int kThreads = 512, kMostLevels = 4, kGlobalThreads = 256, kMostBlocks = 65535;
constexpr int kSomePoints = 16;  // 64 bytes side by side of a slice
constexpr int kMostPoints = 128;  // of short ones: a thread of the block has butterflies from D = 64 on

template <class T>
struct Transform {
  const T *in, *signs;
  T* out;
  int64_t points, width, size, depth;  // width: entries of a point that are given; size: those that are wanted
  bool transpose, add;  // add: to what is there

  __device__ int64_t place_in(int64_t i, int64_t e) const { return transpose ? e * points + i : i * width + e; }
  __device__ int64_t place_out(int64_t i, int64_t e) const { return transpose ? i * size + e : e * points + i; }
  // The diagonal of stage 0, 1, 2; forward it is met before the butterflies, transposed after them.
  __device__ const T* diagonal(int stage) const { return signs + (transpose ? 2 - stage : stage) * depth; }
};

// Several of them, that have `slices` rows together.
template <class T>
struct Transforms {
  Transform<T> first;
  int64_t count, slices;

  FC_HD Transform<T> at(int64_t k) const {
    Transform<T> one = first;
    const int64_t before = k * first.depth, left = slices - before, rows = left < first.depth ? left : first.depth;
    one.signs += 3 * before;
    (first.transpose ? one.width : one.size) = rows;
    if (first.transpose) one.in += before * first.points;
    else one.out += before * first.points;
    one.add = first.transpose && k > 0;
    return one;
  }
};

// `levels` levels of butterflies of one point's entries base, base + stride, …
template <int levels, class T, class At>
__device__ void butterflies(const At& at, int64_t base, int64_t stride, const T* before, const T* after) {
  constexpr int count = 1 << levels;
  T v[count];
#pragma unroll
  for (int r = 0; r < count; ++r) {
    const int64_t e = base + r * stride;
    v[r] = before ? at(e) * before[e] : at(e);
  }
#pragma unroll
  for (int half = 1; half < count; half *= 2)
#pragma unroll
    for (int r = 0; r < count; ++r)
      if (!(r & half)) {
        const T first = v[r], second = v[r + half];
        v[r] = first + second;
        v[r + half] = first - second;
      }
#pragma unroll
  for (int r = 0; r < count; ++r) {
    const int64_t e = base + r * stride;
    at(e) = after ? v[r] * after[e] : v[r];
  }
}

// The group that a thread's butterflies start from: strides up to 2^level are done.
__device__ int64_t base_of_group(int64_t group, int level, int levels) {
  const int64_t low = group & ((int64_t(1) << level) - 1);
  return ((group - low) << levels) + low;
}

// One sweep of a tile with `levels` levels.
template <int levels, class T>
__device__ void sweep_tile(T* tile, int points, int depth, int level, const T* before, const T* after) {
  const int row = points | 1;
  for (int g = int(threadIdx.x); g < (depth >> levels) * points; g += kThreads) {
    T* mine = tile + g % points;
    const int base = int(base_of_group(g / points, level, levels));
    butterflies<levels>([&](int64_t e) -> T& { return mine[int(e) * row]; }, base, int64_t(1) << level, before, after);
  }
  __syncthreads();
}

template <class T>
__device__ void load_tile(const Transform<T>& transform, T* tile, int64_t first, int points, int depth, T scale) {
  const int row = points | 1;
  const bool transpose = transform.transpose;
  for (int k = int(threadIdx.x); k < depth * points; k += kThreads) {  // neighbours in memory to neighbouring threads
    const int e = transpose ? k / points : k % depth, p = transpose ? k % points : k / depth;
    const bool inside = e < transform.width && first + p < transform.points;
    tile[e * row + p] = inside ? transform.in[transform.place_in(first + p, e)] * scale : T(0);
  }
}

template <class T>
__device__ void store_tile(const Transform<T>& transform, const T* tile, int64_t first, int points) {
  const int row = points | 1, size = int(transform.size);
  const bool transpose = transform.transpose;
  for (int k = int(threadIdx.x); k < size * points; k += kThreads) {
    const int e = transpose ? k % size : k / points, p = transpose ? k / size : k % points;
    if (first + p >= transform.points) continue;
    T& out = transform.out[transform.place_out(first + p, e)];  // of the same thread in each transform
    out = transform.add ? out + tile[e * row + p] : tile[e * row + p];
  }
}

template <class T>
__device__ void sweep_stages(const Transform<T>& transform, T* tile, int points, int log_depth) {
  const int depth = 1 << log_depth;
  for (int stage = 0; stage < 3; ++stage) {
    const T* diagonal = transform.diagonal(stage);
    for (int level = 0; level == 0 || level < log_depth; level += kMostLevels) {
      const int left = log_depth - level;
      const T* before = !transform.transpose && level == 0 ? diagonal : nullptr;
      const T* after = transform.transpose && left <= kMostLevels ? diagonal : nullptr;
      if (left >= 4) sweep_tile<4>(tile, points, depth, level, before, after);
      else if (left == 3) sweep_tile<3>(tile, points, depth, level, before, after);
      else if (left == 2) sweep_tile<2>(tile, points, depth, level, before, after);
      else if (left == 1) sweep_tile<1>(tile, points, depth, level, before, after);
      else sweep_tile<0>(tile, points, depth, level, before, after);  // one entry: signs alone
    }
  }
}

// gate: no spills
template <class T>
__global__ void __launch_bounds__(kThreads) hadamard_tile_kernel(const Transforms<T> transforms, int points, int log_depth, T scale) {
  FC_DYNAMIC_SHARED(T, tile);
  const int64_t first = int64_t(blockIdx.x) * points;
  for (int64_t k = blockIdx.y; k < transforms.count; k += gridDim.y) {
    const Transform<T> transform = transforms.at(k);
    load_tile(transform, tile, first, points, 1 << log_depth, scale);
    __syncthreads();
    sweep_stages(transform, tile, points, log_depth);
    store_tile(transform, tile, first, points);
    __syncthreads();
  }
}

// In global memory: work (points, depth).
// gate: no spills
template <class T>
__global__ void __launch_bounds__(kGlobalThreads) pad_points_kernel(const Transform<T> transform, T scale, T* work) {
  const int64_t k = int64_t(blockIdx.x) * kGlobalThreads + threadIdx.x, i = k / transform.depth, e = k % transform.depth;
  if (i < transform.points) work[k] = e < transform.width ? transform.in[transform.place_in(i, e)] * scale : T(0);
}

// gate: no spills
template <int levels, class T>
__global__ void __launch_bounds__(kGlobalThreads)
sweep_points_kernel(T* work, int64_t points, int64_t depth, int level, const T* before, const T* after) {
  const int64_t k = int64_t(blockIdx.x) * kGlobalThreads + threadIdx.x, groups = depth >> levels;
  if (k >= points * groups) return;
  T* mine = work + k / groups * depth;
  const int64_t base = base_of_group(k % groups, level, levels);
  butterflies<levels>([&](int64_t e) -> T& { return mine[e]; }, base, int64_t(1) << level, before, after);
}

// gate: no spills
template <class T>
__global__ void __launch_bounds__(kGlobalThreads) cut_points_kernel(const Transform<T> transform, const T* work) {
  const int64_t k = int64_t(blockIdx.x) * kGlobalThreads + threadIdx.x;
  if (k >= transform.points * transform.size) return;
  const int64_t i = transform.transpose ? k / transform.size : k % transform.points;
  const int64_t e = transform.transpose ? k % transform.size : k / transform.points;
  transform.out[k] = transform.add ? transform.out[k] + work[i * transform.depth + e] : work[i * transform.depth + e];
}

unsigned blocks_for(int64_t count) {
  FC_CHECK(count / kGlobalThreads < (int64_t(1) << 31) - 1, "mmd_hadamard: too many points for one launch");
  return unsigned((count + kGlobalThreads - 1) / kGlobalThreads);
}

template <class T>
void transform_in_global(const Tensor& like, const Transform<T>& transform, int log_depth, T scale) {
  const cudaStream_t stream = current_stream(like);
  const Tensor memory = new_tensor<T>(like, {transform.points, transform.depth});
  T* work = data<T>(memory);
  const int64_t entries = transform.points * transform.depth;
  launch(pad_points_kernel<T>, blocks_for(entries), kGlobalThreads, 0, stream, transform, scale, work);
  for (int stage = 0; stage < 3; ++stage) {
    const T* diagonal = transform.signs + (transform.transpose ? 2 - stage : stage) * transform.depth;
    for (int level = 0; level == 0 || level < log_depth; level += kMostLevels) {
      const auto sweep = [&](auto levels) {
        constexpr int count = decltype(levels)::value;
        launch(sweep_points_kernel<count, T>, blocks_for(entries >> count), kGlobalThreads, 0, stream, work,
               transform.points, transform.depth, level, !transform.transpose && level == 0 ? diagonal : nullptr,
               transform.transpose && log_depth - level <= kMostLevels ? diagonal : nullptr);
      };
      const int left = log_depth - level;
      if (left >= 4) sweep(std::integral_constant<int, 4>());
      else if (left == 3) sweep(std::integral_constant<int, 3>());
      else if (left == 2) sweep(std::integral_constant<int, 2>());
      else sweep(std::integral_constant<int, 1>());
    }
  }
  launch(cut_points_kernel<T>, blocks_for(transform.points * transform.size), kGlobalThreads, 0, stream, transform, work);
}

// Points of a tile: as many as keep the threads busy and let two blocks live side by side, while 32 bytes of a slice last.
template <class T>
int points_of_tile(const Tensor& like, int64_t depth) {
  const int64_t most = int64_t(shared_bytes_per_block(like)) - 1024;
  const auto bytes = [&](int points) { return depth * (points | 1) * int64_t(sizeof(T)); };
  int points = kSomePoints;
  while (points < kMostPoints && (depth >> kMostLevels) * points < kThreads) points *= 2;
  while (points > 1 && bytes(points) > most / (points > 8 ? 2 : 1)) points /= 2;
  return bytes(points) > most ? 0 : points;
}

template <class T>
void transform_points(const Tensor& like, const Transforms<T>& transforms) {
  const Transform<T>& first = transforms.first;
  int log_depth = 0;
  while (int64_t(1) << log_depth < first.depth) ++log_depth;
  const T scale = T(1.0 / (double(first.depth) * std::sqrt(double(first.depth))));
  const int points = points_of_tile<T>(like, first.depth);
  if (points == 0) {
    for (int64_t k = 0; k < transforms.count; ++k) transform_in_global(like, transforms.at(k), log_depth, scale);
    return;
  }
  const int64_t side = first.transpose ? 1 : transforms.count < kMostBlocks ? transforms.count : kMostBlocks;
  const dim3 grid(unsigned((first.points + points - 1) / points), unsigned(side));
  const size_t bytes = size_t(first.depth) * (points | 1) * sizeof(T);
  launch(hadamard_tile_kernel<T>, grid, kThreads, bytes, current_stream(like), transforms, points, log_depth, scale);
}

Tensor mmd_hadamard(const Tensor& x, const Tensor& signs, int64_t size, bool transpose) {
  constexpr const char* op = "mmd_hadamard";
  const HadamardShape shape = check_hadamard(op, x, signs, size, transpose);
  FC_CHECK(shape.points > 0, op, ": `x` has no points");
  const DeviceScope device(x);
  return switch_floating(op, x, [&](auto zero) {
    using T = decltype(zero);
    const Tensor out = transpose ? new_tensor<T>(x, {shape.points, size}) : new_tensor<T>(x, {size, shape.points});
    const Transform<T> first{data<T>(x), data<T>(signs), data<T>(out), shape.points, shape.width, shape.width, shape.depth, transpose, false};
    transform_points(x, Transforms<T>{first, shape.transforms, shape.slices});
    return out;
  });
}

}  // namespace
}  // namespace fc::mmd

STABLE_TORCH_LIBRARY_IMPL(FC_OPS_NAMESPACE, FC_OPS_KEY, m) { m.impl("mmd_hadamard", TORCH_BOX(&fc::mmd::mmd_hadamard)); }
