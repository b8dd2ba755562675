"""PolynomialDecayAverager beside a plain loop."""

import io

import pytest
import torch

from fastcore_ops import optim

from .problems import normal, same_bits


class Model(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.inner = torch.nn.Linear(4, 3).double()
        self.norm = torch.nn.BatchNorm1d(3).double()


def iterate(model, t):
    with torch.no_grad():
        for i, p in enumerate(model.parameters()):
            p.copy_(normal(*p.shape, seed=10 * t + i))
        model.norm.running_mean.fill_(float(t))
        model.norm.num_batches_tracked.fill_(t)


@pytest.mark.parametrize("gamma", [8.0, 0.0, 2.5])
def test_beside_a_loop(gamma):
    model = Model()
    iterate(model, 99)
    averager = optim.PolynomialDecayAverager(model, gamma)
    for t in range(1, 12):
        iterate(model, t)
        averager.step()
        w = (1 + gamma) / (t + gamma)
        new = [p.detach().clone() for p in model.parameters()]
        wanted = new if t == 1 else [(1 - w) * x + w * y for x, y in zip(wanted, new, strict=True)]  # noqa: F821
        for found, x in zip(averager.averaged_model.parameters(), wanted, strict=True):
            torch.testing.assert_close(found, x, rtol=1e-13, atol=1e-14)
        if t == 1:
            assert same_bits(averager.averaged_model.parameters(), new)
        assert same_bits(averager.averaged_model.buffers(), model.buffers())
    assert same_bits(model.parameters(), new)
    if gamma == 0:
        mean = torch.stack([normal(3, 4, seed=10 * t) for t in range(1, 12)]).mean(0)
        torch.testing.assert_close(averager.averaged_model.inner.weight, mean, rtol=1e-12, atol=1e-13)


def test_the_average_is_no_part_of_training():
    model = Model()
    averager = optim.PolynomialDecayAverager(model)
    assert not any(p.requires_grad for p in averager.averaged_model.parameters())
    averager.step()
    assert all(p.requires_grad for p in model.parameters())
    model.inner(torch.ones(1, 4, dtype=torch.float64)).sum().backward()


def test_reset_copies_again():
    model = Model()
    averager = optim.PolynomialDecayAverager(model)
    for t in range(3):
        iterate(model, t)
        averager.step()
    averager.reset()
    averager.step()
    assert same_bits(averager.averaged_model.parameters(), model.parameters())


def test_resumed_equals_uninterrupted():
    model = Model()
    whole, resumed = optim.PolynomialDecayAverager(model, 3.0), optim.PolynomialDecayAverager(Model())
    resumed.model = model
    for t in range(1, 4):
        iterate(model, t)
        whole.step()
    buffer = io.BytesIO()
    torch.save(whole.state_dict(), buffer)
    buffer.seek(0)
    resumed.load_state_dict(torch.load(buffer, weights_only=True))
    for t in range(4, 7):
        iterate(model, t)
        whole.step()
        resumed.step()
    assert same_bits(whole.averaged_model.parameters(), resumed.averaged_model.parameters())
    assert (resumed.t, resumed.gamma) == (7, 3.0)


@pytest.mark.parametrize("gamma", [-1.0, float("nan")])
def test_bad_gamma(gamma):
    with pytest.raises(ValueError, match="`gamma`"):
        optim.PolynomialDecayAverager(Model(), gamma)


def test_parameters_of_integers_are_copied():
    model = Model()
    model.codes = torch.nn.Parameter(torch.zeros(3, dtype=torch.int64), requires_grad=False)
    averager = optim.PolynomialDecayAverager(model)
    for t in range(3):
        model.codes.fill_(t)
        averager.step()
    assert averager.averaged_model.codes.tolist() == [2, 2, 2]


@pytest.mark.parametrize("gamma", ["8", None])
def test_a_gamma_that_is_no_number(gamma):
    with pytest.raises(TypeError, match="`gamma`"):
        optim.PolynomialDecayAverager(Model(), gamma)
