"""The kernels of mmd_fourier (csrc/mmd/fourier_slice.h): a program a slice, a group of its points or a tile of them.

A tile is of points and of a few consecutive modes, and turns by one complex factor per point to the next modes.
"""

from __future__ import annotations

import os

import triton
import triton.language as tl

from .mmd_fourier_series import (
    COUNT,
    FACTS,
    FIRST,
    INVERSE,
    LENGTH,
    MIDDLE,
    MOST_MODES,
    PI,
    POISON,
    SEEN,
    SEEN_STRIDE,
    UNIT,
    sine_cosine_of_turns,
)

INTERPRETED = os.environ.get("TRITON_INTERPRET") == "1"
# Points of a tile of sums, which one warp adds up without a barrier; of a tile of outputs; consecutive modes of either.
# The interpreter counts operations, not elements.
BLOCK_SUMS, BLOCK_POINTS, BLOCK_MODES = (128, 128, 256) if INTERPRETED else (32, 128, 8)
BLOCK_VALUE = tl.constexpr(128)
GROUPS_AT_ONCE = tl.constexpr(8)
MOMENTS = tl.constexpr(4)  # sums of weights, of their magnitudes, of weight u and weight u^2


@triton.jit
def _turns(points, places, inside, fact):
    """Points in periods from the middle of their slice."""
    z = tl.load(points + places, mask=inside, other=0.0).to(tl.float64)
    return tl.where(inside, (z - tl.load(fact + MIDDLE)) * tl.load(fact + INVERSE), 0.0)


@triton.jit
def _start(u, first, MODES: tl.constexpr):
    """Sine and cosine of points at the first modes, and of what turns them to the next ones."""
    modes = first + tl.arange(0, MODES).to(tl.float64)
    sine, cosine = sine_cosine_of_turns(u[:, None] * modes[None, :])
    step_sine, step_cosine = sine_cosine_of_turns(MODES * u)
    return sine, cosine, step_sine[:, None], step_cosine[:, None]


@triton.jit(do_not_specialize=["n", "weights_row", "group_points", "groups"])
def fourier_sums_kernel(
    points, weights, facts, sums, moments, n, weights_row, group_points, groups,
    MODES: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """Sums of one group of a slice's points: of cosines and of sines, in pairs."""
    group, p = tl.program_id(0).to(tl.int64), tl.program_id(1).to(tl.int64)
    fact, part = facts + p * FACTS, p * groups + group
    first, count = tl.load(fact + FIRST), tl.load(fact + COUNT).to(tl.int32)
    begin = group * group_points
    end = tl.minimum(begin + group_points, n)
    ks = tl.arange(0, MODES)
    weight_sum, size_sum = tl.zeros([BLOCK], tl.float64), tl.zeros([BLOCK], tl.float64)
    first_sum, second_sum = tl.zeros([BLOCK], tl.float64), tl.zeros([BLOCK], tl.float64)
    for start in range(begin, end, BLOCK):
        places = start + tl.arange(0, BLOCK)
        inside = places < end
        u = _turns(points + p * n, places, inside, fact)
        if weights is None:
            w = tl.where(inside, 1.0, 0.0).to(tl.float64)
        else:
            w = tl.load(weights + p * weights_row + places, mask=inside, other=0.0)
        if moments is not None:
            weight_sum += w
            size_sum += tl.abs(w)
            first_sum += w * u
            second_sum += w * u * u
        sine, cosine, step_sine, step_cosine = _start(u, first, MODES)
        sine, cosine = sine * w[:, None], cosine * w[:, None]
        for k in range(0, count, MODES):
            wanted = (k + ks) < count
            into = sums + part * (2 * MOST_MODES) + 2 * (k + ks)
            old = wanted & (start > begin)
            of_cosines = tl.load(into, mask=old, other=0.0) + tl.sum(cosine, 0)
            of_sines = tl.load(into + 1, mask=old, other=0.0) + tl.sum(sine, 0)
            tl.store(into, of_cosines, mask=wanted)
            tl.store(into + 1, of_sines, mask=wanted)
            turned = cosine * step_cosine - sine * step_sine
            sine = sine * step_cosine + cosine * step_sine
            cosine = turned
        tl.debug_barrier()  # the threads that read these sums for the next points may be others
    if moments is not None:
        into = moments + part * MOMENTS
        tl.store(into, tl.sum(weight_sum, 0))
        tl.store(into + 1, tl.sum(size_sum, 0))
        tl.store(into + 2, tl.sum(first_sum, 0))
        tl.store(into + 3, tl.sum(second_sum, 0))


@triton.jit
def _added_groups(sums, groups, ks, inside, stride):
    """Sums over groups, in their order."""
    rows = tl.arange(0, GROUPS_AT_ONCE)
    total = tl.zeros([GROUPS_AT_ONCE, ks.shape[0]], tl.float64)
    for g in range(0, groups, GROUPS_AT_ONCE):
        mask = ((g + rows) < groups)[:, None] & inside[None, :]
        total += tl.load(sums + (g + rows)[:, None] * stride + ks[None, :], mask=mask, other=0.0)
    return tl.sum(total, 0)


@triton.jit
def _added_pairs(sums, groups, ks, inside):
    """Sums of cosines and of sines."""
    return (
        _added_groups(sums, groups, 2 * ks, inside, 2 * MOST_MODES),
        _added_groups(sums, groups, 2 * ks + 1, inside, 2 * MOST_MODES),
    )


@triton.jit
def _moments(moments, groups, count, UNIFORM: tl.constexpr):
    """Weight, size, first and second moment of a side; of uniform weights the first two are known."""
    if moments is None:
        weight, size, first, second = count * 0.0 + 1.0, count * 0.0 + 1.0, count * 0.0, count * 0.0
    else:
        ks = tl.arange(0, MOMENTS)
        found = _added_groups(moments, groups, ks, ks < MOMENTS, MOMENTS)
        weight, size = tl.sum(tl.where(ks == 0, found, 0.0), 0), tl.sum(tl.where(ks == 1, found, 0.0), 0)
        first, second = tl.sum(tl.where(ks == 2, found, 0.0), 0), tl.sum(tl.where(ks == 3, found, 0.0), 0)
        if UNIFORM:
            weight, size, first, second = count * 0.0 + 1.0, count * 0.0 + 1.0, first / count, second / count
    return weight, size, first, second


@triton.jit
def _joined(left, right, bar):
    """The left, or the right where rounding alone may be between them."""
    return tl.where(tl.abs(left - right) <= bar, right, left)


@triton.jit
def _store_seen(fact, weight, first, second, far_weight, far_first, far_second, share, unit, kink):
    c0, c1, c2 = far_weight - share * weight, far_first - share * first, far_second - share * second
    tl.store(fact, c0)
    tl.store(fact + 1, c1)
    tl.store(fact + 2, -unit * c0 - (share - 1.0) - kink * c2)


@triton.jit(do_not_specialize=["n", "m", "groups_x", "groups_y"])
def fourier_value_kernel(
    sums_x, sums_y, moments_x, moments_y, coefficients, facts, value, n, m, groups_x, groups_y,
    kink: tl.float64, share_x: tl.float64, share_y: tl.float64, rounding: tl.float64,
    UNIFORM: tl.constexpr, UNBIASED: tl.constexpr,
):  # fmt: skip
    """One slice: its value, and in place of the first groups' sums 2 c_k (own share sum - other sum) of each side."""
    p = tl.program_id(0).to(tl.int64)
    fact = facts + p * FACTS
    unit, count = tl.load(fact + UNIT), tl.load(fact + COUNT).to(tl.int32)
    parabola = kink * tl.load(fact + LENGTH)  # of a kink's part; kappa / T times T^2, positions being turns
    points_x, points_y = n.to(tl.float64), m.to(tl.float64)
    x, y = sums_x + p * groups_x * (2 * MOST_MODES), sums_y + p * groups_y * (2 * MOST_MODES)
    if moments_x is not None:
        moments_x += p * groups_x * MOMENTS
        moments_y += p * groups_y * MOMENTS
    x_weight, x_size, x_first, x_second = _moments(moments_x, groups_x, points_x, UNIFORM)
    y_weight, y_size, y_first, y_second = _moments(moments_y, groups_y, points_y, UNIFORM)
    bar = rounding * (x_size + y_size)
    x_weight, x_first = _joined(x_weight, y_weight, bar), _joined(x_first, y_first, bar)
    x_second = _joined(x_second, y_second, bar)
    total = tl.zeros([BLOCK_VALUE], tl.float64)
    for k in range(0, count, BLOCK_VALUE):
        ks = k + tl.arange(0, BLOCK_VALUE)
        inside = ks < count
        c = tl.load(coefficients + p * MOST_MODES + ks, mask=inside, other=0.0)
        x_re, x_im = _added_pairs(x, groups_x, ks, inside)
        y_re, y_im = _added_pairs(y, groups_y, ks, inside)
        if UNIFORM:
            x_re, x_im, y_re, y_im = x_re / points_x, x_im / points_x, y_re / points_y, y_im / points_y
        x_re, x_im = _joined(x_re, y_re, bar), _joined(x_im, y_im, bar)
        term = (x_re - y_re) * (x_re - y_re) + (x_im - y_im) * (x_im - y_im)
        if UNBIASED:
            term += (x_re * x_re + x_im * x_im - 1.0) * (share_x - 1.0)
            term += (y_re * y_re + y_im * y_im - 1.0) * (share_y - 1.0)
        total += c * term
        tl.debug_barrier()  # all groups are read before the first is written over
        tl.store(x + 2 * ks, 2.0 * c * (share_x * x_re - y_re), mask=inside)
        tl.store(x + 2 * ks + 1, 2.0 * c * (share_x * x_im - y_im), mask=inside)
        tl.store(y + 2 * ks, 2.0 * c * (share_y * y_re - x_re), mask=inside)
        tl.store(y + 2 * ks + 1, 2.0 * c * (share_y * y_im - x_im), mask=inside)
    seen = fact + SEEN
    _store_seen(seen, x_weight, x_first, x_second, y_weight, y_first, y_second, share_x, unit, parabola)
    seen += SEEN_STRIDE
    _store_seen(seen, y_weight, y_first, y_second, x_weight, x_first, x_second, share_y, unit, parabola)
    if value is not None:
        gap, shift = x_weight - y_weight, x_first - y_first
        bow = shift * shift - gap * (x_second - y_second)
        if UNBIASED:
            bow -= (x_second - x_first * x_first) * (share_x - 1.0) + (y_second - y_first * y_first) * (share_y - 1.0)
        found = tl.sum(total, 0) + 0.5 * unit * gap * gap - parabola * bow
        tl.store(value + p, found + tl.load(fact + POISON))


@triton.jit(do_not_specialize=["n", "weights_row", "groups"])
def fourier_points_kernel(
    points, weights, facts, seen, gradient, potential, n, weights_row, groups, kink: tl.float64,
    SIDE: tl.constexpr, MODES: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """Gradient and potential of a tile of one slice's points, of what their side sees."""
    p = tl.program_id(1).to(tl.int64)
    places = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    inside = places < n
    fact = facts + p * FACTS
    first, count = tl.load(fact + FIRST), tl.load(fact + COUNT).to(tl.int32)
    u = _turns(points + p * n, places, inside, fact)
    sine, cosine, step_sine, step_cosine = _start(u, first, MODES)
    slope, height = tl.zeros([BLOCK, MODES], tl.float64), tl.zeros([BLOCK, MODES], tl.float64)
    ks = tl.arange(0, MODES)
    for k in range(0, count, MODES):
        wanted = (k + ks) < count
        of_mode = seen + p * groups * (2 * MOST_MODES) + 2 * (k + ks)
        re, im = tl.load(of_mode, mask=wanted, other=0.0), tl.load(of_mode + 1, mask=wanted, other=0.0)
        if potential is not None:
            height += cosine * re[None, :] + sine * im[None, :]
        if gradient is not None:
            angle = (first + (k + ks).to(tl.float64)) * (2.0 * PI)
            slope += cosine * (angle * im)[None, :] - sine * (angle * re)[None, :]
        turned = cosine * step_cosine - sine * step_sine
        sine = sine * step_cosine + cosine * step_sine
        cosine = turned
    parabola, poison = kink * tl.load(fact + LENGTH), tl.load(fact + POISON)
    own = fact + SEEN + SIDE * SEEN_STRIDE
    c0, c1 = tl.load(own), tl.load(own + 1)
    if gradient is not None:
        if weights is None:
            w = 1.0 / n.to(tl.float64)
        else:
            w = tl.load(weights + p * weights_row + places, mask=inside, other=0.0)
        found = (tl.sum(slope, 1) - parabola * 2.0 * (c0 * u - c1)) * tl.load(fact + INVERSE) * w + poison
        tl.store(gradient + p * n + places, found.to(gradient.dtype.element_ty), mask=inside)
    if potential is not None:
        found = tl.sum(height, 1) + tl.load(own + 2) - parabola * (c0 * u * u - 2.0 * c1 * u) + poison
        tl.store(potential + p * n + places, found, mask=inside)


def _compile_gate() -> list[tuple[triton.JITFunction, dict[str, str], dict[str, object]]]:
    """What is compiled for a GPU on machines without one: every form, both types, and every argument absent once."""
    gate = []

    def add(kernel, types, constants, absent=()):
        constants = constants | dict.fromkeys(absent)
        gate.append((kernel, {name: t for name, t in types.items() if name not in constants}, constants))

    def numbers(*names):
        return dict.fromkeys(names, "fp64")

    tile = {"MODES": BLOCK_MODES, "BLOCK": BLOCK_POINTS}
    of_sums = {"MODES": BLOCK_MODES, "BLOCK": BLOCK_SUMS, "num_warps": 1}
    facts = {"facts": "*fp64", "kink": "fp64"}
    for real, size, absent in (
        ("fp32", "i32", ("weights", "moments")),
        ("fp32", "i64", ("weights",)),
        ("fp64", "i32", ()),
    ):
        points = {"points": f"*{real}", "weights": "*fp64", "facts": "*fp64", "n": size, "weights_row": size}
        sums = points | {"sums": "*fp64", "moments": "*fp64", "group_points": size, "groups": "i32"}
        add(fourier_sums_kernel, sums, of_sums, absent)
        plain = "moments" in absent
        values = dict.fromkeys(("sums_x", "sums_y", "moments_x", "moments_y", "coefficients", "value"), "*fp64") | facts
        values |= {"n": size, "m": size, "groups_x": "i32", "groups_y": "i32"} | numbers(
            "share_x", "share_y", "rounding"
        )
        constants = {"UNIFORM": "weights" in absent, "UNBIASED": plain}
        add(fourier_value_kernel, values, constants, ("moments_x", "moments_y", "value") if plain else ())
        out = {"seen": "*fp64", "gradient": f"*{real}", "potential": "*fp64", "groups": "i32"} | facts
        for missing in ((), ("gradient",), ("potential",)):
            add(fourier_points_kernel, points | out, tile | {"SIDE": int(plain)}, (*missing, *absent[:1]))
    return gate


COMPILE_GATE = _compile_gate() if not INTERPRETED else []
