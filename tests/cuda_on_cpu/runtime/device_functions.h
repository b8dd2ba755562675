// Tests only: vector types, atomics and intrinsics of CUDA for g++. Functions that are fast and
// approximate on a device are exact here: their last bits differ.
#pragma once
#include <cmath>
#include <cstdint>
#include <cstring>
#include <type_traits>

#define CUDA_ON_CPU_VECTORS(T, NAME)                                  \
  struct alignas(2 * sizeof(T)) NAME##2 { T x, y; };                  \
  struct NAME##3 { T x, y, z; };                                      \
  struct alignas(sizeof(T) >= 4 ? 16 : 4 * sizeof(T)) NAME##4 { T x, y, z, w; }; \
  inline NAME##2 make_##NAME##2(T x, T y) { return {x, y}; }          \
  inline NAME##3 make_##NAME##3(T x, T y, T z) { return {x, y, z}; }  \
  inline NAME##4 make_##NAME##4(T x, T y, T z, T w) { return {x, y, z, w}; }
CUDA_ON_CPU_VECTORS(float, float)
CUDA_ON_CPU_VECTORS(double, double)
CUDA_ON_CPU_VECTORS(int, int)
CUDA_ON_CPU_VECTORS(unsigned, uint)
#undef CUDA_ON_CPU_VECTORS

namespace cuda_on_cpu {

void maybe_yield();  // in random order an atomic is a place where another thread may go on

// Real atomics, so that the race detector knows them; relaxed, as on a device.
template <class T, class F>
T atomic_update(T* address, F update) {
  maybe_yield();
  T old, updated;
  __atomic_load(address, &old, __ATOMIC_RELAXED);
  do {
    updated = update(old);
  } while (!__atomic_compare_exchange(address, &old, &updated, false, __ATOMIC_RELAXED, __ATOMIC_RELAXED));
  return old;
}

template <class T>
struct SameType { using type = T; };
template <class T>
using Same = typename SameType<T>::type;  // keeps a value from taking part in deduction

}  // namespace cuda_on_cpu

#define CUDA_ON_CPU_ATOMIC(NAME, RESULT)                            \
  template <class T>                                                \
  T NAME(T* address, cuda_on_cpu::Same<T> value) {                  \
    return cuda_on_cpu::atomic_update(address, [=]([[maybe_unused]] T old) { return T(RESULT); }); \
  }
CUDA_ON_CPU_ATOMIC(atomicAdd, old + value)
CUDA_ON_CPU_ATOMIC(atomicSub, old - value)
CUDA_ON_CPU_ATOMIC(atomicMax, old < value ? value : old)
CUDA_ON_CPU_ATOMIC(atomicMin, value < old ? value : old)
CUDA_ON_CPU_ATOMIC(atomicExch, value)
CUDA_ON_CPU_ATOMIC(atomicOr, old | value)
CUDA_ON_CPU_ATOMIC(atomicAnd, old & value)
#undef CUDA_ON_CPU_ATOMIC
template <class T>
T atomicCAS(T* address, cuda_on_cpu::Same<T> expected, cuda_on_cpu::Same<T> value) {
  return cuda_on_cpu::atomic_update(address, [=](T old) { return old == expected ? value : old; });
}

template <class T>
T __ldg(const T* address) { return *address; }
template <class T>
T __ldcs(const T* address) { return *address; }
template <class T>
void __stcs(T* address, T value) { *address = value; }

inline float __expf(float x) { return expf(x); }
inline float __logf(float x) { return logf(x); }
inline float __fdividef(float a, float b) { return a / b; }
inline float __frcp_rn(float a) { return 1.0f / a; }
inline float __fsqrt_rn(float a) { return sqrtf(a); }
inline float __fmaf_rn(float a, float b, float c) { return fmaf(a, b, c); }
inline float __fadd_rn(float a, float b) { return a + b; }
inline float __fsub_rn(float a, float b) { return a - b; }
inline float __fmul_rn(float a, float b) { return a * b; }
inline double __dadd_rn(double a, double b) { return a + b; }
inline double __dsub_rn(double a, double b) { return a - b; }
inline double __dmul_rn(double a, double b) { return a * b; }
inline float rsqrtf(float a) { return 1.0f / sqrtf(a); }
inline double rsqrt(double a) { return 1.0 / sqrt(a); }
inline int __popc(unsigned x) { return __builtin_popcount(x); }
inline int __popcll(unsigned long long x) { return __builtin_popcountll(x); }
inline int __ffs(int x) { return __builtin_ffs(x); }
inline int __clz(int x) { return x ? __builtin_clz(unsigned(x)) : 32; }

namespace cuda_on_cpu {
template <class To, class From>
To bit_copy(From from) {
  static_assert(sizeof(To) == sizeof(From));
  To to;
  memcpy(&to, &from, sizeof to);
  return to;
}
}  // namespace cuda_on_cpu
inline unsigned __float_as_uint(float f) { return cuda_on_cpu::bit_copy<unsigned>(f); }
inline int __float_as_int(float f) { return cuda_on_cpu::bit_copy<int>(f); }
inline float __uint_as_float(unsigned u) { return cuda_on_cpu::bit_copy<float>(u); }
inline float __int_as_float(int i) { return cuda_on_cpu::bit_copy<float>(i); }
inline long long __double_as_longlong(double d) { return cuda_on_cpu::bit_copy<long long>(d); }
inline double __longlong_as_double(long long i) { return cuda_on_cpu::bit_copy<double>(i); }

// CUDA's global min and max: for floating point they return the operand that is a number.
template <class A, class B>
auto min(A a, B b) -> std::common_type_t<A, B> {
  using T = std::common_type_t<A, B>;
  if constexpr (std::is_floating_point_v<T>) return std::fmin(T(a), T(b));
  else return T(b) < T(a) ? T(b) : T(a);
}
template <class A, class B>
auto max(A a, B b) -> std::common_type_t<A, B> {
  using T = std::common_type_t<A, B>;
  if constexpr (std::is_floating_point_v<T>) return std::fmax(T(a), T(b));
  else return T(a) < T(b) ? T(b) : T(a);
}
