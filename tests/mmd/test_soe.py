"""Sums of exponentials: powers other than 1, the logarithm and thin plates, along sorted points."""

import time

import pytest
import torch

from fastcore_ops.mmd import _reference_smooth

from . import smooth_problems as problems

pytestmark = pytest.mark.native
FORMS = {
    "r0.5": (0, 0.5),
    "r1.25": (0, 1.25),
    "r1.5": (0, 1.5),
    "r1.75": (0, 1.75),
    "log": (6, 0.0),
    "thin_plate": (7, 2.0),
}
forms = pytest.mark.parametrize(("kernel", "r"), FORMS.values(), ids=FORMS)
# At distances of 1e-6 to 1 of the range, float32 (the sums' states are float64): seen 1.9e-6, 1.1e-7, 5e-8, 3e-8, 1e-5, 3e-7.
WORST = {0.5: 4e-6, 1.25: 1e-6, 1.5: 1e-6, 1.75: 1e-6}


@pytest.fixture
def soe(require):
    require("cpp")
    return problems.operator("mmd_soe", "cpp")


def value_of(soe, x, y, kernel, r, a=None, b=None, unbiased=False):
    return soe(x, y, a, b, kernel, r, 0.3 if kernel == 7 else 0.0, 1.0, unbiased, problems.VALUE)[2]


@pytest.mark.parametrize("backend", ["cpp", "reference"])
@pytest.mark.parametrize(("r", "golden"), [(0.5, 0.5409269644), (1.5, 1.3609707632)])
def test_golden_values(backend, r, golden, require):
    require(backend)
    x, y = torch.tensor([[0.0, 1.0, 3.0]]), torch.tensor([[2.0, 2.0, 5.0]])
    soe = problems.operator("mmd_soe", backend)
    assert value_of(soe, x.double(), y.double(), 0, r).item() == pytest.approx(golden, rel=1e-10)
    assert value_of(soe, x, y, 0, r).item() == pytest.approx(golden, rel=3e-7)


@forms
def test_one_pair_at_every_distance(soe, kernel, r, dtype):
    """h(t) and h'(t) themselves: one pair, and points without weight that set the range."""
    t = torch.logspace(-6, -0.01, 241, dtype=torch.float64).to(dtype)[:, None]
    zero, one = torch.zeros_like(t), torch.ones_like(t)
    mass = torch.tensor([1.0, 0.0], dtype=torch.float64)
    h, slope = _reference_smooth.pair_functions(kernel, r, 0.3)
    grad_x, grad_y, value, *_ = soe(
        torch.cat([zero, one], 1), torch.cat([t, one], 1), mass, mass, kernel, r, 0.3, 1.0, False, 7
    )
    exact, exact_slope = h(t[:, 0].double()), slope(t[:, 0].double())
    bound = 1e-10 if dtype == torch.float64 else WORST.get(r, 2e-5)
    slope_bound = bound if dtype == torch.float64 else 2e-5
    scale = exact.abs() if kernel == 0 else exact.abs().max()
    slope_scale = exact_slope.abs() if kernel != 7 else exact_slope.abs().max()
    floor = 3e-14 if kernel == 0 else 0.0  # of cancellation, where t^r is far below the range
    assert ((value - exact).abs() <= bound * scale + floor).all()
    assert ((grad_x[:, 0].double() + exact_slope).abs() <= slope_bound * slope_scale).all()
    assert ((grad_y[:, 0].double() - exact_slope).abs() <= slope_bound * slope_scale).all()
    assert (grad_x[:, 1] == 0).all() and (grad_y[:, 1] == 0).all()


@forms
@pytest.mark.parametrize("unbiased", [False, True])
def test_gradients_against_finite_differences(soe, kernel, r, unbiased):
    if kernel == 6 and not unbiased:
        pytest.skip("pairs of a point with itself are left out")
    x, y = problems.sample()
    quadratic = 0.3 if kernel == 7 else 0.0
    grad_x, grad_y, *_ = soe(x, y, None, None, kernel, r, quadratic, 1.0, unbiased, problems.ALL)
    in_x = problems.numeric_gradient(lambda t: value_of(soe, t, y, kernel, r, unbiased=unbiased), x, 1e-6)
    in_y = problems.numeric_gradient(lambda t: value_of(soe, x, t, kernel, r, unbiased=unbiased), y, 1e-6)
    torch.testing.assert_close((grad_x, grad_y), (in_x, in_y), rtol=1e-6, atol=1e-7)


@forms
@pytest.mark.parametrize("signed", [False, True])
def test_potentials_are_the_weights_gradients(soe, kernel, r, signed):
    x, y = problems.sample()
    a, b = problems.weights(9, 7, signed=signed)
    *_, in_a, in_b = soe(x, y, a, b, kernel, r, 0.3 if kernel == 7 else 0.0, 1.0, False, problems.ALL)
    torch.testing.assert_close(
        in_a[0], problems.numeric_gradient(lambda t: value_of(soe, x, y, kernel, r, t, b), a), rtol=1e-7, atol=1e-9
    )
    torch.testing.assert_close(
        in_b[0], problems.numeric_gradient(lambda t: value_of(soe, x, y, kernel, r, a, t), b), rtol=1e-7, atol=1e-9
    )


@forms
def test_identical_samples_give_zero(soe, kernel, r, dtype):
    x, _ = problems.sample(3, 57, dtype=dtype)
    x[:, 5:9] = x[:, :1]
    order = torch.randperm(57, generator=torch.Generator().manual_seed(1))
    grad_x, grad_y, value, potential_x, _ = soe(x, x[:, order], None, None, kernel, r, 0.0, 1.0, False, problems.ALL)
    assert (grad_x == 0).all() and (grad_y == 0).all()
    if kernel != 6:
        assert (value == 0).all() and (potential_x == 0).all()
    a, _ = problems.weights(57, 1)
    weighted = soe(x, x[:, order], a, a[order], kernel, r, 0.0, 1.0, False, 3)
    assert max(float(g.abs().max()) for g in weighted[:2]) < 1e-15


@forms
def test_tied_points_have_one_gradient(soe, kernel, r):
    x, y = problems.sample()
    x[0, 3] = x[0, 5] = y[0, 2]
    x[0, 6], y[0, 4] = 0.0, -0.0
    grad_x, grad_y, *_ = soe(x, y, None, None, kernel, r, 0.0, 1.0, False, problems.ALL)
    assert grad_x[0, 3] == grad_x[0, 5]
    assert 9 * grad_x[0, 3].item() == pytest.approx(-7 * grad_y[0, 2].item(), rel=1e-14)
    assert 9 * grad_x[0, 6].item() == pytest.approx(-7 * grad_y[0, 4].item(), rel=1e-14)


@pytest.mark.parametrize("r", [0.5, 1.5])
def test_scale_and_shift(soe, r):
    x, y = problems.sample()
    value, moved = (value_of(soe, *pair, 0, r) for pair in ((x, y), (1e6 * x + 3e5, 1e6 * y + 3e5)))
    torch.testing.assert_close(moved, 1e6**r * value, rtol=1e-8, atol=0)


@pytest.mark.parametrize("r", [1 - 1e-7, 1 + 1e-7])
def test_powers_next_to_one_meet_the_ranks(soe, r):
    x, y = problems.sample(2, 40, 30)
    rank = problems.operator("mmd_rank", "cpp")(x, y, None, None, False, problems.ALL)
    for near, exact in zip(soe(x, y, None, None, 0, r, 0.0, 1.0, False, problems.ALL), rank):
        torch.testing.assert_close(near, exact, rtol=1e-5, atol=1e-6)


@forms
def test_a_slice_that_is_not_finite_spoils_itself_only(soe, kernel, r, dtype):
    x, y = problems.sample(4, dtype=dtype)
    clean = soe(x, y, None, None, kernel, r, 0.0, 1.0, False, problems.ALL)
    x[0, 2], y[2, 0], y[3, 1] = torch.nan, torch.inf, -torch.inf
    for got, want in zip(soe(x, y, None, None, kernel, r, 0.0, 1.0, False, problems.ALL), clean):
        assert got[[0, 2, 3]].isnan().all()
        assert torch.equal(got[1], want[1])


@forms
def test_points_without_weight_have_no_influence(soe, kernel, r):
    x, y = problems.sample()
    a, b = problems.weights(9, 7)
    a[4] = 0
    kept = [0, 1, 2, 3, 5, 6, 7, 8]
    grad_x, grad_y, value, *_ = soe(x, y, a, b, kernel, r, 0.0, 1.0, False, problems.ALL)
    less = soe(x[:, kept].contiguous(), y, a[kept].contiguous(), b, kernel, r, 0.0, 1.0, False, problems.ALL)
    assert grad_x[0, 4] == 0
    torch.testing.assert_close(grad_x[:, kept], less[0], rtol=1e-9, atol=1e-12)
    torch.testing.assert_close((grad_y, value), (less[1], less[2]), rtol=1e-9, atol=1e-12)


def test_only_what_is_wanted_comes_back(soe):
    x, y = problems.sample(2)
    whole = soe(x, y, None, None, 0, 1.5, 0.0, 1.0, False, problems.ALL)
    for bit in range(5):
        for k, part in enumerate(soe(x, y, None, None, 0, 1.5, 0.0, 1.0, False, 1 << bit)):
            assert torch.equal(part, whole[k]) if k == bit else part.shape == (0,)


def test_coinciding_points_under_the_logarithm_stay_finite(soe, dtype):
    x, y = problems.sample(dtype=dtype)
    x[0, 1] = x[0, 2] = y[0, 0]
    value = value_of(soe, x, y, 6, 0.0, unbiased=True)
    truth = problems.operator("mmd_soe", "reference")(x, y, None, None, 6, 0.0, 0.0, 1.0, True, problems.VALUE)[2]
    torch.testing.assert_close(value, truth, rtol=1e-4, atol=1e-5)


def test_denormal_numbers_work_before_and_after(soe):
    tiny = torch.tensor([3e-310], dtype=torch.float64)
    value_of(soe, *problems.sample(), 0, 1.5)
    assert (tiny * 0.5).item() > 0


def test_decayed_states_do_not_slow_it_down(soe, one_thread):
    """Gaps that let every state decay, in steps: without flushing, four to ten times the time of even points."""

    def least_time(x, y):
        found = []
        for _ in range(9):
            start = time.thread_time()
            value_of(soe, x, y, 0, 1.5)
            found.append(time.thread_time() - start)
        return min(found)

    even = torch.linspace(0, 1, 40_000, dtype=torch.float64)
    steps = torch.cat([even[:20_000] * 1e-4, even[:20_000] * 1e-4 + 1])
    spread, stepped = (t.view(1, 2, 20_000).unbind(1) for t in (even, steps))
    assert least_time(*(t.contiguous() for t in stepped)) < 2.5 * least_time(*(t.contiguous() for t in spread))
