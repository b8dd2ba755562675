"""The checks under the sanitizers, and the contract tests on the twin."""

from __future__ import annotations

import pytest

from . import processes, twin

pytestmark = pytest.mark.cuda_on_cpu


@pytest.mark.parametrize("mode", processes.SANITIZERS)
@pytest.mark.parametrize("name", processes.CHECKS)
def test_under_sanitizer(name, mode):
    assert "all checks passed" in processes.running()[name + mode].result()


@pytest.mark.parametrize("order", twin.ORDERS)
def test_contract_with_twin_as_backend(order):
    assert " passed" in processes.running()[order].result()
