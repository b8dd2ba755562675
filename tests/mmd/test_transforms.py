"""The calls under torch.func: what a backward pass and a loop over the batch give."""

import pytest
import torch

import fastcore_ops as fo

F64 = torch.float64


def draw(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=F64)


DIRECTIONS = torch.nn.functional.normalize(draw(20, 3, seed=9))
CALLS = {
    "sliced": lambda x, y: fo.sliced_mmd(x, y, directions=DIRECTIONS),
    "gaussian": lambda x, y: fo.sliced_mmd(x, y, kernel="gaussian", bandwidth=1.3, directions=DIRECTIONS),
    "exact": lambda x, y: fo.mmd.energy_distance(x, y),
    "exact_gaussian": lambda x, y: fo.mmd.mmd(x, y, kernel="gaussian", bandwidth=1.3),
    "wasserstein": lambda x, y: fo.mmd.sliced_wasserstein(x, y, directions=DIRECTIONS),
    "divergence": lambda x, y: fo.mmd.cauchy_schwarz_divergence(x, y, bandwidth=1.3),
}
SMOOTH = ["gaussian", "exact_gaussian"]
each_call = pytest.mark.parametrize("name", CALLS)


def by_backward(call, x, y):
    x, y = x.clone().requires_grad_(), y.clone().requires_grad_()
    value = call(x, y)
    value.sum().backward()
    return value.detach(), x.grad, y.grad


@each_call
def test_grad(name):
    x, y = draw(12, 3), draw(9, 3, seed=1) + 0.3
    value, grad_x, grad_y = by_backward(CALLS[name], x, y)
    (got_x, got_y), got = torch.func.grad_and_value(CALLS[name], argnums=(0, 1))(x, y)
    for left, right in ((got, value), (got_x, grad_x), (got_y, grad_y)):
        torch.testing.assert_close(left, right, rtol=1e-12, atol=1e-14)


@each_call
def test_vmap(name):
    x, y = draw(4, 12, 3), draw(9, 3, seed=1) + 0.3
    want = torch.stack([CALLS[name](one, y) for one in x])
    torch.testing.assert_close(torch.func.vmap(CALLS[name], (0, None))(x, y), want, rtol=1e-12, atol=1e-14)
    moved = torch.func.vmap(CALLS[name], (1, None))(x.movedim(0, 1), y)
    torch.testing.assert_close(moved, want, rtol=1e-12, atol=1e-14)


@each_call
def test_gradients_of_each_cloud_of_a_batch(name):
    x, y = draw(4, 12, 3), draw(4, 9, 3, seed=1) + 0.3
    got = torch.func.vmap(torch.func.grad(CALLS[name]))(x, y)
    want = torch.stack([by_backward(CALLS[name], one, other)[1] for one, other in zip(x, y, strict=True)])
    torch.testing.assert_close(got, want, rtol=1e-12, atol=1e-14)


def test_jacobian_of_a_batch_is_made_of_its_gradients():
    x, y = draw(3, 7, 3), draw(3, 9, 3, seed=1)
    found = torch.func.jacrev(CALLS["sliced"])(x, y)
    gradients = by_backward(CALLS["sliced"], x, y)[1]
    for i in range(3):
        for k in range(3):
            want = gradients[i] if i == k else torch.zeros_like(gradients[i])
            torch.testing.assert_close(found[i, k], want, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("name", SMOOTH)
def test_hessian(name):
    x, y = draw(4, 3), draw(5, 3, seed=1)
    found = torch.func.jacrev(torch.func.grad(CALLS[name]))(x, y)
    want = torch.autograd.functional.hessian(lambda z: CALLS[name](z, y), x)
    torch.testing.assert_close(found, want, rtol=1e-10, atol=1e-12)


def test_a_hessian_of_ranks_raises_here_too():
    with pytest.raises(NotImplementedError, match="second derivatives"):
        torch.func.grad(lambda x: torch.func.grad(CALLS["sliced"])(x, draw(9, 3)).sum())(draw(12, 3))


def test_vmap_asks_for_a_bandwidth():
    x, y = draw(4, 12, 3), draw(9, 3, seed=1)
    with pytest.raises(ValueError, match=r"`bandwidth` under torch.func.vmap"):
        torch.func.vmap(lambda one: fo.mmd.mmd(one, y, kernel="gaussian"))(x)


def test_sliced_mmd_grad_under_vmap():
    x, y = draw(4, 12, 3), draw(9, 3, seed=1)
    got = torch.func.vmap(lambda one: fo.sliced_mmd_grad(one, y, directions=DIRECTIONS))(x)
    want = torch.stack([fo.sliced_mmd_grad(one, y, directions=DIRECTIONS) for one in x])
    torch.testing.assert_close(got, want, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("name", [*SMOOTH, "exact", "divergence"])
def test_second_derivatives_where_one_cloud_is_made_of_the_other(name):
    """The way through y is the graph's to walk, not the second derivative's: it would count twice."""
    x = draw(5, 3).requires_grad_()
    assert torch.autograd.gradgradcheck(lambda x: CALLS[name](x, 2 * x[:4].sin() + 0.3), (x,))


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (CALLS["wasserstein"], "sliced_wasserstein: .*matching of their points changes$"),
        (lambda x, y: fo.sliced_mmd(x, fo.mmd.SlicedTarget(y)), "sliced_mmd: .*points of the target themselves"),
    ],
)
def test_where_there_is_no_hessian_the_remedy_is_one_that_the_call_has(call, words):
    x = draw(6, 3).requires_grad_()
    (grad,) = torch.autograd.grad(call(x, draw(5, 3, seed=1)), x, create_graph=True)
    with pytest.raises(NotImplementedError, match=words):
        grad.sum().backward()
