// A launch: checks what a device would check, then runs the blocks one after another.
#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <mutex>
#include <stdexcept>
#include <string>
#include <vector>

#include "block.h"

namespace cuda_on_cpu {

namespace {

void check_configuration(dim3 grid, dim3 block, size_t shared_bytes) {
  const uint64_t count = uint64_t(block.x) * block.y * block.z;
  const char* reason = nullptr;
  if (!count || count > 1024 || block.z > 64) reason = "a block has 1 to 1024 threads, at most 64 along z";
  if (!grid.x || !grid.y || !grid.z || grid.x > 0x7fffffffu) reason = "grid.x is 1 to 2147483647";
  if (grid.y > 65535 || grid.z > 65535) reason = "grid.y and grid.z are at most 65535";
  if (shared_bytes > kMaxSharedBytes) reason = "a block has at most 227 KB of shared memory";
  if (reason) throw std::runtime_error(std::string("launch: invalid configuration: ") + reason);
}

// Numbers of the blocks to run, in the order in which they run.
std::vector<uint64_t> choose_blocks(uint64_t total) {
  const uint64_t limit = uint64_t(options.sample_blocks);
  const uint64_t count = limit && total > limit ? limit : total;
  if (count > uint64_t(1) << 26) throw std::runtime_error("launch: too many blocks to run them all here");
  std::vector<uint64_t> blocks(count);
  for (uint64_t i = 0; i < count; ++i) blocks[i] = i < (count + 1) / 2 ? i : total - count + i;
  if (options.order == Order::kReverse) std::reverse(blocks.begin(), blocks.end());
  if (options.order == Order::kRandom) std::shuffle(blocks.begin(), blocks.end(), random_numbers);
  return blocks;
}

std::vector<const void*> on_host;
bool capturing = false;

}  // namespace

bool reaches(const void* address) { return std::find(on_host.begin(), on_host.end(), address) == on_host.end(); }
bool is_capturing() { return capturing; }

void launch_blocks(dim3 grid, dim3 block, size_t shared_bytes, void (*body)(void*), void* argument) {
  static std::mutex one_launch_at_a_time;
  std::lock_guard<std::mutex> lock(one_launch_at_a_time);
  check_configuration(grid, block, shared_bytes);
  const auto blocks = choose_blocks(uint64_t(grid.x) * grid.y * grid.z);
  block_size = block;
  grid_size = grid;
  shared_memory.begin_launch(blocks.size(), shared_bytes);
  begin_launch(block, blocks.size(), body, argument);
  bool ok = true;
  for (uint64_t position = 0; position < blocks.size() && ok; ++position) {
    const uint64_t id = blocks[position];
    block_index = {unsigned(id % grid.x), unsigned(id / grid.x % grid.y), unsigned(id / grid.x / grid.y)};
    ok = run_block(position);
  }
  const std::string error = end_launch();
  shared_memory.end_launch();
  if (!error.empty()) throw std::runtime_error(error);
}

}  // namespace cuda_on_cpu

// For a process that does not call the function below.
[[maybe_unused]] static const bool order_from_environment = [] {
  const char* order = std::getenv("FASTCORE_CUDA_ON_CPU_ORDER");
  if (order && !strcmp(order, "reverse")) cuda_on_cpu::options.order = cuda_on_cpu::Order::kReverse;
  if (order && !strcmp(order, "random")) cuda_on_cpu::options.order = cuda_on_cpu::Order::kRandom;
  return order != nullptr;
}();

// order: 0 forward, 1 reverse, 2 random (from `seed`). sample_blocks: 0 runs every block of a launch,
// else only the first and the last, this many in all.
extern "C" void cuda_on_cpu_configure(int order, unsigned seed, long sample_blocks) {
  cuda_on_cpu::options = {static_cast<cuda_on_cpu::Order>(order), sample_blocks};
  cuda_on_cpu::random_numbers.seed(seed);
}

// Takes the memory that begins at `address` for the host's, out of the kernels' reach; null: takes back all that was said.
extern "C" void cuda_on_cpu_keep_on_host(const void* address) {
  if (address) cuda_on_cpu::on_host.push_back(address);
  else cuda_on_cpu::on_host.clear();
}

extern "C" void cuda_on_cpu_capture(int capturing) { cuda_on_cpu::capturing = capturing != 0; }
