// What a block does before its elements, and how its threads go through them.
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
  RandomKey keys[2][kMostStates + 1];  // for places before and after the next multiple of 2^32
  double hyper[kMostHyper], own[kMostNumbers];
};

// What the step makes of the numbers that all elements of a parameter share. By one thread; not inlined, or what it keeps in
// registers would be missing where all threads work.
template <class Rule, class T>
__device__ __attribute__((noinline)) void prepare_block(const Launch& launch, int64_t i, int64_t begin,
                                                        BlockStep<Rule, T>& block) {
  using Step = typename Rule::template Step<T>;
  const Entry& entry = launch.map.entries[i];
  const Counters& counters = launch.counters;
  const double* column = launch.coefficients ? launch.coefficients + entry.column : nullptr;
  int64_t t;
  if (counters.steps == nullptr) {
    const auto& made = reinterpret_cast<const PreparedStep<Step>*>(counters.prepared)[entry.prepared];
    t = made.t;
    block.step = made.step;
  } else {
    const double next = counters.next(entry.slot);
    for (int k = 0; k < kMostHyper; ++k) block.hyper[k] = launch.hyper[k];
    block.hyper[0] = launch.lr.read();
    block.own[0] = counters.products ? counters.products[entry.slot] : 1.0;
    for (int k = 0; k < numbers_of<Rule>(); ++k) block.own[k] = column[(4 + k) * launch.columns];
    t = int64_t(next);
    const bool has_own = counters.products || numbers_of<Rule>() > 0;
    block.step = Rule::template prepare<T>(block.hyper, next, has_own ? block.own : nullptr);
  }
  block.prologue = make_prologue(launch.side, launch.grad_scale.read(), column, launch.columns);
  if (launch.rounding != stochastic) return;
  const int64_t upper = (entry.place + begin) >> 32, end = (entry.place + begin + kBlockElements) >> 32;
  for (int64_t k = 0; k <= end - upper; ++k)
    for (int slot = 0; slot <= Rule::states; ++slot)
      block.keys[k][slot] = random_key(launch.seed, t, entry.id, slot, upper + k);
}

// Counters and products of all parameters go on by one step, the empty ones' too, and once where a parameter has several
// entries.
template <class Rule, class T>
__device__ void advance_counters(const Launch& launch, double* hyper) {
  const Counters& counters = launch.counters;
  for (int64_t i = threadIdx.x; i < launch.map.n; i += kThreads) {
    if (launch.map.rows && launch.map.rows[i].head != i) continue;
    const int64_t slot = launch.map.entries[i].slot;
    const double t = counters.next(slot);
    if (counters.products) Rule::template prepare<T>(hyper, t, counters.products + slot);
    counters.write(slot, t);
  }
}

// The storage of a rule's k-th state: S, or that of the parameter for what merely copies it or the gradient.
template <class Rule, int k, class P, class S>
using StateStorage = std::conditional_t<(Rule::like_parameter >> k & 1) != 0, P, S>;

template <class Rule>
constexpr bool reads_parameter = !requires { typename Rule::ignores_parameter; };

template <class Rule, int k = 0, class Visit>
__device__ void each_state(const Visit& visit) {
  if constexpr (k < Rule::states) {
    visit(std::integral_constant<int, k>());
    each_state<Rule, k + 1>(visit);
  }
}

// A thread's way through its block's elements: loads, prologue, what `body` does with each, stores of what it may have moved.
template <class Rule, class T, class P, class S, bool store_parameter>
struct Elements {
  static constexpr int width = 16 / int(sizeof(P) < sizeof(S) ? sizeof(S) : sizeof(P));
  template <int k>
  using State = StateStorage<Rule, k, P, S>;

  const GradientStep<T> gradient_step;
  const RandomKeys keys;
  P* p;
  const P* g;
  char *extra, *s[Rule::states + 1];
  bool aligned;

  template <class Block>
  __device__ Elements(const Launch& launch, const Block& block, const Entry& entry, int64_t begin)
      : gradient_step(block.prologue), keys{block.keys[0], uint32_t(entry.place + begin)}, p(static_cast<P*>(entry.parameter) + begin),
        g(static_cast<const P*>(entry.gradient) + begin),
        extra(static_cast<char*>(launch.extra) + (entry.start + begin) * launch.extra_bytes) {
    uint64_t addresses = uint64_t(p) | uint64_t(g) | uint64_t(extra);
    each_state<Rule>([&](auto k) {
      s[k] = static_cast<char*>(launch.states[k]) + (entry.start + begin) * int64_t(sizeof(State<k>));
      addresses |= uint64_t(s[k]);
    });
    aligned = addresses % 16 == 0;
  }

  // All elements of the block, of which there are `count`: body(position, parameter, gradient, states).
  template <class Body>
  __device__ void all(const Launch& launch, int count, const Body& body) const {
    shared_out(launch, 0, count, int(threadIdx.x), kThreads, body);
  }

  // Elements [first, first + count) of the block by `lanes` threads, of which this is one: in vectors as far as that goes.
  template <class Body>
  __device__ void shared_out(const Launch& launch, int first, int count, int lane, int lanes, const Body& body) const {
    const int whole = begins_vector(first) ? count / width * width : 0;
    const int64_t rounding = launch.rounding, bytes = launch.extra_bytes;
    for (int j = lane * width; j < whole; j += lanes * width) some<width>(rounding, bytes, first + j, body);
    for (int j = whole + lane; j < count; j += lanes) some<1>(rounding, bytes, first + j, body);
  }

  __device__ bool begins_vector(int j) const { return aligned && j % width == 0; }

 private:
  // `width` elements from the j-th on.
  template <int width, class Body>
  __device__ void some(int64_t rounding, int64_t extra_bytes, int64_t j, const Body& body) const {
    using Whole = Parameter<T, P, width>;
    T x[width] = {}, state[Rule::states + 1][width];
    Raw<P> raw[width];
    // A projected gradient needs the parameter even where the rule does not.
    if (reads_parameter<Rule> || gradient_step.perpendicular) Whole::read(p + j, extra + j * extra_bytes, rounding, x);
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
      body(int(j) + l, x[l], gradient_step.apply(x[l], decode<T, P>(raw[l])), own);
      each_state<Rule>([&](auto k) { state[k][l] = own[k]; });
    }
    each_state<Rule>([&](auto k) { write_state<k, width>(rounding, j, state[k]); });
    if constexpr (store_parameter)
      Whole::write(p + j, extra + j * extra_bytes, rounding, x, keys, keys.begin + uint32_t(j));
  }

  template <int k, int width>
  __device__ void write_state(int64_t rounding, int64_t j, const T* values) const {
    if constexpr ((Rule::read_only >> k & 1) == 0) {
      Raw<State<k>> raw[width];
      if (sizeof(State<k>) == 2 && rounding == stochastic) {
#pragma unroll
        for (int l = 0; l < width; ++l) raw[l] = encode<State<k>>(values[l], keys.bits(k + 1, keys.begin + uint32_t(j + l)));
      } else {
#pragma unroll
        for (int l = 0; l < width; ++l) raw[l] = encode<State<k>>(values[l]);
      }
      Neighbours<State<k>, width>::store(s[k] + j * int64_t(sizeof(State<k>)), raw);
    }
  }
};

}  // namespace fc::optim
