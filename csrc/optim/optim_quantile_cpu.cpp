// The quantile of each gradient's magnitudes, for clipping coordinate by coordinate.
#include <torch/csrc/stable/library.h>

#include "cpu_driver.h"
#include "quantile.h"

namespace fc::optim {
namespace {

constexpr int64_t kMostBlocks = 64;  // histograms side by side

using Histogram = std::array<int64_t, kBins>;

// One parameter's magnitudes, as unsigned numbers of the same order.
template <class T>
class Magnitudes {
 public:
  using Bits = bits_of<T>;
  static constexpr int kBits = int(sizeof(T)) * 8;

  Magnitudes(const StepArguments& args, const Staging& staging, int64_t parameter)
      : args_(args), staging_(staging), base_(args.chunk(parameter)), prologue_(args.prologue(parameter)),
        size_(args.size(parameter)) {}

  int64_t size() const { return size_; }

  // visit(bits) for elements [begin, end).
  template <class Visit>
  void each(int64_t begin, int64_t end, const Visit& visit) const {
    constexpr int64_t kStep = Staging::kStaged;
    alignas(64) T found[kStep];
    const auto loop = FC_PICK_ISA(gradient_block<T>);
    for (; begin < end; begin += kStep)
      each_run(args_, base_, begin, std::min(kStep, end - begin), [&](const Chunk& chunk) {
        staging_(chunk, false, false, [&](const Block& block) {
          loop(block, prologue_, found);
          for (int64_t j = 0; j < block.count; ++j) visit(magnitude_bits(found[j]));
        });
      });
  }

  // How many of those that begin with the digits of `prefix` have which next one.
  Histogram count(Bits prefix, Digit digit, bool share) const {
    const Blocks blocks = cut_blocks(size_, kPiece, kMostBlocks);
    std::vector<Histogram> parts(blocks.count);
    for_blocks(blocks, [&](int64_t block, int64_t begin, int64_t end) {
      Histogram& bins = parts[block];
      each(begin, end, [&](Bits bits) {
        if (digit.follows(bits, prefix)) ++bins[digit.of(bits)];
      });
    }, share);
    for (int64_t block = 1; block < blocks.count; ++block)
      for (int bin = 0; bin < kBins; ++bin) parts[0][bin] += parts[block][bin];
    return parts[0];
  }

  // The least above `bits`; all ones if there is none.
  Bits next(Bits bits, bool share) const {
    const Blocks blocks = cut_blocks(size_, kPiece, kMostBlocks);
    std::vector<Bits> least(blocks.count, ~Bits(0));
    for_blocks(blocks, [&](int64_t block, int64_t begin, int64_t end) {
      each(begin, end, [&](Bits other) {
        if (other > bits && other < least[block]) least[block] = other;
      });
    }, share);
    return *std::min_element(least.begin(), least.end());
  }

 private:
  const StepArguments& args_;
  const Staging& staging_;
  Chunk base_;
  Prologue prologue_;
  int64_t size_;
};

// The element of rank `rank` (from 0), and how many are not above it.
template <class T>
std::pair<bits_of<T>, int64_t> select_rank(const Magnitudes<T>& values, int64_t rank, bool share) {
  bits_of<T> prefix = 0;
  int64_t below = 0, equal = values.size();
  for (int above = Magnitudes<T>::kBits; above > 0;) {
    const Digit digit(above);
    const Histogram bins = values.count(prefix, digit, share);
    int found = 0;
    while (below + bins[found] <= rank) below += bins[found++];
    equal = bins[found];
    prefix |= bits_of<T>(found) << digit.shift;
    above = digit.shift;
  }
  return {prefix, below + equal};
}

// Linear between order statistics.
template <class T>
double quantile_of(const Magnitudes<T>& values, double q, bool share) {
  if (values.size() == 0) return Limits<double>::infinity;
  const auto [rank, rest] = rank_of(q, values.size());
  const auto [bits, up_to] = select_rank(values, rank, share);
  const double low = double(bit_cast<T>(bits));
  if (rest == 0 || rank + 1 < up_to) return low;
  return low + rest * (double(bit_cast<T>(values.next(bits, share))) - low);
}

Tensor optim_quantile(std::vector<Tensor> params, std::vector<Tensor> grads, Tensor steps, std::optional<Tensor> extra,
                      Tensor index, double q, std::optional<Tensor> grad_scale, std::optional<Tensor> coefficients,
                      int64_t rounding) {
  constexpr const char* op = "optim_quantile";
  StepArguments args{std::move(params), std::move(grads), {}, steps, std::nullopt, extra, index, {0.0}, std::nullopt,
                     grad_scale, std::nullopt, coefficients, false, rounding, 0};
  FC_CHECK(q >= 0 && q <= 1, op, ": `q` is not in [0, 1]");
  const int64_t n = args.count();
  if (n > 0) args.check(op);
  Tensor out = new_tensor<double>(args.index, {n});
  if (n == 0) return out;
  double* found = data<double>(out);
  with_type(op, args.parameter_dtype(), args.state_dtype(), [&](auto number) {
    using T = decltype(number);
    const Staging staging(args, 0, false);
    // Small parameters side by side; large ones one after the other, each shared out.
    for_blocks(cut_blocks(n, 1, 256), [&](int64_t, int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; ++i)
        if (args.size(i) <= kPiece) found[i] = quantile_of(Magnitudes<T>(args, staging, i), q, false);
    });
    for (int64_t i = 0; i < n; ++i)
      if (args.size(i) > kPiece) found[i] = quantile_of(Magnitudes<T>(args, staging, i), q, true);
    return 0;
  });
  return out;
}

}  // namespace
}  // namespace fc::optim

STABLE_TORCH_LIBRARY_IMPL(fastcore_ops, CPU, m) { m.impl("optim_quantile", TORCH_BOX(&fc::optim::optim_quantile)); }
