// Fibers: execution contexts with a stack of their own, switched by hand. The sanitizers are
// told of every switch (CUDA_ON_CPU_ASAN, CUDA_ON_CPU_TSAN); this code is never instrumented.
#pragma once
#include <cstddef>

#if !defined(__x86_64__)
#define CUDA_ON_CPU_UCONTEXT 1  // the portable way, ten times slower
#endif
#ifdef CUDA_ON_CPU_UCONTEXT
#include <ucontext.h>
#endif

namespace cuda_on_cpu {

class Fiber {
 public:
  Fiber() = default;
  Fiber(const Fiber&) = delete;

  // (Re)lays the stack so that the first switch enters `entry`, which must never return.
  // A fiber that was abandoned in the middle of its work may be laid anew.
  void lay(void (*entry)());

  // For the race detector: what an unfinished fiber has done happens before whoever acquires `address`.
  void abandon(void* address);

  // Makes this object stand for the calling operating-system thread.
  void adopt_caller();

  // Suspends `from`, which must be the running one, and resumes `to`.
  static void switch_between(Fiber& from, Fiber& to);

  // The first statement of an `entry`.
  static void entered();

 private:
  char* stack_ = nullptr;
  size_t stack_bytes_ = 0;
#ifdef CUDA_ON_CPU_UCONTEXT
  ucontext_t registers_;
#else
  void* stack_pointer_ = nullptr;
#endif
  void* asan_fake_stack_ = nullptr;
  void* tsan_fiber_ = nullptr;
};

// Happens-before edges for the race detector; nothing in other builds.
void tsan_release(void* address);
void tsan_acquire(void* address);

}  // namespace cuda_on_cpu
