"""CUDA graph capture: an operator allocates through torch, never synchronises, and a replay does it all again."""

import pytest
import torch

from fastcore_ops import _backend, _native
from fastcore_ops.testing.cases import as_tuple, copied, discover

pytestmark = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")]
CAPTURED = [
    (op, backend)
    for op, backends in _backend.registered().items()
    for backend in ("cuda", "triton")
    if backend in backends
]
REPLAYS = 3


def flattened(inputs):
    """Tensors of the arguments, those in lists too: what an operator may write to."""
    for name, value in inputs.items():
        for i, part in enumerate(value if isinstance(value, list) else [value]):
            if isinstance(part, torch.Tensor):
                yield f"{name}[{i}]", part


def assert_equal(got, want, what):
    assert torch.equal(got.nan_to_num(nan=-7.0), want.nan_to_num(nan=-7.0)), what


@pytest.mark.parametrize(("op", "backend"), CAPTURED)
def test_cuda_graph_capture(op, backend, dtype, require):
    require(backend)
    case = next(case for case in discover() if op in case.ops)
    operator = _native.handle(op, backend)
    for variant, inputs in case.inputs(dtype, "cuda", 0).items():
        eager, captured_inputs = copied(inputs), copied(inputs)
        for _ in range(REPLAYS):  # an operator that writes to its arguments goes on from there
            expected = [output.clone() for output in as_tuple(operator(*eager.values()))]
        torch.cuda.synchronize()
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            captured = as_tuple(operator(*captured_inputs.values()))
        for output in captured:
            output.fill_(-1.0)
        for _ in range(REPLAYS):
            graph.replay()
        torch.cuda.synchronize()
        for got, want in zip(captured, expected, strict=True):
            assert_equal(got, want, variant)
        for (name, got), (_, want) in zip(flattened(captured_inputs), flattened(eager), strict=True):
            assert_equal(got, want, (variant, name))
