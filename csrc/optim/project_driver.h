// CPU driver of the steps that look at rows: AdamP's and SGDP's projections, and sizes that differ from row to row. A row
// (or a whole parameter, as one row) that fits a piece is summed and stepped while it is in the cache; of longer ones the
// sums come first, piece by piece.
#pragma once
#include "measure_driver.h"
#include "rules.h"

namespace fc::optim {
namespace {

// Elements [first, first + count) of a parameter: rows of `row` elements, part of a long row, or plain elements (0).
struct Task {
  int64_t parameter, first, count, row, long_row;
};

struct Tasks {
  std::vector<Task> all;
  std::vector<size_t> of_long_rows;  // places in `all`
  int64_t long_rows = 0, elements = 0;

  void add(int64_t parameter, int64_t size, int64_t row) {
    elements += size;
    if (row == 0 || row > kPiece)
      for (int64_t first = 0; first < size; first += row ? row : size) add_pieces(parameter, first, row ? row : size, row);
    else
      for (int64_t first = 0, most = kPiece / row * row; first < size; first += most)
        all.push_back({parameter, first, std::min(most, size - first), row, -1});
  }

 private:
  void add_pieces(int64_t parameter, int64_t first, int64_t count, int64_t row) {
    for (int64_t done = 0; done < count; done += kPiece) {
      if (row) of_long_rows.push_back(all.size());
      all.push_back({parameter, first + done, std::min(kPiece, count - done), row, row ? long_rows : -1});
    }
    if (row) ++long_rows;
  }
};

class ProjectRun {
 public:
  ProjectRun(const StepArguments& args, Prepare prepare, MeasureBlock measure, ProjectBlock step, double eps)
      : args_(args), measure_(measure), step_(step), eps_(eps), steps_(args, prepare, 0, true), bases_(args),
        staging_(args, 0, true) {
    for (int64_t i = 0; i < args.count(); ++i) {
      double number = 0;
      args.numbers(i, 1, &number);
      const int code = int(number);
      const int64_t rows = Layout(args.params[i]).rows(), size = args.size(i);
      if (size > 0) tasks_.add(i, size, code == none ? 0 : code == of_rows ? size / rows : size);
    }
  }

  void operator()() {
    sum_long_rows();
    for_blocks(cut_blocks(int64_t(tasks_.all.size()), 1, 4096), [&](int64_t, int64_t begin, int64_t end) {
      for (int64_t k = begin; k < end; ++k) run(tasks_.all[k]);
    }, tasks_.elements > kWorthSharing);
  }

 private:
  void add_sums(const Task& task, int64_t first, int64_t count, double* sums) const {
    each_run(args_, bases_.chunks[task.parameter], first, count, [&](const Chunk& chunk) {
      staging_(chunk, false, false, [&](const Block& block) {
        double found[2];
        measure_(block, bases_.prologues[task.parameter], steps_[task.parameter], found);
        for (int s = 0; s < 2; ++s) sums[s] += found[s];
      });
    });
  }

  void sum_long_rows() {
    const auto& places = tasks_.of_long_rows;
    std::vector<std::array<double, 2>> partial(places.size()), sums(tasks_.long_rows);
    if (!places.empty())
      for_blocks(cut_blocks(int64_t(places.size()), 1, 4096), [&](int64_t, int64_t begin, int64_t end) {
        for (int64_t k = begin; k < end; ++k) {
          const Task& task = tasks_.all[places[k]];
          add_sums(task, task.first, task.count, partial[k].data());
        }
      });
    for (size_t k = 0; k < places.size(); ++k)
      for (int s = 0; s < 2; ++s) sums[tasks_.all[places[k]].long_row][s] += partial[k][s];
    for (const auto& found : sums) shares_.push_back(share_along(found.data(), eps_));
  }

  void run(const Task& task) const {
    if (task.row == 0) return move(task, task.first, task.count, 0.0, false);
    if (task.long_row >= 0) return move(task, task.first, task.count, shares_[task.long_row], true);
    for (int64_t first = task.first; first < task.first + task.count; first += task.row) {
      double sums[2] = {};
      add_sums(task, first, task.row, sums);
      move(task, first, task.row, share_along(sums, eps_), true);
    }
  }

  void move(const Task& task, int64_t first, int64_t count, double share, bool projected) const {
    each_run(args_, bases_.chunks[task.parameter], first, count, [&](const Chunk& chunk) {
      staging_(chunk, true, true, [&](const Block& block) {
        step_(block, bases_.prologues[task.parameter], steps_[task.parameter], share, projected);
      });
    });
  }

  const StepArguments& args_;
  MeasureBlock measure_;
  ProjectBlock step_;
  double eps_;
  Steps steps_;
  Bases bases_;
  Staging staging_;
  Tasks tasks_;
  std::vector<double> shares_;
};

template <class Rule>
void project(const char* op, StepArguments&& args) {
  if (args.count() == 0) return;
  args.check(op, 1);
  check_states(op, args, Rule::states, Rule::like_parameter);
  check_rows(op, args);
  if (args.found_inf && read_number(*args.found_inf) != 0) return;
  if (args.lr) args.hyper[0] = read_number(*args.lr);
  with_type(op, args.parameter_dtype(), args.state_dtype(), [&](auto number) {
    using T = decltype(number);
    ProjectRun(args, prepare<Rule, T>, FC_PICK_ISA(direction_block<Rule, T>), FC_PICK_ISA(project_block<Rule, T>),
               args.hyper[Rule::eps])();
    return 0;
  });
}

// Rows one after the other, each with a size of its own in `sizes`.
inline void scale_rows(const char* op, StepArguments&& args, const Tensor& sizes) {
  if (args.count() == 0) return;
  args.check(op);
  check_rows(op, args);
  Tasks tasks;
  std::vector<int64_t> first_row(args.count() + 1, 0);
  for (int64_t i = 0; i < args.count(); ++i) {
    const int64_t rows = Layout(args.params[i]).rows();
    first_row[i + 1] = first_row[i] + rows;
    if (args.size(i) > 0) tasks.add(i, args.size(i), args.size(i) / rows);
  }
  check_tensor(op, "sizes", sizes, ScalarType::Double, {first_row.back()});
  if (args.found_inf && read_number(*args.found_inf) != 0) return;
  with_type(op, args.parameter_dtype(), args.state_dtype(), [&](auto number) {
    using T = decltype(number);
    const auto loop = FC_PICK_ISA(step_block<Scaled, T>);
    for (int64_t i = 0; i < args.count(); ++i) args.advance(i);  // first: random bits are of this step
    const Bases bases(args);
    const Staging staging(args, Scaled::read_only, true);
    for_blocks(cut_blocks(int64_t(tasks.all.size()), 1, 4096), [&](int64_t, int64_t begin, int64_t end) {
      for (int64_t k = begin; k < end; ++k) {
        const Task& task = tasks.all[k];
        const int64_t row = task.row;
        for (int64_t first = task.first; first < task.first + task.count; first += row) {
          double size = data<double>(sizes)[first_row[task.parameter] + first / row];
          alignas(64) unsigned char step[kStepBytes];
          prepare<Scaled, T>(args.hyper.data(), 0, &size, step);
          each_run(args, bases.chunks[task.parameter], first, std::min(row, task.first + task.count - first),
                   [&](const Chunk& chunk) {
                     staging(chunk, true, true,
                             [&](const Block& block) { loop(block, bases.prologues[task.parameter], step); });
                   });
        }
      }
    }, tasks.elements > kWorthSharing);
    return 0;
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
}  // namespace fc::optim

#define FC_OPTIM_PROJECTED(name, ...)                                                                                       \
  static void name(std::vector<Tensor> params, std::vector<Tensor> grads, std::vector<Tensor> states, Tensor steps,         \
                   std::optional<Tensor> products, std::optional<Tensor> extra, Tensor index, std::vector<double> hyper,    \
                   std::optional<Tensor> lr, std::optional<Tensor> grad_scale, std::optional<Tensor> found_inf,             \
                   std::optional<Tensor> coefficients, bool maximize, int64_t rounding, int64_t seed) {                     \
    project<__VA_ARGS__>(#name, {std::move(params), std::move(grads), std::move(states), steps, products, extra, index,     \
                                 std::move(hyper), lr, grad_scale, found_inf, coefficients, maximize, rounding, seed});     \
  }
