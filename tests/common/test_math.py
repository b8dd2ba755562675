"""The library's own exp and log against wider arithmetic, on every instruction set."""

import numpy as np
import pytest
import torch

from fastcore_ops import _native

pytestmark = [pytest.mark.isa, pytest.mark.native]
WIDE = np.longdouble
SMALLEST = {torch.float32: 2.0**-126, torch.float64: 2.0**-1022}
EXP_RANGE = {torch.float32: (-87.0, 88.7), torch.float64: (-708.0, 709.7)}


@pytest.fixture(autouse=True)
def _needs_native(require):
    require("cpp")


def run(name, x):
    return _native.handle(name)(x)


def relative_error(got, truth):
    got, truth = got.numpy().astype(WIDE), np.asarray(truth, dtype=WIDE)
    return float(np.max(np.abs(got - truth) / np.abs(truth)))


def ulps(got, truth):
    spacing = np.spacing(np.abs(got.numpy())).astype(WIDE)
    return float(np.max(np.abs(got.numpy().astype(WIDE) - truth) / spacing))


@pytest.fixture(autouse=True)
def _wide_enough(dtype):
    if dtype == torch.float64 and np.finfo(WIDE).eps > 1e-18:
        pytest.skip("this platform has nothing wider than float64")


def test_vector_exp_error(dtype, draw):
    low, high = EXP_RANGE[dtype]
    pieces = [low + (high - low) * draw(200_000), 2 * draw(50_000) - 1, 1e-3 * (draw(20_000) - 0.5)]
    x = torch.cat(pieces).to(dtype).clamp(low, high)
    got, truth = run("vector_exp", x), np.exp(x.numpy().astype(WIDE))
    bound, in_ulps = {torch.float64: (2.3e-16, 1.6), torch.float32: (1.2e-7, 1.6)}[dtype]
    assert relative_error(got, truth) < bound
    assert ulps(got, truth) < in_ulps


def test_vector_log_error(dtype, draw):
    tiny, info = SMALLEST[dtype], torch.finfo(dtype)
    exponents = draw(200_000) * (np.log2(info.max) - np.log2(tiny) - 1e-6) + np.log2(tiny)
    near_one = [1 + 1e-2 * (draw(50_000) - 0.5), 1 + 1e-6 * (draw(20_000) - 0.5), 0.5 + 1.5 * draw(50_000)]
    x = torch.cat([torch.exp2(exponents), *near_one]).to(dtype)
    x = x[(x >= tiny) & (x != 1) & x.isfinite()]
    got, truth = run("vector_log", x), np.log(x.numpy().astype(WIDE))
    bound, in_ulps = {torch.float64: (4e-16, 2.5), torch.float32: (2.4e-7, 2.5)}[dtype]
    assert relative_error(got, truth) < bound
    assert ulps(got, truth) < in_ulps


def test_vector_exp_specials(dtype):
    inf, low, high = torch.inf, *EXP_RANGE[dtype]
    x = torch.tensor([0.0, -0.0, inf, -inf, torch.nan, 1e30, -1e30, low - 1, high + 0.2, 1e-40, -1e-40], dtype=dtype)
    got = run("vector_exp", x)
    want = torch.tensor([1, 1, inf, 0, torch.nan, inf, 0, 0, inf, 1, 1], dtype=dtype)
    torch.testing.assert_close(got, want, rtol=0, atol=0, equal_nan=True)


def test_vector_exp_is_never_denormal(dtype):
    low = EXP_RANGE[dtype][0]
    got = run("vector_exp", torch.linspace(low - 40, low + 1, 10_001, dtype=torch.float64).to(dtype))
    assert ((got == 0) | (got >= SMALLEST[dtype])).all()
    assert (got == 0).any() and (got > 0).any()


def test_vector_log_specials(dtype):
    inf, tiny = torch.inf, SMALLEST[dtype]
    x = torch.tensor([1.0, 0.0, -0.0, inf, -inf, torch.nan, -1.0, tiny / 2, tiny / 1000], dtype=dtype)
    got = run("vector_log", x)
    want = torch.tensor([0, -inf, -inf, inf, torch.nan, torch.nan, torch.nan, -inf, -inf], dtype=dtype)
    torch.testing.assert_close(got, want, rtol=0, atol=0, equal_nan=True)
    assert run("vector_log", torch.tensor([tiny], dtype=dtype)).isfinite().all()
    assert run("vector_log", torch.tensor([torch.finfo(dtype).max], dtype=dtype)).isfinite().all()


def test_vector_exp_is_monotone(dtype):
    low, high = EXP_RANGE[dtype]
    got = run("vector_exp", torch.linspace(low, high, 200_001, dtype=torch.float64).to(dtype))
    assert (got.diff() >= 0).all()


@pytest.mark.parametrize("size", [0, 1, 7, 8, 9, 31, 8191, 8193])
def test_vector_sizes_and_alignment(dtype, size, draw):
    """Tails of vectors and of blocks give the same bits as the middle; so do unaligned starts."""
    x = 10 * draw(size + 1, dtype=dtype)
    whole = run("vector_exp", torch.cat([x, 10 * draw(64, dtype=dtype)]))
    assert torch.equal(run("vector_exp", x), whole[: size + 1])
    assert torch.equal(run("vector_exp", x[1:]), whole[1 : size + 1])


def test_vector_shape_and_refusals(dtype, draw):
    x = draw(3, 4, 5, dtype=dtype)
    assert run("vector_log", x).shape == x.shape
    with pytest.raises(RuntimeError, match="not contiguous"):
        run("vector_exp", x.transpose(0, 2))
    with pytest.raises(RuntimeError, match="vector_exp"):
        run("vector_exp", torch.arange(3))
