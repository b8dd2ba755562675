"""What a solution must satisfy, and that all ways of asking for it agree."""

import itertools

import numpy as np
import pytest
import torch

import fastcore_ops as fo

from .problems import BATTERY, far_clouds, quiet, random_problem, true_error

METHODS = ("auto", "newton", "sinkhorn")


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("name", BATTERY)
def test_sinkhorn_newton_marginals(name, method):
    cost, a, b = BATTERY[name]
    reg = float(cost.max()) / 50
    result = fo.sinkhorn_newton(cost, a, b, reg=reg, tol=1e-9, method=method)
    assert result.converged
    assert result.marginal_error <= 1e-9
    assert true_error(result, a, b) <= 1.01e-9 + 1e-14
    assert (result.plan() >= 0).all()


@pytest.mark.parametrize("share", [1 / 100, 1 / 1200])
@pytest.mark.parametrize("name", BATTERY)
def test_sinkhorn_newton_to_rounding(name, share):
    cost, a, b = BATTERY[name]
    result = fo.sinkhorn_newton(cost, a, b, reg=share * float(cost.max() - cost.min()), tol=1e-12)
    assert result.converged
    assert true_error(result, a, b) <= 1.5e-12
    assert result.n_passes <= 120


def test_sinkhorn_newton_uses_newton_where_sinkhorn_is_hopeless():
    cost, a, b = BATTERY["assignment"]
    result = fo.sinkhorn_newton(cost, a, b, reg=1 / 1200, tol=1e-12)
    plain = quiet(fo.sinkhorn, cost, a, b, reg=1 / 1200, tol=1e-12, max_passes=500)
    assert result.converged and result.n_newton > 0 and result.n_cg > 0
    assert not plain.converged and plain.n_newton == plain.n_cg == 0


def test_sinkhorn_error_falls():
    """Each pass of Sinkhorn at the target reg brings the columns nearer to their masses."""
    cost, a, b = BATTERY["random"]
    result = fo.sinkhorn(cost, a, b, reg=0.05, tol=1e-11, eps_scaling=False)
    errors = [record["error"] for record in result.history]
    assert len(errors) > 3
    assert all(later <= earlier * (1 + 1e-9) for earlier, later in itertools.pairwise(errors))


@pytest.mark.parametrize("shape", [(30, 20), (20, 30), (25, 25)])
def test_sinkhorn_newton_gauge(shape):
    cost, a, b = random_problem(*shape)
    result = fo.sinkhorn_newton(cost + 5, a, b, reg=0.02, tol=1e-12)
    assert abs(float(torch.dot(b, result.g))) < 1e-12
    plan = a[:, None] * b * ((result.f[:, None] + result.g - cost - 5) / 0.02).exp()
    torch.testing.assert_close(result.plan(), plan, rtol=1e-10, atol=1e-14)


@pytest.mark.parametrize("transposed", [False, True])
def test_sinkhorn_newton_outputs_agree(transposed):
    """plan, plan_sparse, apply, linear_cost, value, dual_value: one solution."""
    cost, a, b = random_problem(24, 31)
    if transposed:
        cost, a, b = cost.t(), b, a
    reg = 0.03
    result = fo.sinkhorn_newton(cost, a, b, reg=reg, tol=1e-13)
    plan, n, m = result.plan(), *cost.shape
    assert plan.shape == (n, m)
    v, w = torch.linspace(-1, 1, m).double(), torch.linspace(2, 1, n).double()
    torch.testing.assert_close(result.apply(v), plan @ v, rtol=1e-12, atol=1e-16)
    torch.testing.assert_close(result.apply(w, axis=0), plan.t() @ w, rtol=1e-12, atol=1e-16)
    several = torch.stack([v, v.square()], 1)
    torch.testing.assert_close(result.apply(several), plan @ several, rtol=1e-12, atol=1e-16)
    sparse = result.plan_sparse(1e-5)
    assert sparse.layout == torch.sparse_csr
    torch.testing.assert_close(sparse.to_dense(), plan * (plan > 1e-5), rtol=1e-12, atol=0)
    torch.testing.assert_close(result.linear_cost, (plan * cost).sum(), rtol=1e-12, atol=0)
    divergence = (plan * (plan / (a[:, None] * b)).log() - plan + a[:, None] * b).sum()
    torch.testing.assert_close(result.value, (plan * cost).sum() + reg * divergence, rtol=1e-12, atol=0)
    torch.testing.assert_close(result.dual_value, result.value, rtol=1e-11, atol=0)
    torch.testing.assert_close(torch.dot(a, result.f) + torch.dot(b, result.g), result.value, rtol=1e-11, atol=0)


def test_dual_value_is_a_lower_bound():
    """Unconverged, the dual objective stays below the optimum, and rises with the passes."""
    cost, a, b = BATTERY["l1_grid"]
    reg = float(cost.max()) / 100
    optimum = float(fo.sinkhorn_newton(cost, a, b, reg=reg, tol=1e-12).value)
    duals = []
    for passes in (1, 3, 10, 30):
        duals.append(
            float(quiet(fo.sinkhorn, cost, a, b, reg=reg, tol=1e-12, max_passes=passes, eps_scaling=False).dual_value)
        )
    assert all(dual <= optimum + 1e-14 for dual in duals)
    assert duals == sorted(duals)
    assert duals[0] < optimum - 1e-6


@pytest.mark.parametrize("metric", ["sqeuclidean", "euclidean", "cityblock"])
@pytest.mark.parametrize("sides", ["tall", "wide"])
def test_point_cloud_equals_matrix(metric, sides):
    x, y, a, b = far_clouds()
    if sides == "wide":
        x, y, a, b = y, x, b, a
    cost = torch.cdist(x, y, p=1 if metric == "cityblock" else 2)
    cost = cost.square() if metric == "sqeuclidean" else cost
    reg = 0.02 * float(cost.max())
    points = fo.sinkhorn_newton(fo.ot.PointCloud(x, y, metric), a, b, reg=reg, tol=1e-12)
    matrix = fo.sinkhorn_newton(cost, a, b, reg=reg, tol=1e-12)
    torch.testing.assert_close(points.plan(), matrix.plan(), rtol=1e-8, atol=1e-14)
    for name in ("f", "g", "value", "dual_value", "linear_cost"):
        torch.testing.assert_close(getattr(points, name), getattr(matrix, name), rtol=1e-10, atol=1e-11)


def test_transport_map_is_the_barycentric_projection():
    x, y, a, b = far_clouds()
    result = fo.sinkhorn_newton(fo.ot.PointCloud(x, y), a, b, reg=0.05, tol=1e-12)
    projection = (result.plan() @ y) / a[:, None]
    move = fo.ot.transport_map(result)
    torch.testing.assert_close(move(x), projection, rtol=1e-9, atol=1e-12)
    torch.testing.assert_close(result.apply(y) / a[:, None], projection, rtol=1e-10, atol=1e-13)
    unseen = move(x.float().repeat(2, 1) + 0.01)
    assert unseen.dtype == torch.float32 and unseen.shape == (2 * len(x), 2)
    assert (unseen.amin(0) >= y.amin(0) - 1e-5).all() and (unseen.amax(0) <= y.amax(0) + 1e-5).all()
    assert move(x[:0]).shape == (0, 2)
    assert isinstance(move(x.numpy()), np.ndarray)


@pytest.mark.parametrize("more_columns", [True, False])
def test_transport_map_reversed(more_columns):
    x, y, a, b = far_clouds(40, 31) if more_columns else far_clouds(31, 40)
    result = fo.sinkhorn_newton(fo.ot.PointCloud(x, y), a, b, reg=0.05, tol=1e-12)
    back = (result.plan().t() @ x) / b[:, None]
    torch.testing.assert_close(fo.ot.transport_map(result, reverse=True)(y), back, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("where", ["a", "b"])
def test_transport_map_ignores_points_without_mass(where):
    x, y, a, b = far_clouds()
    masses = {"a": a.clone(), "b": b.clone()}
    masses[where][::3] = 0
    masses[where] /= masses[where].sum()
    result = fo.sinkhorn_newton(fo.ot.PointCloud(x, y), **masses, reg=0.05, tol=1e-12)
    projection = result.apply(y)[masses["a"] > 0] / masses["a"][masses["a"] > 0, None]
    torch.testing.assert_close(fo.ot.transport_map(result)(x[masses["a"] > 0]), projection, rtol=1e-9, atol=1e-12)


def test_sinkhorn_newton_equals_pot():
    pot = pytest.importorskip("ot")
    cost, a, b = random_problem(30, 20)
    reg = 0.02
    theirs = pot.sinkhorn(
        a.numpy(), b.numpy(), cost.numpy(), reg, method="sinkhorn_log", stopThr=1e-12, numItermax=100_000
    )
    ours = fo.sinkhorn_newton(cost.numpy(), a.numpy(), b.numpy(), reg=reg, tol=1e-12)
    assert isinstance(ours.plan(), np.ndarray) and isinstance(ours.value, float)
    np.testing.assert_allclose(ours.plan(), theirs, rtol=1e-6, atol=1e-12)
    assert ours.linear_cost == pytest.approx((theirs * cost.numpy()).sum(), rel=1e-8)


def test_sinkhorn_newton_numpy_in_numpy_out():
    scipy_sparse = pytest.importorskip("scipy.sparse")
    cost, a, b = (t.numpy() for t in random_problem(12, 9))
    result = fo.sinkhorn_newton(cost, a, b, reg=0.05)
    for value in (result.f, result.g, result.plan(), result.apply(b)):
        assert isinstance(value, np.ndarray) and value.dtype == np.float64
    for value in (result.value, result.dual_value, result.linear_cost, result.marginal_error):
        assert type(value) is float
    sparse = result.plan_sparse(1e-4)
    assert scipy_sparse.issparse(sparse) and sparse.format == "csr" and sparse.shape == (12, 9)
    np.testing.assert_allclose(sparse.toarray(), result.plan() * (result.plan() > 1e-4), rtol=1e-12)
    listed = fo.sinkhorn_newton(cost.tolist(), a.tolist(), b.tolist(), reg=0.05)
    assert isinstance(listed.f, np.ndarray) and np.array_equal(listed.f, result.f)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@pytest.mark.parametrize("points", [False, True])
def test_sinkhorn_newton_on_cuda(points, dtype):
    """The whole solver on CUDA tensors finds what it finds on the CPU."""
    x, y, a, b = (t.to(dtype) for t in far_clouds(300, 200, 3))
    cost = (x[:, None] - y).square().sum(2)
    tol = 1e-7 if dtype == torch.float64 else 1e-6  # rounding alone makes about 3e-7 in float32

    def solve(device):
        source = fo.ot.PointCloud(x.to(device), y.to(device)) if points else cost.to(device)
        return quiet(fo.sinkhorn_newton, source, a.double().to(device), b.double().to(device), reg=0.01, tol=tol)

    here, there = solve("cpu"), solve("cuda")
    assert there.f.device.type == there.plan().device.type == "cuda"
    assert there.converged and here.converged and there.marginal_error <= tol
    bound = 1e-5 if dtype == torch.float64 else 2e-3
    torch.testing.assert_close(there.plan().cpu(), here.plan(), rtol=bound, atol=bound * float(here.plan().max()))
    torch.testing.assert_close(there.value.cpu(), here.value, rtol=bound, atol=0)
