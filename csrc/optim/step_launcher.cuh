// CUDA driver of the steps: a table of all parameters goes to the device, and one launch makes the step. Included by the
// files that give it their rules; they are several so that they compile side by side.
#pragma once
#include <algorithm>

#include "rules.h"
#include "step_kernel.cuh"
#include "table.cuh"

namespace fc::optim {
namespace {

// What the driver knows of a rule once the number of states and the dtypes are known.
struct RuleTable {
  void (*start)(const Launch& step, unsigned blocks, cudaStream_t stream);
  Preparation preparation;
  unsigned like_parameter;
};

template <class Rule>
RuleTable choose(const char* op, ScalarType p, ScalarType s) {
  return with_types(op, p, s, [](auto types) {
    using Type = decltype(types);
    using T = typename Type::T;
    return RuleTable{[](const Launch& step, unsigned blocks, cudaStream_t stream) {
                       launch(step_kernel<Rule, T, typename Type::P, typename Type::S>, blocks, kThreads, 0, stream, step);
                     },
                     preparation<Rule, T>(), Rule::like_parameter};
  });
}

template <class... Variants>
RuleTable choose_variant(const char* op, int64_t states, ScalarType p, ScalarType s) {
  RuleTable found{};
  ((states == Variants::states ? void(found = choose<Variants>(op, p, s)) : void()), ...);
  FC_CHECK(found.start != nullptr, op, ": wrong number of states");
  return found;
}

template <class... Variants>
void step(const char* op, StepArguments&& args) {
  if (args.count() == 0) return;
  constexpr int numbers = std::max({numbers_of<Variants>()...});
  args.check(op, numbers);
  check_places(op, args, numbers);
  if (args.found_inf && !is_on_device(*args.found_inf) && read_number(*args.found_inf) != 0) return;
  if (args.lr && !is_on_device(*args.lr)) args.hyper[0] = read_number(*args.lr);
  const auto rule = choose_variant<Variants...>(op, int64_t(args.states.size()), args.parameter_dtype(), args.state_dtype());
  check_states(op, args, rule.like_parameter);
  const DeviceScope device(args.params[0]);
  const Table table(op, args, rule.preparation, true, false);
  // One block where all are empty: for the sake of their counters.
  rule.start(table.launch(), unsigned(std::max<int64_t>(table.blocks(), 1)), current_stream(args.params[0]));
}

}  // namespace
}  // namespace fc::optim

#define FC_OPTIM_CUDA(name, ...)                                                                                            \
  static void name(std::vector<Tensor> params, std::vector<Tensor> grads, std::vector<Tensor> states, Tensor steps,         \
                   std::optional<Tensor> products, std::optional<Tensor> extra, Tensor index, std::vector<double> hyper,    \
                   std::optional<Tensor> lr, std::optional<Tensor> grad_scale, std::optional<Tensor> found_inf,             \
                   std::optional<Tensor> coefficients, bool maximize, int64_t rounding, int64_t seed) {                     \
    step<__VA_ARGS__>(#name, {std::move(params), std::move(grads), std::move(states), steps, products, extra, index,        \
                              std::move(hyper), lr, grad_scale, found_inf, coefficients, maximize, rounding, seed});        \
  }
