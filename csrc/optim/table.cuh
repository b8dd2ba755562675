// What the launches of the optimizers share on the host: the table of all parameters, and what it needs to be true.
#pragma once
#include <cstring>
#include <limits>
#include <optional>
#include <vector>

#include "../common/upload.cuh"
#include "step_arguments.h"
#include "step_launch.h"

namespace fc::optim {
namespace {

template <class Arithmetic, class Parameter, class State>
struct Types {
  using T = Arithmetic;
  using P = Parameter;
  using S = State;
};

// make(Types) for the dtypes of parameters and states.
template <class Make>
auto with_types(const char* op, ScalarType p, ScalarType s, const Make& make) {
  using Type = ScalarType;
  if (p == Type::Double && s == Type::Double) return make(Types<double, double, double>());
  if (p == Type::Float && s == Type::Float) return make(Types<float, float, float>());
  if (p == Type::Float && s == Type::BFloat16) return make(Types<float, float, BFloat16>());
  if (p == Type::BFloat16 && s == Type::Float) return make(Types<float, BFloat16, float>());
  if (p == Type::BFloat16 && s == Type::BFloat16) return make(Types<float, BFloat16, BFloat16>());
  if (p == Type::Half && s == Type::Float) return make(Types<float, Float16, float>());
  FC_CHECK(p == Type::Half && s == Type::Half, op, ": no kernel for this pair of dtypes of parameters and states");
  return make(Types<float, Float16, Float16>());
}

// How the host prepares a Step, where it has the counters.
struct Preparation {
  void (*prepare)(const double* hyper, double t, double* own, void* prepared);
  int64_t bytes;
  int numbers;
};

template <class Rule, class T>
Preparation preparation() {
  using Prepared = PreparedStep<typename Rule::template Step<T>>;
  static_assert(sizeof(Prepared) % sizeof(int64_t) == 0);
  return {[](const double* hyper, double t, double* own, void* prepared) {
            const Prepared made{int64_t(t), Rule::template prepare<T>(hyper, t, own)};
            std::memcpy(prepared, &made, sizeof(made));
          },
          sizeof(Prepared), numbers_of<Rule>()};
}

inline void check_states(const char* op, const StepArguments& args, unsigned like_parameter) {
  for (size_t k = 0; k < args.states.size(); ++k)
    FC_CHECK(args.states[k].scalar_type() == (like_parameter >> k & 1 ? args.parameter_dtype() : args.state_dtype()), op,
             ": a state has the wrong dtype");
}

// What StepArguments does not ask, since on the CPU it goes without saying.
inline void check_places(const char* op, const StepArguments& args, int numbers) {
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
  const auto check_host = [&](const char* name, const std::optional<Tensor>& tensor) {
    FC_CHECK(on_device || !tensor || !is_on_device(*tensor), op, ": `", name, "` is on the device and `steps` is not: ",
             "the host would have to wait for it");
  };
  check_host("lr", args.lr);
  check_host("found_inf", args.found_inf);
  if (numbers > 0) check_host("coefficients", args.coefficients);
  FC_CHECK(args.hyper.size() <= size_t(kMostHyper), op, ": too many hyper-parameters");
}

inline Number number_of(const std::optional<Tensor>& tensor, double without) {
  if (!tensor) return {nullptr, without, false};
  if (!is_on_device(*tensor)) return {nullptr, read_number(*tensor), false};
  return {tensor->data_ptr(), 0, tensor->scalar_type() == ScalarType::Double};
}

// The table of a launch, in words of 8 bytes: the blocks done so far, first blocks, entries, their rows, what the host knows
// of coefficients and steps. `advance`: this is a step, not a look at what is there before one. `by_row`: one that looks at
// rows.
class Table {
 public:
  Table(const char* op, const StepArguments& args, const Preparation& preparation, bool advance, bool by_row)
      : args_(args), preparation_(preparation), by_row_(by_row),
        coefficients_on_host_(args.coefficients && !is_on_device(*args.coefficients)) {
    if (!is_on_device(args.steps)) prepare_steps(advance);
    list_entries();
    FC_CHECK(first_block_.back() <= std::numeric_limits<int32_t>::max(), op, ": too many elements for one launch");
    at_entries_ = kHead + int64_t(first_block_.size());
    at_rows_ = at_entries_ + entries() * kEntryWords;
    at_coefficients_ = at_rows_ + int64_t(spans_.size()) * kSpanWords;
    at_prepared_ = at_coefficients_ + (coefficients_on_host_ ? args.coefficients->numel() : 0);
    upload_.emplace(args.params[0], at_prepared_ + int64_t(prepared_.size()) / 8);
    fill(upload_->at_host());
    upload_->send();
  }

  int64_t entries() const { return int64_t(entries_.size()); }
  int64_t blocks() const { return first_block_.back(); }
  int64_t rows() const { return rows_; }
  bool all_rows_fit() const { return all_rows_fit_; }  // and none is empty

  Launch launch() const {
    int64_t* words = upload_->at_device();
    Launch made{};
    made.map = {words + kHead, reinterpret_cast<const Entry*>(words + at_entries_), entries(),
                by_row_ ? reinterpret_cast<const RowSpan*>(words + at_rows_) : nullptr};
    const bool on_device = prepared_.empty();
    made.counters = {on_device ? args_.steps.data_ptr() : nullptr, args_.steps.scalar_type() == ScalarType::Double,
                     on_device ? data<double>(args_.products) : nullptr,
                     reinterpret_cast<const unsigned char*>(words + at_prepared_), reinterpret_cast<uint32_t*>(words)};
    for (size_t k = 0; k < args_.states.size(); ++k) made.states[k] = args_.states[k].data_ptr();
    if (args_.extra) made.extra = args_.extra->data_ptr();
    made.extra_bytes = args_.at.extra_bytes;
    made.rounding = args_.rounding;
    made.seed = args_.seed;
    std::copy(args_.hyper.begin(), args_.hyper.end(), made.hyper);
    made.side = args_.maximize ? -1.0 : 1.0;
    made.lr = number_of(args_.lr, args_.hyper.empty() ? 0.0 : args_.hyper[0]);
    made.grad_scale = number_of(args_.grad_scale, 1.0);
    made.found_inf = number_of(args_.found_inf, 0.0);
    made.columns = args_.count();
    if (coefficients_on_host_) made.coefficients = reinterpret_cast<const double*>(words + at_coefficients_);
    else made.coefficients = data<double>(args_.coefficients);
    return made;
  }

 private:
  static constexpr int64_t kHead = 2, kEntryWords = sizeof(Entry) / 8, kSpanWords = sizeof(RowSpan) / 8;

  // As on the CPU: parameters with the same count share what is made of it, unless they have numbers of their own.
  void prepare_steps(bool advance) {
    double last = std::numeric_limits<double>::quiet_NaN(), own[kMostNumbers] = {};
    for (int64_t i = 0; i < args_.count(); ++i) {
      const double t = advance ? args_.advance(i) : args_.coming(i);
      if (t != last || args_.products || preparation_.numbers) {
        args_.numbers(i, preparation_.numbers, own);
        prepared_.resize(prepared_.size() + size_t(preparation_.bytes));
        preparation_.prepare(args_.hyper.data(), t, preparation_.numbers ? own : args_.product(i),
                             prepared_.data() + prepared_.size() - preparation_.bytes);
        last = t;
      }
      prepared_of_.push_back(int64_t(prepared_.size()) / preparation_.bytes - 1);
    }
  }

  void list_entries() {
    first_block_.push_back(0);
    for (int64_t i = 0; i < args_.count(); ++i) {
      if (by_row_) list_rows(i);
      else add_entry(i, 0, args_.size(i), kBlockElements);
    }
  }

  void add_entry(int64_t i, int64_t place, int64_t count, int64_t block_elements) {
    const int64_t bytes = bytes_of(args_.parameter_dtype());
    entries_.push_back({static_cast<char*>(args_.params[i].data_ptr()) + place * bytes,
                        static_cast<const char*>(args_.grads[i].data_ptr()) + place * bytes, count, args_.start(i) + place,
                        args_.slot(i), args_.id(i), prepared_of_.empty() ? 0 : prepared_of_[i], i, place + args_.place(i)});
    first_block_.push_back(first_block_.back() + (count + block_elements - 1) / block_elements);
  }

  void list_rows(int64_t i) {
    const int64_t rows = Layout(args_.params[i]).rows(), length = rows > 0 ? args_.size(i) / rows : 0, head = entries();
    RowSpan span{length, rows, rows_, head, head + 1};
    rows_ += rows;
    const bool apart = !span.fits();  // each row an entry
    all_rows_fit_ &= !apart && length > 0;
    if (apart) {
      span.rows = 1;
      span.tail = head + rows;
    }
    for (int64_t k = 0; k < (apart ? rows : 1); ++k) {
      add_entry(i, k * length, span.rows * length, span.block_elements());
      spans_.push_back(span);
      ++span.first;
    }
  }

  void fill(int64_t* words) const {
    words[0] = words[1] = 0;
    std::copy(first_block_.begin(), first_block_.end(), words + kHead);
    if (!entries_.empty()) std::memcpy(words + at_entries_, entries_.data(), entries_.size() * sizeof(Entry));
    if (!spans_.empty()) std::memcpy(words + at_rows_, spans_.data(), spans_.size() * sizeof(RowSpan));
    if (coefficients_on_host_)
      std::memcpy(words + at_coefficients_, data<double>(*args_.coefficients), size_t(at_prepared_ - at_coefficients_) * 8);
    if (!prepared_.empty()) std::memcpy(words + at_prepared_, prepared_.data(), prepared_.size());
  }

  const StepArguments& args_;
  Preparation preparation_;
  bool by_row_, coefficients_on_host_, all_rows_fit_ = true;
  std::vector<Entry> entries_;
  std::vector<RowSpan> spans_;
  std::vector<int64_t> first_block_, prepared_of_;
  std::vector<unsigned char> prepared_;
  int64_t at_entries_, at_rows_, at_coefficients_, at_prepared_, rows_ = 0;
  std::optional<Upload> upload_;
};

}  // namespace
}  // namespace fc::optim

#define FC_OPTIM_REGISTER(name, ...) m.impl(#name, TORCH_BOX(&fc::optim::name));
