"""``kid`` against plain float64 formulas, subset by subset."""

import math

import numpy as np
import pytest
import torch

import fastcore_ops as fo
from fastcore_ops.mmd import _kid

kid = fo.mmd.kid


def features(n, m, d, dtype=torch.float32, shift=0.1):
    generator = torch.Generator().manual_seed(0)
    x, y = (torch.randn(k, d, generator=generator, dtype=torch.float64) for k in (n, m))
    return x.clamp_min(0).to(dtype), (y + shift).clamp_min(0).to(dtype)


def score(x, y):
    x, y = x.double(), y.double()
    n, m, d = len(x), len(y), x.shape[1]
    kxx, kyy, kxy = ((a @ b.t() / d + 1) ** 3 for a, b in ((x, x), (y, y), (x, y)))
    within = (kxx.sum() - kxx.trace()) / (n * (n - 1)) + (kyy.sum() - kyy.trace()) / (m * (m - 1))
    return within - 2 * kxy.mean()


def subset_scores(x, y, num_subsets, size, seed):
    generator = torch.Generator().manual_seed(seed)
    scores = []
    for _ in range(num_subsets):
        mine = torch.randperm(len(x), generator=generator)[:size]
        theirs = torch.randperm(len(y), generator=generator)[:size]
        scores.append(score(x[mine], y[theirs]))
    return torch.stack(scores)


@pytest.mark.parametrize("one_pass", [True, False])
@pytest.mark.parametrize("small", [True, False])
def test_kid_against_each_subset(one_pass, small, dtype, monkeypatch):
    """Both ways of walking over the pairs, both precisions of the products."""
    if not small:
        monkeypatch.setattr(_kid, "_SMALL", 0)
    n, m, size, subsets = (700, 560, 150, 40) if one_pass else (1500, 1100, 40, 12)
    assert (n * n / 2 + m * m / 2 + n * m < 2 * subsets * size**2) == one_pass
    x, y = features(n, m, 64, dtype)
    found = kid(x, y, num_subsets=subsets, subset_size=size, generator=torch.Generator().manual_seed(5))
    want = subset_scores(x, y, subsets, size, 5)
    rel = 1e-11 if small or dtype == torch.float64 else 1e-5
    assert found.mean == pytest.approx(float(want.mean()), rel=rel)
    assert found.std == pytest.approx(float(want.std(correction=0)), rel=rel)


def test_kid_full_sets():
    x, y = features(620, 530, 32)
    found = kid(x, y, full=True)
    assert found.mean == pytest.approx(float(score(x, y)), rel=1e-11)
    assert math.isnan(found.std)
    assert kid(x[:5], y[:4], full=True).mean == pytest.approx(float(score(x[:5], y[:4])), rel=1e-11)


def test_kid_of_close_sets_in_float32(monkeypatch):
    """Sums in float32 would be off by 2e-3 here."""
    monkeypatch.setattr(_kid, "_SMALL", 0)
    x, y = features(2000, 2000, 256, shift=0.02)
    got, want = kid(x, y, full=True).mean, float(score(x, y))
    assert got == pytest.approx(want, rel=1e-4)


def test_kid_with_the_kernel_of_mmd():
    x, y = features(90, 80, 16, torch.float64)
    want = fo.mmd.mmd(x, y, kernel="polynomial", degree=3, unbiased=True)
    assert kid(x, y, full=True).mean == pytest.approx(float(want), rel=1e-11)


def test_kid_generator():
    x, y = features(300, 300, 8)
    options = {"num_subsets": 5, "subset_size": 50}
    first = kid(x, y, generator=torch.Generator().manual_seed(1), **options)
    state = torch.get_rng_state()
    again = kid(x, y, generator=torch.Generator().manual_seed(1), **options)
    assert torch.equal(state, torch.get_rng_state())
    assert first == again
    assert first != kid(x, y, generator=torch.Generator().manual_seed(2), **options)
    torch.manual_seed(1)  # without a generator the global one
    assert kid(x, y, **options) == first


def test_kid_takes_arrays_and_half_precision():
    x, y = features(60, 60, 8)
    want = kid(x, y, full=True)
    assert kid(x.numpy(), y.numpy(), full=True) == want
    assert kid(x.requires_grad_(), y, full=True) == want
    assert kid(x.detach().half(), y.half(), full=True).mean == pytest.approx(want.mean, rel=0.1)
    assert all(isinstance(number, float) for number in (want.mean, want.std))


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_kid_of_features_that_are_not_finite(bad):
    x, y = features(60, 60, 8)
    y[59, 7] = bad
    for options in ({"full": True}, {"num_subsets": 2, "subset_size": 5}):
        found = kid(x, y, **options)
        assert math.isnan(found.mean) and math.isnan(found.std)


BAD = {
    "small_x": (
        lambda x, y: kid(x[:30], y, subset_size=40),
        ValueError,
        ("`subset_size` (40)", "30 and 60", "full=True"),
    ),
    "small_y": (lambda x, y: kid(x, y[:1]), ValueError, ("at least 2", "`y`", "60 and 1")),
    "small_full": (lambda x, y: kid(x[:1], y, full=True), ValueError, ("at least 2", "`x`", "1 and 60")),
    "generator": (lambda x, y: kid(x, y, subset_size=9, generator=3), TypeError, ("`generator`", "int")),
    "default_size": (lambda x, y: kid(x, y), ValueError, ("1000", "60 and 60", "subset_size=60")),
    "no_subsets": (lambda x, y: kid(x, y, num_subsets=0), ValueError, ("`num_subsets`", "at least 1")),
    "one_point": (lambda x, y: kid(x, y, subset_size=1), ValueError, ("`subset_size`", "at least 2")),
    "switch": (lambda x, y: kid(x, y, full="no"), TypeError, ("`full` to be True or False", "'no'")),
    "broken": (lambda x, y: kid(x, y, subset_size=2.5), TypeError, ("`subset_size`", "integer")),
    "batch": (lambda x, y: kid(x[None], y[None]), ValueError, ("`x`", "(points, dimensions)")),
    "line": (lambda x, y: kid(x[:, 0], y), ValueError, ("`x`", "x[:, None]")),
    "width": (lambda x, y: kid(x, y[:, 1:]), ValueError, ("`y`", "dimensions")),
    "dtype": (lambda x, y: kid(x, y.double()), TypeError, ("`y`", "Convert")),
    "bytes": (lambda x, y: kid(x.byte(), y), TypeError, ("`x`", "x.float()")),
    "numpy_integers": (lambda x, y: kid(np.arange(6).reshape(3, 2), y), TypeError, ("`x`",)),
}


@pytest.mark.parametrize("label", BAD)
def test_kid_bad_input(label):
    call, error, words = BAD[label]
    with pytest.raises(error, match="kid: ") as caught:
        call(*features(60, 60, 8))
    for word in words:
        assert word in str(caught.value)
