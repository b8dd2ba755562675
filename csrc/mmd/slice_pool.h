// Memory of the threads that walk over slices: as many copies as threads, each used for one block of slices after another.
#pragma once
#include <memory>
#include <mutex>
#include <vector>

#include "../common/parallel.h"

namespace fc::mmd {

template <class Worker>
class Pool {
 public:
  template <class Make>
  std::unique_ptr<Worker> take(const Make& make) {
    {
      std::lock_guard<std::mutex> lock(guard_);
      if (!idle_.empty()) {
        std::unique_ptr<Worker> worker = std::move(idle_.back());
        idle_.pop_back();
        return worker;
      }
    }
    return make();
  }
  void give(std::unique_ptr<Worker> worker) {
    std::lock_guard<std::mutex> lock(guard_);
    idle_.push_back(std::move(worker));
  }

 private:
  std::mutex guard_;
  std::vector<std::unique_ptr<Worker>> idle_;
};

constexpr double kWorthSharing = 2e4;  // points below which waking other threads costs more than they save

// body(worker, slice) for each slice; `points` of them a slice.
template <class Worker, class Make, class Body>
void for_slices(int64_t slices, int64_t points, const Make& make, const Body& body) {
  Pool<Worker> pool;
  const int64_t least = std::max<int64_t>(1, 4096 / std::max<int64_t>(1, points));
  for_blocks(cut_blocks(slices, least, 256), [&](int64_t, int64_t begin, int64_t end) {
    std::unique_ptr<Worker> worker = pool.take(make);
    for (int64_t p = begin; p < end; ++p) body(*worker, p);
    pool.give(std::move(worker));
  }, double(slices) * double(points) > kWorthSharing);
}

}  // namespace fc::mmd
