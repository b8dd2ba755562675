"""CUDA graph capture: an operator allocates through torch and never synchronises."""

import pytest
import torch

from fastcore_ops import _backend, _native
from fastcore_ops.testing.cases import discover

pytestmark = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")]
CAPTURED = [
    (op, backend)
    for op, backends in _backend.registered().items()
    for backend in ("cuda", "triton")
    if backend in backends
]


@pytest.mark.parametrize(("op", "backend"), CAPTURED)
def test_cuda_graph_capture(op, backend, dtype, require):
    require(backend)
    case = next(case for case in discover() if op in case.ops)
    operator = _native.handle(op, backend)
    for variant, inputs in case.inputs(dtype, "cuda", 0).items():
        arguments = tuple(inputs.values())
        expected = [output.clone() for output in operator(*arguments)]
        operator(*arguments)
        torch.cuda.synchronize()
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            captured = operator(*arguments)
        for output in captured:
            output.fill_(-1.0)
        graph.replay()
        torch.cuda.synchronize()
        for got, want in zip(captured, expected, strict=True):
            assert torch.equal(got.nan_to_num(nan=-7.0), want.nan_to_num(nan=-7.0)), variant
