"""Arguments of the optimizers' operators: every rule, every pair of dtypes, every way to round."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from fastcore_ops.optim._flat import layout_code
from fastcore_ops.optim._op_inputs import HYPER
from fastcore_ops.optim._ops import RULES
from fastcore_ops.optim._switches import KAHAN, MASTER, NEAREST, SPLIT_MASTER, STOCHASTIC

Op = Callable[..., None]
F64, F32, BF16, F16 = torch.float64, torch.float32, torch.bfloat16, torch.float16

# Rule and number of states.
VARIANTS = (
    ("adam", 2), ("adam", 3), ("ademamix", 2), ("ademamix", 3), ("nadam", 2), ("radam", 2), ("adabelief", 2),
    ("adabelief", 3), ("grams", 2), ("sgd", 0), ("sgd", 1), ("lion", 1), ("adagrad", 1), ("diffgrad", 3),
    ("madgrad", 2), ("madgrad", 3), ("mirror_madgrad", 2), ("exponentiated_sgd", 0), ("exponentiated_sgd", 1),
    ("exponentiated_adamw", 2), ("scaled", 0), ("sania", 1), ("fedspeed", 2), ("fedspeed", 3), ("opt_amsgrad", 6),
    ("adamp", 2), ("sgdp", 1),
)  # fmt: skip
# The state in the parameter's dtype.
LIKE_PARAMETER = {("diffgrad", 3): 2, ("madgrad", 3): 2, ("fedspeed", 2): 1, ("fedspeed", 3): 1}
# Dtypes of parameters and states; how they may be rounded.
PAIRS = {
    (F64, F64): (NEAREST,),
    (F32, F32): (NEAREST,),
    (F32, BF16): (NEAREST, STOCHASTIC),
    (BF16, F32): (NEAREST, STOCHASTIC, KAHAN, SPLIT_MASTER, MASTER),
    (BF16, BF16): (NEAREST, STOCHASTIC, KAHAN, SPLIT_MASTER, MASTER),
    (F16, F32): (NEAREST, STOCHASTIC, KAHAN, MASTER),
    (F16, F16): (NEAREST, STOCHASTIC, KAHAN, MASTER),
}
COMBINATIONS = [
    (rule, states, pair, rounding)
    for (rule, states), (pair, modes) in itertools.product(VARIANTS, PAIRS.items())
    for rounding in modes
]
# Not a multiple of any vector; one of several blocks; empty ones at the ends and between.
SIZES = (0, 21, 0, 70, 1, 2 * 16384 + 5, 0, 30, 0)


@dataclass
class Problem:
    """One call: the operator's name and its arguments by name."""

    op: str
    arguments: dict[str, Any]

    def written(self) -> Iterator[tuple[str, Tensor]]:
        """What a step writes to."""
        for name in ("params", "states", "steps", "products", "extra"):
            value = self.arguments.get(name)
            for i, tensor in enumerate(value if isinstance(value, list) else [value]):
                if tensor is not None:
                    yield f"{name}[{i}]", tensor

    def run(self, ops: Any) -> Problem:
        """Calls the operator of a namespace; the arguments are written to."""
        getattr(ops, self.op)(*self.arguments.values())
        return self

    def snapshot(self) -> dict[str, Tensor]:
        return {name: tensor.clone() for name, tensor in self.written()}


def _moved(tensor: Tensor, by: int) -> Tensor:
    """The same numbers, `by` elements behind the beginning of their memory."""
    if by == 0:
        return tensor
    return torch.cat([tensor.new_zeros(by), tensor.flatten()])[by:].view(tensor.shape)


def _extra(
    rounding: int, p_dtype: torch.dtype, params: Sequence[Tensor], starts: Sequence[int], total: int, draw: Callable
) -> Tensor | None:
    dtype = {KAHAN: p_dtype, SPLIT_MASTER: torch.int16, MASTER: F32}.get(rounding)
    if dtype is None:
        return None
    if rounding == SPLIT_MASTER:
        return (draw(total) * 9000).clamp(-32768, 32767).to(dtype)
    extra = (draw(total) * 1e-3).to(dtype)
    if rounding == MASTER:
        for start, p in zip(starts, params, strict=True):
            extra[start : start + p.numel()] += p.flatten()
    return extra


def problem(
    rule: str,
    states: int,
    pair: tuple[torch.dtype, torch.dtype] = (F32, F32),
    rounding: int = NEAREST,
    sizes: Sequence[int | tuple[int, ...]] = SIZES,
    step: float = 6.0,
    move: int = 0,
    scalars: torch.dtype = F32,
    **changes: Any,
) -> Problem:
    """The same arguments at every call. ``sizes``: or shapes. ``move``: how far data stand beside a multiple of 16 bytes."""
    generator = torch.Generator().manual_seed(0)

    def draw(*shape: int) -> Tensor:
        return torch.randn(shape, generator=generator, dtype=F64)

    p_dtype, s_dtype = pair
    shapes = [(size,) if isinstance(size, int) else size for size in sizes]
    starts = list(itertools.accumulate((-(-math.prod(shape) // 64) * 64 for shape in shapes), initial=0))
    total, n = starts.pop() + 3, len(sizes)
    params, grads = (
        [_moved(draw(*shape).to(p_dtype), move if math.prod(shape) else 0) for shape in shapes] for _ in range(2)
    )
    kept = [draw(total).square() * 0.1 for _ in range(states)]
    like = LIKE_PARAMETER.get((rule, states))
    has_product = RULES[rule].has_product
    arguments = {
        "params": params,
        "grads": grads,
        "states": [state.to(p_dtype if k == like else s_dtype) for k, state in enumerate(kept)],
        "steps": torch.full((n,), step, dtype=scalars),
        "products": torch.full((n,), 0.4, dtype=F64) if has_product else None,
        "extra": _extra(rounding, p_dtype, params, starts, total, draw),
        "index": torch.tensor(
            [[start + 3 * (move > 0) for start in starts], [*range(n)][::-1], [7 + i for i in range(n)],
             [layout_code(p) for p in params]]
        ),
        "hyper": [HYPER[name] for name in RULES[rule].hyper],
        "lr": None,
        "grad_scale": None,
        "found_inf": None,
        "coefficients": coefficients(n, RULES[rule].numbers) if RULES[rule].numbers else None,
        "maximize": False,
        "rounding": rounding,
        "seed": 12345,
    }  # fmt: skip
    return Problem(f"optim_{rule}_", arguments | changes)


def coefficients(n: int, numbers: int = 0) -> Tensor:
    """Factors, scales, shares and limits, some of which change nothing; then the numbers of a rule."""
    rows = torch.tensor([[0.5], [1.25], [0.3], [0.8]], dtype=F64).repeat(1, n)
    rows[1:, ::3] = torch.tensor([[1.0], [0.0], [torch.inf]], dtype=F64)
    return torch.cat([rows, 0.1 + 0.01 * torch.arange(numbers * n, dtype=F64).view(numbers, n)])


def assert_same(found: Problem, wanted: Problem) -> None:
    """The same bits in all that was written; NaN are NaN."""
    for (name, left), (_, right) in zip(found.written(), wanted.written(), strict=True):
        if not torch.equal(left.nan_to_num(nan=-7.0), right.nan_to_num(nan=-7.0)):
            places = (left != right).nonzero().flatten()[:5].tolist()
            raise AssertionError(f"{found.op} {left.dtype}: {name} differs at {places} of {left.numel()}")
        assert torch.equal(left.isnan(), right.isnan()), (found.op, name)
        if left.is_floating_point():
            assert torch.equal(left.signbit(), right.signbit()) or bool(left.isnan().any()), (found.op, name, "-0")
