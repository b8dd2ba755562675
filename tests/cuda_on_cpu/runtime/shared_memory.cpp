#include "shared_memory.h"

#include <sys/mman.h>

#include <cstdlib>
#include <iterator>

namespace cuda_on_cpu {
namespace {

#ifdef CUDA_ON_CPU_TSAN
constexpr bool kOwnMemoryPerBlock = true;
#else
constexpr bool kOwnMemoryPerBlock = false;
#endif

size_t round_up(size_t value, size_t multiple) { return (value + multiple - 1) / multiple * multiple; }

// Not memset: the sanitizers intercept it and would take this for an access of the kernel.
void fill(void* address, size_t bytes, int byte) {
#ifdef __x86_64__
  asm volatile("rep stosb" : "+D"(address), "+c"(bytes) : "a"(byte) : "memory");
#else
  for (volatile char* p = static_cast<char*>(address); bytes; --bytes) *p++ = char(byte);
#endif
}

void* allocate(size_t bytes, size_t alignment) {
  void* address = nullptr;
  if (posix_memalign(&address, alignment, bytes)) abort();
  return address;
}

}  // namespace

void SharedMemory::begin_launch(uint64_t blocks, size_t dynamic_bytes) {
  dynamic_ = {nullptr, nullptr, dynamic_bytes};
  if (kOwnMemoryPerBlock) {
    arena_bytes_ = blocks * kMaxSharedBytes;
    void* memory = mmap(nullptr, arena_bytes_, PROT_READ | PROT_WRITE,
                        MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (memory == MAP_FAILED) abort();
    arena_ = static_cast<char*>(memory);
  } else if (dynamic_bytes) {
    dynamic_.address = allocate(dynamic_bytes, 16);
  }
}

void SharedMemory::begin_block(uint64_t position, int fill_byte) {
  fill_byte_ = fill_byte;
  if (kOwnMemoryPerBlock) {
    count_ = 0;
    block_start_ = position * kMaxSharedBytes;
    static_bytes_ = 0;
    if (dynamic_.bytes) dynamic_.address = arena_ + block_start_;
  }
  for (int v = 0; v < count_; ++v) fill(variables_[v].address, variables_[v].bytes, fill_byte);
  if (dynamic_.bytes) fill(dynamic_.address, dynamic_.bytes, fill_byte);
}

void SharedMemory::end_launch() {
  if (kOwnMemoryPerBlock) {
    munmap(arena_, arena_bytes_);
  } else {
    for (int v = 0; v < count_; ++v) free(variables_[v].address);
    free(dynamic_.address);
  }
  count_ = 0;
  dynamic_ = {nullptr, nullptr, 0};
  static_bytes_ = 0;
}

void* SharedMemory::variable(const void* key, size_t bytes, size_t alignment) {
  for (int v = 0; v < count_; ++v)
    if (variables_[v].key == key) return variables_[v].address;
  const size_t offset = round_up(round_up(dynamic_.bytes, 16) + static_bytes_, alignment);
  if (offset + bytes > kMaxSharedBytes || count_ == std::ssize(variables_)) return nullptr;
  static_bytes_ = offset + bytes - round_up(dynamic_.bytes, 16);
  void* address = kOwnMemoryPerBlock ? arena_ + block_start_ + offset : allocate(bytes, alignment);
  fill(address, bytes, fill_byte_);
  variables_[count_++] = {key, address, bytes};
  return address;
}

}  // namespace cuda_on_cpu
