"""No operator without its Case, no Case without its operator."""

import re
from pathlib import Path

import pytest

from fastcore_ops import _backend, _native
from fastcore_ops.testing.cases import discover

CASES = discover()
ELSEWHERE = {"cpu_isa", "prefer_huge_pages", "vector_exp", "vector_log"}  # tests/common


def test_every_registered_operator_has_a_case():
    assert {op for case in CASES for op in case.ops} == set(_backend.registered()) - ELSEWHERE


def test_every_schema_has_a_case():
    schemas = Path(__file__).parents[2] / "csrc" / "schemas.inc"
    if not schemas.exists():
        pytest.skip("no sources here")
    names = set(re.findall(r'^m\.def\("(\w+)[("]', schemas.read_text(), re.M))
    assert names - ELSEWHERE == {op for case in CASES for op in case.ops}


def test_case_names_are_unique():
    names = [case.name for case in CASES]
    assert len(names) == len(set(names))


def _parts(value):
    return value if isinstance(value, list) else [value]


def test_inputs_depend_on_the_seed_alone():
    import torch

    for case in CASES:
        first, second, other = (case.inputs(torch.float64, "cpu", seed) for seed in (0, 0, 1))
        for variant, inputs in first.items():
            for name, value in inputs.items():
                if isinstance(value, torch.Tensor):
                    same = torch.nan_to_num(value, nan=7.0).equal(torch.nan_to_num(second[variant][name], nan=7.0))
                    assert same, (case, variant, name)
        assert any(
            isinstance(part, torch.Tensor) and part.dim() > 1 and not part.equal(there)
            for variant, inputs in first.items()
            for name, value in inputs.items()
            for part, there in zip(_parts(value), _parts(other[variant][name]), strict=True)
        )


@pytest.mark.native
def test_handle_says_why_an_operator_is_absent():
    with pytest.raises(RuntimeError, match=r"no_such_op.*no such operator"):
        _native.handle("no_such_op")
    with pytest.raises(RuntimeError, match=r"ot_cg.*'cuda_on_cpu'.*absent|no such operator"):
        _native.handle("ot_cg", "cuda_on_cpu")
