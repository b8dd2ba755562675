// CPU driver of the optimizers: all elements of all parameters as one line, cut into pieces that are worked on in parallel.
// Included by the files that give it their rules; they are two so that they compile side by side.
#pragma once
#include <algorithm>
#include <array>
#include <cmath>
#include <cstring>
#include <limits>
#include <optional>
#include <vector>

#include "../common/isa.h"
#include "../common/parallel.h"
#include "../common/tensor.h"
#include "chunk.h"
#include "rules.h"
#include "step_arguments.h"

#define FC_LOOP_FILE "../optim/optim_loop.inc"
#include "../common/foreach_isa.h"

namespace fc::optim {
namespace {

constexpr int64_t kPiece = 1 << 15;            // elements
constexpr int64_t kWorthSharing = 1 << 15;     // elements: below, waking other threads costs more than they save

// What the driver knows of a rule once the number of states and the dtypes are known.
struct RuleTable {
  StepChunk loop;
  void (*prepare)(const double* hyper, double t, double* product, void* step);
  unsigned like_parameter;
};

template <class Rule, class T, class P, class S>
RuleTable table() {
  static_assert(sizeof(typename Rule::template Step<T>) <= kStepBytes);
  return {FC_PICK_ISA(step_chunk<Rule, T, P, S>),
          [](const double* hyper, double t, double* product, void* step) {
            const auto made = Rule::template prepare<T>(hyper, t, product);
            std::memcpy(step, &made, sizeof(made));
          },
          Rule::like_parameter};
}

template <class Rule>
RuleTable choose(const char* op, ScalarType p, ScalarType s) {
  using Type = ScalarType;
  if (p == Type::Double && s == Type::Double) return table<Rule, double, double, double>();
  if (p == Type::Float && s == Type::Float) return table<Rule, float, float, float>();
  if (p == Type::Float && s == Type::BFloat16) return table<Rule, float, float, BFloat16>();
  if (p == Type::BFloat16 && s == Type::Float) return table<Rule, float, BFloat16, float>();
  if (p == Type::BFloat16 && s == Type::BFloat16) return table<Rule, float, BFloat16, BFloat16>();
  if (p == Type::Half && s == Type::Float) return table<Rule, float, Float16, float>();
  if (p == Type::Half && s == Type::Half) return table<Rule, float, Float16, Float16>();
  FC_CHECK(false, op, ": no kernel for this pair of dtypes of parameters and states");
  return {};
}

template <class... Variants>
RuleTable choose_variant(const char* op, int64_t states, ScalarType p, ScalarType s) {
  RuleTable found{};
  ((states == Variants::states ? void(found = choose<Variants>(op, p, s)) : void()), ...);
  FC_CHECK(found.loop != nullptr, op, ": wrong number of states");
  return found;
}

struct Prepared {
  alignas(64) std::array<unsigned char, kStepBytes> bytes;
};

class Run {
 public:
  Run(const StepArguments& args, const RuleTable& rule) : args_(args), rule_(rule), line_(args.count() + 1, 0) {
    for (int64_t i = 0; i < args.count(); ++i) line_[i + 1] = line_[i] + args.params[i].numel();
    prepare_steps();
    prologues_.reserve(args.count());
    for (int64_t i = 0; i < args.count(); ++i) prologues_.push_back(args.prologue(i));
    bases_.reserve(args.count());
    for (int64_t i = 0; i < args.count(); ++i) bases_.push_back(args.chunk(i));
  }

  void operator()() const {
    const Blocks pieces{(line_.back() + kPiece - 1) / kPiece, kPiece, line_.back()};
    if (line_.back() == 0) return;
    for_blocks(pieces, [&](int64_t, int64_t begin, int64_t end) {
      int64_t i = std::upper_bound(line_.begin(), line_.end(), begin) - line_.begin() - 1;
      while (begin < end) {
        const int64_t last = std::min(end, line_[i + 1]);
        if (last > begin) run(i, begin - line_[i], last - begin);
        begin = std::max(begin, last);
        ++i;
      }
    }, line_.back() > kWorthSharing);
  }

 private:
  // Steps advance; parameters with the same count share what is made of it, unless a running product differs.
  void prepare_steps() {
    double last = std::numeric_limits<double>::quiet_NaN();
    for (int64_t i = 0; i < args_.count(); ++i) {
      const double t = args_.advance(i);
      if (t != last || args_.products) {
        steps_.emplace_back();
        rule_.prepare(args_.hyper.data(), t, args_.product(i), steps_.back().bytes.data());
        last = t;
      }
      step_of_.push_back(int64_t(steps_.size()) - 1);
    }
  }

  // Elements [first, first + count) of parameter i, in runs within which the upper half of the place stays.
  void run(int64_t i, int64_t first, int64_t count) const {
    while (count > 0) {
      Chunk chunk = bases_[i];
      const int64_t place = chunk.place + first;
      chunk.count = std::min(count, (int64_t(1) << 32) - (place & 0xffffffff));
      chunk.place = place;
      args_.move(chunk, first);
      rule_.loop(chunk, prologues_[i], steps_[step_of_[i]].bytes.data());
      first += chunk.count;
      count -= chunk.count;
    }
  }

  const StepArguments& args_;
  RuleTable rule_;
  std::vector<int64_t> line_, step_of_;
  std::vector<Prepared> steps_;
  std::vector<Prologue> prologues_;
  std::vector<Chunk> bases_;
};

template <class... Variants>
void step(const char* op, StepArguments&& args) {
  if (args.count() == 0) return;
  args.check(op);
  if (args.found_inf && read_number(*args.found_inf) != 0) return;  // steps do not advance either
  if (args.lr) args.hyper[0] = read_number(*args.lr);
  const auto rule = choose_variant<Variants...>(op, int64_t(args.states.size()), args.parameter_dtype(), args.state_dtype());
  for (size_t k = 0; k < args.states.size(); ++k)
    FC_CHECK(args.states[k].scalar_type() == (rule.like_parameter >> k & 1 ? args.parameter_dtype() : args.state_dtype()), op,
             ": a state has the wrong dtype");
  Run(args, rule)();
}

}  // namespace
}  // namespace fc::optim

#define FC_OPTIM_CPU(name, ...)                                                                                             \
  static void name(std::vector<Tensor> params, std::vector<Tensor> grads, std::vector<Tensor> states, Tensor steps,         \
                   std::optional<Tensor> products, std::optional<Tensor> extra, Tensor index, std::vector<double> hyper,    \
                   std::optional<Tensor> lr, std::optional<Tensor> grad_scale, std::optional<Tensor> found_inf,             \
                   std::optional<Tensor> coefficients, bool maximize, int64_t rounding, int64_t seed) {                     \
    step<__VA_ARGS__>(#name, {std::move(params), std::move(grads), std::move(states), steps, products, extra, index,        \
                              std::move(hyper), lr, grad_scale, found_inf, coefficients, maximize, rounding, seed});        \
  }
#define FC_OPTIM_REGISTER(name, ...) m.impl(#name, TORCH_BOX(&fc::optim::name));
