"""Arithmetic of the optimizers' rules as csrc/common/math.h has it: IEEE division and root, exp and the cube root with
the bits of the CPU's in float32.
"""

from __future__ import annotations

import triton
import triton.language as tl


def _hex(text: str) -> tl.constexpr:
    return tl.constexpr(float.fromhex(text))


LOG2_HIGH, LOG2_LOW = _hex("0x1.62e4p-1"), _hex("0x1.7f7d1cp-20")
EXP_2, EXP_3, EXP_4 = _hex("0x1.fffffcp-2"), _hex("0x1.555492p-3"), _hex("0x1.5558f2p-5")
EXP_5, EXP_6 = _hex("0x1.1239e2p-7"), _hex("0x1.6a2434p-10")
MAGIC = _hex("0x1.8p23")
INFINITY = tl.constexpr(float("inf"))


@triton.jit
def divide(x, y):
    if x.dtype == tl.float64:
        ratio = x / y
    else:
        ratio = tl.div_rn(x, y)
    return ratio


@triton.jit
def square_root(x):
    if x.dtype == tl.float64:
        root = tl.sqrt(x)
    else:
        root = tl.sqrt_rn(x)
    return root


@triton.jit
def absolute(x):
    return tl.where(x < 0.0, -x, x)


@triton.jit
def sign(x):
    """-1, 0 or 1; 0 for NaN."""
    return tl.where(x > 0.0, 1.0, tl.where(x < 0.0, -1.0, 0.0)).to(x.dtype)


@triton.jit
def maximum(x, y):
    """The second where they do not compare."""
    return tl.where(x > y, x, y)


@triton.jit
def exponential(x):
    """0 below -87, infinity above 88.7."""
    if x.dtype == tl.float64:
        y = tl.exp(x)
    else:
        shifted = x * 1.44269504 + MAGIC
        k = shifted - MAGIC
        r = (x - k * LOG2_HIGH) - k * LOG2_LOW
        r2 = r * r
        q = ((EXP_2 + r * EXP_3) + r2 * (EXP_4 + r * EXP_5)) + (r2 * r2) * EXP_6
        p = 1.0 + (r + r2 * q)
        bits = p.to(tl.uint32, bitcast=True) + (shifted.to(tl.uint32, bitcast=True) << 23)
        y = bits.to(tl.float32, bitcast=True)
        y = tl.where(x < -87.0, 0.0, tl.where(x > 88.7, INFINITY, y))
        y = tl.where(x == x, y, x)
    return y


@triton.jit
def _cube_root_seed(a):
    """Of a^(-1/3): a third of the exponent, 1/4 + 1/16 + 1/64 + … of the bits in both widths."""
    if a.dtype == tl.float64:
        bits = a.to(tl.uint64, bitcast=True)
    else:
        bits = a.to(tl.uint32, bitcast=True)
    third = (bits >> 2) + (bits >> 4)
    third += third >> 4
    third += third >> 8
    third += third >> 16
    if a.dtype == tl.float64:
        seed = ((0x553EF0FF << 32) - third).to(tl.float64, bitcast=True)
    else:
        seed = (0x54A2FA8C - third).to(tl.float32, bitcast=True)
    return seed


@triton.jit
def cube_root(x):
    """Newton's steps towards a^(-1/3) from a seed in the bits; denormal numbers are scaled first."""
    LIMIT: tl.constexpr = 2.0**1000 if x.dtype == tl.float64 else 2.0**120
    STEPS: tl.constexpr = 3 if x.dtype == tl.float64 else 2
    THIRD: tl.constexpr = 1.0 / 3.0
    TWO_THIRDS: tl.constexpr = 2.0 / 3.0
    size = absolute(x)
    small = size < 1.0 / LIMIT
    a = size * tl.where(small, 2.0**54, 1.0).to(x.dtype)
    r = _cube_root_seed(a)
    for _ in tl.static_range(STEPS):
        rest = 1.0 - ((r * r) * a) * r
        r = r + (r * rest) * THIRD
    near = (r * r) * a
    rest = 1.0 - near * r
    y = near + (near * rest) * TWO_THIRDS
    y = y * tl.where(small, 2.0**-18, 1.0).to(x.dtype)
    y = tl.where(size > 0.0, y, 0.0)
    y = tl.where(size < INFINITY, y, size)
    return tl.where(x < 0.0, -y, y)
