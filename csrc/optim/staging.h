// 16-bit parameters and states pass through float32 buffers that stay in the first cache, a few hundred elements at a time:
// the rules' loops know one type, and each mode of rounding is a loop of its own.
#pragma once
#include <cstdint>

#include "../common/half.h"
#include "chunk.h"
#include "step_arguments.h"

namespace fc::optim {

using Widen = void (*)(const void* from, const void* extra, int64_t count, float* to);
using Narrow = void (*)(void* to, void* extra, int64_t count, const float* from, RandomKey key, uint32_t place);

struct Converter {
  Widen widen = nullptr;
  Narrow narrow = nullptr;
};

// The loops for a dtype of 16 bits and a mode of rounding (defined in optim_convert_cpu.cpp).
Converter converter(ScalarType type, int64_t rounding);

inline bool is_narrow(ScalarType type) { return type == ScalarType::BFloat16 || type == ScalarType::Half; }

// How the chunks of one call become blocks.
class [[gnu::visibility("hidden")]] Staging {
 public:
  static constexpr int64_t kStaged = 512;  // elements

  Staging(const StepArguments& args, unsigned read_only, bool reads_parameter) : read_only_(read_only), states_(args.states.size()) {
    const ScalarType type = args.parameter_dtype();
    parameter_bytes_ = bytes_of(type);
    if (is_narrow(type)) {
      gradient_ = converter(type, to_nearest);
      parameter_ = converter(type, args.rounding);
    }
    reads_parameter_ = reads_parameter || args.coefficients;
    any_ = is_narrow(type);
    for (size_t k = 0; k < states_; ++k) {
      const ScalarType of_state = args.states[k].scalar_type();
      state_bytes_[k] = bytes_of(of_state);
      if (!is_narrow(of_state)) continue;
      state_[k] = converter(of_state, args.rounding == stochastic ? stochastic : to_nearest);
      any_ = true;
    }
  }

  // work(Block) for the whole chunk, or piece by piece; what was moved is stored.
  template <class Work>
  void operator()(const Chunk& chunk, bool store_states, bool store_parameter, const Work& work) const {
    if (!any_) return work(direct(chunk, 0, chunk.count));
    RandomKey keys[kMostStates + 1] = {};
    if (chunk.rounding == stochastic)
      for (size_t slot = 0; slot <= states_; ++slot)
        keys[slot] = random_key(chunk.seed, chunk.step, chunk.id, int64_t(slot), chunk.place >> 32);
    alignas(64) float buffers[kMostStates + 2][kStaged];
    for (int64_t first = 0; first < chunk.count; first += kStaged) {
      const int64_t count = chunk.count - first < kStaged ? chunk.count - first : kStaged;
      const Block stored = direct(chunk, first, count);
      char* extra = static_cast<char*>(chunk.extra) + first * chunk.extra_bytes;
      const Block block = widened(stored, extra, buffers);
      work(block);
      const uint32_t place = uint32_t(chunk.place + first);
      for (size_t k = 0; store_states && k < states_; ++k)
        if (state_[k].narrow && !(read_only_ >> k & 1))
          state_[k].narrow(stored.state[k], nullptr, count, buffers[2 + k], keys[k + 1], place);
      if (store_parameter && parameter_.narrow) parameter_.narrow(stored.parameter, extra, count, buffers[0], keys[0], place);
    }
  }

 private:
  Block direct(const Chunk& chunk, int64_t first, int64_t count) const {
    Block made{static_cast<char*>(chunk.parameter) + first * parameter_bytes_,
               static_cast<const char*>(chunk.gradient) + first * parameter_bytes_,
               {},
               count};
    for (size_t k = 0; k < states_; ++k) made.state[k] = static_cast<char*>(chunk.state[k]) + first * state_bytes_[k];
    return made;
  }

  Block widened(const Block& stored, const char* extra, float (*buffers)[kStaged]) const {
    Block made = stored;
    if (parameter_.widen) {
      if (reads_parameter_) parameter_.widen(stored.parameter, extra, stored.count, buffers[0]);
      gradient_.widen(stored.gradient, nullptr, stored.count, buffers[1]);
      made.parameter = buffers[0];
      made.gradient = buffers[1];
    }
    for (size_t k = 0; k < states_; ++k) {
      if (!state_[k].widen) continue;
      state_[k].widen(stored.state[k], nullptr, stored.count, buffers[2 + k]);
      made.state[k] = buffers[2 + k];
    }
    return made;
  }

  unsigned read_only_;
  size_t states_;
  bool reads_parameter_, any_;
  int64_t parameter_bytes_, state_bytes_[kMostStates];
  Converter parameter_, gradient_, state_[kMostStates];
};

}  // namespace fc::optim
