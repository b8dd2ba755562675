// Elements of a parameter on CUDA: a thread's few numbers from memory as their rule sees them, and back. What optim_loop.inc
// does with vectors, with the same bits.
#pragma once
#include "../common/block.cuh"
#include "chunk.h"

namespace fc::optim {

// Numbers of storage type S as their bits, in the low half where they have 16.
template <class S>
using Raw = std::conditional_t<sizeof(S) == 8, uint64_t, uint32_t>;

// A word of memory as the words of 4 bytes that it has.
__device__ inline void unpack(uint4 v, uint32_t* out) { out[0] = v.x, out[1] = v.y, out[2] = v.z, out[3] = v.w; }
__device__ inline void unpack(uint2 v, uint32_t* out) { out[0] = v.x, out[1] = v.y; }
template <class Words>
__device__ Words pack(const uint32_t* w) {
  if constexpr (sizeof(Words) == 16) return make_uint4(w[0], w[1], w[2], w[3]);
  else return make_uint2(w[0], w[1]);
}

// `width` neighbours in memory: 8 or 16 aligned bytes in one access, or a single number.
template <class S, int width>
struct Neighbours {
  static constexpr int words = width * int(sizeof(S)) / 4;
  using Words = std::conditional_t<words == 4, uint4, uint2>;
  static_assert(width == 1 || words == 2 || words == 4);

  static __device__ void load(const void* from, Raw<S>* out) {
    if constexpr (width == 1 && sizeof(S) == 2) {
      out[0] = *static_cast<const uint16_t*>(from);
    } else if constexpr (width == 1) {
      out[0] = *static_cast<const Raw<S>*>(from);
    } else {
      uint32_t w[words];
      unpack(*static_cast<const Words*>(from), w);
#pragma unroll
      for (int l = 0; l < width; ++l) {
        if constexpr (sizeof(S) == 8) out[l] = w[2 * l] | uint64_t(w[2 * l + 1]) << 32;
        else if constexpr (sizeof(S) == 4) out[l] = w[l];
        else out[l] = w[l / 2] >> (l % 2 * 16) & 0xffffu;
      }
    }
  }

  static __device__ void store(void* to, const Raw<S>* raw) {
    if constexpr (width == 1 && sizeof(S) == 2) {
      *static_cast<uint16_t*>(to) = uint16_t(raw[0]);
    } else if constexpr (width == 1) {
      *static_cast<Raw<S>*>(to) = raw[0];
    } else {
      uint32_t w[words];
#pragma unroll
      for (int k = 0; k < words; ++k) {
        if constexpr (sizeof(S) == 8) w[k] = uint32_t(raw[k / 2] >> (k % 2 * 32));
        else if constexpr (sizeof(S) == 4) w[k] = raw[k];
        else w[k] = (raw[2 * k] & 0xffffu) | raw[2 * k + 1] << 16;
      }
      *static_cast<Words*>(to) = pack<Words>(w);
    }
  }
};

// The numbers that the bits mean, and the bits of a number.
template <class T, class S>
__device__ T decode(Raw<S> raw) {
  if constexpr (std::is_same_v<S, BFloat16>) return from_bfloat16<T>(raw);
  else if constexpr (std::is_same_v<S, Float16>) return from_float16<T>(raw);
  else return bit_cast<T>(raw);
}
template <class S, class T>
__device__ Raw<S> encode(T x) {
  if constexpr (std::is_same_v<S, BFloat16>) return to_bfloat16(x);
  else if constexpr (std::is_same_v<S, Float16>) return to_float16(x);
  else return bit_cast<Raw<S>>(x);
}
template <class S, class T>
__device__ Raw<S> encode(T x, uint32_t random) {
  if constexpr (std::is_same_v<S, BFloat16>) return to_bfloat16(x, random);
  else if constexpr (std::is_same_v<S, Float16>) return to_float16(x, random);
  else return bit_cast<Raw<S>>(x);
}

// Random bits of a block's elements. Its places may pass a multiple of 2^32, where another key begins.
struct RandomKeys {
  const RandomKey* keys;
  uint32_t begin;  // place of the first element

  __device__ uint32_t bits(int slot, uint32_t place) const {
    return random_bits(keys[(place < begin ? kMostStates + 1 : 0) + slot], place);
  }
};

// A parameter as its rule sees it, and how it goes back. `extra`: compensation, low bits or master, by the mode.
template <class T, class P, int width>
struct Parameter {
  static constexpr bool narrow = sizeof(P) == 2;
  using Half = Neighbours<P, width>;

  // Infinities lose nothing.
  static __device__ T finite(T x) {
    const T most = T(0x1.fffffep127);
    return minimum(maximum(x, -most), most);
  }

  static __device__ void read(const P* p, const char* extra, int64_t rounding, T* x) {
    Raw<P> raw[width];
    Half::load(p, raw);
    if constexpr (narrow) {
      if (rounding >= kahan) return read_with(raw, extra, rounding, x);
    }
#pragma unroll
    for (int l = 0; l < width; ++l) x[l] = decode<T, P>(raw[l]);
  }

  static __device__ void write(P* p, char* extra, int64_t rounding, const T* x, const RandomKeys& keys,
                               uint32_t place) {
    Raw<P> raw[width];
    if (narrow && rounding == stochastic) {
#pragma unroll
      for (int l = 0; l < width; ++l) raw[l] = encode<P>(x[l], keys.bits(0, place + l));
    } else {
#pragma unroll
      for (int l = 0; l < width; ++l) raw[l] = encode<P>(x[l]);
    }
    if constexpr (narrow) {
      if (rounding >= kahan) write_extra(extra, rounding, x, raw);
    }
    Half::store(p, raw);
  }

 private:
  static __device__ void read_with(const Raw<P>* raw, const char* extra, int64_t rounding, T* x) {
    if (rounding == master) {
      Raw<float> whole[width];
      load_master(extra, whole);
#pragma unroll
      for (int l = 0; l < width; ++l) x[l] = bit_cast<float>(whole[l]);
      return;
    }
    Raw<P> low[width];
    Half::load(extra, low);
#pragma unroll
    for (int l = 0; l < width; ++l)
      x[l] = rounding == kahan ? decode<T, P>(raw[l]) + decode<T, P>(low[l]) : split_join<T>(raw[l], low[l]);
  }

  // Writes what the mode keeps; a split master also says what the parameter's bits are.
  static __device__ void write_extra(char* extra, int64_t rounding, const T* x, Raw<P>* raw) {
    if (rounding == master) {
      Raw<float> whole[width];
#pragma unroll
      for (int l = 0; l < width; ++l) whole[l] = bit_cast<uint32_t>(x[l]);
      return store_master(extra, whole);
    }
    Raw<P> low[width];
#pragma unroll
    for (int l = 0; l < width; ++l) {
      if (rounding == split_master) {
        const Split<T> parts = split(x[l]);
        raw[l] = Raw<P>(parts.high);
        low[l] = Raw<P>(parts.low);
      } else {  // nothing lost is written as -0, which added to a parameter of -0 leaves it so
        low[l] = encode<P>(-(finite(decode<T, P>(raw[l])) - finite(x[l])));
      }
    }
    Half::store(extra, low);
  }

  // Of float32, in accesses of 16 bytes.
  static constexpr int quarter = width < 4 ? width : 4;
  static __device__ void load_master(const char* extra, Raw<float>* out) {
#pragma unroll
    for (int l = 0; l < width; l += quarter)
      Neighbours<float, quarter>::load(extra + l * sizeof(float), out + l);
  }
  static __device__ void store_master(char* extra, const Raw<float>* raw) {
#pragma unroll
    for (int l = 0; l < width; l += quarter)
      Neighbours<float, quarter>::store(extra + l * sizeof(float), raw + l);
  }
};

}  // namespace fc::optim
