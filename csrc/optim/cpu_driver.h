// What the optimizers' CPU drivers share: the loops' tables, the choice of dtypes, and the Steps of all parameters.
#pragma once
#include <algorithm>
#include <array>
#include <cmath>
#include <cstring>
#include <limits>
#include <optional>
#include <utility>
#include <vector>

#include "../common/isa.h"
#include "../common/parallel.h"
#include "../common/tensor.h"
#include "chunk.h"
#include "measures.h"
#include "rule.h"
#include "staging.h"
#include "step_arguments.h"

#define FC_LOOP_FILE "../optim/optim_loop.inc"
#include "../common/foreach_isa.h"

namespace fc::optim {
namespace {

constexpr int64_t kPiece = 1 << 15;         // elements that are worked on in one go: fixed, so that sums are the same everywhere
constexpr int64_t kWorthSharing = 1 << 15;  // elements: below, waking other threads costs more than they save

using Prepare = void (*)(const double* hyper, double t, double* own, void* step);

template <class Rule, class T>
void prepare(const double* hyper, double t, double* own, void* step) {
  static_assert(sizeof(typename Rule::template Step<T>) <= kStepBytes);
  const auto made = Rule::template prepare<T>(hyper, t, own);
  std::memcpy(step, &made, sizeof(made));
}

// make(T{}) for the type of the arithmetic; the pair of dtypes must be one that is stored.
template <class Make>
auto with_type(const char* op, ScalarType p, ScalarType s, const Make& make) {
  using Type = ScalarType;
  const bool wide = p == Type::Double && s == Type::Double;
  const bool plain = (p == Type::Float && (s == Type::Float || s == Type::BFloat16)) ||
                     (p == Type::BFloat16 && (s == Type::Float || s == Type::BFloat16)) ||
                     (p == Type::Half && (s == Type::Float || s == Type::Half));
  FC_CHECK(wide || plain, op, ": no kernel for this pair of dtypes of parameters and states");
  return wide ? make(double()) : make(float());
}

inline void check_states(const char* op, const StepArguments& args, int states, unsigned like_parameter) {
  FC_CHECK(int64_t(args.states.size()) == states, op, ": wrong number of states");
  for (size_t k = 0; k < args.states.size(); ++k)
    FC_CHECK(args.states[k].scalar_type() == (like_parameter >> k & 1 ? args.parameter_dtype() : args.state_dtype()), op,
             ": a state has the wrong dtype");
}

// The Step of each parameter; those with the same count share one, unless they have numbers of their own.
class Steps {
 public:
  Steps(const StepArguments& args, Prepare prepare, int numbers, bool advance) {
    double last = std::numeric_limits<double>::quiet_NaN(), own[kMostNumbers] = {};
    for (int64_t i = 0; i < args.count(); ++i) {
      const double t = advance ? args.advance(i) : args.coming(i);
      if (t != last || args.products || numbers) {
        args.numbers(i, numbers, own);
        made_.emplace_back();
        prepare(args.hyper.data(), t, numbers ? own : args.product(i), made_.back().bytes.data());
        last = t;
      }
      place_.push_back(int64_t(made_.size()) - 1);
    }
  }
  const void* operator[](int64_t i) const { return made_[place_[i]].bytes.data(); }

 private:
  struct Prepared {
    alignas(64) std::array<unsigned char, kStepBytes> bytes;
  };
  std::vector<Prepared> made_;
  std::vector<int64_t> place_;
};

// Elements [first, first + count) of parameter i: visit(chunk) for each run within which the upper half of the place stays.
template <class Visit>
void each_run(const StepArguments& args, const Chunk& base, int64_t first, int64_t count, const Visit& visit) {
  while (count > 0) {
    Chunk chunk = base;
    const int64_t place = chunk.place + first;
    chunk.count = std::min(count, (int64_t(1) << 32) - (place & 0xffffffff));
    chunk.place = place;
    args.move(chunk, first);
    visit(chunk);
    first += chunk.count;
    count -= chunk.count;
  }
}

// What a step's workers look up: prologues and chunks of all parameters.
struct Bases {
  std::vector<Prologue> prologues;
  std::vector<Chunk> chunks;

  // `coming`: the sums before a step, which has not been counted yet.
  explicit Bases(const StepArguments& args, bool coming = false) {
    prologues.reserve(args.count());
    chunks.reserve(args.count());
    for (int64_t i = 0; i < args.count(); ++i) prologues.push_back(args.prologue(i));
    for (int64_t i = 0; i < args.count(); ++i) chunks.push_back(args.chunk(i));
    if (coming)
      for (Chunk& chunk : chunks) ++chunk.step;
  }
};

}  // namespace
}  // namespace fc::optim

#define FC_OPTIM_REGISTER(name, ...) m.impl(#name, TORCH_BOX(&fc::optim::name));
