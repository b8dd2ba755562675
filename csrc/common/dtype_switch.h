// Calls a template with the C++ type of a tensor: `switch_floating("op", tensor, [&](auto zero) { using T = …; })`.
#pragma once
#include "tensor.h"

namespace fc {

template <class Body>
auto switch_floating(const char* op, const Tensor& tensor, const Body& body) {
  if (tensor.scalar_type() == ScalarType::Float) return body(float{});
  FC_CHECK(tensor.scalar_type() == ScalarType::Double, op, ": expected float32 or float64");
  return body(double{});
}

}  // namespace fc
