// CPU driver of the sums over parameters or rows: pieces in parallel, added in order.
#pragma once
#include "cpu_driver.h"

namespace fc::optim {
namespace {

struct Piece {
  int64_t parameter, first, count, segment;
};

// Pieces of each parameter, or of each of its rows; `segments` counts those that the sums belong to.
struct Pieces {
  std::vector<Piece> all;
  int64_t segments = 0, elements = 0;

  Pieces(const StepArguments& args, bool by_row) {
    for (int64_t i = 0; i < args.count(); ++i) {
      const int64_t rows = by_row ? Layout(args.params[i]).rows() : 1, size = args.size(i);
      for (int64_t row = 0; row < rows; ++row) add(i, row * (size / rows), size / rows);
      elements += size;
    }
  }

 private:
  void add(int64_t parameter, int64_t first, int64_t count) {
    for (int64_t done = 0; done < count; done += kPiece)
      all.push_back({parameter, first + done, std::min(kPiece, count - done), segments});
    ++segments;
  }
};

// out (sums, segments).
inline void measure_pieces(const StepArguments& args, const Pieces& pieces, const Steps& steps, const Staging& staging,
                           MeasureBlock loop, int sums, double* out) {
  const Bases bases(args, true);
  std::vector<double> partial(sums * pieces.all.size(), 0.0);
  for_blocks(cut_blocks(int64_t(pieces.all.size()), 1, 256), [&](int64_t, int64_t begin, int64_t end) {
    std::vector<double> found(sums);
    for (int64_t k = begin; k < end; ++k) {
      const Piece& piece = pieces.all[k];
      each_run(args, bases.chunks[piece.parameter], piece.first, piece.count, [&](const Chunk& chunk) {
        staging(chunk, true, false, [&](const Block& block) {
          loop(block, bases.prologues[piece.parameter], steps[piece.parameter], found.data());
          for (int s = 0; s < sums; ++s) partial[sums * k + s] += found[s];
        });
      });
    }
  }, pieces.elements > kWorthSharing);
  std::fill(out, out + sums * pieces.segments, 0.0);
  for (size_t k = 0; k < pieces.all.size(); ++k)
    for (int s = 0; s < sums; ++s) out[s * pieces.segments + pieces.all[k].segment] += partial[sums * k + s];
}

template <class Rule>
Tensor measure(const char* op, StepArguments&& args, bool by_row) {
  if (args.count() > 0) {
    args.check(op);
    check_states(op, args, Rule::states, Rule::like_parameter);
    if (by_row) check_rows(op, args);
  }
  const Pieces pieces(args, by_row);
  Tensor out = new_tensor<double>(args.index, {Rule::sums, pieces.segments});
  std::fill(data<double>(out), data<double>(out) + Rule::sums * pieces.segments, 0.0);
  if (args.count() == 0 || (args.found_inf && read_number(*args.found_inf) != 0)) return out;
  if (args.lr) args.hyper[0] = read_number(*args.lr);
  with_type(op, args.parameter_dtype(), args.state_dtype(), [&](auto number) {
    using T = decltype(number);
    const Steps steps(args, prepare<Rule, T>, 0, false);
    const Staging staging(args, Rule::read_only, *FC_PICK_ISA(reads_parameter<Rule>));
    measure_pieces(args, pieces, steps, staging, FC_PICK_ISA(measure_block<Rule, T>), Rule::sums, data<double>(out));
    return 0;
  });
  return out;
}

}  // namespace
}  // namespace fc::optim

#define FC_OPTIM_MEASURE(name, ...)                                                                                         \
  static Tensor name(std::vector<Tensor> params, std::vector<Tensor> grads, std::vector<Tensor> states, Tensor steps,       \
                     std::optional<Tensor> extra, Tensor index, std::vector<double> hyper, std::optional<Tensor> lr,        \
                     std::optional<Tensor> grad_scale, std::optional<Tensor> found_inf, std::optional<Tensor> coefficients, \
                     bool maximize, int64_t rounding, int64_t seed, bool by_row) {                                          \
    return measure<__VA_ARGS__>(#name, {std::move(params), std::move(grads), std::move(states), steps, std::nullopt, extra, \
                                        index, std::move(hyper), lr, grad_scale, found_inf, coefficients, maximize,         \
                                        rounding, seed}, by_row);                                                           \
  }
