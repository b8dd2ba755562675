// Marks the formulas that the CPU loop, the CUDA kernel and the probe share.
#pragma once
#include <cstdint>
#include <cstring>
#include <type_traits>

#if defined(__CUDACC__)
#define FC_HD __host__ __device__ __forceinline__
#else
// always_inline: a formula compiled for the baseline must dissolve into the loop of a newer instruction set.
#define FC_HD inline __attribute__((always_inline))
#endif

namespace fc {

template <class To, class From>
FC_HD To bit_cast(From from) {
  static_assert(sizeof(To) == sizeof(From), "bit_cast needs equal sizes");
  To to;
  memcpy(&to, &from, sizeof(To));
  return to;
}

// Formulas take a number or, in CPU loops, one of the compiler's vectors of numbers. element_of: the number's type;
// bits_of: the integer (or vector of integers) of its width, to work on the bits.
template <class V>
struct Elements {
  using type = std::remove_reference_t<decltype(V{}[0])>;
  typedef std::conditional_t<sizeof(type) == 8, uint64_t, uint32_t> bits __attribute__((vector_size(sizeof(V))));
};
template <>
struct Elements<double> {
  using type = double;
  using bits = uint64_t;
};
template <>
struct Elements<float> {
  using type = float;
  using bits = uint32_t;
};
template <class V>
using element_of = typename Elements<V>::type;
template <class V>
using bits_of = typename Elements<V>::bits;

template <class Condition, class V>
FC_HD V select(Condition condition, V yes, V no) {
  return condition ? yes : no;
}

template <class T>
FC_HD T lesser(T a, T b) {
  return a < b ? a : b;
}

}  // namespace fc
