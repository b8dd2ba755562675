"""The same problem in other clothes: dtypes, layouts, kinds of array."""

import numpy as np
import pytest
import torch

import fastcore_ops as fo

from .problems import even, far_clouds, random_problem, uniform


def same(left, right):
    assert torch.equal(torch.as_tensor(left.f), torch.as_tensor(right.f))
    assert torch.equal(torch.as_tensor(left.plan()), torch.as_tensor(right.plan()))
    assert float(left.value) == float(right.value)


def solve(cost, a=None, b=None, **options):
    return fo.sinkhorn_newton(cost, a, b, reg=0.05, **options)


LAYOUTS = {
    "transposed": lambda cost: cost.t().contiguous().t(),
    "strided": lambda cost: torch.stack([cost, -cost], 2)[:, :, 0],
    "sliced": lambda cost: torch.cat([cost, cost], 1)[:, : cost.shape[1]],
    "flipped": lambda cost: cost.flip(0).flip(0),
}


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("shape", [(9, 14), (14, 9)])
def test_layout_of_the_cost_does_not_matter(layout, shape):
    cost, a, b = random_problem(*shape)
    same(solve(LAYOUTS[layout](cost), a, b), solve(cost, a, b))


def test_expanded_inputs():
    row, b = uniform(1, 8), random_problem(5, 8)[2]
    a = torch.tensor(0.2, dtype=torch.float64).expand(5)
    same(solve(row.expand(5, 8), a, b), solve(row.expand(5, 8).contiguous(), a.contiguous(), b))


def test_strided_masses_and_points():
    x, y, a, b = far_clouds(9, 11)
    spread = [torch.stack([t, t + 1], -1)[..., 0] for t in (x, y, a, b)]
    assert not any(t.is_contiguous() for t in spread)
    same(solve(fo.ot.PointCloud(*spread[:2]), *spread[2:]), solve(fo.ot.PointCloud(x, y), a, b))
    same(solve(fo.ot.PointCloud(x.t().contiguous().t(), y), a, b), solve(fo.ot.PointCloud(x, y), a, b))


def test_inputs_are_left_alone():
    cost, a, b = random_problem(9, 8)
    a[2] = 0
    copies = [t.clone() for t in (cost, a, b * (a.sum() / b.sum()))]
    inputs = [t.clone() for t in copies]
    solve(*inputs)
    solve(inputs[0].t(), inputs[2], inputs[1])
    for before, after in zip(copies, inputs, strict=True):
        assert torch.equal(before, after)


@pytest.mark.parametrize("kind", [torch.int64, torch.int32, torch.uint8])
def test_integer_costs_become_float64(kind):
    cost = torch.randint(0, 9, (7, 6), generator=torch.Generator().manual_seed(0)).to(kind)
    result = solve(cost)
    assert result.plan().dtype == torch.float64 and result.tol == 1e-6
    same(result, solve(cost.double()))
    same(
        fo.sinkhorn_newton(fo.ot.PointCloud(cost, cost), reg=5.0),
        fo.sinkhorn_newton(fo.ot.PointCloud(cost.double(), cost.double()), reg=5.0),
    )


@pytest.mark.parametrize("kind", [torch.float16, torch.bfloat16])
def test_half_precision_is_computed_in_float32(kind):
    cost = random_problem(7, 6)[0].to(kind)
    result = solve(cost)
    assert result.plan().dtype == torch.float32 and result.tol == 1e-5 and result.converged
    same(result, solve(cost.float()))
    points = fo.ot.PointCloud(cost, cost)
    assert points.x.dtype == torch.float32


def test_half_precision_masses():
    """Masses of half precision are taken at their word: their sums must agree all the same."""
    cost = random_problem(8, 4)[0].half()
    assert solve(cost, even(8).half(), even(4).half()).converged
    with pytest.raises(ValueError, match="`a` and `b` of equal mass"):
        solve(cost[:7], even(7).half(), even(4).half())


def test_numpy_forms():
    cost, a, b = random_problem(9, 8)
    plain = solve(cost, a, b)
    same(solve(cost.numpy(), a.numpy(), b.numpy()), plain)
    same(solve(np.asfortranarray(cost.numpy()), a, b.tolist()), plain)
    same(solve(cost.numpy().astype(">f8"), a, b), plain)
    frozen = cost.numpy().copy()
    frozen.flags.writeable = False
    same(solve(frozen, a, b), plain)
    same(solve(np.ascontiguousarray(cost.numpy()[::-1])[::-1], a, b), plain)
    mixed = solve(cost, a.numpy(), b.numpy())
    assert isinstance(mixed.f, torch.Tensor)


def test_dlpack_object():
    class Foreign:
        def __init__(self, tensor):
            self.tensor = tensor

        def __dlpack__(self, **options):
            return self.tensor.__dlpack__(**options)

        def __dlpack_device__(self):
            return self.tensor.__dlpack_device__()

    cost, a, b = random_problem(6, 5)
    same(solve(Foreign(cost), a, b), solve(cost, a, b))


def test_uniform_masses_by_default():
    cost = random_problem(6, 5)[0]
    same(solve(cost), solve(cost, even(6), even(5)))


def test_masses_of_another_dtype():
    cost, a, b = random_problem(6, 5)
    assert solve(cost.float(), a, b).converged
    assert solve(cost, a.float(), b.float()).plan().dtype == torch.float64
    assert solve(cost, torch.ones(6, dtype=torch.int64), 6 * even(5)).converged


@pytest.mark.parametrize("backend", ["cpp", "reference"])
def test_backend_can_be_forced_in_three_ways(backend, monkeypatch, require):
    require(backend)
    cost, a, b = random_problem(12, 9)
    by_argument = solve(cost.float(), a, b, backend=backend)
    with fo.use_backend(backend):
        same(solve(cost.float(), a, b), by_argument)
    with fo.use_backend("reference" if backend == "cpp" else "cpp"):
        same(solve(cost.float(), a, b, backend=backend), by_argument)
    monkeypatch.setenv("FASTCORE_BACKEND", backend)
    same(solve(cost.float(), a, b), by_argument)
    monkeypatch.setenv("FASTCORE_BACKEND", "pascal")
    with pytest.raises(ValueError, match="'pascal'"):
        solve(cost)
