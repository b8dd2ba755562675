"""Stochastic rounding: right in the mean, its bits a function of seed, step, parameter, slot and place alone."""

import pytest
import torch

from fastcore_ops import _backend, optim
from fastcore_ops.optim._flat import layout_code
from fastcore_ops.optim._switches import STOCHASTIC

from .problems import HALVES, KERNEL_AND_REFERENCE, run, same_bits


@KERNEL_AND_REFERENCE
@HALVES
@pytest.mark.parametrize("magnitude", [1.0, 200.0, 3e-6], ids=str)
@pytest.mark.parametrize("share", [0.03, 0.25, 0.5, 0.9])
def test_stochastic_rounding_is_right_in_the_mean(share, magnitude, dtype, fused):
    """4096 elements at x plus a share of an ulp: each at one of the two neighbours, the mean within 4 sigma."""
    start = torch.full((4096,), magnitude, dtype=dtype)
    above = torch.nextafter(start[:1], torch.full((1,), torch.inf, dtype=dtype))
    ulp = float(above.double() - start[:1].double())
    p = start.clone().requires_grad_()
    p.grad = torch.full_like(p, -share)
    exact = float(start[0]) - float(p.grad[0]) * ulp
    optim.SGD([p], lr=ulp, rounding="stochastic", seed=3, fused=fused).step()
    found = p.detach().double()
    assert set(found.unique().tolist()) == {float(start[0]), float(above)}
    f = (exact - float(start[0])) / ulp
    assert abs(float(found.mean()) - exact) <= 4 * ulp * (f * (1 - f) / 4096) ** 0.5


def ups(seed=0, steps=1, count=1, size=4096):
    """Which elements went up by half an ulp, for ``count`` parameters; after ``steps`` steps, only the last."""
    params = [torch.ones(size, dtype=torch.bfloat16, requires_grad=True) for _ in range(count)]
    optimizer = optim.SGD(params, lr=1.0, momentum=0.5, rounding="stochastic", seed=seed)
    for _ in range(steps):
        for p in params:
            p.data.fill_(1)
            p.grad = torch.full_like(p, -(2.0**-8))
            optimizer.state[p]["momentum_buffer"] = torch.zeros(size, dtype=torch.bfloat16)
        optimizer.step()
    return [p.detach() > 1 for p in params]


def test_random_bits_differ_by_seed_step_and_parameter():
    first, second = ups(count=2)
    others = [second, ups(seed=1)[0], ups(steps=2)[0], ups(steps=3)[0], first.roll(1)]
    for other in others:  # independent fair coins agree in half the places
        assert abs(float((first == other).double().mean()) - 0.5) < 4 * 0.5 / 64
    assert torch.equal(ups()[0], ups()[0])


def test_parameter_and_state_are_rounded_independently():
    """An eighth up in the state and in the parameter: both at once in a 64th of the places, not in an eighth."""
    p = torch.ones(65536, dtype=torch.bfloat16, requires_grad=True)
    optimizer = optim.Lion([p], lr=2.0**-10, betas=(0.0, 1 - 2.0**-9), rounding="stochastic")
    p.grad = torch.full_like(p, -1.0)
    optimizer.state[p] = {"step": torch.tensor(1.0), "exp_avg": torch.ones_like(p).detach() * -0.5}
    optimizer.step()
    up, moved = p.detach() > 1, optimizer.state[p]["exp_avg"] < -0.5
    for part, share in ((up, 1 / 8), (moved, 1 / 4), (up & moved, 1 / 32)):
        assert abs(float(part.double().mean()) - share) < 4 * (share * (1 - share) / 65536) ** 0.5


@pytest.mark.parametrize("before", [1, 12_345, 70_000])
def test_stochastic_rounding_does_not_depend_on_how_the_work_is_cut(before):
    """Other elements before a parameter move the cuts between pieces; threads share them out otherwise."""

    def after(size, threads):
        torch.set_num_threads(threads)
        params = [torch.ones(n, dtype=torch.bfloat16, requires_grad=True) for n in (size, 100_003)]
        run(optim.AdamW(params, rounding="stochastic", seed=5), params, 2)
        return params[1]

    threads = torch.get_num_threads()
    try:
        wanted = after(0, 1)
        assert all(same_bits([after(before, n)], [wanted]) for n in (1, 2, 3))
    finally:
        torch.set_num_threads(threads)


def moved_up(places, size, backend):
    """Which elements of shards that begin at ``places`` of a whole go up by half an ulp."""
    shards = [torch.ones(size, dtype=torch.bfloat16) for _ in places]
    codes = [layout_code(shard) for shard in shards]
    index = torch.tensor([[0] * len(places), [0] * len(places), [3] * len(places), codes, places])
    step = _backend.pick("optim_sgd_", torch.device("cpu"), backend, main=True)
    for i, shard in enumerate(shards):
        step(
            [shard], [torch.full_like(shard, -(2.0**-8))], [], torch.zeros(1), None, None, index[:, i : i + 1].contiguous(),
            [1.0, 0.0, 0.0, 0.0, 0.0], None, None, None, None, False, STOCHASTIC, 5,
        )  # fmt: skip
    return torch.cat(shards) > 1


@pytest.mark.parametrize("first", [0, 7, 2**32 - 300, 5 << 40])
def test_bits_of_a_shard_go_by_its_place_in_the_whole(first, require):
    """Shards get the bits of one run of elements, across the place where the key changes too."""
    require("cpp")
    whole = moved_up([first], 600, "cpp")
    assert torch.equal(moved_up([first, first + 200, first + 400], 200, "cpp"), whole)
    assert torch.equal(moved_up([first], 600, "reference"), whole)
    assert torch.equal(moved_up([first + 350], 250, "reference"), whole[350:])
    assert not torch.equal(moved_up([first + 1], 600, "cpp"), whole)
