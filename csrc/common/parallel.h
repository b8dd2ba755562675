// Parallel loops whose results do not depend on the thread count: work is cut into blocks by its size alone, each
// block writes its own slot, and slots are added in a fixed order.
#pragma once
#include <torch/csrc/stable/ops.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdint>
#include <exception>
#include <mutex>
#include <thread>

namespace fc {

struct Blocks {
  int64_t count, size, total;
  int64_t begin(int64_t block) const { return std::min(total, block * size); }
  int64_t end(int64_t block) const { return std::min(total, (block + 1) * size); }
};

// At most `max_blocks` blocks whose size is a multiple of `multiple` and at least `min_size`.
inline Blocks cut_blocks(int64_t total, int64_t min_size, int64_t max_blocks, int64_t multiple = 1) {
  int64_t size = std::max(min_size, (total + max_blocks - 1) / max_blocks);
  size = (size + multiple - 1) / multiple * multiple;
  return {std::max<int64_t>(1, (total + size - 1) / size), size, total};
}

// Where another program holds a core, a parallel loop waits for the thread that the system has put aside: milliseconds, for
// work of microseconds. When that is seen, the next loops stay on the calling thread, longer each time it is seen again.
// Only the time depends on it, no result.
class Patience {
 public:
  bool resting() {
    if (left_.load(std::memory_order_relaxed) <= 0) return false;
    left_.fetch_sub(1, std::memory_order_relaxed);
    return true;
  }
  // `own`: seconds that the calling thread worked, of the loop's `all`.
  void note(double own, double all) {
    if (all < 4 * own + 2e-4) {
      if (all < 2 * own + 5e-5) rest_.store(kLeast, std::memory_order_relaxed);
      return;
    }
    const int rest = rest_.load(std::memory_order_relaxed);
    left_.store(rest, std::memory_order_relaxed);
    rest_.store(std::min(2 * rest, kMost), std::memory_order_relaxed);
  }

 private:
  static constexpr int kLeast = 16, kMost = 4096;
  std::atomic<int> left_{0}, rest_{kLeast};
};

inline Patience& patience() {
  static Patience shared;
  return shared;
}

inline double seconds_now() {
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

// body(block, begin, end) for each block; the first exception is rethrown after the loop. Work that is too little to
// share (`worthwhile` false) stays on the calling thread: waking the others costs several microseconds, and far more where
// they must wait for a core.
template <class Body>
void for_blocks(const Blocks& blocks, const Body& body, bool worthwhile = true) {
  if (!worthwhile || blocks.count == 1 || patience().resting()) {
    for (int64_t block = 0; block < blocks.count; ++block) body(block, blocks.begin(block), blocks.end(block));
    return;
  }
  std::exception_ptr error;
  std::mutex guard;
  const std::thread::id caller = std::this_thread::get_id();
  const double begun = seconds_now();
  double own = 0;
  torch::stable::parallel_for(0, blocks.count, 1, [&](int64_t first, int64_t last) {
    const bool mine = std::this_thread::get_id() == caller;
    const double from = mine ? seconds_now() : 0.0;
    try {
      for (int64_t block = first; block < last; ++block) body(block, blocks.begin(block), blocks.end(block));
    } catch (...) {
      std::lock_guard<std::mutex> lock(guard);
      if (!error) error = std::current_exception();
    }
    if (mine) own += seconds_now() - from;
  });
  patience().note(own, seconds_now() - begun);
  if (error) std::rethrow_exception(error);
}

// partial (count, stride) -> total (width): sums over blocks, in order of the blocks.
inline void add_partials(const double* partial, int64_t count, int64_t stride, int64_t width, double* total) {
  for_blocks(cut_blocks(width, 4096, 64), [&](int64_t, int64_t begin, int64_t end) {
    for (int64_t j = begin; j < end; ++j) total[j] = partial[j];
    for (int64_t block = 1; block < count; ++block)
      for (int64_t j = begin; j < end; ++j) total[j] += partial[block * stride + j];
  }, width * count > (1 << 17));
}

}  // namespace fc
