// The arguments of an optimizer's operator, checked for what protects memory.
#pragma once
#include <algorithm>
#include <limits>
#include <optional>
#include <vector>

#include "../common/tensor.h"
#include "chunk.h"

namespace fc::optim {

// One number in a tensor of float32 or float64.
inline double read_number(const Tensor& tensor, int64_t i = 0) {
  return tensor.scalar_type() == ScalarType::Double ? data<double>(tensor)[i] : double(data<float>(tensor)[i]);
}

inline int64_t bytes_of(ScalarType type) {
  return type == ScalarType::Double ? 8 : type == ScalarType::Float ? 4 : 2;
}

// Sizes and strides of a tensor, asked for once: each question is a call into another library.
struct Layout {
  int64_t dim;
  const int64_t *size, *stride;

  explicit Layout(const Tensor& tensor) : dim(tensor.dim()), size(tensor.sizes().data()), stride(tensor.strides().data()) {}

  int64_t numel() const {
    int64_t product = 1;
    for (int64_t d = 0; d < dim; ++d) product *= size[d];
    return product;
  }

  // A number that changes with the sizes and with the order of the dimensions in memory.
  int64_t code() const {
    uint64_t made = 0;
    for (int64_t d = 0; d < dim; ++d)
      if (size[d] != 1) made = ((made * 1000003 + uint64_t(stride[d])) * 1000003 + uint64_t(size[d])) & 0x7fffffff;
    return int64_t(made);
  }

  // Rows: what stands together by the first dimension; a number has one.
  int64_t rows() const { return dim == 0 ? 1 : size[0]; }
  bool rows_in_order() const { return dim == 0 || size[0] <= 1 || numel() == 0 || stride[0] * size[0] == numel(); }

  bool operator==(const Layout& other) const {
    if (dim != other.dim) return false;
    for (int64_t d = 0; d < dim; ++d)
      if (size[d] != other.size[d] || (size[d] != 1 && stride[d] != other.stride[d])) return false;
    return true;
  }

  // Whether the elements fill one stretch of memory, in whatever order of the dimensions.
  bool is_dense() const {
    if (numel() == 0) return true;
    int64_t expected = 1, filled = 0, wanted = 0;
    for (int64_t d = 0; d < dim; ++d) wanted += size[d] != 1;
    for (bool found = true; found && filled < wanted;) {
      found = false;
      for (int64_t d = dim; d-- > 0 && !found;) {
        if (size[d] == 1 || stride[d] != expected) continue;
        expected *= size[d];
        ++filled;
        found = true;
      }
    }
    return filled == wanted;
  }
};

// States of a group are flat tensors, one for each name, with every parameter at the same place in all of them. index
// (4, n) gives that place, the entry of `steps` (and `products`), the id that random bits depend on, and the code of the
// memory layout that the states have; a fifth row, if there is one, the place of its first element in a parameter of which
// this is a shard: random bits go by that. `extra` is the flat tensor of compensations, low bits or masters. coefficients
// (4 + numbers, n): a factor of each gradient; scale and share of what is left of it beside the parameter's direction; a
// limit of its elements; the numbers of the rule.
struct [[gnu::visibility("hidden")]] StepArguments {
  std::vector<Tensor> params, grads, states;
  Tensor steps;
  std::optional<Tensor> products, extra;
  Tensor index;
  std::vector<double> hyper;
  std::optional<Tensor> lr, grad_scale, found_inf, coefficients;
  bool maximize;
  int64_t rounding, seed;

  std::vector<int64_t> sizes{};  // elements of each parameter, after check()
  bool has_places = false;       // whether `index` has the fifth row, after check()

  // Where everything stands, asked for once in check(): each question is a call into another library.
  struct Places {
    const int64_t* index;
    char *steps, *state[kMostStates], *extra;
    int64_t state_bytes[kMostStates], extra_bytes, parameter_bytes, least;  // least: elements of the shortest flat tensor
    int64_t slots;
    bool double_steps;
  } at{};

  int64_t count() const { return int64_t(params.size()); }
  int64_t size(int64_t i) const { return sizes[i]; }
  int64_t start(int64_t i) const { return at.index[i]; }
  int64_t slot(int64_t i) const { return at.index[count() + i]; }
  int64_t id(int64_t i) const { return at.index[2 * count() + i]; }
  int64_t layout(int64_t i) const { return at.index[3 * count() + i]; }
  int64_t place(int64_t i) const { return has_places ? at.index[4 * count() + i] : 0; }
  double* product(int64_t i) const { return products ? data<double>(*products) + slot(i) : nullptr; }

  ScalarType parameter_dtype() const { return params[0].scalar_type(); }
  ScalarType state_dtype() const {
    if (!states.empty()) return states[0].scalar_type();
    return parameter_dtype() == ScalarType::Double ? ScalarType::Double : ScalarType::Float;
  }

  double step_of(int64_t i) const {
    return at.double_steps ? reinterpret_cast<double*>(at.steps)[slot(i)] : double(reinterpret_cast<float*>(at.steps)[slot(i)]);
  }

  // Advances the step of parameter i and returns it.
  double advance(int64_t i) const {
    if (at.double_steps) return reinterpret_cast<double*>(at.steps)[slot(i)] += 1;
    return double(reinterpret_cast<float*>(at.steps)[slot(i)] += 1);
  }

  // The step that comes.
  double coming(int64_t i) const { return step_of(i) + 1; }

  // Numbers of parameter i's own, beside the prologue's.
  void numbers(int64_t i, int count, double* out) const {
    for (int k = 0; k < count; ++k) out[k] = data<double>(*coefficients)[(4 + k) * this->count() + i];
  }

  Prologue prologue(int64_t i) const {
    return make_prologue(maximize ? -1.0 : 1.0, grad_scale ? read_number(*grad_scale) : 1.0,
                         coefficients ? data<double>(*coefficients) + i : nullptr, count());
  }

  // Parameter i as a chunk from its first element on.
  Chunk chunk(int64_t i) const {
    Chunk made{};
    made.extra_bytes = at.extra_bytes;
    made.rounding = rounding;
    made.seed = seed;
    made.step = int64_t(step_of(i));
    made.id = id(i);
    made.place = place(i);
    made.parameter = params[i].data_ptr();
    made.gradient = grads[i].data_ptr();
    for (size_t k = 0; k < states.size(); ++k) made.state[k] = at.state[k] + start(i) * at.state_bytes[k];
    if (extra) made.extra = at.extra + start(i) * at.extra_bytes;
    return made;
  }

  // Moves a chunk's pointers forward by `elements`.
  void move(Chunk& chunk, int64_t elements) const {
    const int64_t step = elements * at.parameter_bytes;
    chunk.parameter = static_cast<char*>(chunk.parameter) + step;
    chunk.gradient = static_cast<const char*>(chunk.gradient) + step;
    for (size_t k = 0; k < states.size(); ++k) chunk.state[k] = static_cast<char*>(chunk.state[k]) + elements * at.state_bytes[k];
    if (extra) chunk.extra = static_cast<char*>(chunk.extra) + elements * at.extra_bytes;
  }

  void check(const char* op, int numbers = 0) {
    const int64_t n = count();
    FC_CHECK(int64_t(grads.size()) == n, op, ": `params` and `grads` differ in length");
    FC_CHECK(states.size() <= size_t(kMostStates), op, ": too many states");
    has_places = index.dim() == 2 && index.size(0) == 5;
    check_tensor(op, "index", index, ScalarType::Long, {has_places ? 5 : 4, n});
    if (coefficients) check_tensor(op, "coefficients", *coefficients, ScalarType::Double, {4 + numbers, n});
    FC_CHECK(numbers == 0 || coefficients, op, ": `coefficients` must give the rule's numbers");
    if (found_inf) check_tensor_number(op, "found_inf", *found_inf);
    if (grad_scale) check_tensor_number(op, "grad_scale", *grad_scale);
    if (lr) check_tensor_number(op, "lr", *lr);
    check_flat(op, "steps", steps);
    if (products) check_tensor(op, "products", *products, ScalarType::Double, {steps.numel()});
    for (const Tensor& state : states) check_flat(op, "states", state);
    if (extra) check_flat(op, "extra", *extra);
    FC_CHECK((rounding >= kahan) == bool(extra), op, ": `extra` goes with the modes that keep one");
    find_places();
    sizes.reserve(n);
    if (n == 0) return;
    const ScalarType type = parameter_dtype();
    for (int64_t i = 0; i < n; ++i) sizes.push_back(check_parameter(op, i, type));
  }

 private:
  void find_places() {
    at.index = data<int64_t>(index);
    at.steps = static_cast<char*>(steps.data_ptr());
    at.double_steps = steps.scalar_type() == ScalarType::Double;
    at.slots = steps.numel();
    at.parameter_bytes = count() ? bytes_of(parameter_dtype()) : 0;
    at.least = std::numeric_limits<int64_t>::max();
    for (size_t k = 0; k < states.size(); ++k) {
      at.state[k] = static_cast<char*>(states[k].data_ptr());
      at.state_bytes[k] = bytes_of(states[k].scalar_type());
      at.least = std::min(at.least, states[k].numel());
    }
    if (!extra) return;
    at.extra = static_cast<char*>(extra->data_ptr());
    at.extra_bytes = bytes_of(extra->scalar_type());
    at.least = std::min(at.least, extra->numel());
  }

  static void check_tensor_number(const char* op, const char* name, const Tensor& tensor) {
    FC_CHECK(tensor.numel() == 1, op, ": `", name, "` is not one number");
    const auto type = tensor.scalar_type();
    FC_CHECK(type == ScalarType::Float || type == ScalarType::Double, op, ": `", name, "` is neither float32 nor float64");
  }
  static void check_flat(const char* op, const char* name, const Tensor& tensor) {
    FC_CHECK(tensor.dim() == 1 && tensor.is_contiguous(), op, ": `", name, "` is not flat");
  }

  int64_t check_parameter(const char* op, int64_t i, ScalarType type) const {
    const Tensor &p = params[i], &g = grads[i];
    FC_CHECK(p.scalar_type() == type && g.scalar_type() == type, op, ": parameters and gradients of one call have one dtype");
    const Layout layout(p);
    FC_CHECK(layout == Layout(g) && layout.is_dense(), op, ": a gradient does not lie in memory as its parameter does");
    FC_CHECK(layout.code() == this->layout(i), op, ": the states of a parameter lie in memory as it no longer does");
    const int64_t size = layout.numel();
    FC_CHECK(slot(i) >= 0 && slot(i) < at.slots && start(i) >= 0, op, ": `index` is out of range");
    FC_CHECK(start(i) <= at.least - size, op, ": a flat tensor is too short");
    return size;
  }
};

inline void check_rows(const char* op, const StepArguments& args) {
  for (int64_t i = 0; i < args.count(); ++i)
    FC_CHECK(Layout(args.params[i]).rows_in_order(), op, ": a parameter's rows do not stand one after the other");
}

}  // namespace fc::optim
