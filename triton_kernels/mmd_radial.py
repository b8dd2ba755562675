"""The kernels of csrc/mmd/radial.h on tiles of pairs: K and the slope of its gradient from squared distances."""

from __future__ import annotations

import math

import triton
import triton.language as tl

# In the order of the forms there, and of the kernels' names in Python's _kernels.py.
(
    DISTANCE,
    POWER,
    GAUSSIAN,
    EXPONENTIAL,
    MATERN_THREE,
    MATERN_FIVE,
    MATERN_TABLE,
    RATIONAL,
    LOG,
    THIN_PLATE,
    POLYNOMIAL,
) = (tl.constexpr(k) for k in range(11))
FORMS = 11
RIESZ_KERNEL, GAUSSIAN_KERNEL, LAPLACE_KERNEL, MATERN_KERNEL = range(4)
RATIONAL_KERNEL, IMQ_KERNEL, LOG_KERNEL, THIN_PLATE_KERNEL, POLYNOMIAL_KERNEL = range(4, 9)
CLOSED_ORDERS = {0.5: EXPONENTIAL, 1.5: MATERN_THREE, 2.5: MATERN_FIVE}
TABLE_SHAPE = (1184, 16)
TABLE_LOW, TABLE_PARTS, TABLE_DEGREE = tl.constexpr(-64), tl.constexpr(16), tl.constexpr(7)


@triton.jit
def _root(s):
    return tl.sqrt(s) if s.dtype == tl.float64 else tl.sqrt_rn(s)


@triton.jit
def _table_tile(z, table):
    """Value and slope of the Matern kernel of general order from the table of its logarithms; float64."""
    # From 2^-64 to just below 2^10, in whole numbers: a limit as a float would be rounded to float32.
    bits = tl.minimum(tl.maximum(z.to(tl.int64, bitcast=True), 0x3BF0000000000000), 0x408FFFFFFFFFFFFF)
    mantissa = ((bits & 0x0000FFFFFFFFFFFF) << 4) | 0x3FF0000000000000
    t = mantissa.to(tl.float64, bitcast=True) * 2.0 - 3.0
    row = table + ((bits >> 48) - (1023 + TABLE_LOW) * TABLE_PARTS) * (2 * (TABLE_DEGREE + 1))
    log_value, log_slope = tl.load(row + TABLE_DEGREE), tl.load(row + 2 * TABLE_DEGREE + 1)
    for k in tl.static_range(1, TABLE_DEGREE + 1):
        log_value = log_value * t + tl.load(row + TABLE_DEGREE - k)
        log_slope = log_slope * t + tl.load(row + 2 * TABLE_DEGREE + 1 - k)
    return tl.exp(log_value), tl.exp(log_slope)


@triton.jit
def radial_tile(s, table, first, second, third, FORM: tl.constexpr):
    """Kernel and slope of pairs, as ``radial`` in csrc/mmd/radial.h; coinciding points have slope 0."""
    apart = s > 0.0
    safe = tl.where(apart, s, 1.0)
    if FORM == DISTANCE:
        rho = _root(safe)
        value, slope = -rho, -1.0 / rho
        at_zero = 0.0
    elif FORM == POWER:
        value = -tl.exp(first * tl.log(safe))
        slope = second * value / safe
        at_zero = 0.0
    elif FORM == GAUSSIAN:
        value = tl.exp(-first * s)
        slope = -second * value
        at_zero = 1.0
    elif FORM == EXPONENTIAL:
        rho = _root(safe)
        value = tl.exp(-first * rho)
        slope = -first * value / rho
        at_zero = 1.0
    elif FORM == MATERN_THREE:
        z = first * _root(s)
        e = tl.exp(-z)
        value, slope = (1.0 + z) * e, -second * e
        at_zero = 1.0
    elif FORM == MATERN_FIVE:
        z = first * _root(s)
        e = tl.exp(-z)
        value, slope = (1.0 + z * (1.0 + z / 3.0)) * e, -second * (1.0 + z) * e
        at_zero = 1.0
    elif FORM == MATERN_TABLE:
        wide_value, wide_slope = _table_tile(first.to(tl.float64) * _root(safe).to(tl.float64), table)
        value, slope = wide_value.to(s.dtype), (-second.to(tl.float64) * wide_slope).to(s.dtype)
        at_zero = 1.0
    elif FORM == RATIONAL:
        base = 1.0 + first * s
        value = third * tl.exp(-second * tl.log(base))
        slope = -2.0 * first * second * value / base
        at_zero = third
    elif FORM == LOG:
        value, slope = -0.5 * tl.log(safe), -1.0 / safe
        at_zero = float("inf")
    else:
        logarithm = tl.log(safe)
        value, slope = 0.5 * safe * logarithm, logarithm + 1.0
        at_zero = 0.0
    return tl.where(apart, value, at_zero), tl.where(apart, slope, 0.0)


@triton.jit
def product_tile(s, first, third, degree):
    """Kernel and slope of the polynomial of inner products."""
    base = first * s + 1.0
    power = tl.full(s.shape, 1.0, s.dtype)
    for _ in range(1, degree):
        power *= base
    return power * base, third * power


def form_of(kernel: int, scale: float, shape: float, d: int) -> tuple[tl.constexpr, int, tuple[float, float, float]]:
    """Form of a kernel, degree and numbers, as ``form_of`` in csrc/mmd/radial.h."""
    s2 = scale * scale
    if kernel == RIESZ_KERNEL:
        return (DISTANCE if shape == 1 else POWER), 0, (shape / 2, shape, 0.0)
    if kernel == GAUSSIAN_KERNEL:
        return GAUSSIAN, 0, (0.5 / s2, 1 / s2, 0.0)
    if kernel == LAPLACE_KERNEL:
        return EXPONENTIAL, 0, (1 / scale, 0.0, 0.0)
    if kernel == MATERN_KERNEL:
        second = {1.5: 3 / s2, 2.5: 5 / (3 * s2)}.get(shape, 1 / s2)
        return CLOSED_ORDERS.get(shape, MATERN_TABLE), 0, (math.sqrt(2 * shape) / scale, second, 0.0)
    if kernel == RATIONAL_KERNEL:
        return RATIONAL, 0, (0.5 / (shape * s2), shape, 1.0)
    if kernel == IMQ_KERNEL:
        return RATIONAL, 0, (1 / s2, shape, scale ** (-2 * shape))
    if kernel == POLYNOMIAL_KERNEL:
        return POLYNOMIAL, int(shape), (1.0 / d, shape, shape / d)
    return (LOG if kernel == LOG_KERNEL else THIN_PLATE), 0, (0.0, 0.0, 0.0)


def is_kernel(code: int) -> bool:
    return 0 <= code <= POLYNOMIAL_KERNEL


def has_table(kernel: int, shape: float) -> bool:
    """Whether the kernel is read from a table."""
    return kernel == MATERN_KERNEL and shape not in CLOSED_ORDERS
