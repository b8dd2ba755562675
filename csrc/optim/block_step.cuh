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
  RandomKey keys[kMostStates + 1];
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
  for (int slot = 0; slot <= Rule::states; ++slot)
    block.keys[slot] = random_key(launch.seed, t, entry.id, slot, (entry.place + begin) >> 32);
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
  const RandomKey* keys;
  P* p;
  const P* g;
  char *extra, *s[Rule::states + 1];
  bool aligned;

  __device__ Elements(const Launch& launch, const BlockStep<Rule, T>& block, const Entry& entry, int64_t begin)
      : gradient_step(block.prologue), keys(block.keys), p(static_cast<P*>(entry.parameter) + begin),
        g(static_cast<const P*>(entry.gradient) + begin),
        extra(static_cast<char*>(launch.extra) + (entry.start + begin) * launch.extra_bytes) {
    uint64_t addresses = uint64_t(p) | uint64_t(g) | uint64_t(extra);
    each_state<Rule>([&](auto k) {
      s[k] = static_cast<char*>(launch.states[k]) + (entry.start + begin) * int64_t(sizeof(State<k>));
      addresses |= uint64_t(s[k]);
    });
    aligned = addresses % 16 == 0;
  }

  // All elements of the block, of which there are `count`: in vectors as far as that goes.
  template <class Body>
  __device__ void all(const Launch& launch, int64_t place, int count, const Body& body) const {
    const int whole = aligned ? count / width * width : 0;
    const int64_t rounding = launch.rounding, bytes = launch.extra_bytes;
    for (int j = int(threadIdx.x) * width; j < whole; j += kThreads * width)
      some<width>(rounding, bytes, uint32_t(place), j, body);
    for (int j = whole + int(threadIdx.x); j < count; j += kThreads) some<1>(rounding, bytes, uint32_t(place), j, body);
  }

 private:
  // `width` elements from the j-th on.
  template <int width, class Body>
  __device__ void some(int64_t rounding, int64_t extra_bytes, uint32_t place, int64_t j, const Body& body) const {
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
      body(x[l], gradient_step.apply(x[l], decode<T, P>(raw[l])), own);
      each_state<Rule>([&](auto k) { state[k][l] = own[k]; });
    }
    each_state<Rule>([&](auto k) { write_state<k, width>(rounding, place + uint32_t(j), j, state[k]); });
    if constexpr (store_parameter)
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

}  // namespace fc::optim
