// Parallel loops whose results do not depend on the thread count: work is cut into blocks by its size alone, each
// block writes its own slot, and slots are added in a fixed order.
#pragma once
#include <torch/csrc/stable/ops.h>

#include <algorithm>
#include <cstdint>
#include <exception>
#include <mutex>

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

// body(block, begin, end) for each block; the first exception is rethrown after the loop. Work that is too little to
// share (`worthwhile` false) stays on the calling thread: waking the others costs several microseconds, and far more where
// they must wait for a core.
template <class Body>
void for_blocks(const Blocks& blocks, const Body& body, bool worthwhile = true) {
  if (!worthwhile || blocks.count == 1) {
    for (int64_t block = 0; block < blocks.count; ++block) body(block, blocks.begin(block), blocks.end(block));
    return;
  }
  std::exception_ptr error;
  std::mutex guard;
  torch::stable::parallel_for(0, blocks.count, 1, [&](int64_t first, int64_t last) {
    try {
      for (int64_t block = first; block < last; ++block) body(block, blocks.begin(block), blocks.end(block));
    } catch (...) {
      std::lock_guard<std::mutex> lock(guard);
      if (!error) error = std::current_exception();
    }
  });
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
