// Shared memory of the running block. Every variable has a heap block of its own, so that the
// address sanitizer guards its ends; under the race detector every block of a launch has its own
// memory instead, so that no race is seen between blocks that a device would keep apart.
#pragma once
#include <cstddef>
#include <cstdint>

namespace cuda_on_cpu {

constexpr size_t kMaxSharedBytes = size_t(227) << 10;  // what a block may have on sm_90

class SharedMemory {
 public:
  void begin_launch(uint64_t blocks, size_t dynamic_bytes);
  void begin_block(uint64_t position, int fill_byte);  // position: in order of execution
  void end_launch();

  void* variable(const void* key, size_t bytes, size_t alignment);  // null: does not fit
  void* dynamic() { return dynamic_.address; }

 private:
  struct Variable {
    const void* key;
    void* address;
    size_t bytes;
  };
  // Fixed, since fibers look here: what they allocate, the race detector takes for theirs.
  Variable variables_[64];
  int count_ = 0;
  Variable dynamic_{nullptr, nullptr, 0};
  int fill_byte_ = 0xff;
  size_t static_bytes_ = 0;
  char* arena_ = nullptr;  // race detector: kMaxSharedBytes for each block
  size_t arena_bytes_ = 0, block_start_ = 0;
};

}  // namespace cuda_on_cpu
