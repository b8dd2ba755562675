"""The optimizers' operators in Triton: one launch steps all parameters of a call, whatever their number and sizes.

A program works on BLOCK elements of one parameter. Tables in device memory say where everything lies: for each parameter
the addresses of it and its gradient, its size, start in the flat states, id and place; for each program the parameter
and the first element; and a row of float64 numbers, gradient's prologue and rule's scalars, for each parameter. The
first two are kept while nothing moves; the last is made anew in each step.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import nullcontext
from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

from . import optim_rules
from .optim_numbers import activity, step_numbers
from .optim_storage import (
    ABSENT,
    BFLOAT16,
    FLOAT16,
    FLOAT32,
    FLOAT64,
    KAHAN,
    MASTER,
    NEAREST,
    STOCHASTIC,
    random_bits,
    read,
    read_parameter,
    to_half_stochastic,
    typed,
    write,
    write_bits,
    write_parameter,
)
from .optim_tables import NARROW, Arguments, Plan, check, check_arguments, plan_of

BLOCK = 1024
INTERPRETED = os.environ.get("TRITON_INTERPRET") == "1"

# Columns of a parameter's row of numbers; the rule's scalars follow.
FACTOR, PERP_SCALE, PERP_ALONG, LIMIT, STEP, ACTIVE, FIRST_SCALAR = (tl.constexpr(k) for k in range(7))

KINDS = {torch.float64: FLOAT64, torch.float32: FLOAT32, torch.bfloat16: BFLOAT16, torch.float16: FLOAT16}
# How many states a rule may have.
STATES = {
    "adam": (2, 3), "ademamix": (2, 3), "nadam": (2,), "radam": (2,), "adabelief": (2, 3), "grams": (2,),
    "sgd": (0, 1), "lion": (1,), "adagrad": (1,), "diffgrad": (3,), "madgrad": (2, 3), "mirror_madgrad": (2,),
    "exponentiated_sgd": (0, 1), "exponentiated_adamw": (2,),
}  # fmt: skip
LIKE_PARAMETER = {"diffgrad": 2, "madgrad": 2}  # this state, if there is one, has the parameter's dtype
READ_ONLY = ("madgrad",)  # that state


@triton.jit
def _prepared_gradient(row, g, p, PROLOGUE: tl.constexpr):
    """Unscaled, negated and clipped by one factor, made perpendicular to the parameter, its elements limited."""
    g *= tl.load(row + FACTOR).to(g.dtype)
    if PROLOGUE:
        scale, along = tl.load(row + PERP_SCALE), tl.load(row + PERP_ALONG)
        rest = (g - p * along.to(g.dtype)) * scale.to(g.dtype)
        g = tl.where((scale != 1.0) | (along != 0.0), rest, g)
        limit = tl.load(row + LIMIT).to(g.dtype)
        g = tl.where(g > limit, limit, tl.where(g < -limit, -limit, g))
    return g


@triton.jit
def _read_state(state, places, inside, like, KIND: tl.constexpr):
    if KIND == ABSENT:
        x = like
    else:
        x = read(state + places, inside, KIND)
    return x


@triton.jit
def _write_state(
    state, places, x, inside, seed, step, parameter, whole,
    KIND: tl.constexpr, SLOT: tl.constexpr, ROUNDING: tl.constexpr,
):  # fmt: skip
    if KIND > FLOAT32:
        if ROUNDING == STOCHASTIC:
            random = random_bits(seed, step, parameter, SLOT, whole)
            write_bits(state + places, to_half_stochastic(x, random, KIND), inside)
        else:
            write(state + places, x, inside, KIND)
    elif KIND != ABSENT:
        write(state + places, x, inside, KIND)


@triton.jit
def optim_kernel(
    tensors, programs, numbers, s0, s1, s2, extra, seed: tl.int64,
    RULE: tl.constexpr, STATES: tl.constexpr, WIDTH: tl.constexpr, KIND: tl.constexpr,
    KIND0: tl.constexpr, KIND1: tl.constexpr, KIND2: tl.constexpr, READ_ONLY: tl.constexpr,
    PROLOGUE: tl.constexpr, ROUNDING: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    program = tl.program_id(0).to(tl.int64)
    tensor, first = tl.load(programs + 2 * program), tl.load(programs + 2 * program + 1)
    entry, row = tensors + 6 * tensor, numbers + WIDTH * tensor
    offsets = first + tl.arange(0, BLOCK)  # int64, like all that is added to a pointer
    inside = offsets < tl.where(tl.load(row + ACTIVE) != 0.0, tl.load(entry + 2), 0)
    places = tl.load(entry + 3) + offsets
    whole = tl.load(entry + 5) + offsets  # of a shard: in the whole parameter
    parameter, step = tl.load(entry + 4), tl.load(row + STEP).to(tl.int64)
    p_at = typed(tl.load(entry), KIND) + offsets
    extra_at = p_at  # never used so
    if extra is not None:
        extra_at = extra + places
    p = read_parameter(p_at, extra_at, inside, KIND, ROUNDING)
    x0 = _read_state(s0, places, inside, p, KIND0)
    x1 = _read_state(s1, places, inside, p, KIND1)
    x2 = _read_state(s2, places, inside, p, KIND2)
    g = _prepared_gradient(row, read(typed(tl.load(entry + 1), KIND) + offsets, inside, KIND), p, PROLOGUE)
    p, x0, x1, x2 = RULE(row + FIRST_SCALAR, p, g, x0, x1, x2, STATES)
    _write_state(s0, places, x0, inside, seed, step, parameter, whole, KIND0, 1, ROUNDING)
    _write_state(s1, places, x1, inside, seed, step, parameter, whole, KIND1, 2, ROUNDING)
    if not READ_ONLY:
        _write_state(s2, places, x2, inside, seed, step, parameter, whole, KIND2, 3, ROUNDING)
    if ROUNDING == STOCHASTIC and KIND > FLOAT32:
        random = random_bits(seed, step, parameter, 0, whole)
        write_bits(p_at, to_half_stochastic(p, random, KIND), inside)
    else:
        write_parameter(p_at, extra_at, p, inside, KIND, ROUNDING)


# The operators -------------------------------------------------------------------------------------------------------


def _bits(tensor: Tensor | None) -> Tensor | None:
    return tensor if tensor is None or tensor.dtype in (torch.float32, torch.float64) else tensor.view(torch.int16)


def _constants(rule: str, p: torch.dtype, states: list[torch.dtype], rounding: int, prologue: bool) -> dict[str, Any]:
    kinds = [*(KINDS[dtype].value for dtype in states), *[ABSENT.value] * (3 - len(states))]
    mode = rounding if p in NARROW or rounding == STOCHASTIC.value else NEAREST.value  # wide states ignore it too
    return {
        "RULE": getattr(optim_rules, rule), "STATES": len(states), "KIND": KINDS[p].value,
        "KIND0": kinds[0], "KIND1": kinds[1], "KIND2": kinds[2], "READ_ONLY": rule in READ_ONLY,
        "PROLOGUE": prologue, "ROUNDING": mode, "BLOCK": BLOCK,
    }  # fmt: skip


def _launch(rule: str, plan: Plan, numbers: Tensor, given: Arguments) -> None:
    dtypes = [state.dtype for state in given.states]
    constants = _constants(rule, plan.dtype, dtypes, given.rounding, given.coefficients is not None)
    states = [*map(_bits, given.states), *[None] * (3 - len(given.states))]
    extra = _bits(given.extra) if constants["ROUNDING"] >= KAHAN.value else None
    device = plan.tensors.device
    with torch.cuda.device(device) if device.type == "cuda" else nullcontext():
        optim_kernel[(plan.programs.shape[0],)](
            plan.tensors, plan.programs, numbers, *states, extra, given.seed,
            WIDTH=numbers.shape[1], **constants, enable_fp_fusion=False,  # the bits of the CPU
        )  # fmt: skip


def make_step(rule: str) -> Callable[..., None]:
    """The operator of a rule."""
    op = f"optim_{rule}_"

    def step(*arguments: Any) -> None:
        given = Arguments(*arguments)
        if not given.params:
            return
        check(given.params[0].is_cuda or INTERPRETED, op, "Triton runs CPU tensors only under TRITON_INTERPRET=1")
        check_arguments(op, given, STATES[rule], LIKE_PARAMETER.get(rule))
        plan = plan_of(op, given, BLOCK)
        active = activity(given)
        if active is False:
            return
        numbers = step_numbers(rule, plan, given, active)
        if plan.programs.shape[0]:
            _launch(rule, plan, numbers, given)

    return step


def _step_fake(*arguments: Any) -> None:
    """Nothing is returned."""


_ARGUMENTS = (
    "(Tensor(a!)[] params, Tensor[] grads, Tensor(b!)[] states, Tensor(c!) steps, Tensor(d!)? products, "
    "Tensor(e!)? extra, Tensor index, float[] hyper, Tensor? lr, Tensor? grad_scale, Tensor? found_inf, "
    "Tensor? coefficients, bool maximize, int rounding, int seed) -> ()"
)
for _rule in STATES:
    _op = f"fastcore_triton::optim_{_rule}_"
    torch.library.define(_op, _ARGUMENTS)
    torch.library.impl(_op, ("cpu", "cuda"), make_step(_rule))
    torch.library.register_fake(_op, _step_fake)


def _gate_entry(rule: str, states: int, p: torch.dtype, s: torch.dtype, rounding: int = 0, prologue: bool = False):
    """A variant of the kernel: types of its arguments and constants."""
    in_memory = {torch.float64: "*fp64", torch.float32: "*fp32"}  # 16-bit numbers as integers
    dtypes = [p if LIKE_PARAMETER.get(rule) == k else s for k in range(states)]
    types = {"tensors": "*i64", "programs": "*i64", "numbers": "*fp64", "seed": "i64"}
    types |= {f"s{k}": in_memory.get(dtype, "*i16") for k, dtype in enumerate(dtypes)}
    types |= {"extra": "*fp32" if rounding == MASTER.value else "*i16"} if rounding >= KAHAN.value else {}
    absent = {name: None for name in ("s0", "s1", "s2", "extra") if name not in types}
    return optim_kernel, types, absent | {"WIDTH": 17} | _constants(rule, p, dtypes, rounding, prologue)


def _compile_gate():
    """Every rule in float32, and each way of storing numbers with one of them."""
    single, double, bfloat16, half = torch.float32, torch.float64, torch.bfloat16, torch.float16
    gate = [_gate_entry(rule, states, single, single) for rule, counts in STATES.items() for states in counts]
    gate += [_gate_entry("madgrad", 3, double, double, 0, True), _gate_entry("diffgrad", 3, double, double)]
    gate += [_gate_entry("adam", 2, bfloat16, single, rounding, True) for rounding in range(5)]
    gate += [_gate_entry("madgrad", 3, half, single, rounding) for rounding in (1, 2, 4)]
    return [*gate, _gate_entry("diffgrad", 3, bfloat16, bfloat16, 1), _gate_entry("adam", 3, half, half)]


COMPILE_GATE = _compile_gate() if not INTERPRETED else []
