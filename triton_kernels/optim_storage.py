"""How the optimizers' numbers lie in memory, as csrc/common/half.h and csrc/optim/rounding.h have it.

16-bit numbers are read and written as integers: the same bits on every GPU, in the interpreter and on the CPU. Random
bits are a hash of a key and of the element's place, so that they do not depend on how the work is cut.
"""

from __future__ import annotations

import triton
import triton.language as tl

# How numbers lie in memory; those above FLOAT32 in 16 bits.
ABSENT, FLOAT64, FLOAT32, BFLOAT16, FLOAT16 = (tl.constexpr(k) for k in range(5))
# Rounding modes, as the operators number them.
NEAREST, STOCHASTIC, KAHAN, SPLIT_MASTER, MASTER = (tl.constexpr(k) for k in range(5))

LARGEST_FLOAT32 = tl.constexpr(float.fromhex("0x1.fffffep127"))
# Pattern 0x7f7f7fff: the largest that bfloat16 does not round to infinity.
LARGEST_MASTER = tl.constexpr(float.fromhex("0x1.fefffep127"))
LEAST_NORMAL_FLOAT16 = tl.constexpr(2.0**-14)


# Random bits ---------------------------------------------------------------------------------------------------------


@triton.jit
def _mix64(x):
    x = (x ^ (x >> 30)) * 0xBF58476D1CE4E5B9
    x = (x ^ (x >> 27)) * 0x94D049BB133111EB
    return x ^ (x >> 31)


@triton.jit
def _scramble(x):
    x ^= x >> 16
    x *= 0x7FEB352D
    x ^= x >> 15
    x *= 0x846CA68B
    return x ^ (x >> 16)


@triton.jit
def random_bits(seed, step, parameter, slot, places):
    """32 bits for each place (int64) in the whole parameter."""
    x = _mix64(seed.to(tl.uint64) + 0x9E3779B97F4A7C15)
    x = _mix64(x ^ step.to(tl.uint64))
    x = _mix64(x ^ (parameter * 16 + slot).to(tl.uint64))
    x = _mix64(x ^ (places >> 32).to(tl.uint64))
    first, second = (x & 0xFFFFFFFF).to(tl.uint32), (x >> 32).to(tl.uint32)
    return _scramble((places & 0xFFFFFFFF).to(tl.uint32) ^ first) ^ second


# 16-bit numbers, in the low half of a uint32 -------------------------------------------------------------------------


@triton.jit
def from_half(h, KIND: tl.constexpr):
    if KIND == BFLOAT16:
        bits = h << 16
    else:  # moved into place the bits are the number over 2^112, its subnormal ones too
        scaled = ((h & 0x7FFF) << 13).to(tl.float32, bitcast=True) * 2.0**112
        bits = scaled.to(tl.uint32, bitcast=True)
        bits = tl.where((h & 0x7C00) == 0x7C00, bits | 0x7F800000, bits) | ((h & 0x8000) << 16)
    return bits.to(tl.float32, bitcast=True)


@triton.jit
def _float16_bits(h, x):
    """The sign, and NaN."""
    return tl.where(x == x, h, 0x7E00) | ((x.to(tl.uint32, bitcast=True) >> 16) & 0x8000)


@triton.jit
def to_half(x, KIND: tl.constexpr):
    """To nearest, ties to even; NaN stays NaN."""
    bits = x.to(tl.uint32, bitcast=True)
    if KIND == BFLOAT16:
        h = tl.where(x == x, bits + (((bits >> 16) & 1) + 0x7FFF), bits | 0x00400000) >> 16
    else:
        magnitude = bits & 0x7FFFFFFF
        size = magnitude.to(tl.float32, bitcast=True)
        normal = (magnitude + (((magnitude >> 13) & 1) + 0xC8000FFF)) >> 13  # exponent down by 112
        subnormal = (size + 0.5).to(tl.uint32, bitcast=True) - 0x3F000000  # the addition rounds to steps of 2^-24
        h = tl.where(size >= 65520.0, 0x7C00, tl.where(size < LEAST_NORMAL_FLOAT16, subnormal, normal))
        h = _float16_bits(h, x)
    return h


@triton.jit
def to_half_stochastic(x, random, KIND: tl.constexpr):
    """Up with the probability that makes the mean exact; infinities and NaN stay."""
    bits = x.to(tl.uint32, bitcast=True)
    if KIND == BFLOAT16:
        special = tl.where(x == x, bits, bits | 0x00400000)
        h = tl.where((bits & 0x7F800000) == 0x7F800000, special, bits + (random & 0xFFFF)) >> 16
    else:
        magnitude = bits & 0x7FFFFFFF
        size = magnitude.to(tl.float32, bitcast=True)
        normal = (magnitude + ((random & 0x1FFF) + 0xC8000000)) >> 13
        # Steps of 2^-24: the random part of one, in [0, 1), is added before the rest is cut off.
        part = (((random & 0x7FFF) << 8) | 0x3F800000).to(tl.float32, bitcast=True)
        steps = size * 2.0**24 + part - 1.0
        whole = (steps + 2.0**23) - 2.0**23
        whole = tl.where(whole > steps, whole - 1.0, whole) + 2.0**23
        subnormal = whole.to(tl.uint32, bitcast=True) & 0x7FFFFF
        h = tl.where(size < LEAST_NORMAL_FLOAT16, subnormal, normal)
        h = tl.where(h > 0x7C00, 0x7C00, h)
        h = _float16_bits(tl.where(size >= 65536.0, 0x7C00, h), x)
    return h


# Memory --------------------------------------------------------------------------------------------------------------


@triton.jit
def typed(address, KIND: tl.constexpr):
    """An integer as a pointer; 16-bit numbers are read as integers."""
    if KIND == FLOAT64:
        pointer = address.to(tl.pointer_type(tl.float64))
    elif KIND == FLOAT32:
        pointer = address.to(tl.pointer_type(tl.float32))
    else:
        pointer = address.to(tl.pointer_type(tl.int16))
    return pointer


@triton.jit
def read_bits(pointers, inside):
    return tl.load(pointers, mask=inside, other=0).to(tl.uint16, bitcast=True).to(tl.uint32)


@triton.jit
def write_bits(pointers, h, inside):
    tl.store(pointers, h.to(tl.uint16).to(tl.int16, bitcast=True), mask=inside)


@triton.jit
def read(pointers, inside, KIND: tl.constexpr):
    if KIND <= FLOAT32:
        x = tl.load(pointers, mask=inside, other=0.0)
    else:
        x = from_half(read_bits(pointers, inside), KIND)
    return x


@triton.jit
def write(pointers, x, inside, KIND: tl.constexpr):
    if KIND <= FLOAT32:
        tl.store(pointers, x, mask=inside)
    else:
        write_bits(pointers, to_half(x, KIND), inside)


@triton.jit
def read_parameter(pointers, extra, inside, KIND: tl.constexpr, ROUNDING: tl.constexpr):
    """A parameter as its rule sees it. `extra`: compensation, low bits or master, by the mode."""
    if ROUNDING == SPLIT_MASTER:
        low = read_bits(extra, inside)
        x = ((read_bits(pointers, inside) << 16) + ((low ^ 0x8000) - 0x8000)).to(tl.float32, bitcast=True)
    elif ROUNDING == MASTER:
        x = tl.load(extra, mask=inside, other=0.0)
    else:
        x = read(pointers, inside, KIND)
        if ROUNDING == KAHAN:
            x += read(extra, inside, KIND)
    return x


@triton.jit
def _finite(x):
    """Infinities lose nothing."""
    x = tl.where(x > -LARGEST_FLOAT32, x, -LARGEST_FLOAT32)
    return tl.where(x < LARGEST_FLOAT32, x, LARGEST_FLOAT32)


@triton.jit
def _write_split(pointers, extra, x, inside):
    cut = tl.where(x > LARGEST_MASTER, LARGEST_MASTER, tl.where(x < -LARGEST_MASTER, -LARGEST_MASTER, x))
    infinite = (x.to(tl.uint32, bitcast=True) & 0x7FFFFFFF) == 0x7F800000
    x = tl.where(infinite, x, cut)
    bits = x.to(tl.uint32, bitcast=True)
    special = tl.where(x == x, bits, bits | 0x00400000)
    unfinite = (bits & 0x7F800000) == 0x7F800000
    high = tl.where(unfinite, special, bits + 0x8000) >> 16
    write_bits(extra, tl.where(unfinite, 0, (bits - (high << 16)) & 0xFFFF), inside)
    write_bits(pointers, high, inside)


@triton.jit
def write_parameter(pointers, extra, x, inside, KIND: tl.constexpr, ROUNDING: tl.constexpr):
    """Every mode but the stochastic one."""
    if ROUNDING == SPLIT_MASTER:
        _write_split(pointers, extra, x, inside)
    else:
        if KIND <= FLOAT32:
            tl.store(pointers, x, mask=inside)
        else:
            h = to_half(x, KIND)
            write_bits(pointers, h, inside)
            if ROUNDING == KAHAN:  # what is not lost is written as -0: a parameter of -0 stays so
                write(extra, (_finite(from_half(h, KIND)) - _finite(x)) * -1.0, inside, KIND)
        if ROUNDING == MASTER:
            tl.store(extra, x, mask=inside)
