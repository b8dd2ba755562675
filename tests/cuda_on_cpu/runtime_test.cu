// Tests of the runtime itself, and of block.cuh: `runtime_test ORDER SEED` prints what failed.
#include "../../csrc/common/block.cuh"

#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <set>
#include <stdexcept>
#include <string>
#include <vector>

extern "C" void cuda_on_cpu_configure(int order, unsigned seed, long sample_blocks);
extern "C" void cuda_on_cpu_keep_on_host(const void* address);
extern "C" void cuda_on_cpu_capture(int capturing);

namespace {

int failures = 0;
int order = 0;
unsigned seed = 1;

#define EXPECT(condition)                                      \
  do {                                                         \
    if (!(condition)) {                                        \
      ++failures;                                              \
      printf("line %d: expected %s\n", __LINE__, #condition);  \
      return;                                                  \
    }                                                          \
  } while (0)

__global__ void indices_kernel(int* out) {
  const int thread = threadIdx.x + blockDim.x * (threadIdx.y + blockDim.y * threadIdx.z);
  const int block = blockIdx.x + gridDim.x * (blockIdx.y + gridDim.y * blockIdx.z);
  out[block * int(blockDim.x * blockDim.y * blockDim.z) + thread] += thread + 1000 * block;
}
void test_indices() {
  std::vector<int> out(24 * 60, 0);
  fc::launch(indices_kernel, dim3(2, 3, 4), dim3(5, 4, 3), 0, nullptr, out.data());
  for (int i = 0; i < 24 * 60; ++i) EXPECT(out[i] == i % 60 + 1000 * (i / 60));
}

// 30 barriers; every thread reads its neighbour's value of the round before.
__global__ void barrier_kernel(int* out, int rounds) {
  FC_SHARED(int, value, [2][256]);
  const int t = threadIdx.x;
  value[0][t] = t;
  __syncthreads();
  for (int r = 0; r < rounds; ++r) {
    value[(r + 1) % 2][t] = value[r % 2][(t + 1) % 256];
    __syncthreads();
  }
  out[blockIdx.x * 256 + t] = value[rounds % 2][t];
}
void test_barrier() {
  std::vector<int> out(4 * 256);
  fc::launch(barrier_kernel, 4, 256, 0, nullptr, out.data(), 30);
  for (int i = 0; i < 4 * 256; ++i) EXPECT(out[i] == (i + 30) % 256);
}

__global__ void shuffle_kernel(int* out) {
  const int lane = threadIdx.x;
  out[lane] = __shfl_sync(~0u, lane, 5, 8);
  out[32 + lane] = __shfl_up_sync(~0u, lane, 3, 16);
  out[64 + lane] = __shfl_down_sync(~0u, lane, 3, 16);
  out[96 + lane] = __shfl_xor_sync(~0u, lane, 9);
  if (lane < 8) out[128 + lane] = __shfl_sync(0xffu, lane, 20);  // lane 20 is not there
}
void test_shuffle() {
  std::vector<int> out(136);
  fc::launch(shuffle_kernel, 1, 32, 0, nullptr, out.data());
  for (int i = 0; i < 32; ++i) {
    EXPECT(out[i] == i / 8 * 8 + 5);
    EXPECT(out[32 + i] == (i % 16 >= 3 ? i - 3 : i));
    EXPECT(out[64 + i] == (i % 16 < 13 ? i + 3 : i));
    EXPECT(out[96 + i] == (i ^ 9));
  }
  for (int i = 0; i < 8; ++i) EXPECT(out[128 + i] == -1);
}

__global__ void vote_kernel(unsigned* out) {
  const int t = threadIdx.x;  // 40 threads: the second warp has 8 lanes
  const unsigned mask = t < 32 ? ~0u : 0xffu;
  const unsigned ballot = __ballot_sync(mask, t % 2);
  const unsigned match = __match_any_sync(mask, t % 4);
  const int any = __any_sync(mask, t == 33);
  const int all = __all_sync(mask, t < 36);
  const int count = __syncthreads_count(t % 3 == 0);
  const int either = __syncthreads_or(t == 39);
  const int both = __syncthreads_and(t < 39);
  unsigned* mine = out + 7 * t;
  mine[0] = ballot, mine[1] = match, mine[2] = any, mine[3] = all, mine[4] = count, mine[5] = either, mine[6] = both;
}
void test_votes() {
  std::vector<unsigned> out(7 * 40);
  fc::launch(vote_kernel, 1, 40, 0, nullptr, out.data());
  for (unsigned t = 0; t < 40; ++t) {
    const unsigned* mine = out.data() + 7 * t;
    const unsigned lanes = t < 32 ? ~0u : 0xffu;
    EXPECT(mine[0] == (0xaaaaaaaau & lanes));
    EXPECT(mine[1] == ((0x11111111u << t % 4) & lanes));
    EXPECT(mine[2] == (t >= 32) && mine[3] == (t < 32));
    EXPECT(mine[4] == 14 && mine[5] == 1 && mine[6] == 0);
  }
}

__global__ void atomics_kernel(int* i, float* f, double* d, unsigned* u) {
  atomicAdd(&i[0], 2), atomicSub(&i[1], 1), atomicMax(&i[2], int(threadIdx.x)), atomicMin(&i[3], -int(threadIdx.x));
  atomicAdd(f, 0.5f), atomicAdd(d, 0.25);
  atomicOr(&u[0], 1u << threadIdx.x % 32), atomicAnd(&u[1], ~(1u << threadIdx.x % 32));
  if (atomicCAS(&i[4], 0, 1) == 0) atomicAdd(&i[5], 1);  // one winner
  atomicExch(&i[6], 7);
}
void test_atomics() {
  int i[7] = {};
  float f = 0;
  double d = 0;
  unsigned u[2] = {0, ~0u};
  fc::launch(atomics_kernel, 3, 64, 0, nullptr, i, &f, &d, u);
  EXPECT(i[0] == 384 && i[1] == -192 && i[2] == 63 && i[3] == -63 && i[5] == 1 && i[6] == 7);
  EXPECT(f == 96 && d == 48 && u[0] == ~0u && u[1] == 0);
}

// Shared memory: apart from each other, poisoned anew in each block.
__global__ void shared_kernel(int* out) {
  FC_SHARED(int, a, [8]);
  FC_SHARED(int, b, [8]);
  FC_DYNAMIC_SHARED(int, c);
  const int t = threadIdx.x, poison = a[t];
  const bool same = b[t] == poison && c[t] == poison;
  a[t] = 1 + t, b[t] = 2 + t, c[t] = 3 + t;
  __syncthreads();
  const int o = 7 - t;
  out[blockIdx.x * 8 + t] = same && a[o] == 1 + o && b[o] == 2 + o && c[o] == 3 + o ? poison : 0;
}
void test_shared() {
  std::vector<int> out(24);
  fc::launch(shared_kernel, 3, 8, 32, nullptr, out.data());
  for (int value : out) EXPECT(value == (order == 1 ? 0x7b7b7b7b : -1));
}

std::string complaint(void (*kernel)(int*), dim3 grid, dim3 block, size_t bytes) {
  int out = 0;
  try {
    fc::launch(kernel, grid, block, bytes, nullptr, &out);
  } catch (const std::runtime_error& error) {
    return error.what();
  }
  return "";
}
__global__ void nothing_kernel(int*) {}
void test_configuration() {
  EXPECT(complaint(nothing_kernel, 1, 1024, 227 << 10) == "");
  EXPECT(complaint(nothing_kernel, 1, dim3(32, 33), 0) != "");
  EXPECT(complaint(nothing_kernel, 1, dim3(1, 1, 65), 0) != "");
  EXPECT(complaint(nothing_kernel, dim3(1, 65536), 1, 0) != "");
  EXPECT(complaint(nothing_kernel, 0, 1, 0) != "");
  EXPECT(complaint(nothing_kernel, 1, 1, (227 << 10) + 1) != "");
}

__global__ void greedy_kernel(int*) {
  FC_SHARED(char, big, [200 << 10]);
  big[0] = 0;
}
__global__ void no_dynamic_kernel(int*) {
  FC_DYNAMIC_SHARED(int, tile);
  tile[0] = 0;
}
constexpr int kDivergentLine = __LINE__ + 2;
__global__ void divergent_kernel(int*) {
  if (threadIdx.x < 20) __syncwarp(0xfffff);
  if (threadIdx.x == 20) __syncthreads();
  __syncthreads();
}
void test_errors() {
  const std::string text = complaint(divergent_kernel, 1, 64, 0);
  EXPECT(text.find("divergent barrier") != std::string::npos && text.find("runtime_test.cu:") != std::string::npos);
  EXPECT(text.find(":" + std::to_string(kDivergentLine + 1)) != std::string::npos);
  EXPECT(complaint(greedy_kernel, 1, 1, 0) == "");
  EXPECT(complaint(greedy_kernel, 1, 1, 30 << 10).find("227 KB") != std::string::npos);
  EXPECT(complaint(no_dynamic_kernel, 1, 1, 0).find("gave none") != std::string::npos);
  test_barrier();  // the runtime is in order again
}

__global__ void last_block_kernel(const int* in, int* partial, unsigned* done, int* out) {
  FC_SHARED(bool, last, [1]);
  if (threadIdx.x == 0) {
    partial[blockIdx.x] = in[blockIdx.x];
    __threadfence();
    last[0] = atomicAdd(done, 1) == gridDim.x - 1;
    __threadfence();
  }
  __syncthreads();
  if (last[0] && threadIdx.x == 0)
    for (unsigned b = 0; b < gridDim.x; ++b) *out += partial[b];
}
void test_last_block() {
  std::vector<int> in = {1, 2, 3, 4, 5}, partial(5);
  unsigned done = 0;
  int out = 0;
  fc::launch(last_block_kernel, 5, 32, 0, nullptr, in.data(), partial.data(), &done, &out);
  EXPECT(out == 15);
}

__global__ void visit_kernel(uint64_t* visited, int* count) { visited[atomicAdd(count, 1)] = blockIdx.x; }
void test_sampling() {
  uint64_t visited[5];
  int count = 0;
  cuda_on_cpu_configure(order, seed, 5);
  fc::launch(visit_kernel, 0x7fffffff, 1, 0, nullptr, visited, &count);
  cuda_on_cpu_configure(order, seed, 0);
  EXPECT(count == 5);
  EXPECT(std::set<uint64_t>(visited, visited + 5) == std::set<uint64_t>({0, 1, 2, 0x7ffffffdu, 0x7ffffffeu}));
}

__global__ void order_kernel(int* sequence, int* count) { sequence[atomicAdd(count, 1)] = threadIdx.x; }
void test_order() {
  std::vector<int> sequence(64);
  int count = 0;
  fc::launch(order_kernel, 1, 64, 0, nullptr, sequence.data(), &count);
  bool forward = true, reverse = true;
  for (int i = 0; i < 64; ++i) forward &= sequence[i] == i, reverse &= sequence[i] == 63 - i;
  EXPECT(forward == (order == 0) && reverse == (order == 1));
}

void test_host() {
  int near = 0, far = 0;
  cuda_on_cpu_keep_on_host(&far);
  cuda_on_cpu_capture(1);
  EXPECT(cuda_on_cpu::reaches(&near) && !cuda_on_cpu::reaches(&far) && cuda_on_cpu::is_capturing());
  cuda_on_cpu_keep_on_host(nullptr);
  cuda_on_cpu_capture(0);
  EXPECT(cuda_on_cpu::reaches(&far) && !cuda_on_cpu::is_capturing());
}

template <int threads>
__global__ void reduce_kernel(const double* in, double* sums, double* maxima) {
  const int i = blockIdx.x * threads + threadIdx.x;
  for (int repeat = 0; repeat < 2; ++repeat) sums[i] = fc::block_sum<threads>(in[i]);  // at once again
  maxima[i] = fc::block_max<threads>(in[i]);
}
template <int threads>
void test_reduce() {
  constexpr int n = 3 * threads;
  std::vector<double> in(n), sums(n), maxima(n);
  for (int i = 0; i < n; ++i) in[i] = (i * 37) % 101 - 50;
  in[threads] = std::nan("");  // block 1: in the sum, but not in the maximum
  for (int i = 2 * threads; i < n; ++i) in[i] = -INFINITY;
  fc::launch(reduce_kernel<threads>, 3, threads, 0, nullptr, in.data(), sums.data(), maxima.data());
  double sum = 0, largest = -INFINITY;
  for (int i = 0; i < threads; ++i) sum += in[i], largest = std::fmax(largest, in[i]);
  for (int i = 0; i < threads; ++i) {
    EXPECT(sums[i] == sum && maxima[i] == largest);
    EXPECT(std::isnan(sums[threads + i]) && !std::isnan(maxima[threads + i]));
    EXPECT(sums[2 * threads + i] == -INFINITY && maxima[2 * threads + i] == -INFINITY);
  }
}

}  // namespace

int main(int count, char** arguments) {
  if (count > 1) order = atoi(arguments[1]);
  if (count > 2) seed = unsigned(atoi(arguments[2]));
  cuda_on_cpu_configure(order, seed, 0);
  for (auto test : {test_indices, test_barrier, test_shuffle, test_votes, test_atomics, test_shared, test_configuration,
                    test_errors, test_last_block, test_sampling, test_order, test_host, test_reduce<32>, test_reduce<256>})
    test();
#ifndef __SANITIZE_THREAD__  // 2048 fibers take the race detector seconds
  test_reduce<1024>();
#endif
  printf("%d failures\n", failures);
  return failures != 0;
}
