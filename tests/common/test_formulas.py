"""Property tests on the formula headers themselves, through the probe module."""

from fractions import Fraction

import numpy as np
import pytest
import torch

from fastcore_ops import _native

hypothesis = pytest.importorskip("hypothesis")
probe = pytest.importorskip("fastcore_ops._probe", reason="built by FASTCORE_PROBE=1")

from hypothesis import assume, given  # noqa: E402
from hypothesis import strategies as st  # noqa: E402

TYPES = {"float32": np.float32, "float64": np.float64}
types = st.sampled_from(sorted(TYPES))


def numbers(low, high, width=64):
    if width == 32:
        low, high = float(np.float32(low)), float(np.float32(high))
    return st.floats(low, high, width=width, allow_nan=False, allow_subnormal=False)


def call(name, kind, *arguments):
    result = getattr(probe, f"{name}_{kind}")(*(np.asarray([v], TYPES[kind]) for v in arguments))
    assert result.dtype == TYPES[kind]
    return result[0]


def exact(value):
    return Fraction(float(value))


singles = numbers(-(2.0**20), 2.0**20, 32).filter(lambda v: v == 0 or abs(v) > 2.0**-60)


@given(singles, singles)
def test_score_loses_nothing_in_float32(g, cost):
    """sum + lost is g - cost without any rounding (TwoSum)."""
    total, lost = call("score_sum", "float32", g, 0, cost), call("score_lost", "float32", g, 0, cost)
    assert total == np.float32(g) - np.float32(cost)
    assert exact(total) + exact(lost) == exact(np.float32(g)) - exact(np.float32(cost))


@given(singles, numbers(-1e-3, 1e-3, 32), singles)
def test_score_carries_the_low_part(g_hi, g_lo, cost):
    without, with_low = (call("score_lost", "float32", g_hi, low, cost) for low in (0, g_lo))
    assert with_low == np.float32(without + np.float32(g_lo))


@given(types, numbers(-1e6, 1e6, 32))
def test_score_of_a_forbidden_pair(kind, g):
    assert call("score_sum", kind, g, 0, np.inf) == -np.inf
    assert call("score_lost", kind, g, 0, np.inf) == 0


@given(types, numbers(-1e3, 1e3, 32), numbers(0, 1e3, 32), numbers(1e-3, 1e3, 32))
def test_exponent_is_never_positive(kind, row_max, below, inverse_reg):
    """Entries relative to the row's largest score: exp of it cannot overflow."""
    score = TYPES[kind](row_max) - TYPES[kind](below)
    exponent = call("exponent", kind, score, 0, row_max, inverse_reg)
    assert exponent <= 0
    assert call("exponent", kind, row_max, 0, row_max, inverse_reg) == 0
    assert call("exponent", kind, -np.inf, 0, row_max, inverse_reg) == -np.inf


@given(types, st.integers(0, 1000), st.integers(0, 1000), st.integers(0, 1000), st.sampled_from([0, 2**12, -(2**12)]))
def test_centred_cost_keeps_a_common_offset_exact(kind, cost, row_shift, col_shift, offset):
    """An offset that cost and row shift share disappears without a trace."""
    plain = call("centred_cost", kind, cost / 1024, row_shift / 1024, col_shift / 1024)
    moved = call("centred_cost", kind, offset + cost / 1024, offset + row_shift / 1024, col_shift / 1024)
    assert plain == (cost - row_shift - col_shift) / 1024
    assert moved == plain


@given(
    types, st.sampled_from(["sqeuclidean", "euclidean", "cityblock"]), numbers(-1e3, 1e3, 32), numbers(-1e3, 1e3, 32)
)
def test_distance_properties(kind, metric, x, y):
    distance = call(metric, kind, x, y)
    assert distance >= 0
    assert distance == call(metric, kind, y, x)
    assert call(metric, kind, x, x) == 0
    difference = TYPES[kind](x) - TYPES[kind](y)
    want = difference * difference if metric == "sqeuclidean" else abs(difference)
    assume(difference == 0 or float(difference) ** 2 > 1e-30)
    assert distance == pytest.approx(float(want), rel=4 * float(np.finfo(TYPES[kind]).eps))


@given(numbers(0, 1e3), numbers(0, 1e3))
def test_keep_bar_is_the_lesser(a, b):
    assert probe.keep_bar(a, b) == min(a, b)


@given(numbers(-700, 700))
def test_exp_and_log_undo_each_other(x):
    assert float(call("log", "float64", call("exp", "float64", x))) == pytest.approx(x, rel=4e-16, abs=5e-16)
    assert float(call("exp", "float64", x)) * float(call("exp", "float64", -x)) == pytest.approx(1, rel=2e-15)


@given(types, st.lists(numbers(-90, 90, 32), min_size=1, max_size=40))
def test_probe_and_loops_give_the_same_bits(kind, values):
    """One formula, compiled for the baseline and for the best instruction set."""
    if _native.why_absent("cpp") is not None:
        pytest.skip("needs the C++ module")
    x = np.asarray(values, TYPES[kind])
    for name, argument in (("exp", x), ("log", np.abs(x))):
        looped = _native.handle(f"vector_{name}")(torch.from_numpy(argument)).numpy()
        assert np.array_equal(getattr(probe, f"{name}_{kind}")(argument), looped, equal_nan=True)
