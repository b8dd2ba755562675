"""Properties of the formulas that CPU loops and CUDA kernels of the kernel distances share, of the very code they compile."""

from fractions import Fraction

import numpy as np
import pytest
import torch

hypothesis = pytest.importorskip("hypothesis")
from hypothesis import given  # noqa: E402
from hypothesis import strategies as st  # noqa: E402
from hypothesis.extra import numpy as arrays  # noqa: E402

probe = pytest.importorskip("fastcore_ops._probe", reason="built by FASTCORE_PROBE=1")
EACH = pytest.mark.parametrize("dtype", [np.float32, np.float64])
LINE = st.lists(st.integers(-6, 6), min_size=1, max_size=12)
COUNT = st.integers(2, 2**24)


def numbers(dtype):
    width = 8 * np.dtype(dtype).itemsize
    return st.floats(width=width, allow_nan=False).map(dtype)


@EACH
def test_keys_are_in_the_order_of_the_numbers(dtype):
    key, back = (getattr(probe, f"{name}_{dtype.__name__}") for name in ("ordered_key", "from_key"))

    @given(numbers(dtype), numbers(dtype))
    def check(a, b):
        assert (key(a) < key(b)) == (a < b)
        assert (key(a) == key(b)) == (a == b)  # -0 and +0 too
        assert back(key(a)) == a

    check()
    assert key(dtype(np.inf)) < key(dtype(np.nan))


def doubled_ranks(points, others):
    """2 #less + #equal, of each point among the others."""
    p, q = np.asarray(points)[:, None], np.asarray(others)[None]
    return (2 * (q < p) + (q == p)).sum(1).astype(float)


@given(LINE, LINE)
def test_numerators_are_the_gradient_by_sums_over_pairs(x, y):
    n, m = len(x), len(y)
    got = probe.rank_numerator(n, m, False, doubled_ranks(x, x), doubled_ranks(x, y)) * probe.rank_scale(n, m, False)
    across = np.sign(np.subtract.outer(x, y)).sum(1) / (n * m)
    within = np.sign(np.subtract.outer(x, x)).sum(1) / (n * n)
    np.testing.assert_allclose(got, across - within, rtol=0, atol=1e-15)
    if n > 1:
        unbiased = probe.rank_numerator(n, m, True, doubled_ranks(x, x), doubled_ranks(x, y))
        within = np.sign(np.subtract.outer(x, x)).sum(1) / (n * (n - 1))
        np.testing.assert_allclose(unbiased * probe.rank_scale(n, m, True), across - within, rtol=0, atol=1e-15)


@given(COUNT, COUNT, st.data())
def test_numerators_are_exact_integers(n, m, data):
    """Beyond 2^31 too: float64 holds both products."""
    q_own, q_other = data.draw(st.integers(1, 2 * n - 1)), data.draw(st.integers(0, 2 * m))
    for unbiased in (False, True):
        want = (n - unbiased) * (q_other - m) - m * (q_own - n)
        assert probe.rank_numerator(n, m, unbiased, q_own, q_other) == want
        assert Fraction(float(probe.rank_numerator(n, m, unbiased, q_own, q_other))) == want


@given(LINE, LINE)
def test_the_value_by_gaps_is_that_by_pairs(x, y):
    union = np.sort(np.concatenate([x, y]))
    running = np.array([np.mean(np.asarray(x) <= z) - np.mean(np.asarray(y) <= z) for z in union[:-1]])
    terms = probe.value_term(np.diff(union).astype(float), running, 0.0)
    assert (terms >= 0).all()

    def spread(a, b):
        return np.abs(np.subtract.outer(a, b)).mean()

    want = spread(x, y) - spread(x, x) / 2 - spread(y, y) / 2
    np.testing.assert_allclose(terms.sum(), want, rtol=1e-12, atol=1e-14)


@given(arrays.arrays(np.float32, 40, elements=st.floats(-(2.0**100), 2.0**100, width=32)))
def test_three_bfloat16_numbers_hold_a_float32_number(x):
    x = np.where(np.abs(x) < 2.0**-100, np.float32(0), x)  # parts below the smallest bfloat16 number are lost
    parts = [probe.split_part_of(x, k) for k in range(3)]
    assert (parts[0].astype(np.float64) + parts[1] + parts[2] == x).all()
    for part in parts:
        assert torch.equal(torch.from_numpy(part).bfloat16().float(), torch.from_numpy(part))
    assert (np.abs(parts[1]) <= np.abs(parts[0]) * 2.0**-8).all()
