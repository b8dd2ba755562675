"""The CUDA kernels of the optimizers, run on the CPU: the bits of the C++ loops."""

from __future__ import annotations

import pytest
import torch

from fastcore_ops.optim._flat import layout_code
from fastcore_ops.optim._reference_step import _mix64, _scramble, round_stochastic
from fastcore_ops.optim._switches import STOCHASTIC

from . import optim_checks as checks
from . import optim_row_checks as row_checks
from . import twin
from .optim_problems import BF16, COMBINATIONS, F32, SIZES, VARIANTS, problem

pytestmark = pytest.mark.cuda_on_cpu
IN_ALL_ORDERS = ["first_step", "found_inf", "counters", "graph", "misaligned", "edges", "skipped_and_row_sums"]
IN_ONE = ["prologue", "many", "bad_places", "sums", "kept_at_random"]


ROWS_IN_ALL_ORDERS = ["all_ways", "skipped_rows", "quantile"]
ROWS_IN_ONE = ["projected", "scaled_rows", "row_sums", "places_over_32_bits"]


@pytest.fixture(autouse=True)
def _one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def plain():
    return twin.Twin("plain")


@pytest.fixture(params=twin.ORDERS)
def ordered(plain, request):
    plain.configure(request.param)
    yield plain
    plain.configure()


@pytest.mark.parametrize(("rule", "states"), VARIANTS)
def test_optim_rule_has_the_bits_of_the_cpu(ordered, rule, states, request):
    several_blocks = request.node.callspec.params["ordered"] == "random"
    sizes = SIZES if several_blocks else (0, 70, 21)
    checks.check_rules(ordered, [c for c in COMBINATIONS if c[:2] == (rule, states)], sizes)


@pytest.mark.parametrize("name", IN_ALL_ORDERS)
def test_optim(ordered, name):
    getattr(checks, f"check_{name}")(ordered)


@pytest.mark.parametrize("name", IN_ONE)
def test_optim_in_random_order(plain, name):
    plain.configure("random")
    getattr(checks, f"check_{name}")(plain)
    plain.configure()


@pytest.mark.parametrize("name", ROWS_IN_ALL_ORDERS)
def test_optim_rows(ordered, name):
    getattr(row_checks, f"check_{name}")(ordered)


@pytest.mark.parametrize("name", ROWS_IN_ONE)
def test_optim_rows_in_random_order(plain, name):
    plain.configure("random")
    getattr(row_checks, f"check_{name}")(plain)
    plain.configure()


def test_optim_sums_do_not_depend_on_the_order(plain):
    some = checks.sums_problem("dots", (F32, F32), sizes=(70_001, 3)).arguments
    found = []
    for order, seed in (("forward", 1), ("reverse", 1), ("random", 1), ("random", 2)):
        plain.configure(order, seed)
        found.append(plain.ops.optim_dots(*some.values()))
    plain.configure()
    assert all(torch.equal(other, found[0]) for other in found[1:])


def test_optim_random_bits_of_places_beyond_32_bits(plain, monkeypatch):
    """Only the first and last blocks run, and most of the cost is pages never touched."""
    monkeypatch.setattr(torch.utils.deterministic, "fill_uninitialized_memory", False)
    places = torch.arange(8)
    n = (1 << 32) + places.numel()
    p, g = (torch.empty(n, dtype=BF16) for _ in range(2))
    p[-8:], g[-8:] = torch.linspace(-2, 2, 8), torch.linspace(1, 3, 8)
    arguments = problem("sgd", 0, (BF16, F32), STOCHASTIC, sizes=(0,)).arguments | {"params": [p], "grads": [g]}
    arguments["index"][3] = layout_code(p)
    arguments["hyper"] = [0.01, 0.0, 0.0, 0.0, 0.0]
    key = _mix64((12345 + 0x9E3779B97F4A7C15) & (1 << 64) - 1)
    for part in (7, 7 * 16, 1):  # step, id and slot, upper half of the place
        key = _mix64(key ^ part)
    random = _scramble(places ^ (key & 0xFFFFFFFF)) ^ (key >> 32)
    wanted = round_stochastic(p[-8:].float() - g[-8:].float() * 0.01, BF16, random)
    plain.configure(sample_blocks=4)
    plain.ops.optim_sgd_(*arguments.values())
    plain.configure()
    assert torch.equal(p[-8:], wanted)
