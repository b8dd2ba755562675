// Sums over whole parameters, or over rows, that a step needs before it begins, on CUDA.
#include "measure_kernel.cuh"
#include "rules.h"
#include "table.cuh"

namespace fc::optim {
namespace {

// Two launches: blocks, then what they have found is added. One where all rows fit blocks.
template <class Rule, class T, class P, class S>
Tensor measure_on_device(const char* op, const StepArguments& args, bool by_row) {
  const Table table(op, args, preparation<Rule, T>(), false, by_row);
  const Launch step = table.launch();
  const Tensor& like = args.params[0];
  const Tensor out = new_tensor<double>(like, {Rule::sums, by_row ? table.rows() : table.entries()});
  const Tensor partial = new_tensor<double>(like, {table.blocks(), Rule::sums});
  const cudaStream_t stream = current_stream(like);
  const unsigned blocks = unsigned(table.blocks()), entries = unsigned(table.entries());
  if (blocks > 0 && by_row)
    launch(measure_rows_kernel<Rule, T, P, S>, blocks, kThreads, 0, stream, step, data<double>(partial), data<double>(out),
           table.rows());
  else if (blocks > 0)
    launch(measure_kernel<Rule, T, P, S>, blocks, kThreads, 0, stream, step, data<double>(partial));
  if (by_row && table.all_rows_fit()) return out;
  if (by_row)
    launch(add_row_sums_kernel<Rule::sums>, entries, kThreads, 0, stream, step.map, data<double>(partial), data<double>(out),
           table.rows());
  else
    launch(add_sums_kernel<Rule::sums>, entries, kThreads, 0, stream, step.map, data<double>(partial), data<double>(out));
  return out;
}

template <class Rule>
Tensor measure(const char* op, StepArguments&& args, bool by_row) {
  if (args.count() == 0) return new_tensor<double>(args.index, {Rule::sums, 0});
  args.check(op);
  check_places(op, args, 0);
  FC_CHECK(args.states.size() == size_t(Rule::states), op, ": wrong number of states");
  check_states(op, args, Rule::like_parameter);
  if (by_row) check_rows(op, args);
  if (args.lr && !is_on_device(*args.lr)) args.hyper[0] = read_number(*args.lr);
  const DeviceScope device(args.params[0]);
  return with_types(op, args.parameter_dtype(), args.state_dtype(), [&](auto types) {
    using Type = decltype(types);
    return measure_on_device<Rule, typename Type::T, typename Type::P, typename Type::S>(op, args, by_row);
  });
}

}  // namespace

#define FC_OPTIM_MEASURE(name, ...)                                                                                         \
  static Tensor name(std::vector<Tensor> params, std::vector<Tensor> grads, std::vector<Tensor> states, Tensor steps,       \
                     std::optional<Tensor> extra, Tensor index, std::vector<double> hyper, std::optional<Tensor> lr,        \
                     std::optional<Tensor> grad_scale, std::optional<Tensor> found_inf, std::optional<Tensor> coefficients, \
                     bool maximize, int64_t rounding, int64_t seed, bool by_row) {                                          \
    return measure<__VA_ARGS__>(#name, {std::move(params), std::move(grads), std::move(states), steps, std::nullopt, extra, \
                                        index, std::move(hyper), lr, grad_scale, found_inf, coefficients, maximize,         \
                                        rounding, seed}, by_row);                                                           \
  }
FC_OPTIM_MEASURES(FC_OPTIM_MEASURE)

}  // namespace fc::optim

STABLE_TORCH_LIBRARY_IMPL(FC_OPS_NAMESPACE, FC_OPS_KEY, m) { FC_OPTIM_MEASURES(FC_OPTIM_REGISTER) }
