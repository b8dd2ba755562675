"""The series of a slice (csrc/mmd/fourier.h) from its range: spectrum, period, window of modes, coefficients; all float64."""

from __future__ import annotations

import math
import os

import triton
import triton.language as tl

GAUSSIAN, LAPLACE, MATERN, RATIONAL_QUADRATIC, MULTIQUADRIC = (tl.constexpr(k) for k in range(1, 6))
MOST_MODES = tl.constexpr(4096)
GAUSSIAN_FORM, MATERN_FORM, MIXTURE_FORM = (tl.constexpr(k) for k in range(3))
PI = tl.constexpr(math.pi)
ROUND = tl.constexpr(float.fromhex("0x1.8p52"))
BLOCK_SERIES = tl.constexpr(128)
STEPS = tl.constexpr(tuple(2.0 ** (j / 8 - 1) for j in range(8)))

# What is known of a slice; then of what each side sees: weight, first moment, constant of the potential.
FACTS = tl.constexpr(16)
MIDDLE, INVERSE, LENGTH, FIRST, COUNT, UNIT, POISON = (tl.constexpr(k) for k in range(7))
SEEN, SEEN_STRIDE = tl.constexpr(8), tl.constexpr(4)


def _hex(*texts: str) -> tl.constexpr:
    return tl.constexpr(tuple(float.fromhex(text) for text in texts))


SINE = _hex(
    "0x1.921fb54442d18p+2", "-0x1.4abbce625be52p+5", "0x1.466bc6775aa7dp+6", "-0x1.32d2cce627c86p+6",
    "0x1.5078348551854p+5", "-0x1.e3074dfaf87afp+3", "0x1.e8f3675ee37ddp+1", "-0x1.6f7acdb8f6580p-1",
    "0x1.9d462020fcc78p-4",
)  # fmt: skip
COSINE = _hex(
    "-0x1.3bd3cc9be45dep+4", "0x1.03c1f081b5ac4p+6", "-0x1.55d3c7e3cbfdap+6", "0x1.e1f50689191cbp+5",
    "-0x1.a6d1f2a05f609p+4", "0x1.f9d38906e2150p+2", "-0x1.b6e1cdea474b9p+0", "0x1.20a61e049e33fp-2",
    "-0x1.2175e33b10f9dp-5",
)  # fmt: skip


def is_kernel(code: int) -> bool:
    return GAUSSIAN.value <= code <= MULTIQUADRIC.value


def spectrum_of(kernel: int, d: int, shape: float) -> tuple[tl.constexpr, tuple[float, float, float, float]]:
    """Form of a spectrum and its numbers, as ``make_spectrum`` of csrc/mmd/fourier.h.

    With them log f^(s) is constant + power log s, and -factor s^2, or -order log(1 + factor s^2), or the log of the
    integral of a mixture at factor s^2.
    """
    half, pi = 0.5 * d, math.pi
    constant, power = half * math.log(pi) - math.lgamma(half), d - 1.0
    if kernel == GAUSSIAN.value:
        return GAUSSIAN_FORM, (constant + half * math.log(2 * pi), power, 2 * pi * pi, 0.0)
    if kernel in (LAPLACE.value, MATERN.value):
        nu = 0.5 if kernel == LAPLACE.value else shape
        constant += math.lgamma(nu + half) - math.lgamma(nu) + half * math.log(2 * pi / nu)
        return MATERN_FORM, (constant, power, 2 * pi * pi / nu, nu + half)
    square = 2 * shape if kernel == RATIONAL_QUADRATIC.value else 1.0
    constant += half * math.log(pi * square) - math.lgamma(shape)
    return MIXTURE_FORM, (constant, power, pi * pi * square, shape - half)


@triton.jit
def _log_mixture_integral(a, order):
    """Log of the integral of e^(order u - e^u - a e^(-u)) over u, by the trapezoidal rule from the exponent's peak."""
    curvature = tl.sqrt(order * order + 4.0 * a)
    rising = order > 0.0
    y = tl.where(rising, 0.5 * (order + curvature), 2.0 * a / tl.where(rising, 1.0, curvature - order))
    top = tl.log(y)
    root = 0.6 / tl.sqrt(curvature)
    step = tl.where(root < 0.25, root, 0.25)
    peak = order * top - y - a / y
    total = tl.full(a.shape, 1.0, tl.float64)
    for side in tl.static_range(2):
        stride = step if side == 1 else -step
        factor = tl.exp(stride)
        e, u, most = y, top, tl.max(total, 0)  # which is at least 1
        while most > 1e-18:
            u += stride
            e *= factor
            added = tl.exp(order * u - e - a / e - peak)
            total += added
            most = tl.max(added, 0)
    return peak + tl.log(total * step)


@triton.jit
def log_spectrum(s, constant, power, factor, order, FORM: tl.constexpr):
    """Log of f^(s), the transform of the slices of a kernel F; a tile of frequencies."""
    common = constant + power * tl.log(s)
    if FORM == GAUSSIAN_FORM:
        found = common - factor * s * s
    elif FORM == MATERN_FORM:
        found = common - order * tl.log(1.0 + factor * s * s)
    else:
        found = common + _log_mixture_integral(factor * s * s, order)
    return found


@triton.jit
def rounded_up(size):
    """The next power of 2^(1/8); 0 for what is not a positive normal number."""
    bits = size.to(tl.int64, bitcast=True)
    mantissa = ((bits & 0x000FFFFFFFFFFFFF) | 0x3FE0000000000000).to(tl.float64, bitcast=True)
    scale = (((bits >> 52) + 1) << 52).to(tl.float64, bitcast=True)
    step = mantissa * 0.0 + 1.0
    for j in tl.static_range(8):
        step = tl.where(mantissa <= STEPS[7 - j], STEPS[7 - j], step)
    return tl.where((size > 0.0) & (bits >= 0x0010000000000000), step * scale, 0.0)


@triton.jit
def find_window(length, low, high, constant, power, factor, order, FORM: tl.constexpr, KINKED: tl.constexpr):
    """First mode, modes taken, modes that the band holds; where those are too many, the largest are taken (see fourier.h)."""
    first = tl.minimum(tl.maximum(tl.ceil(low * length), 1.0), 1125899906842624.0)
    wanted = tl.minimum(tl.maximum(tl.floor(high * length) - first + 1.0, 1.0), 1125899906842624.0)
    count = tl.minimum(wanted, 4096.0)
    right = first if KINKED else first + wanted - count
    pair = tl.arange(0, 2)
    while first < right:
        middle = tl.floor(0.5 * (first + right))
        ends = log_spectrum(
            (middle + (pair * MOST_MODES).to(tl.float64)) / length, constant, power, factor, order, FORM
        )
        rises = tl.sum(tl.where(pair == 0, ends, -ends), 0) < 0.0
        first = tl.where(rises, middle + 1.0, first)
        right = tl.where(rises, right, middle)
    return first, count, wanted


@triton.jit
def _polynomial(y, y2, y4, C: tl.constexpr):
    low = (C[0] + y * C[1]) + y2 * (C[2] + y * C[3])
    return low + y4 * (((C[4] + y * C[5]) + y2 * (C[6] + y * C[7])) + y4 * C[8])


@triton.jit
def sine_cosine_of_turns(t):
    """Sine and cosine of 2 pi t, |t| < 2^50: errors below 3e-16."""
    rest = t - ((t + ROUND) - ROUND)
    half = 0.5 * ((2.0 * rest + ROUND) - ROUND)
    r = rest - half
    sign = 1.0 - 8.0 * (half * half)
    y = r * r
    y2 = y * y
    y4 = y2 * y2
    return sign * (r * _polynomial(y, y2, y4, SINE)), sign * (1.0 + y * _polynomial(y, y2, y4, COSINE))


@triton.jit
def fourier_series_kernel(
    low_x, high_x, low_y, high_y, bandwidth, facts, coefficients, wanted,
    constant: tl.float64, power: tl.float64, factor: tl.float64, order: tl.float64,
    kink: tl.float64, low: tl.float64, high: tl.float64, stretch: tl.float64, margin: tl.float64,
    FORM: tl.constexpr, KINKED: tl.constexpr,
):  # fmt: skip
    """Period, window and coefficients of one slice; no modes where something in it is not finite."""
    p = tl.program_id(0).to(tl.int64)
    x0, x1 = tl.load(low_x + p).to(tl.float64), tl.load(high_x + p).to(tl.float64)
    y0, y1 = tl.load(low_y + p).to(tl.float64), tl.load(high_y + p).to(tl.float64)
    odd = ((x0 - x0) + (x1 - x1)) + ((y0 - y0) + (y1 - y1))  # 0, but NaN for infinities and NaN
    bottom = tl.where(x0 < y0, x0, y0)
    span = tl.where(x1 > y1, x1, y1) - bottom
    sigma = tl.load(bandwidth)
    relative = span / sigma
    finite = (odd == 0.0) & (relative - relative == 0.0)
    length = rounded_up(tl.where(finite, relative, 0.0)) * stretch + margin
    first, count, asked = find_window(length, low, high, constant, power, factor, order, FORM, KINKED)
    count = tl.where(finite, count, 0.0)
    fact, modes = facts + p * FACTS, coefficients + p * MOST_MODES
    places = tl.arange(0, BLOCK_SERIES)
    total = tl.zeros([BLOCK_SERIES], tl.float64)
    for k in range(0, count.to(tl.int32), BLOCK_SERIES):
        inside = (k + places) < count.to(tl.int32)
        mode = first + tl.where(inside, k + places, 0).to(tl.float64)
        c = tl.exp(log_spectrum(mode / length, constant, power, factor, order, FORM)) / length
        if KINKED:
            turn = mode * PI
            c -= kink * length / (2.0 * turn * turn)
        c = tl.where(inside, c, 0.0)
        tl.store(modes + k + places, c, mask=inside)
        total += c
    tl.store(fact + MIDDLE, bottom + 0.5 * span)
    tl.store(fact + INVERSE, 1.0 / (length * sigma))
    tl.store(fact + LENGTH, length)
    tl.store(fact + FIRST, first)
    tl.store(fact + COUNT, count)
    tl.store(fact + UNIT, 1.0 - 2.0 * tl.sum(total, 0))
    tl.store(fact + POISON, tl.where(finite, 0.0, float("nan")))
    tl.store(wanted + p, tl.where(finite, asked, 0.0).to(tl.int64))


def _compile_gate() -> list[tuple[triton.JITFunction, dict[str, str], dict[str, object]]]:
    """What is compiled for a GPU on machines without one: every form in both types."""
    numbers = ("constant", "power", "factor", "order", "kink", "low", "high", "stretch", "margin")
    arrays = {"bandwidth": "*fp64", "facts": "*fp64", "coefficients": "*fp64", "wanted": "*i64"}
    gate = []
    for form in (GAUSSIAN_FORM, MATERN_FORM, MIXTURE_FORM):
        for real in ("fp32", "fp64"):
            ends = dict.fromkeys(("low_x", "high_x", "low_y", "high_y"), f"*{real}")
            constants = {"FORM": form.value, "KINKED": form is MATERN_FORM}
            gate.append((fourier_series_kernel, ends | arrays | dict.fromkeys(numbers, "fp64"), constants))
    return gate


COMPILE_GATE = _compile_gate() if os.environ.get("TRITON_INTERPRET") != "1" else []
