"""Every available backend against the float64 reference, on every instruction set."""

import pytest
import torch

from fastcore_ops.testing.cases import discover
from fastcore_ops.testing.compare import check_parity, measure, relative_error

from ..conftest import backends_and_devices

pytestmark = pytest.mark.isa
CASES = discover()


@pytest.mark.parametrize(("backend", "device"), backends_and_devices())
@pytest.mark.parametrize("case", CASES, ids=repr)
def test_parity_with_float64(case, backend, device, dtype, require):
    require(backend)
    if not check_parity(case, backend, dtype, device, seed=0):
        pytest.skip(f"{backend} has no kernel for {case.main_op}")


def test_parity_notices_a_wrong_output():
    case = next(case for case in CASES if case.name == "ot_row_pass")
    honest = case.reference

    def wrong(**inputs):
        return {name: value * (1 + 1e-5) for name, value in honest(**inputs).items()}

    off = type(case)(**{**case.__dict__, "reference": wrong})
    with pytest.raises(AssertionError, match=r"ot_row_pass .*col_sum"):
        check_parity(off, "reference", torch.float64)


def test_relative_error_sees_patterns_and_shapes():
    truth = torch.tensor([1.0, torch.inf, -torch.inf])
    assert relative_error(truth, truth) == 0
    assert relative_error(truth + torch.tensor([0.5, 0, 0]), truth) == 0.5
    for wrong in ([1.0, 2.0, -torch.inf], [1.0, torch.nan, -torch.inf], [torch.nan, torch.inf, -torch.inf]):
        assert relative_error(torch.tensor(wrong), truth) == torch.inf
    assert relative_error(truth[:2], truth) == torch.inf


def test_recorded_errors_are_within_their_tolerances():
    for case in CASES:
        for name, tolerance in case.tolerance.items():
            assert tolerance.worst <= tolerance.c, (case, name)
            assert tolerance.c <= 10 * max(tolerance.worst, 0.05), (case, name, "is too wide to catch much")


def test_measure_names_every_output():
    case = CASES[0]
    names = {name for _, name in measure(case, "reference", torch.float64)}
    assert names == set(case.tolerance)
