// Steps that look at rows, on CUDA.
#include "row_kernels.cuh"
#include "rules.h"
#include "table.cuh"

namespace fc::optim {
namespace {

// What every step does before its launches; false: it is skipped, and the host knows.
bool begins(const char* op, StepArguments& args, int states, int numbers, unsigned like_parameter) {
  if (args.count() == 0) return false;
  args.check(op, numbers);
  check_places(op, args, numbers);
  check_rows(op, args);
  FC_CHECK(args.states.size() == size_t(states), op, ": wrong number of states");
  check_states(op, args, like_parameter);
  if (args.lr && !is_on_device(*args.lr)) args.hyper[0] = read_number(*args.lr);
  return !args.found_inf || is_on_device(*args.found_inf) || read_number(*args.found_inf) == 0;
}

// One block where all are empty: for the sake of their counters.
unsigned blocks_of(const Table& table) { return unsigned(std::max<int64_t>(table.blocks(), 1)); }

// Three launches: sums of blocks, shares, step.
template <class Rule, class T, class P, class S>
void project_on_device(const char* op, const StepArguments& args) {
  const Table table(op, args, preparation<Rule, T>(), true, true);
  const Launch step = table.launch();
  const Tensor& like = args.params[0];
  const Tensor partial = new_tensor<double>(like, {table.blocks(), 2}), shares = new_tensor<double>(like, {table.entries()});
  const cudaStream_t stream = current_stream(like);
  if (table.blocks() > 0) {
    launch(direction_kernel<Rule, T, P, S>, blocks_of(table), kThreads, 0, stream, step, data<double>(partial));
    launch(shares_kernel<Rule>, unsigned(table.entries()), kThreads, 0, stream, step, data<double>(partial),
           data<double>(shares));
  }
  launch(project_kernel<Rule, T, P, S>, blocks_of(table), kThreads, 0, stream, step, data<double>(shares));
}

template <class Rule>
void project(const char* op, StepArguments&& args) {
  if (!begins(op, args, Rule::states, 1, Rule::like_parameter)) return;
  const DeviceScope device(args.params[0]);
  with_types(op, args.parameter_dtype(), args.state_dtype(), [&](auto types) {
    using Type = decltype(types);
    project_on_device<Rule, typename Type::T, typename Type::P, typename Type::S>(op, args);
  });
}

// Rows one after the other, each with a size of its own in `sizes`.
void scale_rows(const char* op, StepArguments&& args, const Tensor& sizes) {
  int64_t rows = 0;
  for (const Tensor& p : args.params) rows += Layout(p).rows();
  const bool goes_on = begins(op, args, 0, 0, 0);
  if (args.count() == 0) return;
  check_tensor(op, "sizes", sizes, ScalarType::Double, {rows});
  FC_CHECK(is_on_device(sizes) && sizes.get_device_index() == args.params[0].get_device_index(), op,
           ": `sizes` is on another device than the first parameter");
  if (!goes_on) return;
  const DeviceScope device(args.params[0]);
  with_types(op, args.parameter_dtype(), args.state_dtype(), [&](auto types) {
    using Type = decltype(types);
    using T = typename Type::T;
    const Table table(op, args, preparation<ScaledRows, T>(), true, true);
    launch(scaled_rows_kernel<T, typename Type::P, typename Type::S>, blocks_of(table), kThreads, 0,
           current_stream(args.params[0]), table.launch(), data<double>(sizes));
  });
}

void optim_scaled_rows_(std::vector<Tensor> params, std::vector<Tensor> grads, Tensor steps, std::optional<Tensor> extra,
                        Tensor index, Tensor sizes, std::vector<double> hyper, std::optional<Tensor> grad_scale,
                        std::optional<Tensor> found_inf, std::optional<Tensor> coefficients, bool maximize, int64_t rounding,
                        int64_t seed) {
  scale_rows("optim_scaled_rows_",
             {std::move(params), std::move(grads), {}, steps, std::nullopt, extra, index, std::move(hyper), std::nullopt,
              grad_scale, found_inf, coefficients, maximize, rounding, seed},
             sizes);
}

}  // namespace

#define FC_OPTIM_PROJECTED(name, ...)                                                                                       \
  static void name(std::vector<Tensor> params, std::vector<Tensor> grads, std::vector<Tensor> states, Tensor steps,         \
                   std::optional<Tensor> products, std::optional<Tensor> extra, Tensor index, std::vector<double> hyper,    \
                   std::optional<Tensor> lr, std::optional<Tensor> grad_scale, std::optional<Tensor> found_inf,             \
                   std::optional<Tensor> coefficients, bool maximize, int64_t rounding, int64_t seed) {                     \
    project<__VA_ARGS__>(#name, {std::move(params), std::move(grads), std::move(states), steps, products, extra, index,     \
                                 std::move(hyper), lr, grad_scale, found_inf, coefficients, maximize, rounding, seed});     \
  }
FC_OPTIM_PROJECTED_RULES(FC_OPTIM_PROJECTED)

}  // namespace fc::optim

STABLE_TORCH_LIBRARY_IMPL(FC_OPS_NAMESPACE, FC_OPS_KEY, m) {
  FC_OPTIM_PROJECTED_RULES(FC_OPTIM_REGISTER)
  m.impl("optim_scaled_rows_", TORCH_BOX(&fc::optim::optim_scaled_rows_));
}
