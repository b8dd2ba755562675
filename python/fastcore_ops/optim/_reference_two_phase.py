"""The rules whose steps need sums over parameters, as readable torch; `_reference.py` says what a formula is.

A function of factors gives the two factors of each sum, element by element, and what the states become.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ._reference import _coupled, _lerp, _second

States = tuple[Tensor, ...]
Found = tuple[list[tuple[Tensor, Tensor]], States]


def dots(p: Tensor, g: Tensor, s: States, h: Any, t: float) -> Found:
    """``|p|^2``, ``<p, g>``, ``|g|^2``."""
    return [(p, p), (p, g), (g, g)], s


def squares(p: Tensor, g: Tensor, s: States, h: Any, t: float) -> Found:
    """``|g|^2``."""
    return [(g, g)], s


def keep(p: Tensor, g: Tensor, s: States, h: Any, t: float) -> Found:
    """``|g|^2``; the state becomes the gradient."""
    return [(g, g)], (g,)


def gradient_squares(p: Tensor, g: Tensor, s: States, h: Any, t: float) -> Found:
    """``|g|^2`` with weight decay."""
    g = _coupled(p, g, h.weight_decay)
    return [(g, g)], s


def dog_sums(p: Tensor, g: Tensor, s: States, h: Any, t: float) -> Found:
    """Distance from the start, gradient with weight decay, parameter; Ivgi et al. 2023, algorithm 1."""
    g, moved = _coupled(p, g, h.weight_decay), p - s[0]
    return [(moved, moved), (g, g), (p, p)], s


def scaled(p: Tensor, g: Tensor, s: States, h: Any, t: float) -> tuple[Tensor, States]:
    """A gradient step whose size is the parameter's own."""
    return p - h.number * _coupled(p, g, h.weight_decay), ()


def _preconditioned(v: Tensor, g: Tensor, h: Any, t: float) -> Tensor:
    b = (v / (1 - h.beta2**t) if h.beta2 != 1 else v).clamp_min(h.eps)
    b = b.sqrt() if h.is_sqrt else b
    return torch.where(b == 0, torch.zeros_like(g), g / torch.where(b == 0, 1.0, b))


def sania_sums(p: Tensor, g: Tensor, s: States, h: Any, t: float) -> Found:
    """``<g, B^-1 g>`` with B of the sum (beta2 = 1) or the average of squares; Abdukhakimov et al. 2023, section 4."""
    v = s[0] + g * g if h.beta2 == 1 else _second(s[0], g, h.beta2)
    return [(g, _preconditioned(v, g, h, t))], (v,)


def sania(p: Tensor, g: Tensor, s: States, h: Any, t: float) -> tuple[Tensor, States]:
    """The step along ``B^-1 g``; the state has taken the gradient in already."""
    return p - h.number * _preconditioned(s[0], g, h, t), s


def _pulled(p: Tensor, g: Tensor, s: States, h: Any) -> Tensor:
    return g + (h.weight_decay + h.prox) * p + h.prox * (s[0] - s[1])


def fedspeed_sums(p: Tensor, g: Tensor, s: States, h: Any, t: float) -> Found:
    """Square of the gradient with its pull to the received weights; Sun et al. 2023, algorithm 1."""
    pulled = _pulled(p, g, s, h)
    return [(pulled, pulled)], s


def fedspeed(p: Tensor, g: Tensor, s: States, h: Any, t: float) -> tuple[Tensor, States]:
    """SGD on the pulled gradient, shortened by one factor."""
    d = h.number * _pulled(p, g, s, h)
    if len(s) == 3:
        d = d if t == 1 else h.momentum * s[2] + d
    return p - h.lr * d, (*s[:2], d)[: len(s)]


def opt_amsgrad(p: Tensor, g: Tensor, s: States, h: Any, t: float) -> tuple[Tensor, States]:
    """OPT-AMSGrad; Wang et al. 2021, algorithm 2. States: theta, v, v_hat, w at the half step, both forecasts."""
    theta, forecast = _lerp(s[0], g, h.beta1), s[5]
    v = _second(s[1], g - s[4], h.beta2)
    largest = torch.maximum(s[2], v)
    root = largest.clamp_min(h.eps).sqrt()
    half = s[3] - h.lr * theta / root
    ahead = h.beta1 * (s[0] if h.previous else theta) + (1 - h.beta1) * forecast
    return half - h.lr * ahead / root, (theta, v, largest, half, forecast, forecast)


def adamp(p: Tensor, g: Tensor, s: States, h: Any, t: float) -> tuple[Tensor, States]:
    """AdamP; Heo et al. 2021, algorithm 2. ``h.project`` takes out the part along the parameter, or is None."""
    m, v = _lerp(s[0], g, h.beta1), _second(s[1], g, h.beta2)
    u = (h.beta1 * m + (1 - h.beta1) * g if h.nesterov else m) / (v.sqrt() / (1 - h.beta2**t) ** 0.5 + h.eps)
    ratio = 1.0 if h.project is None else h.wd_ratio
    u = u if h.project is None else h.project(u)
    return p * (1 - h.lr * h.weight_decay * ratio) - h.lr / (1 - h.beta1**t) * u, (m, v)


def sgdp(p: Tensor, g: Tensor, s: States, h: Any, t: float) -> tuple[Tensor, States]:
    """SGDP; Heo et al. 2021, algorithm 1."""
    buffer = h.momentum * s[0] + (1 - h.dampening) * g
    u = g + h.momentum * buffer if h.nesterov else buffer
    if h.project is not None:
        u = h.project(u)
        buffer = u if h.projects_momentum and not h.nesterov else buffer
    ratio = 1.0 if h.project is None else h.wd_ratio
    return p * (1 - h.lr * h.weight_decay * ratio / (1 - h.momentum)) - h.lr * u, (buffer,)
