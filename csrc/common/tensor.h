// Short names for stable-ABI tensors: typed pointers, checked arguments, new outputs.
#pragma once
#include <torch/csrc/stable/ops.h>
#include <torch/csrc/stable/tensor.h>
#include <torch/headeronly/core/ScalarType.h>

#include <initializer_list>
#include <optional>
#include <string>

#include "check.h"

namespace fc {

using Tensor = torch::stable::Tensor;
using torch::headeronly::ScalarType;

template <class T>
struct dtype_of;
template <>
struct dtype_of<double> {
  static constexpr ScalarType value = ScalarType::Double;
};
template <>
struct dtype_of<float> {
  static constexpr ScalarType value = ScalarType::Float;
};
template <>
struct dtype_of<int32_t> {
  static constexpr ScalarType value = ScalarType::Int;
};
template <>
struct dtype_of<int64_t> {
  static constexpr ScalarType value = ScalarType::Long;
};

template <class T>
T* data(const Tensor& tensor) {
  return static_cast<T*>(tensor.data_ptr());
}

template <class T>
T* data(const std::optional<Tensor>& tensor) {
  return tensor ? data<T>(*tensor) : nullptr;
}

inline void check_tensor(const char* op, const char* name, const Tensor& tensor, ScalarType dtype,
                         std::initializer_list<int64_t> shape) {
  FC_CHECK(tensor.scalar_type() == dtype, op, ": `", name, "` has the wrong dtype");
  FC_CHECK(tensor.dim() == int64_t(shape.size()), op, ": `", name, "` has ", tensor.dim(), " dimensions");
  int64_t axis = 0;
  for (int64_t expected : shape) {
    const int64_t actual = tensor.size(axis++);
    FC_CHECK(actual == expected, op, ": `", name, "` has size ", actual, " instead of ", expected);
  }
  FC_CHECK(tensor.is_contiguous(), op, ": `", name, "` is not contiguous");
}

template <class T>
Tensor new_tensor(const Tensor& like, std::initializer_list<int64_t> shape) {
  return torch::stable::new_empty(like, torch::headeronly::IntHeaderOnlyArrayRef(shape.begin(), shape.size()),
                                  dtype_of<T>::value);
}

}  // namespace fc
