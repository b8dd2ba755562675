"""The optimizers in Triton, in the interpreter: TRITON_INTERPRET=1 in a process of its own."""

from __future__ import annotations

import importlib
import os
from contextlib import contextmanager

import pytest
import torch

from fastcore_ops import _backend, _native, optim, use_backend
from fastcore_ops.optim._cases import CASES
from fastcore_ops.optim._ops import ELEMENTWISE
from fastcore_ops.optim._switches import MASTER, NEAREST, STOCHASTIC
from fastcore_ops.testing.cases import copied

from . import optim_step_cases as cases
from .optim_step_cases import assert_bits_of_the_cpu, assert_close, stepped

pytestmark = [
    pytest.mark.triton,
    pytest.mark.skipif(os.environ.get("TRITON_INTERPRET") != "1", reason="needs TRITON_INTERPRET=1"),
    pytest.mark.filterwarnings("ignore:.*encountered in:RuntimeWarning"),  # of the interpreter's NumPy
]
every_variant = pytest.mark.parametrize(("name", "count"), cases.VARIANTS)


@pytest.fixture(autouse=True)
def _needs_triton():
    pytest.importorskip("triton")


@contextmanager
def nothing_on_the_host():
    """Counters and numbers as on a GPU: looking at one fails."""

    def look(tensor):
        raise AssertionError("waits for the GPU")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(kernels("optim_numbers"), "reads_on_host", lambda tensor: False)
        for reader in ("__float__", "__bool__", "__int__", "item"):
            patch.setattr(torch.Tensor, reader, look)
        yield


def kernels(module):
    return importlib.import_module(f"fastcore_ops.triton_kernels.{module}")


@pytest.mark.parametrize("skipped", [False, True])
@every_variant
def test_optim_triton_reads_nothing_back(name, count, skipped):
    """Counters and numbers of a GPU: the bits of the other way, or nothing moves."""
    changes = cases.prologue(len(cases.SHAPES)) | {"found_inf": torch.tensor(float(skipped))}
    given = cases.inputs(name, count, cases.BF16, cases.F32, MASTER, **changes)
    with nothing_on_the_host():
        found = stepped(name, given)
    assert cases.same(cases.written(found), cases.written(given if skipped else stepped(name, given)))
    assert not cases.same(cases.written(found), cases.written(given)) or skipped


@every_variant
def test_optim_triton_first_step(name, count):
    """Counters in order and in float64, with and without a look at them."""
    changes = {"steps": 0.0, "found_inf": torch.tensor(0.0)}
    given = cases.inputs(name, count, **changes)
    given["steps"] = torch.zeros(2, dtype=torch.float64)
    given["index"][1] = torch.arange(2)
    if given["products"] is not None:
        given["products"] = torch.ones(2, dtype=torch.float64)
    assert_close(name, given, 4)
    assert_bits_of_the_cpu(name, given)
    with nothing_on_the_host():
        found = stepped(name, given)
    assert cases.same(cases.written(found), cases.written(stepped(name, given)))


SWITCHES = [
    ("sgd", 1, {"nesterov": 1.0}), ("exponentiated_sgd", 1, {"nesterov": 1.0, "min_magnitude": 0.5}),
    ("exponentiated_adamw", 2, {"min_magnitude": 0.5}), ("adam", 2, {"decoupled": 0.0}), ("nadam", 2, {"decoupled": 0.0}),
    ("radam", 2, {"decoupled": 0.0, "beta2": 0.5}), ("adabelief", 2, {"decoupled": 0.0, "rectify": 0.0}),
    ("adabelief", 3, {"rectify": 0.0}), ("adabelief", 2, {"fixed_decay": 1.0, "beta2": 0.5}),
    ("adabelief", 2, {"degenerated_to_sgd": 0.0, "beta2": 0.5}), ("grams", 2, {"correct_bias": 0.0}),
    ("ademamix", 3, {"alpha_warmup": 0.0, "beta3_warmup": 0.0}), ("ademamix", 3, {"alpha_warmup": 3.0, "beta3_warmup": 3.0}),
    ("madgrad", 3, {"decoupled": 0.0}), ("madgrad", 2, {"lr": 0.0}), ("madgrad", 3, {"lr": 0.0}),
    ("mirror_madgrad", 2, {"decoupled": 0.0}), ("mirror_madgrad", 2, {"lr": 0.0}), ("adam", 2, {"beta1": 0.0}),
]  # fmt: skip


@pytest.mark.parametrize(("name", "count", "switches"), SWITCHES, ids=str)
def test_optim_triton_switches(name, count, switches):
    given = cases.inputs(name, count)
    given["hyper"] = [switches.get(h, value) for h, value in zip(ELEMENTWISE[name].hyper, given["hyper"], strict=True)]
    assert_close(name, given, 4)
    assert_bits_of_the_cpu(name, given)


@pytest.mark.parametrize(("name", "count"), [("madgrad", 2), ("madgrad", 3), ("mirror_madgrad", 2), ("diffgrad", 3)])
def test_optim_triton_numbers_of_every_size(name, count):
    """Cube roots of subnormal, huge and no sums without eps; exp of what it rounds to 0."""
    given = cases.inputs(name, count, shapes=((8,),))
    given["hyper"] = [
        0.0 if h in ("eps", "weight_decay") else x for h, x in zip(ELEMENTWISE[name].hyper, given["hyper"], strict=True)
    ]
    given["grads"][0][:2] = 0
    given["states"][0][:8] = torch.tensor([0.0, 1e-40, 1e-37, 1e-20, 1.0, 1e30, 3e38, torch.inf])
    if name == "diffgrad":
        given["states"][0][:8], given["states"][2][:4] = 1.0, torch.tensor([80.0, 88.0, 300.0, -1e30])
    found, truth = stepped(name, given), stepped(name, given, "reference")
    scale = truth["params"][0].abs() + given["params"][0].abs()
    error = ((found["params"][0] - truth["params"][0]) / scale).nan_to_num(nan=0.0).abs()
    assert torch.equal(found["params"][0].isfinite(), truth["params"][0].isfinite())
    assert float(error.max()) <= 2 * 2.0**-23, error  # 0 seen
    if name != "diffgrad":
        assert_bits_of_the_cpu(name, given)


SIZES = {
    "several_programs": ((2500,), (1024,), (31, 67)),
    "many": ((1,), (2,), (0,), ()) * 5,
    "empty": ((0,), (3, 0)),
}


@pytest.mark.parametrize("shapes", SIZES.values(), ids=SIZES)
@pytest.mark.parametrize("rounding", [NEAREST, STOCHASTIC])
def test_optim_triton_sizes(shapes, rounding):
    given = cases.inputs("adam", 2, cases.BF16, cases.BF16, rounding, shapes)
    assert_close("adam", given, 1)
    assert_bits_of_the_cpu("adam", given)


def test_optim_triton_without_parameters():
    given = cases.inputs("adam", 2, params=[], grads=[])
    given["index"] = given["index"][:, :0]
    assert cases.same(cases.written(stepped("adam", given)), cases.written(given))


def test_optim_triton_unaligned():
    given = cases.inputs("adam", 2, shapes=((33,),))
    memory = torch.zeros(67)
    aligned = stepped("adam", given)
    p, g = memory[1:34], memory[34:]
    p.copy_(given["params"][0])
    g.copy_(given["grads"][0])
    given |= {"params": [p], "grads": [g]}
    _native.handle("optim_adam_", "triton")(*given.values())
    assert memory[0] == 0 and torch.equal(g, memory[34:]) and torch.equal(p, aligned["params"][0])


def test_optim_triton_keeps_its_tables_while_nothing_moves():
    given = cases.inputs("sgd", 0)
    operator, plans = _native.handle("optim_sgd_", "triton"), kernels("optim_tables")._plans
    operator(*given.values())
    known = len(plans)
    operator(*given.values())
    assert len(plans) == known
    moved = [g.clone() for g in given["grads"]]
    for g in given["grads"]:
        g.fill_(torch.nan)
    given["grads"] = moved
    operator(*given.values())
    assert all(p.isfinite().all() for p in given["params"])
    assert len(plans) == min(known + 1, kernels("optim_tables").MOST_PLANS)


# The whole way -------------------------------------------------------------------------------------------------------


def run(kind, backend, **options):
    params = [cases.draw(k, *shape).float().requires_grad_() for k, shape in enumerate(cases.SHAPES)]
    optimizer = kind(params, **options)
    with use_backend(backend):
        for step in range(3):
            for k, p in enumerate(params):
                p.grad = torch.empty_like(p).copy_(cases.draw(50 * step + k, *p.shape))
            if step == 1:
                params[1].grad = None
            optimizer.step()
    return [p.detach() for p in params]


@pytest.mark.parametrize(
    ("kind", "options"),
    [
        (optim.AdamW, {"capturable": True}), (optim.NAdam, {"perp_grad": True}), (optim.SGD, {"momentum": 0.9}),
        (optim.MADGRAD, {"clip_value": 0.1}), (optim.Lion, {"max_norm": 0.5, "state_dtype": torch.bfloat16}),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)  # fmt: skip
def test_optim_triton_runs_an_optimizer(kind, options):
    found, truth = run(kind, "triton", **options), run(kind, "reference", **options)
    assert max(map(cases.error, found, truth)) <= 4 * 2.0**-23  # 1.0 seen
    if _native.why_absent("cpp") is None:
        assert cases.same(found, run(kind, "cpp", **options))


def test_optim_triton_knows_every_rule():
    """Operators, hyper-parameters and numbers of states are those of the package."""
    names = {name: rule.hyper for name, rule in ELEMENTWISE.items()}
    assert {name: hyper for name, (hyper, _) in kernels("optim_scalars").PREPARE.items()} == names
    assert {name: cases.COUNTS.get(name, (2,)) for name in ELEMENTWISE} == kernels("optim").STATES
    assert all("triton" in _backend.registered()[f"optim_{name}_"] for name in ELEMENTWISE)


BAD = [bad for case in CASES if case.name == "optim_nadam_" for bad in case.bad_inputs()]


@pytest.mark.parametrize("bad", BAD, ids=lambda bad: bad.label)
def test_optim_triton_bad_input(bad, monkeypatch):
    monkeypatch.setattr(_backend, "pick", lambda name, *rest, **more: _native.handle(name, "triton"))
    with pytest.raises(RuntimeError, match=r"^optim_nadam_: "):
        bad.call()


@pytest.mark.parametrize("name", ["adam", "nadam"])
def test_optim_triton_opcheck_and_compile(name):
    operator, given = _native.handle(f"optim_{name}_", "triton"), cases.inputs(name, 2)
    torch.library.opcheck(operator, tuple(copied(given).values()))
    traced = copied(given)
    torch.compile(lambda *arguments: operator(*arguments), backend="aot_eager", fullgraph=True)(*traced.values())
    assert cases.same(cases.written(traced), cases.written(stepped(name, given)))
