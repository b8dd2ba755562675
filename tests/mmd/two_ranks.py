"""What the two processes of test_sharded.py do: each check compares both ranks' work with that of one process."""

import traceback
from datetime import timedelta
from unittest import mock

import pytest
import torch
import torch.distributed as dist

import fastcore_ops as fo
from fastcore_ops import mmd
from fastcore_ops.mmd import _walk

CHECKS = {}
CUTS_X, CUTS_Y = (0, 13, 20), (0, 11, 31)  # rows of the ranks: uneven


def check(function):
    CHECKS[function.__name__] = function
    return function


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def clouds(d, dtype=torch.float64, batch=()):
    x, y = (torch.randn(*batch, k, d, generator=seeded(k), dtype=torch.float64) for k in (20, 31))
    return x.to(dtype) + 3, (1.3 * y + 3.5).to(dtype)


def weights():
    a, b = (torch.rand(k, generator=seeded(k), dtype=torch.float64) for k in (20, 31))
    return a / a.sum(), b / b.sum()


def with_gradients(tensors, **options):
    """Value, and gradients in points and weights, of one call."""
    leaves = {name: tensor.clone().requires_grad_() for name, tensor in tensors.items()}
    value = fo.sliced_mmd(**leaves, **options)
    return [value.detach(), *torch.autograd.grad(value.sum(), list(leaves.values()))]


def same(got, want, tolerance=1e-11):
    for left, right in zip(got, want, strict=True):
        torch.testing.assert_close(left, right, rtol=tolerance, atol=tolerance * float(right.abs().max()))


KERNELS = ({}, {"kernel": "gaussian"}, {"kernel": "laplace", "bandwidth": 2.0}, {"unbiased": True}, {"r": 1.5})


@check
def drawn_slices_are_shared():
    for d, slices, count in ((1, "auto", None), (3, "spiral", 9), (5, "orthogonal", 8), (70, "hadamard", 150)):
        for options in KERNELS:
            x, y = clouds(d)
            drawn = {"slices": slices, "num_slices": count, "half": True, **options}
            want = with_gradients({"x": x, "y": y}, generator=seeded(1), method="sliced", **drawn)
            got = with_gradients({"x": x, "y": y}, generator=seeded(1), process_group=dist.group.WORLD, **drawn)
            same(got, want)
            grad = fo.sliced_mmd_grad(x, y, generator=seeded(1), process_group=dist.group.WORLD, **drawn)
            same([grad], want[1:2])


@check
def given_directions_are_shares():
    x, y = clouds(5)
    a, b = weights()
    rows = mmd.make_directions(5, 9, generator=seeded(), dtype=torch.float64)
    own = rows[:2] if dist.get_rank() == 0 else rows[2:]
    tensors = {"x": x, "y": y, "x_weights": a, "y_weights": b}
    got = with_gradients(tensors, directions=own, process_group=dist.group.WORLD)
    same(got, with_gradients(tensors, directions=rows))


def shard(tensors):
    """Rows of this rank."""
    rank = dist.get_rank()
    found = {}
    for name, tensor in tensors.items():
        cuts = CUTS_X if name[0] == "x" else CUTS_Y
        axis = -1 if "weights" in name else -2
        found[name] = tensor.narrow(axis, cuts[rank], cuts[rank + 1] - cuts[rank])
    return found


def sharded_equals_whole(tensors, tolerance=1e-11, **options):
    given = {"generator": seeded(1)} if "directions" not in options else {}
    want = with_gradients(tensors, method="sliced", **options, **given)
    given = {"generator": seeded(1)} if given else {}
    if "directions" in options:
        rows = options.pop("directions")
        given = {"directions": rows[:7] if dist.get_rank() == 0 else rows[7:]}
    got = with_gradients(shard(tensors), sharded=True, process_group=dist.group.WORLD, **options, **given)
    parts = shard(dict(zip(tensors, want[1:], strict=True)))
    same(got, [want[0], *parts.values()], tolerance)


@check
def points_are_sharded():
    for d, count in ((1, None), (3, 9), (70, 150), (5, 1)):
        for options in KERNELS:
            x, y = clouds(d)
            sharded_equals_whole({"x": x, "y": y}, num_slices=count, **options)


@check
def ranks_cut_the_same_blocks():
    """Of slices that are many for the points: the ranks have 24 and 27 of both clouds."""
    x, y = clouds(5)
    with mock.patch.object(_walk, "_BLOCK_ELEMENTS", 24 * 27):
        sharded_equals_whole({"x": x, "y": y}, num_slices=211)
        sharded_equals_whole({"x": x, "y": y}, num_slices=211, slices="hadamard")


@check
def sharded_batches_weights_and_float32():
    x, y = clouds(4, batch=(3,))
    a, b = weights()
    sharded_equals_whole({"x": x, "y": y}, num_slices=9)
    sharded_equals_whole({"x": x, "y": y}, num_slices=9, kernel="gaussian")
    x, y = clouds(4)
    rows = mmd.make_directions(4, 9, generator=seeded(), dtype=torch.float64)
    sharded_equals_whole({"x": x, "y": y, "x_weights": a, "y_weights": b}, directions=rows)
    sharded_equals_whole({"x": x, "y": y, "x_weights": a}, num_slices=9)
    sharded_equals_whole(dict(zip("xy", clouds(4, torch.float32), strict=True)), 1e-5, num_slices=9)


@check
def points_that_coincide_on_different_ranks():
    x, y = clouds(3)
    options = {"kernel": "log", "unbiased": True, "sharded": True, "num_slices": 6}
    assert bool(fo.sliced_mmd(**shard({"x": x, "y": y}), generator=seeded(), **options).isfinite())
    y[-1] = x[0]
    assert float(fo.sliced_mmd(**shard({"x": x, "y": y}), generator=seeded(), **options)) == -torch.inf


@check
def shards_without_a_group_use_that_of_all():
    x, y = clouds(3)
    own = shard({"x": x, "y": y})
    got = fo.sliced_mmd(**own, sharded=True, num_slices=6, generator=seeded())
    same([got], [fo.sliced_mmd(x, y, num_slices=6, generator=seeded())])


@check
def totals_are_those_of_all():
    x, y = clouds(3)
    a, b = weights()
    own = shard({"x": x, "y": y, "x_weights": 2 * a, "y_weights": b})
    with pytest.raises(ValueError, match="equal totals, got 2 and 1"):
        fo.sliced_mmd(**own, sharded=True)
    with pytest.raises(ValueError, match="polynomial"):
        fo.sliced_mmd(x, y, kernel="polynomial", process_group=dist.group.WORLD)
    with pytest.raises(ValueError, match="no `process_group` with a SlicedTarget"):
        fo.sliced_mmd(x, mmd.SlicedTarget(y), process_group=dist.group.WORLD)


def main(rank, folder):
    """One of the two processes; notes each check's traceback, or None."""
    torch.set_num_threads(1)
    dist.init_process_group(
        "gloo", init_method=f"file://{folder}/meeting", rank=rank, world_size=2, timeout=timedelta(seconds=60)
    )
    found = {}
    for name, function in CHECKS.items():
        try:
            function()
            found[name] = None
        except Exception:
            found[name] = traceback.format_exc()
    torch.save(found, f"{folder}/found_{rank}.pt")
    dist.destroy_process_group()
