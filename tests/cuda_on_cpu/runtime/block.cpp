// A fiber goes on until it meets a barrier or a warp collective; then the next in the chosen order does.
// What a device would hang on, or leave undefined, becomes an error with file and line.
#include "block.h"

#include <algorithm>
#include <cstdarg>
#include <cstdio>
#include <cstring>
#include <memory>
#include <vector>

namespace cuda_on_cpu {

uint3 thread_index, block_index;
dim3 block_size, grid_size;
constinit Options options;
std::mt19937 random_numbers;
SharedMemory shared_memory;

namespace {

// Two sets under the race detector: neighbouring blocks must not be one fiber's successive work,
// which would order them.
#ifdef CUDA_ON_CPU_TSAN
constexpr bool kRaceDetector = true;
#else
constexpr bool kRaceDetector = false;
#endif
constexpr int kFiberSets = kRaceDetector ? 2 : 1;

std::vector<std::unique_ptr<Fiber>> fibers[kFiberSets];
std::vector<Thread> threads;
std::vector<Warp> warps;
Fiber host;
Thread* running = nullptr;  // null on the host's stack
unsigned alive, at_barrier;
int barrier_sum, barrier_result;
void (*kernel_body)(void*);
void* kernel_argument;
char error[1000];  // empty: none. No std::string: what a fiber allocates, the race detector takes for its own

// Addresses that stand for barriers in the race detector's eyes: two for the block and two for each
// thread, taken in turns, since a fast thread's release for the next barrier must not reach a slow
// one that is still leaving this.
std::vector<uint64_t> cells;
size_t first_cell;
char launch_start, launch_end, fence_cell;

uint64_t* block_cell(const Thread& t) { return &cells[first_cell + t.barriers % 2]; }
uint64_t* thread_cell(const Thread& t) { return &cells[first_cell + 2 + 2 * t.number + t.syncwarps % 2]; }

void resume(Thread& thread) {
  running = &thread;
  thread_index = thread.index;
  Fiber::switch_between(host, *thread.fiber);
  running = nullptr;
}

// Gives way to the scheduler.
void suspend() { Fiber::switch_between(*running->fiber, host); }

[[noreturn]] void fail(Place place, const char* format, ...) {
  char what[500];
  va_list arguments;
  va_start(arguments, format);
  vsnprintf(what, sizeof what, format, arguments);
  va_end(arguments);
  snprintf(error, sizeof error, "%s:%d: block (%u, %u, %u), thread (%u, %u, %u): %s", place.file, place.line,
           block_index.x, block_index.y, block_index.z, thread_index.x, thread_index.y, thread_index.z, what);
  running->state = State::kInWarp;  // unfinished, also where it had just exited
  for (;;) suspend();  // the scheduler throws on the host's stack
}

bool same_place(Place a, Place b) { return a.line == b.line && strcmp(a.file, b.file) == 0; }

Thread& thread_of(unsigned warp, unsigned lane) { return threads[warp * 32 + lane]; }

// `a` has come to a collective; whoever waits for it, or is waited for by it, must be in the same one.
void check_arrival(const Thread& a) {
  const Warp& warp = warps[a.warp];
  if (!(a.mask >> a.lane & 1)) fail(a.place, "lane %u calls a warp collective whose mask %08x lacks it", a.lane, a.mask);
  if (a.mask & warp.exited) fail(a.place, "the mask %08x names lanes %08x, which have exited", a.mask, a.mask & warp.exited);
  for (unsigned lane = 0; lane < 32; ++lane) {
    if (!(warp.waiting >> lane & 1)) continue;
    const Thread& b = thread_of(a.warp, lane);
    if (!((a.mask >> b.lane | b.mask >> a.lane) & 1)) continue;
    if (a.collective != b.collective || a.mask != b.mask || !same_place(a.place, b.place))
      fail(a.place, "lanes meet in different collectives: lane %u with mask %08x here, lane %u with mask %08x at %s:%d",
           a.lane, a.mask, b.lane, b.mask, b.place.file, b.place.line);
  }
}

// Lets the lanes of `mask` go on if all are there.
void release_warp(unsigned warp_number, unsigned mask) {
  Warp& warp = warps[warp_number];
  const unsigned needed = mask & ~warp.missing;
  if ((warp.waiting & needed) != needed) return;
  uint64_t values[32];
  for (unsigned lane = 0; lane < 32; ++lane)
    values[lane] = needed >> lane & 1 ? thread_of(warp_number, lane).value : ~uint64_t(0);
  for (unsigned lane = 0; lane < 32; ++lane) {
    if (!(needed >> lane & 1)) continue;
    Thread& thread = thread_of(warp_number, lane);
    for (int k = 0; k < 32; ++k) thread.gathered[k] = values[k];
    thread.present = needed;
    thread.state = State::kReady;
  }
  warp.waiting &= ~needed;
}

// All threads still alive are at the barrier.
void release_block(Place place) {
  if (alive != threads.size())
    fail(place, "%u threads exited before this barrier, which %u threads reached", unsigned(threads.size()) - alive, alive);
  for (Thread& thread : threads) {
    if (!same_place(thread.place, place))
      fail(place, "divergent barrier: thread %u waits in another one at %s:%d", thread.number, thread.place.file, thread.place.line);
    thread.state = State::kReady;
  }
  barrier_result = barrier_sum;
  barrier_sum = 0;
  at_barrier = 0;
}

void exit_thread() {
  running->state = State::kDone;
  --alive;
  Warp& warp = warps[running->warp];
  warp.exited |= 1u << running->lane;
  for (unsigned lane = 0; lane < 32; ++lane) {
    if (!(warp.waiting >> lane & 1)) continue;
    const Thread& other = thread_of(running->warp, lane);
    if (other.mask >> running->lane & 1)
      fail(other.place, "lane %u exits while lane %u waits for it in a warp collective", running->lane, lane);
  }
  if (alive && at_barrier == alive)
    for (Thread& thread : threads)
      if (thread.state == State::kAtBarrier) release_block(thread.place);
}

// What every fiber runs: one kernel thread after another, for ever.
void fiber_main() {
  Fiber::entered();
  for (;;) {
    tsan_acquire(&launch_start);
    kernel_body(kernel_argument);
    tsan_release(&launch_end);
    exit_thread();
    suspend();
  }
}

void report_deadlock() {
  const Thread *in_block = nullptr, *in_warp = nullptr;
  unsigned block_count = 0, warp_count = 0;
  for (const Thread& thread : threads) {
    if (thread.state == State::kAtBarrier) in_block = &thread, ++block_count;
    if (thread.state == State::kInWarp) in_warp = &thread, ++warp_count;
  }
  const size_t size = sizeof error;
  int length = snprintf(error, size, "deadlock in block (%u, %u, %u): %u threads exited", block_index.x, block_index.y,
                        block_index.z, unsigned(threads.size()) - alive);
  if (in_block)
    length += snprintf(error + length, size - length, ", %u wait at the barrier %s:%d", block_count,
                       in_block->place.file, in_block->place.line);
  if (in_warp)
    snprintf(error + length, size - length, ", %u wait in a warp collective (mask %08x) at %s:%d", warp_count,
             in_warp->mask, in_warp->place.file, in_warp->place.line);
}

// Shared memory starts as NaN or -1, in reverse order as 1.3e36 or 2e9: fmaxf hides a NaN.
int fill_byte() { return options.order == Order::kReverse ? 0x7b : 0xff; }

void prepare_block(uint64_t position) {
  shared_memory.begin_block(position, fill_byte());
  first_cell = kRaceDetector ? position * (2 + 2 * threads.size()) : 0;
  alive = unsigned(threads.size());
  at_barrier = 0;
  barrier_sum = 0;
  std::fill(warps.begin(), warps.end(), Warp{});
  if (threads.size() % 32) warps.back().missing = ~0u << (threads.size() % 32);
  for (Thread& thread : threads) {
    thread.state = State::kReady;
    thread.fiber = fibers[position % kFiberSets][thread.number].get();
    thread.barriers = thread.syncwarps = 0;
  }
}

}  // namespace

bool run_block(uint64_t position) {
  prepare_block(position);
  std::vector<unsigned> order(threads.size());
  for (unsigned i = 0; i < order.size(); ++i) order[i] = i;
  if (options.order == Order::kReverse) std::reverse(order.begin(), order.end());
  while (alive && !error[0]) {
    bool progress = false;
    if (options.order == Order::kRandom) std::shuffle(order.begin(), order.end(), random_numbers);
    for (unsigned number : order) {
      if (threads[number].state != State::kReady) continue;
      progress = true;
      resume(threads[number]);
      if (error[0]) return false;
    }
    if (!progress) report_deadlock();
  }
  return !error[0];
}

void begin_launch(dim3 block, uint64_t blocks, void (*body)(void*), void* argument) {
  threads.resize(block.x * block.y * block.z);
  warps.resize((threads.size() + 31) / 32);
  for (unsigned i = 0; i < threads.size(); ++i) {
    threads[i].index = {i % block.x, i / block.x % block.y, i / block.x / block.y};
    threads[i].number = i;
    threads[i].lane = i % 32;
    threads[i].warp = i / 32;
  }
  for (auto& set : fibers)
    while (set.size() < threads.size()) {
      set.push_back(std::make_unique<Fiber>());
      set.back()->lay(fiber_main);
    }
  host.adopt_caller();
  kernel_body = body;
  kernel_argument = argument;
  error[0] = 0;
  cells.assign((kRaceDetector ? blocks : 1) * (2 + 2 * threads.size()), 0);
  tsan_release(&launch_start);
}

std::string end_launch() {
  for (Thread& thread : threads)  // after an error some are in the middle of the kernel
    if (thread.state != State::kDone) thread.fiber->abandon(&launch_end), thread.fiber->lay(fiber_main);
  tsan_acquire(&launch_end);
  return error;
}

unsigned lane_index() { return running->lane; }

void maybe_yield() {
  if (running && options.order == Order::kRandom && random_numbers() % 4 == 0) suspend();
}

void fence() {
  tsan_release(&fence_cell);
  tsan_acquire(&fence_cell);
}

void* dynamic_shared() {
  if (!shared_memory.dynamic()) fail({"launch", 0}, "the kernel uses dynamic shared memory and the launch gave none");
  return shared_memory.dynamic();
}

void* shared_variable(const void* key, size_t bytes, size_t alignment) {
  void* address = shared_memory.variable(key, bytes, alignment);
  if (!address) fail({"launch", 0}, "the block's shared memory exceeds 227 KB");
  return address;
}

int wait_for_block(int predicate, Place place) {
  Thread& self = *running;
  uint64_t* cell = block_cell(self);
  ++self.barriers;
  self.place = place;
  self.state = State::kAtBarrier;
  barrier_sum += predicate;
  ++at_barrier;
  tsan_release(cell);
  if (at_barrier == alive) release_block(place);
  else suspend();
  tsan_acquire(cell);
  return barrier_result;
}

Gathered gather_warp(Collective collective, unsigned mask, uint64_t value, Place place) {
  Thread& self = *running;
  // Shuffles and votes only move values; __syncwarp orders memory among the lanes that take part, who
  // tell each other their cells.
  const bool orders = collective == Collective::kSyncWarp;
  if (orders) {
    value = reinterpret_cast<uint64_t>(thread_cell(self));
    tsan_release(thread_cell(self));
    ++self.syncwarps;
  }
  self.collective = collective;
  self.mask = mask;
  self.value = value;
  self.place = place;
  check_arrival(self);
  self.state = State::kInWarp;
  warps[self.warp].waiting |= 1u << self.lane;
  release_warp(self.warp, mask);
  if (self.state == State::kInWarp) suspend();
  for (unsigned lane = 0; orders && kRaceDetector && lane < 32; ++lane)
    if (self.present >> lane & 1) tsan_acquire(reinterpret_cast<void*>(self.gathered[lane]));
  return {self.gathered, self.present};
}

}  // namespace cuda_on_cpu
