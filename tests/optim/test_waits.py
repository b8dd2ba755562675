"""What would have the host wait for a GPU, looked for where there is none: numbers read back, tensors made on the host."""

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from fastcore_ops import optim
from fastcore_ops.optim import _opt_amsgrad
from fastcore_ops.optim._call import Scaling
from fastcore_ops.optim._extrapolation import extrapolation
from fastcore_ops.optim._rule import beside
from fastcore_ops.optim._sania import _number, _on_device

from .problems import VARIANTS, copies, every_variant, make, parameters, run, same_bits

READS = ("_local_scalar_dense", "nonzero", "masked_select", "unique", "equal", "is_nonzero")


class Watch(TorchDispatchMode):
    """Refuses operations after which the host knows what a tensor holds, or a device what the host held."""

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        name = func.overloadpacket.__name__
        assert name not in READS, name
        made = func(*args, **kwargs or {})
        lifted = name == "lift_fresh" and made.dim() > 0 and made.is_floating_point()  # the operators' tables are int64
        assert not lifted, "a tensor of numbers that the host had"
        return made


@pytest.fixture
def _as_on_a_gpu(monkeypatch):
    monkeypatch.setattr(_opt_amsgrad, "_is_on_host", lambda number: False)


@pytest.mark.usefixtures("_as_on_a_gpu")
@every_variant
def test_no_step_reads_a_number_back(variant, require):
    """The operators are looked at from outside: `test_cuda.py` sees into them."""
    require("cpp")
    p = parameters(torch.float32)
    optimizer = make(variant, p, clip_value=0.5, max_norm=1.0)
    run(optimizer, p, 2)
    optimizer.grad_scale, optimizer.found_inf = torch.tensor(2.0), torch.zeros(())
    before = copies(p)
    with Watch():
        optimizer.step()
    assert not same_bits(p, before)


@pytest.mark.usefixtures("_as_on_a_gpu")
@pytest.mark.parametrize("variant", [name for name in VARIANTS if name.startswith("OPTAMSGrad")])
def test_places_known_to_the_device_alone(variant, monkeypatch):
    """As where the host may look, the same bits; skipped steps among them."""
    p, q = parameters(torch.float32), parameters(torch.float32)
    blind, seeing = make(variant, p), make(variant, q)
    for t in range(9):
        for optimizer, params, sees in ((blind, p, False), (seeing, q, True)):
            monkeypatch.setattr(_opt_amsgrad, "_is_on_host", lambda number, sees=sees: sees)
            optimizer.found_inf = torch.tensor(float(t in (0, 4, 5)))
            run(optimizer, params, 1, first=t)
    assert same_bits(p, q)
    for left, right in zip(p, q, strict=True):
        states = blind.state[left], seeing.state[right]
        assert states[0].keys() == states[1].keys()
        assert all(same_bits([states[0][name]], [states[1][name]]) for name in states[0])


def test_extrapolation_stays_on_its_device():
    """Meta tensors hold nothing that could be read, and refuse to meet others."""
    gram, known = torch.empty(5, 5, dtype=torch.float64, device="meta"), torch.empty((), device="meta")
    weights, found = extrapolation(gram, known, 1e-6)
    assert weights.device == found.device == gram.device


@pytest.mark.parametrize("loss", [0.5, torch.ones(())], ids=["number", "tensor"])
def test_losses_of_sania_are_put_beside_the_parameters(loss):
    """A number is no tensor of the host's first, whose copy would be waited for."""
    assert isinstance(_number("", loss), type(loss))
    assert _on_device(_number("", loss), torch.device("meta")).device.type == "meta"


def test_numbers_where_an_operator_reads_them():
    """On the host, or on the device itself; from elsewhere they are copied, and what cannot be is no crash."""
    host, other, cpu, meta = torch.ones(()), torch.ones((), device="meta"), torch.device("cpu"), torch.device("meta")
    assert beside(host, cpu) is host and beside(host, meta) is host and beside(other, meta) is other
    scaling = Scaling(host, None)
    assert scaling.beside(meta) == scaling
    with pytest.raises(NotImplementedError, match="meta"):
        beside(other, cpu)


@every_variant
@pytest.mark.parametrize("name", ["lr", "found_inf", "grad_scale"])
def test_a_number_on_another_device(name, variant, require):
    require("cpp")
    p = parameters(torch.float32)
    optimizer, elsewhere = make(variant, p), torch.ones((), device="meta")
    run(optimizer, p, 1)
    before = copies(p)
    if name == "lr":
        optimizer.param_groups[0]["lr"] = elsewhere
    else:
        setattr(optimizer, name, elsewhere)
    with pytest.raises(NotImplementedError, match="meta"):
        run(optimizer, p, 1)
    assert same_bits(p, before)


def test_a_loss_in_a_tensor_is_not_kept():
    """`step` reads it: what is written to it later changes nothing of this step, and everything of the next."""
    p, q = (torch.ones(3, requires_grad=True) for _ in range(2))
    first, second, loss = optim.SANIA([p]), optim.SANIA([q]), torch.tensor(0.0)
    for value in (0.5, 0.25):
        loss.fill_(value)
        p.grad, q.grad = torch.ones(3), torch.ones(3)
        first.step(loss=loss)
        second.step(loss=value)
        assert same_bits([p], [q])
