// Marks the formulas that the CPU loop, the CUDA kernel and the probe share.
#pragma once
#include <cstdint>
#include <cstring>

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

template <class T>
FC_HD T select(bool condition, T yes, T no) {
  return condition ? yes : no;
}

template <class T>
FC_HD T lesser(T a, T b) {
  return a < b ? a : b;
}

}  // namespace fc
