// The quantile of each gradient's magnitudes, for clipping coordinate by coordinate, on CUDA.
#include "quantile_kernel.cuh"
#include "table.cuh"

namespace fc::optim {
namespace {

constexpr int64_t kSelectionWords = sizeof(Selection) / 8;

// Writes what is looked for in each parameter; how many histograms that needs.
int64_t list_selections(const StepArguments& args, double q, Selection* out) {
  int64_t histograms = 0;
  for (int64_t i = 0; i < args.count(); ++i) {
    const int64_t size = args.size(i);
    const Rank rank = rank_of(q, size);
    out[i] = {rank.rank, rank.rest, 0, 0, size, ~Count(0), size > kBlockElements ? histograms++ : 0, 0, 0};
  }
  return histograms;
}

template <class T, class P>
void find_quantiles(const char* op, const StepArguments& args, double q, const Tensor& out) {
  const Table table(op, args, preparation<Squares, T>(), false, false);
  const Launch step = table.launch();
  const Tensor& like = args.params[0];
  Upload upload(like, args.count() * kSelectionWords);
  const int64_t histograms = list_selections(args, q, reinterpret_cast<Selection*>(upload.at_host()));
  upload.send();
  auto* selections = reinterpret_cast<Selection*>(upload.at_device());
  const Tensor bins = new_tensor<int64_t>(like, {histograms, kBins});
  auto* counts = reinterpret_cast<Count*>(bins.data_ptr());
  const cudaStream_t stream = current_stream(like);
  const unsigned blocks = unsigned(table.blocks());
  launch(begin_quantile_kernel, unsigned(args.count()), kThreads, 0, stream, step.map, selections, counts, data<double>(out));
  if (blocks == 0) return;
  for (int above = int(sizeof(T)) * 8; above > 0; above = Digit(above).shift)
    launch(digit_kernel<T, P>, blocks, kThreads, 0, stream, step, selections, counts, above);
  launch(quantile_kernel<T, P>, blocks, kThreads, 0, stream, step, selections, data<double>(out));
}

Tensor optim_quantile(std::vector<Tensor> params, std::vector<Tensor> grads, Tensor steps, std::optional<Tensor> extra,
                      Tensor index, double q, std::optional<Tensor> grad_scale, std::optional<Tensor> coefficients,
                      int64_t rounding) {
  constexpr const char* op = "optim_quantile";
  StepArguments args{std::move(params), std::move(grads), {}, steps, std::nullopt, extra, index, {0.0}, std::nullopt,
                     grad_scale, std::nullopt, coefficients, false, rounding, 0};
  FC_CHECK(q >= 0 && q <= 1, op, ": `q` is not in [0, 1]");
  if (args.count() == 0) return new_tensor<double>(args.index, {0});
  args.check(op);
  check_places(op, args, 0);
  const DeviceScope device(args.params[0]);
  const Tensor out = new_tensor<double>(args.params[0], {args.count()});
  const ScalarType type = args.parameter_dtype();
  with_types(op, type, type, [&](auto types) {  // there are no states: gradients may be read in vectors of their own width
    using Type = decltype(types);
    find_quantiles<typename Type::T, typename Type::P>(op, args, q, out);
  });
  return out;
}

}  // namespace
}  // namespace fc::optim

STABLE_TORCH_LIBRARY_IMPL(FC_OPS_NAMESPACE, FC_OPS_KEY, m) { m.impl("optim_quantile", TORCH_BOX(&fc::optim::optim_quantile)); }
