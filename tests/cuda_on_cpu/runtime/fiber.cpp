#include "fiber.h"

#include <pthread.h>
#include <sys/mman.h>

#include <cstdlib>
#ifdef CUDA_ON_CPU_ASAN
#include <sanitizer/asan_interface.h>
#include <sanitizer/common_interface_defs.h>
#endif
#ifdef CUDA_ON_CPU_TSAN
#include <sanitizer/tsan_interface.h>
#endif

namespace cuda_on_cpu {
namespace {

constexpr size_t kStackBytes = size_t(256) << 10;

#ifndef CUDA_ON_CPU_UCONTEXT
// Pushes the callee-saved registers, stores the stack pointer and continues on the other stack,
// where the same six registers lie below a return address.
__attribute__((naked, noinline)) void swap_stacks(void** /*save_here*/, void* /*resume_this*/) {
  asm("pushq %rbp\n pushq %rbx\n pushq %r12\n pushq %r13\n pushq %r14\n pushq %r15\n"
      "movq %rsp, (%rdi)\n movq %rsi, %rsp\n"
      "popq %r15\n popq %r14\n popq %r13\n popq %r12\n popq %rbx\n popq %rbp\n ret\n");
}
#endif

}  // namespace

void Fiber::lay(void (*entry)()) {
  if (!stack_) {
    void* memory = mmap(nullptr, kStackBytes, PROT_READ | PROT_WRITE,
                        MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (memory == MAP_FAILED) abort();
    stack_ = static_cast<char*>(memory);
    stack_bytes_ = kStackBytes;
  }
#ifdef CUDA_ON_CPU_ASAN
  __asan_unpoison_memory_region(stack_, kStackBytes);  // redzones of frames that never returned
#endif
#ifdef CUDA_ON_CPU_TSAN
  if (tsan_fiber_) __tsan_destroy_fiber(tsan_fiber_);
  tsan_fiber_ = __tsan_create_fiber(0);
#endif
#ifdef CUDA_ON_CPU_UCONTEXT
  getcontext(&registers_);
  registers_.uc_stack.ss_sp = stack_;
  registers_.uc_stack.ss_size = kStackBytes;
  registers_.uc_link = nullptr;
  makecontext(&registers_, entry, 0);
#else
  void** top = reinterpret_cast<void**>(stack_ + kStackBytes) - 1;
  *--top = reinterpret_cast<void*>(entry);  // `ret` leaves rsp = 16 n + 8, as after a call
  for (int i = 0; i < 6; ++i) *--top = nullptr;
  stack_pointer_ = top;
#endif
}

void Fiber::abandon([[maybe_unused]] void* address) {
#ifdef CUDA_ON_CPU_TSAN
  void* caller = __tsan_get_current_fiber();  // in its name; its stack stays as it is
  __tsan_switch_to_fiber(tsan_fiber_, __tsan_switch_to_fiber_no_sync);
  __tsan_release(address);
  __tsan_switch_to_fiber(caller, __tsan_switch_to_fiber_no_sync);
#endif
}

void Fiber::adopt_caller() {
  pthread_attr_t attributes;
  void* low = nullptr;
  pthread_getattr_np(pthread_self(), &attributes);
  pthread_attr_getstack(&attributes, &low, &stack_bytes_);
  pthread_attr_destroy(&attributes);
  stack_ = static_cast<char*>(low);
#ifdef CUDA_ON_CPU_TSAN
  tsan_fiber_ = __tsan_get_current_fiber();
#endif
}

void Fiber::switch_between(Fiber& from, Fiber& to) {
#ifdef CUDA_ON_CPU_ASAN
  __sanitizer_start_switch_fiber(&from.asan_fake_stack_, to.stack_, to.stack_bytes_);
#endif
#ifdef CUDA_ON_CPU_TSAN
  // Without synchronising: only barriers may order what two threads of a kernel do.
  __tsan_switch_to_fiber(to.tsan_fiber_, __tsan_switch_to_fiber_no_sync);
#endif
#ifdef CUDA_ON_CPU_UCONTEXT
  swapcontext(&from.registers_, &to.registers_);
#else
  swap_stacks(&from.stack_pointer_, to.stack_pointer_);
#endif
#ifdef CUDA_ON_CPU_ASAN
  const void* old_stack;
  size_t old_bytes;
  __sanitizer_finish_switch_fiber(from.asan_fake_stack_, &old_stack, &old_bytes);
#endif
}

void Fiber::entered() {
#ifdef CUDA_ON_CPU_ASAN
  const void* old_stack;
  size_t old_bytes;
  __sanitizer_finish_switch_fiber(nullptr, &old_stack, &old_bytes);
#endif
}

#ifdef CUDA_ON_CPU_TSAN
void tsan_release(void* address) { __tsan_release(address); }
void tsan_acquire(void* address) { __tsan_acquire(address); }
#else
void tsan_release(void*) {}
void tsan_acquire(void*) {}
#endif

}  // namespace cuda_on_cpu
