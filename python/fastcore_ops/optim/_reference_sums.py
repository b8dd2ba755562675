"""The operators of sums in torch, and the steps that look at rows."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor

from ._flat import row_count
from ._reference_step import part, prepared_gradient, random_bits, read_parameter, round_stochastic, write_parameter
from ._rule import Rule, Sums, named
from ._switches import STOCHASTIC

_HALF = (torch.bfloat16, torch.float16)


def as_rows(x: Tensor, by_row: bool = True) -> Tensor:
    """One row for each index of the first dimension, or one of everything."""
    return x.reshape(row_count(x) if by_row else 1, -1) if x.numel() else x.new_zeros(row_count(x) if by_row else 1, 0)


def _write_state(
    state: Tensor, value: Tensor, rounding: int, key: tuple[int, int, int], slot: int, place: list[int]
) -> None:
    """``key``: seed, step and parameter, of which random bits are made; ``place``: as in the operators' index, if there."""
    if rounding == STOCHASTIC and state.dtype in _HALF:
        value = round_stochastic(value, state.dtype, random_bits(*key, slot, state, *place))
    state.copy_(value)


def _scale(maximize: bool, grad_scale: Tensor | None) -> float:
    return (-1.0 if maximize else 1.0) / (1.0 if grad_scale is None else float(grad_scale))


def make_sums(sums: Sums):  # type: ignore[no-untyped-def]
    """The operator of some sums, in torch."""

    def measure(
        params: list[Tensor], grads: list[Tensor], states: list[Tensor], steps: Tensor, extra: Tensor | None,
        index: Tensor, hyper: list[float], lr: Tensor | None, grad_scale: Tensor | None, found_inf: Tensor | None,
        coefficients: Tensor | None, maximize: bool, rounding: int, seed: int, by_row: bool,
    ) -> Tensor:  # fmt: skip
        names = sums.hyper or ("lr",)
        hyper = hyper if lr is None else [float(lr), *hyper[1:]]
        skipped = found_inf is not None and float(found_inf) != 0
        found = []
        for i, (p, g) in enumerate(zip(params, grads, strict=True)):
            start, slot, parameter, _, *place = index[:, i].tolist()
            stored = [part(flat, start, p) for flat in states]
            x = read_parameter(p.detach(), None if extra is None else part(extra, start, p), rounding)
            row = None if coefficients is None else coefficients[:, i]
            gradient = prepared_gradient(g, x, _scale(maximize, grad_scale), row)
            t = float(steps[slot]) + 1
            factors, new_states = sums.factors(
                x, gradient, tuple(s.to(x.dtype) for s in stored), named(names, hyper), t
            )
            products = [as_rows(left.double() * right.double(), by_row).sum(1) for left, right in factors]
            found.append(torch.stack(products))
            if not skipped:
                for k, (state, value) in enumerate(zip(stored, new_states, strict=False)):
                    _write_state(state, value, rounding, (seed, int(t), parameter), k + 1, place)
        total = torch.cat(found, 1) if found else index.new_zeros(1, 0, dtype=torch.float64)
        return torch.zeros_like(total) if skipped else total

    return measure


def make_projected_step(rule: Rule, join: Callable[[int, int, Tensor], Tensor] | None = None):  # type: ignore[no-untyped-def]
    """The operator of a rule whose direction may lose its part along the parameter, in torch.

    ``join`` adds up, over those who hold parts of a parameter, the sums of its rows or of the whole, given which parameter
    it is and how it is projected.
    """

    def step(
        params: list[Tensor], grads: list[Tensor], states: list[Tensor], steps: Tensor, products: Tensor | None,
        extra: Tensor | None, index: Tensor, hyper: list[float], lr: Tensor | None, grad_scale: Tensor | None,
        found_inf: Tensor | None, coefficients: Tensor, maximize: bool, rounding: int, seed: int,
    ) -> None:  # fmt: skip
        if found_inf is not None and float(found_inf) != 0:
            return
        hyper = hyper if lr is None else [float(lr), *hyper[1:]]
        h = rule.named(hyper)
        for i, (p, g) in enumerate(zip(params, grads, strict=True)):
            start, slot, parameter, _, *place = index[:, i].tolist()
            steps[slot] += 1
            t = float(steps[slot])
            kept = None if extra is None else part(extra, start, p)
            stored = [part(flat, start, p) for flat in states]
            x = read_parameter(p.detach(), kept, rounding)
            gradient = prepared_gradient(g, x, _scale(maximize, grad_scale), coefficients[:, i])
            code = int(coefficients[4, i])
            together = None if join is None else partial(join, i, code)
            h.project = _projection(x, code, h.eps, together) if code else None
            new, new_states = rule.formula(x, gradient, tuple(s.to(x.dtype) for s in stored), h, t)
            for k, (state, value) in enumerate(zip(stored, new_states, strict=True)):
                _write_state(state, value, rounding, (seed, int(t), parameter), k + 1, place)
            random = random_bits(seed, int(t), parameter, 0, p, *place) if rounding == STOCHASTIC else None
            write_parameter(p, new, kept, rounding, random)

    return step


def _projection(
    x: Tensor, code: int, eps: float, join: Callable[[Tensor], Tensor] | None = None
) -> Callable[[Tensor], Tensor]:
    """Takes the part along the parameter (1: of each row; 2: of the whole) out of a direction."""

    def project(u: Tensor) -> Tensor:
        rows, along = as_rows(x, code == 1).double(), as_rows(u, code == 1).double()
        sums = torch.stack([rows.square().sum(1), (rows * along).sum(1)])
        square, product = (sums if join is None else join(sums))[..., None]
        length = square.sqrt() + eps
        share = product / (length * length).clamp_min(torch.finfo(torch.float64).tiny)
        return u - (share.to(x.dtype) * as_rows(x, code == 1)).reshape(x.shape)

    return project


def scaled_rows(
    params: list[Tensor], grads: list[Tensor], steps: Tensor, extra: Tensor | None, index: Tensor, sizes: Tensor,
    hyper: list[float], grad_scale: Tensor | None, found_inf: Tensor | None, coefficients: Tensor | None,
    maximize: bool, rounding: int, seed: int,
) -> None:  # fmt: skip
    """Gradient steps whose size differs from row to row, in torch."""
    if found_inf is not None and float(found_inf) != 0:
        return
    h: Any = named(("lr", "weight_decay"), hyper)
    counts = [row_count(p) for p in params]
    for i, (p, g, size) in enumerate(zip(params, grads, sizes.split(counts), strict=True)):
        start, slot, parameter, _, *place = index[:, i].tolist()
        steps[slot] += 1
        kept = None if extra is None else part(extra, start, p)
        x = read_parameter(p.detach(), kept, rounding)
        gradient = prepared_gradient(
            g, x, _scale(maximize, grad_scale), None if coefficients is None else coefficients[:, i]
        )
        gradient = gradient + h.weight_decay * x if h.weight_decay else gradient
        new = x - (size[:, None].to(x.dtype) * as_rows(gradient)).reshape(x.shape)
        random = random_bits(seed, int(steps[slot]), parameter, 0, p, *place) if rounding == STOCHASTIC else None
        write_parameter(p, new, kept, rounding, random)


def quantile(
    params: list[Tensor], grads: list[Tensor], steps: Tensor, extra: Tensor | None, index: Tensor, q: float,
    grad_scale: Tensor | None, coefficients: Tensor | None, rounding: int,
) -> Tensor:  # fmt: skip
    """The q-quantile of each gradient's magnitudes, linear between order statistics; NaN counts as largest."""
    found = []
    for i, (p, g) in enumerate(zip(params, grads, strict=True)):
        x = read_parameter(p.detach(), None if extra is None else part(extra, int(index[0, i]), p), rounding)
        row = None if coefficients is None else coefficients[:, i]
        ordered = prepared_gradient(g, x, _scale(False, grad_scale), row).abs().flatten().sort().values.double()
        if not ordered.numel():
            found.append(ordered.new_full((), torch.inf))
            continue
        at = q * (ordered.numel() - 1)
        low = int(at)
        high = min(low + 1, ordered.numel() - 1)
        rest = at - low
        found.append(ordered[low] + rest * (ordered[high] - ordered[low]) if rest else ordered[low])
    return torch.stack(found) if found else index.new_zeros(0, dtype=torch.float64)
