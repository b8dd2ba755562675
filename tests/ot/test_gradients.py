"""The value's gradient towards cost, points and masses, and outputs that have none yet."""

import pytest
import torch

import fastcore_ops as fo

from .problems import far_clouds, random_problem


def test_value_gradient_in_cost_is_the_plan():
    cost, a, b = random_problem(9, 7)
    cost.requires_grad_()
    result = fo.sinkhorn_newton(cost, a, b, reg=0.05, tol=1e-12)
    (gradient,) = torch.autograd.grad(result.value, cost)
    with torch.no_grad():
        torch.testing.assert_close(gradient, result.plan(), rtol=1e-12, atol=0)


def test_value_gradient_in_masses_is_the_potentials():
    cost, a, b = random_problem(9, 7)
    a.requires_grad_()
    b.requires_grad_()
    result = fo.sinkhorn_newton(cost, a, b, reg=0.05, tol=1e-12)
    in_a, in_b = torch.autograd.grad(result.value, (a, b))
    f, g = result.detached_potentials()
    torch.testing.assert_close(in_a - in_a.mean(), f - f.mean(), rtol=1e-10, atol=1e-13)
    torch.testing.assert_close(in_b - in_b.mean(), g - g.mean(), rtol=1e-10, atol=1e-13)


@pytest.mark.parametrize("metric", ["sqeuclidean", "euclidean", "cityblock"])
def test_value_gradient_in_points_equals_that_through_the_matrix(metric):
    x, y, a, b = far_clouds(12, 15)
    x.requires_grad_()
    y.requires_grad_()
    norm = 1 if metric == "cityblock" else 2
    cost = (x[:, None] - y).abs().pow(norm).sum(2)
    cost = cost.sqrt() if metric == "euclidean" else cost
    through_matrix = torch.autograd.grad(fo.sinkhorn_newton(cost, a, b, reg=0.1, tol=1e-13).value, (x, y))
    through_points = torch.autograd.grad(
        fo.sinkhorn_newton(fo.ot.PointCloud(x, y, metric), a, b, reg=0.1, tol=1e-13).value, (x, y)
    )
    for direct, chained in zip(through_points, through_matrix, strict=True):
        torch.testing.assert_close(direct, chained, rtol=1e-7, atol=1e-10)


def test_value_gradient_of_forbidden_pairs_and_empty_sides():
    cost, a, b = random_problem(8, 8)
    a[2] = b[5] = 0
    a, b = a / a.sum(), b / b.sum()
    cost[0, 3] = torch.inf
    cost.requires_grad_()
    (gradient,) = torch.autograd.grad(fo.sinkhorn_newton(cost, a, b, reg=0.1, tol=1e-12).value, cost)
    assert gradient.isfinite().all()
    assert gradient[0, 3] == 0 and (gradient[2] == 0).all() and (gradient[:, 5] == 0).all()
    torch.testing.assert_close(gradient.sum(1), a, rtol=0, atol=1e-11)


def test_value_gradient_scales_with_the_mass():
    """W(s) = s W + reg (s^2 - s - s log s): the gradient in the cost is s times the plan of unit mass."""
    cost, a, b = random_problem(6, 5)
    cost.requires_grad_()
    unit, sevenfold = (
        torch.autograd.grad(fo.sinkhorn_newton(cost, s * a, s * b, reg=0.1, tol=1e-13).value, cost)[0] for s in (1, 7)
    )
    torch.testing.assert_close(sevenfold, 7 * unit, rtol=1e-9, atol=1e-13)


def test_value_gradient_keeps_dtype_and_chains(dtype):
    cost, a, b = random_problem(6, 5)
    leaf = cost.to(dtype).requires_grad_()
    (3 * fo.sinkhorn_newton(2 * leaf, a, b, reg=0.1).value + leaf.sum()).backward()
    assert leaf.grad.dtype == dtype
    plan = fo.sinkhorn_newton(2 * cost, a, b, reg=0.1, tol=1e-12).plan()
    torch.testing.assert_close(leaf.grad.double(), 6 * plan + 1, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("output", ["f", "g", "plan()", "linear_cost", "dual_value", "apply()"])
def test_gradient_through_other_outputs_raises(output):
    cost, a, b = random_problem(6, 5)
    cost.requires_grad_()
    result = fo.sinkhorn_newton(cost, a, b, reg=0.1)
    value = {"plan()": result.plan, "apply()": lambda: result.apply(b)}.get(output, lambda: getattr(result, output))()
    assert value.requires_grad, "silently detached"
    with pytest.raises(NotImplementedError) as caught:
        value.sum().backward()
    assert f"`{output}` has no gradient yet" in str(caught.value) and "detach" in str(caught.value)


def test_gradient_through_the_sparse_plan_raises():
    """plan_sparse must not detach in silence either."""
    cost, a, b = random_problem(6, 5)
    cost.requires_grad_()
    result = fo.sinkhorn_newton(cost, a, b, reg=0.1)
    with pytest.raises(NotImplementedError, match=r"`plan_sparse\(\)` has no gradient yet"):
        result.plan_sparse(1e-3).to_dense().sum().backward()


def test_gradient_through_the_vector_of_apply_raises():
    cost, a, b = random_problem(6, 5)
    v = b.clone().requires_grad_()
    with pytest.raises(NotImplementedError, match=r"`apply\(\)` has no gradient yet"):
        fo.sinkhorn_newton(cost, a, b, reg=0.1).apply(v).sum().backward()


def test_gradient_through_the_transport_map_raises():
    x, y, a, b = far_clouds(8, 9)
    x.requires_grad_()
    move = fo.ot.transport_map(fo.sinkhorn_newton(fo.ot.PointCloud(x, y), a, b, reg=0.1))
    new = torch.zeros(2, 2, dtype=torch.float64, requires_grad=True)
    with pytest.raises(NotImplementedError, match="no gradient"):
        move(new).sum().backward()


def test_second_derivative_raises():
    cost, a, b = random_problem(4, 4)
    cost.requires_grad_()
    (gradient,) = torch.autograd.grad(fo.sinkhorn_newton(cost, a, b, reg=0.1).value, cost, create_graph=True)
    with pytest.raises(NotImplementedError, match="`the gradient of value` has no gradient yet"):
        gradient.square().sum().backward()


def test_no_graph_without_need():
    cost, a, b = random_problem(4, 4)
    assert not fo.sinkhorn_newton(cost, a, b, reg=0.1).value.requires_grad
    with torch.no_grad():
        assert not fo.sinkhorn_newton(cost.requires_grad_(), a, b, reg=0.1).value.requires_grad
