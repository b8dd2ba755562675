// The threads of the running block: their fibers, barriers and warp collectives.
#pragma once
#include <cstdint>
#include <random>
#include <string>

#include "cuda_on_cpu.h"
#include "fiber.h"
#include "shared_memory.h"

namespace cuda_on_cpu {

enum class Order { kForward, kReverse, kRandom };

struct Options {
  Order order = Order::kForward;
  long sample_blocks = 0;  // 0: all; else only the first and last blocks, this many in all
};

enum class State { kReady, kAtBarrier, kInWarp, kDone };

struct Thread {
  uint3 index;
  unsigned number, lane, warp;
  Fiber* fiber;
  State state;
  Place place;  // of the collective it waits in
  // Warp collective: what it brought, and what it was given.
  Collective collective;
  unsigned mask, present;
  uint64_t value, gathered[32];
  unsigned barriers, syncwarps;  // passed so far, for the race detector
};

struct Warp {
  unsigned waiting, exited, missing;  // lanes; missing: of a block that is no multiple of 32
};

extern Options options;
extern std::mt19937 random_numbers;
extern SharedMemory shared_memory;

void begin_launch(dim3 block, uint64_t blocks, void (*body)(void*), void* argument);
bool run_block(uint64_t position);  // position: in order of execution. False: there was an error
std::string end_launch();           // the error, or ""

}  // namespace cuda_on_cpu
