"""The kernel "log" is infinite between points that coincide, sliced as well as over all pairs."""

import math

import pytest
import torch

import fastcore_ops as fo

LAWS = [(1, "auto"), (2, "circle"), (5, "gaussian"), (70, "hadamard"), (130, "gaussian")]
OPTIONS = {"kernel": "log", "unbiased": True}


def clouds(d, dtype=torch.float64):
    generator = torch.Generator().manual_seed(d)
    return tuple(torch.randn(n, d, generator=generator, dtype=torch.float64).to(dtype) for n in (9, 7))


@pytest.mark.parametrize(("d", "slices"), LAWS)
@pytest.mark.parametrize("where", ["nowhere", "x", "y", "between", "both"])
def test_value_where_points_coincide(where, d, slices, dtype):
    x, y = clouds(d, dtype)
    if where == "y":
        y[5] = y[2]
    if where in ("x", "both"):
        x[0] = x[8]
    if where in ("between", "both"):
        y[3] = x[8]
    exact = float(fo.sliced_mmd(x, y, method="exact", **OPTIONS))
    assert math.isfinite(exact) == (where == "nowhere")
    leaf = x.clone().requires_grad_()
    with pytest.warns(UserWarning, match="infinite variance"):
        value = fo.sliced_mmd(leaf, y, slices=slices, num_slices=8, **OPTIONS)
    if where == "nowhere":
        assert bool(value.isfinite())
    else:
        assert float(value.detach()) == pytest.approx(exact, nan_ok=True)
    (grad,) = torch.autograd.grad(value, leaf)
    assert bool(grad.isfinite().all())  # a pair that coincides has no direction in which to move


def test_points_that_only_look_alike_from_some_side():
    """Equal coordinates, equal sets of coordinates, a slice along which all points are one."""
    x = torch.tensor([[1.0, 2.0], [2.0, 1.0], [1.0, 1.0], [-1.0, 2.0]])
    y = torch.tensor([[2.0, 2.0], [1.0, -2.0], [0.5, 0.5]])
    rows = torch.tensor([[1.0, 0.0], [0.0, 1.0]])
    assert bool(fo.sliced_mmd(x, y, directions=rows, **OPTIONS).isfinite())


def test_zeros_of_both_signs_are_one_point():
    x, y = torch.tensor([[0.0, 1.0], [3.0, 4.0]]), torch.tensor([[-0.0, 1.0], [5.0, 6.0]])
    assert float(fo.sliced_mmd(x, y, num_slices=4, **OPTIONS)) == -math.inf


def test_each_of_a_batch_by_itself_and_a_target():
    x, y = clouds(3)
    touching = x.clone()
    touching[4] = y[6]
    values = fo.sliced_mmd(torch.stack([x, touching]), y, num_slices=4, half=True, **OPTIONS)
    assert values.isfinite().tolist() == [True, False]
    target = fo.mmd.SlicedTarget(y, num_slices=4)
    assert math.isfinite(fo.sliced_mmd(x, target, **OPTIONS))
    assert float(fo.sliced_mmd(touching, target, **OPTIONS)) == -math.inf
    rows = fo.mmd.make_directions(3, 4, dtype=torch.float64)
    mapped = torch.func.vmap(lambda one: fo.sliced_mmd(one, y, directions=rows, **OPTIONS))(torch.stack([x, touching]))
    assert mapped.isfinite().tolist() == [True, False]
