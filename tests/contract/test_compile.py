"""Operators inside torch.compile: no graph break, the same bits as outside."""

import pytest
import torch
from torch import Tensor

from fastcore_ops import _backend, _native
from fastcore_ops.testing.cases import as_tuple, copied, discover

from ..conftest import on_gpu

OPS = [(case, op) for case in discover() for op in case.ops]
DEVICES = [pytest.param("cpp", "cpu", id="cpp-cpu"), on_gpu("cuda", "cuda"), on_gpu("triton", "cuda")]


@pytest.fixture(autouse=True)
def _fresh_compiler():
    torch._dynamo.reset()
    with torch._dynamo.config.patch(capture_dynamic_output_shape_ops=True):
        yield
    torch._dynamo.reset()


def tensors(value):
    parts = value if isinstance(value, list) else [value]
    return [part for part in parts if isinstance(part, Tensor)]


def agree(function, compiled, inputs):
    """Outputs and written arguments of both calls have the same bits."""
    eager_inputs, traced_inputs = copied(inputs), copied(inputs)
    eager, traced = function(*eager_inputs.values()), compiled(*traced_inputs.values())
    for name, value in eager_inputs.items():
        for left, right in zip(tensors(value), tensors(traced_inputs[name]), strict=True):
            assert torch.equal(left, right), name
    for left, right in zip(eager, traced, strict=True):
        assert torch.equal(left.nan_to_num(nan=-7.0), right.nan_to_num(nan=-7.0))


@pytest.mark.parametrize(("backend", "device"), DEVICES)
@pytest.mark.parametrize(("case", "op"), OPS, ids=[op for _, op in OPS])
def test_compile_without_graph_break(case, op, backend, device, require):
    require(backend)
    if backend not in _backend.registered()[op]:
        pytest.skip(f"{backend} has no kernel for {op}")
    operator = _native.handle(op, backend)

    def doubled(*arguments):
        return tuple(2 * output for output in as_tuple(operator(*arguments)))

    compiled = torch.compile(doubled, backend="aot_eager", fullgraph=True)
    agree(doubled, compiled, next(reversed(case.inputs(torch.float32, device, 0).values())))


def test_compile_chooses_the_backend_inside(require):
    """The choice of backend traces too, and a changed choice is noticed."""
    require("cpp")
    case = next(case for case in discover() if case.name == "ot_row_pass")

    def chosen(cost, *rest):
        return _backend.pick("ot_row_pass", cost.device, _backend.forced(None))(cost, *rest)

    compiled = torch.compile(chosen, backend="aot_eager", fullgraph=True)
    inputs = case.inputs(torch.float32, "cpu", 0)["dense"]
    agree(chosen, compiled, inputs)
    native = compiled(*inputs.values())
    with _backend.use_backend("reference"):
        truth = compiled(*inputs.values())
    assert not torch.equal(native[1], truth[1])  # the reference computes float32 input in float64
    torch.testing.assert_close(native[1], truth[1], rtol=1e-5, atol=0)


def test_compile_with_inductor(require):
    require("cpp")
    case = next(case for case in discover() if case.name == "ot_row_pass")
    operator = _native.handle("ot_row_pass")

    def error(*arguments):
        row_lse, col_sum = operator(*arguments)
        return row_lse.exp(), (col_sum - 1.0).abs().sum()

    compiled = torch.compile(error, fullgraph=True)
    inputs = case.inputs(torch.float64, "cpu", 0)["dense"]
    for left, right in zip(error(*inputs.values()), compiled(*inputs.values()), strict=True):
        torch.testing.assert_close(left, right, rtol=1e-12, atol=0)
