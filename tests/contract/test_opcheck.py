"""torch.library.opcheck over all operators: schema, mutation, fakes, and traces with dynamic shapes."""

import pytest
import torch

from fastcore_ops import _backend, _native
from fastcore_ops.testing.cases import as_tuple, copied, discover

from ..conftest import on_gpu

OPS = [(case, op) for case in discover() for op in case.ops]
DEVICES = [pytest.param("cpp", "cpu", id="cpp-cpu"), on_gpu("cuda", "cuda"), on_gpu("triton", "cuda")]
TESTS = ("test_schema", "test_faketensor", "test_aot_dispatch_dynamic")


@pytest.mark.parametrize(("backend", "device"), DEVICES)
@pytest.mark.parametrize(("case", "op"), OPS, ids=[op for _, op in OPS])
def test_opcheck(case, op, backend, device, dtype, require):
    pytest.importorskip("expecttest")
    require(backend)
    if backend not in _backend.registered()[op]:
        pytest.skip(f"{backend} has no kernel for {op}")
    operator, variants = _native.handle(op, backend), list(case.inputs(dtype, device, 0).values())
    for inputs in (*variants[:2], variants[-1]):  # the trace does not depend on the numbers
        outputs = as_tuple(operator(*copied(inputs).values()))
        if not any(bool(output.isnan().any()) for output in outputs):  # NaN != NaN to opcheck
            torch.library.opcheck(operator, tuple(copied(inputs).values()), test_utils=TESTS)


@pytest.mark.parametrize("op", ["vector_exp", "vector_log"])
def test_opcheck_vector(op, dtype, draw, require):
    pytest.importorskip("expecttest")
    require("cpp")
    torch.library.opcheck(_native.handle(op), (draw(37, dtype=dtype),))
