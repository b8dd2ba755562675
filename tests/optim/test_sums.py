"""Rules whose steps need sums, with what else looks at gradients; and that a sum does not know where its parts lie."""

import copy
import math

import pytest
import torch

from fastcore_ops import optim

from .loops import large
from .problems import (
    DESCENDS_ONLY,
    KERNEL_AND_REFERENCE,
    SUMS,
    assert_same_state,
    copies,
    give_gradients,
    make,
    normal,
    parameters,
    run,
    same_bits,
    worst,
)

every_sum = pytest.mark.parametrize("variant", SUMS)


def beside(variant, switches, prepare, steps=4, fused=None):
    """One optimizer with switches, and one without whose gradients ``prepare`` has treated by hand."""
    p, q = parameters(), parameters()
    switched, plain = make(variant, p, fused=fused, **switches), make(variant, q, fused=fused)
    for step in range(steps):
        give_gradients(p, step)
        given = [x.grad.clone() for x in p]
        give_gradients(q, step)
        prepare(q)
        switched.step()
        plain.step()
        assert same_bits([x.grad for x in p], given)
    return worst(p, q)


@KERNEL_AND_REFERENCE
@pytest.mark.parametrize("max_norm", [2.0, 1e6])
@pytest.mark.parametrize("variant", [name for name in SUMS if "FedSpeed" not in name])
def test_max_norm(variant, max_norm, fused):
    def clip(params):
        norm = math.sqrt(sum(float(p.grad.square().sum()) for p in params))
        for p in params:
            p.grad *= min(1.0, max_norm / (norm + 1e-6))

    assert beside(variant, {"max_norm": max_norm}, clip, fused=fused) < 1e-12


@KERNEL_AND_REFERENCE
@pytest.mark.parametrize("variant", [name for name in SUMS if "FedSpeed" not in name])
def test_perp_grad(variant, fused):
    def project(params):
        for p in params:
            x, g = p.detach().double(), p.grad
            if p.numel() >= 2:
                left = g - (x * g).sum() / ((x * x).sum() + 1e-30) * x
                p.grad = left * g.norm() / (left.norm() + 1e-30)

    assert beside(variant, {"perp_grad": True}, project, fused=fused) < 1e-12


@KERNEL_AND_REFERENCE
@pytest.mark.parametrize("bad", [math.nan, math.inf])
@every_sum
def test_skip_nonfinite_leaves_everything(variant, bad, fused):
    """Parameters, states, counts, and the numbers of groups."""
    p = parameters(torch.float32)
    optimizer, q = make(variant, p, fused=fused, skip_nonfinite=True), copies(p)
    never = make(variant, q, fused=fused, skip_nonfinite=True)
    for step in range(5):
        give_gradients(p, step)
        give_gradients(q, step)
        if step in (0, 3):
            p[6].grad[2, 1] = bad
        optimizer.step()
        if step not in (0, 3):
            never.step()
    assert same_bits(p, q)
    assert_same_state(optimizer, never)


@KERNEL_AND_REFERENCE
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("shape", [(), (1,)])
@every_sum
def test_learning_rate_in_a_tensor(variant, shape, dtype, fused):
    p, q = parameters(), parameters()
    held, plain = (
        make(variant, p, lr=torch.full(shape, 0.25, dtype=dtype), fused=fused),
        make(variant, q, lr=0.25, fused=fused),
    )
    run(held, p, 2)
    run(plain, q, 2)
    held.param_groups[0]["lr"].fill_(0.5)
    plain.param_groups[0]["lr"] = 0.5
    run(held, p, 2, first=2)
    run(plain, q, 2, first=2)
    assert same_bits(p, q)
    assert_same_state(held, plain)


@every_sum
@pytest.mark.filterwarnings("error")
def test_schedulers(variant):
    p, q = parameters(), parameters()
    scheduled, plain = make(variant, p, lr=0.5), make(variant, q, lr=0.5)
    schedule = torch.optim.lr_scheduler.StepLR(scheduled, 2, 0.5)
    for step in range(6):
        run(scheduled, p, 1, first=step)
        plain.param_groups[0]["lr"] = 0.5 ** (1 + step // 2)
        run(plain, q, 1, first=step)
        schedule.step()
    assert same_bits(p, q)


@pytest.mark.parametrize("variant", [name for name in SUMS if not name.startswith("OPTAMSGrad")])
def test_capturable(variant):
    p, q = parameters(), parameters()
    run(make(variant, p, capturable=True), p, 3)
    run(make(variant, q), q, 3)
    assert same_bits(p, q)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("variant", ["AdamP_nesterov", "SGDP", "LDoG", "AdaGradNorm", "AdaGradNorm_row"])
def test_bits_do_not_depend_on_threads(variant, dtype):
    """Long rows and many rows; what threads share out is sums as well as steps."""

    def after(threads):
        torch.set_num_threads(threads)
        params = [p.detach().to(dtype).requires_grad_() for p in large()]
        optimizer = make(variant, params, rounding="stochastic")
        run(optimizer, params, 2)
        return params, optimizer

    threads = torch.get_num_threads()
    try:
        (p, one), (q, two), (r, three) = (after(count) for count in (1, 2, 3))
    finally:
        torch.set_num_threads(threads)
    assert same_bits(p, q) and same_bits(p, r)
    assert_same_state(one, two)
    assert_same_state(one, three)


def missing(step, i):
    """Some parameters get no gradient: one until step 4, one from there on, others now and then."""
    return (i == 5 and step < 4) or (i == 6 and step >= 4) or (i > 6 and (step + i) % 3 == 0)


def run_with_gaps(optimizer, params, steps):
    for step in steps:
        give_gradients(params, step)
        for i, p in enumerate(params):
            if missing(step, i):
                p.grad = None
        optimizer.step()


def in_groups(variant, params, **switches):
    return make(variant, [{"params": params[:7]}, {"params": params[7:9]}, {"params": params[9:]}], **switches)


@KERNEL_AND_REFERENCE
@pytest.mark.parametrize(
    ("variant", "switches"),
    [(name, {}) for name in SUMS] + [("AdamW", {"max_norm": 1.0}), ("AdamP", {"max_norm": 1.0})],
    ids=str,
)
@pytest.mark.parametrize("at", [3, 5])
def test_resumed_where_gradients_were_missing(at, variant, switches, fused):
    """Sums go over the same numbers in the same order, whatever was laid out together in memory, and when."""
    p = parameters()
    whole = in_groups(variant, p, fused=fused, **switches)
    run_with_gaps(whole, p, range(at))
    q = copies(p)
    resumed = in_groups(variant, q, fused=fused, **switches)
    resumed.load_state_dict(copy.deepcopy(whole.state_dict()))
    assert_same_state(whole, resumed)
    for optimizer, params in ((whole, p), (resumed, q)):
        run_with_gaps(optimizer, params, range(at, 9))
    assert same_bits(p, q)
    assert_same_state(whole, resumed)


@KERNEL_AND_REFERENCE
@every_sum
def test_groups_added_after_steps(variant, fused):
    p = parameters()
    optimizer = make(variant, p[:6], fused=fused)
    run(optimizer, p, 2)
    optimizer.add_param_group({"params": p[6:]})
    before = copies(p[6:])
    run(optimizer, p, 3, first=2)
    assert [float(optimizer.state[x]["step"]) for x in p] == [5.0] * 6 + [3.0] * 5
    assert all(x.isfinite().all() for x in p) and worst(p[6:], before) > 0


@pytest.mark.parametrize("variant", [name for name in SUMS if name not in DESCENDS_ONLY])
def test_maximize_with_the_other_switches(variant):
    p, q = parameters(), parameters()
    switches = {"perp_grad": True, "skip_nonfinite": True}
    up, down = make(variant, p, maximize=True, **switches), make(variant, q, **switches)
    for step in range(3):
        give_gradients(p, step)
        for x, y in zip(p, q, strict=True):
            y.grad = -x.grad
        up.step()
        down.step()
    assert same_bits(p, q)


def test_a_step_without_any_gradient():
    p = [normal(3).requires_grad_()]
    for variant in SUMS:
        optimizer = make(variant, p)
        before = copy.deepcopy(optimizer.state_dict())
        optimizer.step()
        assert optimizer.state_dict()["param_groups"] == before["param_groups"]
    clipped = optim.AutoClip(optim.SGD(p))
    clipped.step()
    assert clipped.history.numel() == 0
