// Kernels with planted bugs, each beside its right version. `planted_bugs NAME ORDER` runs one,
// `planted_bugs none ORDER` all the right ones, `planted_bugs` lists the names. Exit status 0: right result; 2: the runtime complained; 3: wrong result; sanitizers end the
// process with a status and a report of their own.
#include "../../csrc/common/launch.cuh"

#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <limits>
#include <map>
#include <memory>
#include <stdexcept>
#include <string>

extern "C" void cuda_on_cpu_configure(int order, unsigned seed, long sample_blocks);

namespace {

struct WrongResult {};

template <class T>
std::unique_ptr<T[]> filled(int64_t size, T value) {
  std::unique_ptr<T[]> array(new T[size]);  // exact size: the sanitizer guards both ends
  for (int64_t i = 0; i < size; ++i) array[i] = value;
  return array;
}

template <class T>
void expect_all(const T* array, int64_t size, T value) {
  for (int64_t i = 0; i < size; ++i)
    if (!(array[i] == value)) throw WrongResult();
}

// --- memory ---------------------------------------------------------------------------------------

template <bool bug>
__global__ void tail_off_by_one_kernel(float* x, int64_t n) {
  const int64_t i = int64_t(blockIdx.x) * blockDim.x + threadIdx.x;
  if (i < n + bug) x[i] += 1;
}
template <bool bug>
void tail_off_by_one() {
  auto x = filled<float>(1000, 1);
  fc::launch(tail_off_by_one_kernel<bug>, 8, 128, 0, nullptr, x.get(), 1000);
  expect_all(x.get(), 1000, 2.0f);
}

template <bool bug>
__global__ void tail_forgotten_kernel(float* x, int64_t n) {
  const int64_t i = int64_t(blockIdx.x) * blockDim.x + threadIdx.x;
  if (i < n - bug) x[i] += 1;
}
template <bool bug>
void tail_forgotten() {
  auto x = filled<float>(1000, 1);
  fc::launch(tail_forgotten_kernel<bug>, 8, 128, 0, nullptr, x.get(), 1000);
  expect_all(x.get(), 1000, 2.0f);
}

template <bool bug>
__global__ void column_out_of_range_kernel(const float* matrix, float* sums, int rows, int columns) {
  float sum = 0;
  for (int j = 0; j < columns; ++j) sum += matrix[(bug ? rows : columns) * int64_t(threadIdx.x) + j];
  sums[threadIdx.x] = sum;
}
template <bool bug>
void column_out_of_range() {
  auto matrix = filled<float>(32 * 16, 1), sums = filled<float>(32, 0);
  fc::launch(column_out_of_range_kernel<bug>, 1, 32, 0, nullptr, matrix.get(), sums.get(), 32, 16);
  expect_all(sums.get(), 32, 16.0f);
}

template <bool bug>
__global__ void misaligned_vector_kernel(const float* x, float* y) {
  const float4 v = *reinterpret_cast<const float4*>(x + 4 * threadIdx.x + bug);
  y[threadIdx.x] = v.x + v.y + v.z + v.w;
}
template <bool bug>
void misaligned_vector() {
  auto x = filled<float>(132, 1), y = filled<float>(32, 0);
  fc::launch(misaligned_vector_kernel<bug>, 1, 32, 0, nullptr, x.get(), y.get());
  expect_all(y.get(), 32, 4.0f);
}

template <bool bug>
__global__ void index_overflow_kernel(int* last, int rows, int columns) {
  int64_t index;
  if constexpr (bug) index = int(blockIdx.x) * columns;
  else index = int64_t(blockIdx.x) * columns;
  if (int(blockIdx.x) == rows - 1) *last = index == int64_t(rows - 1) * columns;
}
template <bool bug>
void index_overflow() {
  int last = 0;
  cuda_on_cpu_configure(0, 0, 4);  // the first and last two of 70 000 blocks
  fc::launch(index_overflow_kernel<bug>, 70000, 1, 0, nullptr, &last, 70000, 70000);
  expect_all(&last, 1, 1);
}

// --- shared memory --------------------------------------------------------------------------------

template <bool bug>
__global__ void static_shared_bounds_kernel(float* out) {
  FC_SHARED(float, tile, [32]);
  tile[threadIdx.x + bug] = 1;
  __syncthreads();
  out[threadIdx.x] = tile[threadIdx.x ^ 1];
}
template <bool bug>
void static_shared_bounds() {
  auto out = filled<float>(32, 0);
  fc::launch(static_shared_bounds_kernel<bug>, 1, 32, 0, nullptr, out.get());
  expect_all(out.get(), 32, 1.0f);
}

template <bool bug>
__global__ void dynamic_shared_bounds_kernel(float* out) {
  FC_DYNAMIC_SHARED(float, tile);
  tile[threadIdx.x + bug] = 1;
  __syncthreads();
  out[threadIdx.x] = tile[threadIdx.x ^ 1];
}
template <bool bug>
void dynamic_shared_bounds() {
  auto out = filled<float>(32, 0);
  fc::launch(dynamic_shared_bounds_kernel<bug>, 1, 32, 32 * sizeof(float), nullptr, out.get());
  expect_all(out.get(), 32, 1.0f);
}

template <bool bug>
__global__ void uninitialised_shared_kernel(float* out) {
  FC_SHARED(float, total, [1]);
  if (threadIdx.x == 0 && !bug) total[0] = 0;
  __syncthreads();
  atomicAdd(&total[0], 1.0f);
  __syncthreads();
  if (threadIdx.x == 0) out[blockIdx.x] = total[0];
}
template <bool bug>
void uninitialised_shared() {
  auto out = filled<float>(2, 0);
  fc::launch(uninitialised_shared_kernel<bug>, 2, 64, 0, nullptr, out.get());
  expect_all(out.get(), 2, 64.0f);
}

template <bool bug>
__global__ void missing_barrier_kernel(int* out) {
  FC_SHARED(int, value, [64]);
  value[threadIdx.x] = 63 - int(threadIdx.x);
  if (!bug) __syncthreads();
  out[threadIdx.x] = value[63 - threadIdx.x] == int(threadIdx.x);
}
template <bool bug>
void missing_barrier() {
  auto out = filled<int>(64, 0);
  fc::launch(missing_barrier_kernel<bug>, 1, 64, 0, nullptr, out.get());
  expect_all(out.get(), 64, 1);
}

template <bool bug>
__global__ void missing_syncwarp_kernel(int* out) {
  FC_SHARED(int, value, [32]);
  value[threadIdx.x] = int(threadIdx.x);
  if (!bug) __syncwarp();
  out[threadIdx.x] = value[threadIdx.x ^ 1] == int(threadIdx.x ^ 1);
}
template <bool bug>
void missing_syncwarp() {
  auto out = filled<int>(32, 0);
  fc::launch(missing_syncwarp_kernel<bug>, 1, 32, 0, nullptr, out.get());
  expect_all(out.get(), 32, 1);
}

// --- barriers and warps ---------------------------------------------------------------------------

template <bool bug>
__global__ void divergent_barrier_kernel(int* out) {
  if (bug && threadIdx.x < 32) {
    __syncthreads();
  } else {
    __syncthreads();
  }
  out[threadIdx.x] = 1;
}
template <bool bug>
void divergent_barrier() {
  auto out = filled<int>(64, 0);
  fc::launch(divergent_barrier_kernel<bug>, 1, 64, 0, nullptr, out.get());
  expect_all(out.get(), 64, 1);
}

template <bool bug>
__global__ void early_exit_kernel(int* out, int n) {
  if (bug && int(threadIdx.x) >= n) return;
  __syncthreads();
  if (int(threadIdx.x) < n) out[threadIdx.x] = 1;
}
template <bool bug>
void early_exit() {
  auto out = filled<int>(50, 0);
  fc::launch(early_exit_kernel<bug>, 1, 64, 0, nullptr, out.get(), 50);
  expect_all(out.get(), 50, 1);
}

template <bool bug>
__global__ void mask_lacks_caller_kernel(int* out) {
  out[threadIdx.x] = __shfl_sync(bug ? 0x0000ffffu : 0xffffffffu, 1, 0);
}
template <bool bug>
void mask_lacks_caller() {
  auto out = filled<int>(32, 0);
  fc::launch(mask_lacks_caller_kernel<bug>, 1, 32, 0, nullptr, out.get());
  expect_all(out.get(), 32, 1);
}

template <bool bug>
__global__ void mask_names_absent_kernel(int* out) {
  if (threadIdx.x < 16) out[threadIdx.x] = __shfl_xor_sync(bug ? 0xffffffffu : 0x0000ffffu, 1, 1);
  __syncthreads();
}
template <bool bug>
void mask_names_absent() {
  auto out = filled<int>(16, 0);
  fc::launch(mask_names_absent_kernel<bug>, 1, 32, 0, nullptr, out.get());
  expect_all(out.get(), 16, 1);
}

template <bool bug>
__global__ void unequal_masks_kernel(int* out) {
  const bool low = threadIdx.x < 16;
  const unsigned mask = low ? 0x0000ffffu : (bug ? 0xffffffffu : 0xffff0000u);
  out[threadIdx.x] = __any_sync(mask, 1);
}
template <bool bug>
void unequal_masks() {
  auto out = filled<int>(32, 0);
  fc::launch(unequal_masks_kernel<bug>, 1, 32, 0, nullptr, out.get());
  expect_all(out.get(), 32, 1);
}

// --- between blocks -------------------------------------------------------------------------------

template <bool bug>
__global__ void unprotected_sum_kernel(int* total) {
  if (threadIdx.x != 0) return;
  if (bug) *total += 1;
  else atomicAdd(total, 1);
}
template <bool bug>
void unprotected_sum() {
  int total = 0;
  fc::launch(unprotected_sum_kernel<bug>, 8, 32, 0, nullptr, &total);
  expect_all(&total, 1, 8);
}

#define BUG(name) {#name, {name<false>, name<true>}}
const std::map<std::string, std::pair<void (*)(), void (*)()>> bugs = {
    BUG(tail_off_by_one), BUG(tail_forgotten), BUG(column_out_of_range), BUG(misaligned_vector), BUG(index_overflow),
    BUG(static_shared_bounds), BUG(dynamic_shared_bounds), BUG(uninitialised_shared), BUG(missing_barrier),
    BUG(missing_syncwarp), BUG(divergent_barrier), BUG(early_exit), BUG(mask_lacks_caller), BUG(mask_names_absent),
    BUG(unequal_masks), BUG(unprotected_sum)};

}  // namespace

int main(int count, char** arguments) {
  if (count == 1) {
    for (const auto& [name, versions] : bugs) puts(name.c_str());
    return 0;
  }
  const std::string name = arguments[1];
  if (count != 3 || (name != "none" && !bugs.count(name))) return 4;
  const int order = atoi(arguments[2]);
  try {
    cuda_on_cpu_configure(order, 1, 0);
    if (name != "none") bugs.at(name).second();
    else
      for (const auto& [other, versions] : bugs) versions.first(), cuda_on_cpu_configure(order, 1, 0);
  } catch (const WrongResult&) {
    puts("wrong result");
    return 3;
  } catch (const std::runtime_error& error) {
    puts(error.what());
    return 2;
  }
  return 0;
}
