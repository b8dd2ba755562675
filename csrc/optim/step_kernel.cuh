// One step of a rule over many parameters, in one launch. A block has a part of one parameter.
#pragma once
#include "block_map.cuh"
#include "rule.h"
#include "step_elements.cuh"

namespace fc::optim {

// What the threads of a block share once one of them has worked it out.
template <class Rule, class T>
struct BlockStep {
  typename Rule::template Step<T> step;
  Prologue prologue;
  RandomKey keys[kMostStates + 1];
  double hyper[kMostHyper];
};

// The storage of a rule's k-th state: S, or that of the parameter for what merely copies it or the gradient.
template <class Rule, int k, class P, class S>
using StateStorage = std::conditional_t<(Rule::like_parameter >> k & 1) != 0, P, S>;

template <class Rule, int k = 0, class Visit>
__device__ void each_state(const Visit& visit) {
  if constexpr (k < Rule::states) {
    visit(std::integral_constant<int, k>());
    each_state<Rule, k + 1>(visit);
  }
}

// A thread's way through its block's elements.
template <class Rule, class T, class P, class S>
struct Stepper {
  static constexpr int width = 16 / int(sizeof(P) < sizeof(S) ? sizeof(S) : sizeof(P));
  template <int k>
  using State = StateStorage<Rule, k, P, S>;

  const typename Rule::template Step<T> step;  // a copy: nothing that is stored can change it
  const GradientStep<T> gradient_step;
  const RandomKey* keys;
  P* p;
  const P* g;
  char *extra, *s[Rule::states + 1];
  bool aligned;

  __device__ Stepper(const StepLaunch& launch, const BlockStep<Rule, T>& block, const Entry& entry, int64_t begin)
      : step(block.step), gradient_step(block.prologue), keys(block.keys),
        p(static_cast<P*>(entry.parameter) + begin), g(static_cast<const P*>(entry.gradient) + begin),
        extra(static_cast<char*>(launch.extra) + (entry.start + begin) * launch.extra_bytes) {
    uint64_t addresses = uint64_t(p) | uint64_t(g) | uint64_t(extra);
    each_state<Rule>([&](auto k) {
      s[k] = static_cast<char*>(launch.states[k]) + (entry.start + begin) * int64_t(sizeof(State<k>));
      addresses |= uint64_t(s[k]);
    });
    aligned = addresses % 16 == 0;
  }

  // All elements of the block, of which there are `count`: in vectors as far as that goes.
  __device__ void all(int64_t rounding, int64_t extra_bytes, uint32_t place, int count) const {
    const int whole = aligned ? count / width * width : 0;
    for (int j = int(threadIdx.x) * width; j < whole; j += kThreads * width) some<width>(rounding, extra_bytes, place, j);
    for (int j = whole + int(threadIdx.x); j < count; j += kThreads) some<1>(rounding, extra_bytes, place, j);
  }

 private:
  // `width` elements from the j-th on.
  template <int width>
  __device__ void some(int64_t rounding, int64_t extra_bytes, uint32_t place, int64_t j) const {
    using Whole = Parameter<T, P, width>;
    T x[width], state[Rule::states + 1][width];
    Raw<P> raw[width];
    Whole::read(p + j, extra + j * extra_bytes, rounding, x);
    Neighbours<P, width>::load(g + j, raw);
    each_state<Rule>([&](auto k) {
      Raw<State<k>> stored[width];
      Neighbours<State<k>, width>::load(s[k] + j * int64_t(sizeof(State<k>)), stored);
#pragma unroll
      for (int l = 0; l < width; ++l) state[k][l] = decode<T, State<k>>(stored[l]);
    });
#pragma unroll
    for (int l = 0; l < width; ++l) {
      T own[Rule::states + 1];
      each_state<Rule>([&](auto k) { own[k] = state[k][l]; });
      Rule::apply(step, x[l], gradient_step.apply(x[l], decode<T, P>(raw[l])), own);
      each_state<Rule>([&](auto k) { state[k][l] = own[k]; });
    }
    each_state<Rule>([&](auto k) { write_state<k, width>(rounding, place + uint32_t(j), j, state[k]); });
    Whole::write(p + j, extra + j * extra_bytes, rounding, x, keys[0], place + uint32_t(j));
  }

  template <int k, int width>
  __device__ void write_state(int64_t rounding, uint32_t place, int64_t j, const T* values) const {
    if constexpr ((Rule::read_only >> k & 1) == 0) {
      Raw<State<k>> raw[width];
      if (sizeof(State<k>) == 2 && rounding == stochastic) {
#pragma unroll
        for (int l = 0; l < width; ++l) raw[l] = encode<State<k>>(values[l], random_bits(keys[k + 1], place + l));
      } else {
#pragma unroll
        for (int l = 0; l < width; ++l) raw[l] = encode<State<k>>(values[l]);
      }
      Neighbours<State<k>, width>::store(s[k] + j * int64_t(sizeof(State<k>)), raw);
    }
  }
};

// What the step makes of the numbers that all elements of a parameter share. By one thread; not inlined, or what it keeps in
// registers would be missing where all threads work.
template <class Rule, class T>
__device__ __attribute__((noinline)) void prepare_block(const StepLaunch& launch, int64_t i, int64_t begin,
                                                        BlockStep<Rule, T>& block) {
  using Step = typename Rule::template Step<T>;
  const Entry& entry = launch.map.entries[i];
  const Counters& counters = launch.counters;
  int64_t t;
  if (counters.steps == nullptr) {
    const auto& made = reinterpret_cast<const PreparedStep<Step>*>(counters.prepared)[entry.prepared];
    t = made.t;
    block.step = made.step;
  } else {
    const double next = counters.next(entry.slot);
    for (int k = 0; k < kMostHyper; ++k) block.hyper[k] = launch.hyper[k];
    block.hyper[0] = launch.lr.read();
    double product = counters.products ? counters.products[entry.slot] : 1.0;
    t = int64_t(next);
    block.step = Rule::template prepare<T>(block.hyper, next, &product);
  }
  const double* column = launch.coefficients ? launch.coefficients + i : nullptr;
  block.prologue = make_prologue(launch.side, launch.grad_scale.read(), column, launch.map.n);
  if (launch.rounding != stochastic) return;
  for (int slot = 0; slot <= Rule::states; ++slot)
    block.keys[slot] = random_key(launch.seed, t, entry.id, slot, begin >> 32);
}

// Counters and products of all parameters go on by one step, the empty ones' too.
template <class Rule, class T>
__device__ void advance_counters(const StepLaunch& launch, double* hyper) {
  const Counters& counters = launch.counters;
  for (int64_t i = threadIdx.x; i < launch.map.n; i += kThreads) {
    const int64_t slot = launch.map.entries[i].slot;
    const double t = counters.next(slot);
    if (counters.products) Rule::template prepare<T>(hyper, t, counters.products + slot);
    counters.write(slot, t);
  }
}

// gate: no spills
template <class Rule, class T, class P, class S>
__global__ void __launch_bounds__(kThreads, 2) step_kernel(const __grid_constant__ StepLaunch launch) {
  using Block = BlockStep<Rule, T>;
  FC_SHARED(Block, block, [1]);
  const bool skipped = launch.found_inf.read() != 0;  // the same for all blocks
  const Piece piece = piece_of_block(launch.map);
  if (threadIdx.x == 0 && !skipped) prepare_block(launch, piece.i, piece.begin, block[0]);
  __syncthreads();
  if (!skipped) {
    const Stepper<Rule, T, P, S> stepper(launch, block[0], launch.map.entries[piece.i], piece.begin);
    stepper.all(launch.rounding, launch.extra_bytes, uint32_t(piece.begin), int(piece.end - piece.begin));
  }
  if (launch.counters.steps != nullptr)
    if (is_last_block(launch.counters.blocks_done) && !skipped) advance_counters<Rule, T>(launch, block[0].hyper);
}

}  // namespace fc::optim
