// CPU driver of the elementwise steps: all elements of all parameters as one line, cut into pieces that are worked on in
// parallel. Included by the files that give it their rules; they are several so that they compile side by side.
#pragma once
#include "cpu_driver.h"
#include "rules.h"

namespace fc::optim {
namespace {

// What the driver knows of a rule once the number of states and the dtypes are known.
struct RuleTable {
  StepBlock loop;
  Prepare prepare;
  unsigned read_only, like_parameter;
  int states, numbers;
};

template <class Rule>
RuleTable choose(const char* op, ScalarType p, ScalarType s) {
  return with_type(op, p, s, [](auto number) {
    using T = decltype(number);
    return RuleTable{FC_PICK_ISA(step_block<Rule, T>), prepare<Rule, T>, Rule::read_only,
                     Rule::like_parameter,             Rule::states,     numbers_of<Rule>()};
  });
}

template <class... Variants>
RuleTable choose_variant(const char* op, int64_t states, ScalarType p, ScalarType s) {
  RuleTable found{};
  ((states == Variants::states ? void(found = choose<Variants>(op, p, s)) : void()), ...);
  FC_CHECK(found.loop != nullptr, op, ": wrong number of states");
  return found;
}

class Run {
 public:
  Run(const StepArguments& args, const RuleTable& rule)
      : args_(args), rule_(rule), line_(args.count() + 1, 0), steps_(args, rule.prepare, rule.numbers, true), bases_(args),
        staging_(args, rule.read_only, true) {
    for (int64_t i = 0; i < args.count(); ++i) line_[i + 1] = line_[i] + args.size(i);
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
  void run(int64_t i, int64_t first, int64_t count) const {
    each_run(args_, bases_.chunks[i], first, count, [&](const Chunk& chunk) {
      staging_(chunk, true, true, [&](const Block& block) { rule_.loop(block, bases_.prologues[i], steps_[i]); });
    });
  }

  const StepArguments& args_;
  RuleTable rule_;
  std::vector<int64_t> line_;
  Steps steps_;
  Bases bases_;
  Staging staging_;
};

template <class... Variants>
void step(const char* op, StepArguments&& args) {
  if (args.count() == 0) return;
  args.check(op, std::max({numbers_of<Variants>()...}));
  if (args.found_inf && read_number(*args.found_inf) != 0) return;  // steps do not advance either
  if (args.lr) args.hyper[0] = read_number(*args.lr);
  const auto rule = choose_variant<Variants...>(op, int64_t(args.states.size()), args.parameter_dtype(), args.state_dtype());
  check_states(op, args, rule.states, rule.like_parameter);
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
