// CUDA driver of the optimizers: a table of all parameters goes to the device, and one launch makes the step. Included by the
// files that give it their rules; they are two so that they compile side by side.
#pragma once
#include <cstring>
#include <limits>
#include <optional>
#include <vector>

#include "../common/upload.cuh"
#include "rules.h"
#include "step_arguments.h"
#include "step_kernel.cuh"

namespace fc::optim {
namespace {

// What the driver knows of a rule once the number of states and the dtypes are known.
struct RuleTable {
  void (*launch)(const StepLaunch& launch, unsigned blocks, cudaStream_t stream);
  void (*prepare)(const double* hyper, double t, double* product, void* prepared);
  int64_t prepared_bytes;
  unsigned like_parameter;
};

template <class Rule, class T, class P, class S>
RuleTable table() {
  using Prepared = PreparedStep<typename Rule::template Step<T>>;
  static_assert(sizeof(Prepared) % sizeof(int64_t) == 0);
  return {[](const StepLaunch& step, unsigned blocks, cudaStream_t stream) {
            launch(step_kernel<Rule, T, P, S>, blocks, kThreads, 0, stream, step);
          },
          [](const double* hyper, double t, double* product, void* prepared) {
            const Prepared made{int64_t(t), Rule::template prepare<T>(hyper, t, product)};
            std::memcpy(prepared, &made, sizeof(made));
          },
          sizeof(Prepared), Rule::like_parameter};
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
  FC_CHECK(found.launch != nullptr, op, ": wrong number of states");
  return found;
}

Number number_of(const std::optional<Tensor>& tensor, double without) {
  if (!tensor) return {nullptr, without, false};
  if (!is_on_device(*tensor)) return {nullptr, read_number(*tensor), false};
  return {tensor->data_ptr(), 0, tensor->scalar_type() == ScalarType::Double};
}

// What StepArguments does not ask, since on the CPU it goes without saying.
void check_places(const char* op, const StepArguments& args) {
  FC_CHECK(args.index.is_cpu(), op, ": `index` is not on the CPU");
  const int64_t device = args.params[0].get_device_index();
  const auto check = [&](const char* name, const Tensor& tensor) {
    FC_CHECK(is_on_device(tensor) && tensor.get_device_index() == device, op, ": `", name,
             "` is on another device than the first parameter");
  };
  const auto check_number = [&](const char* name, const std::optional<Tensor>& tensor) {
    if (tensor && is_on_device(*tensor)) check(name, *tensor);
  };
  for (const Tensor& p : args.params) check("params", p);
  for (const Tensor& g : args.grads) check("grads", g);
  for (const Tensor& state : args.states) check("states", state);
  if (args.extra) check("extra", *args.extra);
  check_number("steps", args.steps);
  check_number("products", args.products);
  check_number("lr", args.lr);
  check_number("grad_scale", args.grad_scale);
  check_number("found_inf", args.found_inf);
  check_number("coefficients", args.coefficients);
  const bool on_device = is_on_device(args.steps);
  FC_CHECK(!args.products || is_on_device(*args.products) == on_device, op, ": `products` is not where `steps` is");
  FC_CHECK(on_device || !args.lr || !is_on_device(*args.lr), op, ": `lr` is on the device and `steps` is not");
  FC_CHECK(on_device || !args.found_inf || !is_on_device(*args.found_inf), op,
           ": `found_inf` is on the device and `steps` is not: nobody could tell on the host whether the step counts");
  FC_CHECK(args.hyper.size() <= size_t(kMostHyper), op, ": too many hyper-parameters");
}

// The table of a launch, in words of 8 bytes: the blocks done so far, first blocks, entries, what the host knows of
// coefficients and steps.
class Run {
 public:
  Run(const StepArguments& args, const RuleTable& rule)
      : args_(args), rule_(rule), n_(args.count()), coefficients_on_host_(args.coefficients && !is_on_device(*args.coefficients)) {
    if (!is_on_device(args.steps)) prepare_steps();
    at_entries_ = kHead + n_;
    at_coefficients_ = at_entries_ + n_ * kEntryWords;
    at_prepared_ = at_coefficients_ + (coefficients_on_host_ ? 4 * n_ : 0);
  }

  void operator()() const {
    Upload upload(args_.params[0], at_prepared_ + int64_t(prepared_.size()) / 8);
    const int64_t blocks = fill(upload.at_host());
    upload.send();
    FC_CHECK(blocks <= std::numeric_limits<int32_t>::max(), "too many elements for one launch");
    rule_.launch(launch(upload.at_device()), unsigned(blocks), current_stream(args_.params[0]));
  }

 private:
  static constexpr int64_t kHead = 2, kEntryWords = sizeof(Entry) / 8;

  // As on the CPU: counters advance; parameters with the same count share what is made of it.
  void prepare_steps() {
    double last = std::numeric_limits<double>::quiet_NaN();
    for (int64_t i = 0; i < n_; ++i) {
      const double t = args_.advance(i);
      if (t != last || args_.products) {
        prepared_.resize(prepared_.size() + size_t(rule_.prepared_bytes));
        rule_.prepare(args_.hyper.data(), t, args_.product(i), &*prepared_.end() - rule_.prepared_bytes);
        last = t;
      }
      prepared_of_.push_back(int64_t(prepared_.size()) / rule_.prepared_bytes - 1);
    }
  }

  // Returns the number of blocks.
  int64_t fill(int64_t* words) const {
    words[0] = words[1] = 0;
    int64_t* first_block = words + kHead;
    int64_t blocks = 0;
    for (int64_t i = 0; i < n_; ++i) {
      const int64_t count = Layout(args_.params[i]).numel();
      const Entry entry{args_.params[i].data_ptr(), args_.grads[i].data_ptr(), count,     args_.start(i), args_.slot(i),
                        args_.id(i),                prepared_of_.empty() ? 0 : prepared_of_[i]};
      std::memcpy(words + at_entries_ + i * kEntryWords, &entry, sizeof(entry));
      first_block[i] = blocks;
      blocks += (count + kBlockElements - 1) / kBlockElements;
    }
    if (coefficients_on_host_) std::memcpy(words + at_coefficients_, data<double>(*args_.coefficients), size_t(4 * n_) * 8);
    if (!prepared_.empty()) std::memcpy(words + at_prepared_, prepared_.data(), prepared_.size());
    return blocks > 0 ? blocks : 1;  // of nothing but empty parameters: for the sake of their counters
  }

  StepLaunch launch(int64_t* words) const {
    StepLaunch made{};
    made.map = {words + kHead, reinterpret_cast<const Entry*>(words + at_entries_), n_};
    const bool on_device = prepared_.empty();
    made.counters = {on_device ? args_.steps.data_ptr() : nullptr, args_.steps.scalar_type() == ScalarType::Double,
                     on_device ? data<double>(args_.products) : nullptr,
                     reinterpret_cast<const unsigned char*>(words + at_prepared_), reinterpret_cast<uint32_t*>(words)};
    for (size_t k = 0; k < args_.states.size(); ++k) made.states[k] = args_.states[k].data_ptr();
    if (args_.extra) made.extra = args_.extra->data_ptr();
    made.extra_bytes = args_.extra_bytes();
    made.rounding = args_.rounding;
    made.seed = args_.seed;
    std::copy(args_.hyper.begin(), args_.hyper.end(), made.hyper);
    made.side = args_.maximize ? -1.0 : 1.0;
    made.lr = number_of(args_.lr, args_.hyper[0]);
    made.grad_scale = number_of(args_.grad_scale, 1.0);
    made.found_inf = number_of(args_.found_inf, 0.0);
    if (coefficients_on_host_) made.coefficients = reinterpret_cast<const double*>(words + at_coefficients_);
    else made.coefficients = data<double>(args_.coefficients);
    return made;
  }

  const StepArguments& args_;
  RuleTable rule_;
  int64_t n_;
  bool coefficients_on_host_;
  int64_t at_entries_, at_coefficients_, at_prepared_;
  std::vector<unsigned char> prepared_;
  std::vector<int64_t> prepared_of_;
};

template <class... Variants>
void step(const char* op, StepArguments&& args) {
  if (args.count() == 0) return;
  args.check(op);
  check_places(op, args);
  if (args.found_inf && !is_on_device(*args.found_inf) && read_number(*args.found_inf) != 0) return;
  if (args.lr && !is_on_device(*args.lr)) args.hyper[0] = read_number(*args.lr);
  const auto rule = choose_variant<Variants...>(op, int64_t(args.states.size()), args.parameter_dtype(), args.state_dtype());
  for (size_t k = 0; k < args.states.size(); ++k)
    FC_CHECK(args.states[k].scalar_type() == (rule.like_parameter >> k & 1 ? args.parameter_dtype() : args.state_dtype()), op,
             ": a state has the wrong dtype");
  const DeviceScope device(args.params[0]);
  Run(args, rule)();
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
#define FC_OPTIM_REGISTER(name, ...) m.impl(#name, TORCH_BOX(&fc::optim::name));
