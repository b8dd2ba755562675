"""The optimizers' operator in torch: gradient, rule and rounding for one parameter after the other."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from ._flat import layout_code
from ._rule import Rule
from ._switches import KAHAN, MASTER, SPLIT_MASTER, STOCHASTIC

_MASK = 0xFFFFFFFF


def part(flat: Tensor, start: int, like: Tensor) -> Tensor:
    """The elements of a flat tensor that belong to a parameter, in its memory layout."""
    return flat[start : start + like.numel()].as_strided(like.shape, like.stride(), flat.storage_offset() + start)


# Random bits: two 32-bit keys from (seed, step, parameter, slot, upper half of the place), then a hash of the place. ------


def _mix64(x: int) -> int:
    wide = (1 << 64) - 1
    x = ((x ^ (x >> 30)) * 0xBF58476D1CE4E5B9) & wide
    x = ((x ^ (x >> 27)) * 0x94D049BB133111EB) & wide
    return x ^ (x >> 31)


def _scramble(x: Tensor) -> Tensor:
    x = x ^ (x >> 16)
    x = (x * 0x7FEB352D) & _MASK
    x = x ^ (x >> 15)
    x = (x * 0x846CA68B) & _MASK
    return x ^ (x >> 16)


def random_bits(seed: int, step: int, parameter: int, slot: int, like: Tensor, place: int = 0) -> Tensor:
    """32 random bits for each element, by its place in memory, the first's being ``place``; int64, laid out like ``like``."""
    wide = (1 << 64) - 1
    x = _mix64((seed + 0x9E3779B97F4A7C15) & wide)
    x = _mix64(x ^ step)
    x = _mix64(x ^ (parameter * 16 + slot))
    end, made = place + like.numel(), []
    while place < end:  # the upper half of the place makes another key
        key, past = _mix64(x ^ (place >> 32)), min(end, ((place >> 32) + 1) << 32)
        places = torch.arange(place, past, device=like.device) & _MASK
        made.append(_scramble(places ^ (key & _MASK)) ^ (key >> 32))
        place = past
    bits = torch.cat(made) if made else torch.zeros(0, dtype=torch.int64, device=like.device)
    return bits.as_strided(like.shape, like.stride()) if made else bits.reshape(like.shape)


def _bits(x: Tensor) -> Tensor:
    return x.view(torch.int32).to(torch.int64) & _MASK


def _float(bits: Tensor) -> Tensor:
    return torch.where(bits >= 1 << 31, bits - (1 << 32), bits).to(torch.int32).view(torch.float32)


def round_stochastic(x: Tensor, dtype: torch.dtype, random: Tensor) -> Tensor:
    """Float32 to 16 bits, up with the probability that makes the mean exact."""
    kept = 16 if dtype == torch.bfloat16 else 13
    x, random = x.contiguous(), random.contiguous()
    cut = _float(((_bits(x) + (random & ((1 << kept) - 1))) >> kept) << kept)
    if dtype == torch.float16:  # below its normal numbers the steps are of 2^-24
        steps = x.abs() * 2.0**24 + (random & 0x7FFF).to(torch.float32) * 2.0**-15
        small = torch.copysign(steps.floor() * 2.0**-24, x)
        cut = torch.where(x.abs() < 2.0**-14, small, cut)
    return torch.where(x.isfinite(), cut, x).to(dtype)


# Parameters as their rule sees them, and back ------------------------------------------------------------------------


def read_parameter(p: Tensor, extra: Tensor | None, rounding: int) -> Tensor:
    """The parameter in the dtype of the arithmetic."""
    if p.dtype in (torch.float32, torch.float64):
        return p.clone()
    if rounding == SPLIT_MASTER:
        assert extra is not None
        return _float(((_high(p) << 16) + extra.to(torch.int64)) & _MASK)
    if rounding == KAHAN:
        assert extra is not None
        return p.float() + extra.float()
    if rounding == MASTER:
        assert extra is not None
        return extra.clone()
    return p.float()


def _high(p: Tensor) -> Tensor:
    return p.view(torch.int16).to(torch.int64) & 0xFFFF


def write_parameter(p: Tensor, x: Tensor, extra: Tensor | None, rounding: int, random: Tensor | None) -> None:
    """Round the new value into the parameter, and keep what the mode keeps."""
    if p.dtype in (torch.float32, torch.float64):
        p.copy_(x)
    elif rounding == SPLIT_MASTER:
        _write_split(p, x, extra)
    elif rounding == STOCHASTIC:
        assert random is not None
        p.copy_(round_stochastic(x, p.dtype, random))
    else:
        p.copy_(x)
        if rounding == KAHAN:
            assert extra is not None
            most = torch.finfo(torch.float32).max
            extra.copy_(-(p.float().clamp(-most, most) - x.clamp(-most, most)))  # nothing lost is -0
        elif rounding == MASTER:
            assert extra is not None
            extra.copy_(x)


def _write_split(p: Tensor, x: Tensor, extra: Tensor | None) -> None:
    assert extra is not None
    most = _float(torch.tensor(0x7F7F7FFF, device=x.device))
    x = torch.where(x.isinf(), x, x.clamp(-most, most)).contiguous()
    bits = _bits(x)
    special = torch.where(x.isnan(), bits | 0x00400000, bits)
    high = torch.where(x.isfinite(), (bits + 0x8000) & _MASK, special) >> 16
    low = torch.where(x.isfinite(), bits - (high << 16), torch.zeros_like(bits))
    p.view(torch.int16).copy_(torch.where(high >= 1 << 15, high - (1 << 16), high))
    extra.copy_(low)


# The operator --------------------------------------------------------------------------------------------------------


def prepared_gradient(g: Tensor, x: Tensor, scale: float, row: Tensor | None) -> Tensor:
    """Unscaled, negated and clipped by one factor, made perpendicular to the parameter, its elements limited."""
    g = g.to(x.dtype) * scale
    if row is None:
        return g
    factor, perp_scale, along, limit = row[:4].tolist()
    g = g * factor
    if perp_scale != 1 or along != 0:
        g = (g - along * x) * perp_scale
    return g.clamp(-limit, limit) if math.isfinite(limit) else g


def make_step(rule: Rule):  # type: ignore[no-untyped-def]
    """The operator of a rule, in torch."""

    def step(
        params: list[Tensor], grads: list[Tensor], states: list[Tensor], steps: Tensor, products: Tensor | None,
        extra: Tensor | None, index: Tensor, hyper: list[float], lr: Tensor | None, grad_scale: Tensor | None,
        found_inf: Tensor | None, coefficients: Tensor | None, maximize: bool, rounding: int, seed: int,
    ) -> None:  # fmt: skip
        if any(g.layout != torch.strided for g in grads):
            raise RuntimeError(f"optim_{rule.op}_: expected dense gradients, got a sparse one")
        if any(layout_code(p) != code for p, code in zip(params, index[3].tolist(), strict=True)):
            raise RuntimeError(f"optim_{rule.op}_: the states of a parameter lie in memory as it no longer does")
        if found_inf is not None and float(found_inf) != 0:
            return
        hyper = hyper if lr is None else [float(lr), *hyper[1:]]
        scale = (-1.0 if maximize else 1.0) / (1.0 if grad_scale is None else float(grad_scale))
        for i, (p, g) in enumerate(zip(params, grads, strict=True)):
            start, slot, parameter, _, *place = index[:, i].tolist()
            steps[slot] += 1
            t = float(steps[slot])
            product = 1.0 if products is None else float(products[slot])
            kept = None if extra is None else part(extra, start, p)
            stored = [part(flat, start, p) for flat in states]
            x = read_parameter(p, kept, rounding)
            row = None if coefficients is None else coefficients[:, i]
            s = tuple(state.to(x.dtype) for state in stored)
            gradient = prepared_gradient(g, x, scale, row)
            named = rule.named(hyper, product, float(row[4]) if rule.numbers and row is not None else 0.0)
            new, new_states = rule.formula(x, gradient, s, named, t)
            if products is not None:
                products[slot] = rule.advance_product(named, t)
            for number, (state, value) in enumerate(zip(stored, new_states, strict=True)):
                if rounding == STOCHASTIC and state.dtype in (torch.bfloat16, torch.float16):
                    bits = random_bits(seed, int(t), parameter, number + 1, p, *place)
                    value = round_stochastic(value, state.dtype, bits)
                state.copy_(value)
            random = random_bits(seed, int(t), parameter, 0, p, *place) if rounding == STOCHASTIC else None
            write_parameter(p, new, kept, rounding, random)

    return step


def differentiable_step(
    rule: Rule, p: Tensor, g: Tensor, state: dict[str, Any], names: list[str], hyper: list[float]
) -> None:
    """One parameter with autograd looking on: parameter and states become functions of what they were computed from."""
    t = float(state["step"]) + 1
    named = rule.named(hyper, float(state.get("mu_product", 1.0)))
    given = [p.clone(), g, *(state[name] for name in names)]
    if p.is_complex():
        given = list(map(torch.view_as_real, given))
    new, new_states = rule.formula(given[0], given[1], tuple(given[2:]), named, t)
    if p.is_complex():
        new = torch.view_as_complex(new.contiguous())
        new_states = tuple(torch.view_as_complex(state.contiguous()) for state in new_states)
    if rule.has_product:
        state["mu_product"] = torch.tensor(rule.advance_product(named, t), dtype=torch.float64)
    state.update(zip(names, new_states, strict=True))
    state["step"] += 1
    p.copy_(new)
