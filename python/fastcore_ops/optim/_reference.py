"""Every rule as readable torch: the truth that the kernels are compared with, and what runs where there is no kernel.

A formula takes the parameter ``p``, its gradient ``g`` and its states ``s`` in the dtype of the arithmetic, the
hyper-parameters ``h`` by name, the step number ``t`` counted from 1, and returns the new parameter and the new states.
Nothing is written to.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

Formula = Callable[[Tensor, Tensor, tuple[Tensor, ...], Any, float], tuple[Tensor, tuple[Tensor, ...]]]


def _lerp(m: Tensor, g: Tensor, beta: float) -> Tensor:
    return m + (1 - beta) * (g - m)


def _second(v: Tensor, g: Tensor, beta: float) -> Tensor:
    return beta * v + (1 - beta) * g * g


def _coupled(p: Tensor, g: Tensor, weight_decay: float) -> Tensor:
    return g + weight_decay * p if weight_decay else g  # 0 times an infinite parameter would be NaN


def _decayed(p: Tensor, g: Tensor, h: Any) -> tuple[Tensor, Tensor]:
    """Weight decay on the parameter or, coupled, in the gradient."""
    if h.decoupled:
        return p * (1 - h.lr * h.weight_decay), g
    return p, _coupled(p, g, h.weight_decay)


def adam(p: Tensor, g: Tensor, s: tuple[Tensor, ...], h: Any, t: float) -> tuple[Tensor, tuple[Tensor, ...]]:
    """Adam, AdamW and AMSGrad; Kingma and Ba 2015, algorithm 1; Loshchilov and Hutter 2019, algorithm 2."""
    p, g = _decayed(p, g, h)
    m, v = _lerp(s[0], g, h.beta1), _second(s[1], g, h.beta2)
    largest = torch.maximum(s[2], v) if len(s) == 3 else v
    denominator = largest.sqrt() / math.sqrt(1 - h.beta2**t) + h.eps
    return p - h.lr / (1 - h.beta1**t) * m / denominator, (m, v, largest)[: len(s)]


def sgd(p: Tensor, g: Tensor, s: tuple[Tensor, ...], h: Any, t: float) -> tuple[Tensor, tuple[Tensor, ...]]:
    """SGD with momentum; the first step fills the buffer undamped."""
    g = _coupled(p, g, h.weight_decay)
    if s:
        buffer = g if t == 1 else h.momentum * s[0] + (1 - h.dampening) * g
        return p - h.lr * (g + h.momentum * buffer if h.nesterov else buffer), (buffer,)
    return p - h.lr * g, ()


def lion(p: Tensor, g: Tensor, s: tuple[Tensor, ...], h: Any, t: float) -> tuple[Tensor, tuple[Tensor, ...]]:
    """Lion; Chen et al. 2023, algorithm 2."""
    p = p * (1 - h.lr * h.weight_decay)
    return p - h.lr * _lerp(s[0], g, h.beta1).sign(), (_lerp(s[0], g, h.beta2),)


def ademamix_alpha(h: Any, t: float) -> float:
    """Weight of the slow average, grown linearly; Pagliardini et al. 2024, eq. (1)."""
    return h.alpha * t / h.alpha_warmup if h.alpha_warmup and t < h.alpha_warmup else h.alpha


def ademamix_beta3(h: Any, t: float) -> float:
    """Decay of the slow average, its half-life grown linearly; Pagliardini et al. 2024, appendix A.1."""
    if not h.beta3_warmup or t >= h.beta3_warmup:
        return h.beta3
    half_life = [math.log(0.5) / math.log(beta + 1e-8) - 1 for beta in (h.beta1, h.beta3)]
    x = t / h.beta3_warmup
    return 0.5 ** (1 / ((1 - x) * half_life[0] + x * half_life[1] + 1))


def ademamix(p: Tensor, g: Tensor, s: tuple[Tensor, ...], h: Any, t: float) -> tuple[Tensor, tuple[Tensor, ...]]:
    """AdEMAMix; Pagliardini et al. 2024, algorithm 1. With two states (beta1 = 0) the gradient is its own fast average."""
    fast = _lerp(s[0], g, h.beta1) if len(s) == 3 else g
    slow = _lerp(s[-2], g, ademamix_beta3(h, t))
    v = _second(s[-1], g, h.beta2)
    mixed = fast / (1 - h.beta1**t) + ademamix_alpha(h, t) * slow
    update = mixed / (v.sqrt() / math.sqrt(1 - h.beta2**t) + h.eps)
    return p - h.lr * _coupled(p, update, h.weight_decay), (fast, slow, v)[-len(s) :]


def nadam(p: Tensor, g: Tensor, s: tuple[Tensor, ...], h: Any, t: float) -> tuple[Tensor, tuple[Tensor, ...]]:
    """NAdam; Dozat 2016, algorithm 2. ``h.product`` is the product of the momenta before this step."""
    p, g = _decayed(p, g, h)
    mu, following = (nadam_momentum(h, step) for step in (t, t + 1))
    m, v = _lerp(s[0], g, h.beta1), _second(s[1], g, h.beta2)
    denominator = (v / (1 - h.beta2**t)).sqrt() + h.eps
    product = h.product * mu
    move = (1 - mu) / (1 - product) * g + following / (1 - product * following) * m
    return p - h.lr * move / denominator, (m, v)


def nadam_next_product(h: Any, t: float) -> float:
    """Product of the momenta after step t."""
    return h.product * nadam_momentum(h, t)


def nadam_momentum(h: Any, t: float) -> float:
    """Momentum of step t."""
    return h.beta1 * (1 - 0.5 * 0.96 ** (t * h.momentum_decay))


def _average_length(beta2: float, t: float) -> float:
    """Length of the simple moving average; Liu et al. 2020, algorithm 2."""
    return 2 / (1 - beta2) - 1 - 2 * t * beta2**t / (1 - beta2**t)


def _rectification(beta2: float, rho: float) -> float:
    """The factor that rectifies an average of this length, above 4; Liu et al. 2020, algorithm 2."""
    most = 2 / (1 - beta2) - 1
    return math.sqrt((rho - 4) * (rho - 2) * most / ((most - 4) * (most - 2) * rho))


def radam(p: Tensor, g: Tensor, s: tuple[Tensor, ...], h: Any, t: float) -> tuple[Tensor, tuple[Tensor, ...]]:
    """RAdam; Liu et al. 2020, algorithm 2, with torch's threshold of 5."""
    p, g = _decayed(p, g, h)
    m, v = _lerp(s[0], g, h.beta1), _second(s[1], g, h.beta2)
    rho = _average_length(h.beta2, t)
    move = h.lr / (1 - h.beta1**t) * m
    if rho > 5:
        move = move * _rectification(h.beta2, rho) * math.sqrt(1 - h.beta2**t) / (v.sqrt() + h.eps)
    return p - move, (m, v)


def adagrad(p: Tensor, g: Tensor, s: tuple[Tensor, ...], h: Any, t: float) -> tuple[Tensor, tuple[Tensor, ...]]:
    """Adagrad; Duchi et al. 2011, figure 1."""
    g = _coupled(p, g, h.weight_decay)
    total = s[0] + g * g
    return p - h.lr / (1 + (t - 1) * h.lr_decay) * g / (total.sqrt() + h.eps), (total,)


def diffgrad(p: Tensor, g: Tensor, s: tuple[Tensor, ...], h: Any, t: float) -> tuple[Tensor, tuple[Tensor, ...]]:
    """diffGrad; Dubey et al. 2020, eq. (6) to (10)."""
    g = _coupled(p, g, h.weight_decay)
    m, v = _lerp(s[0], g, h.beta1), _second(s[1], g, h.beta2)
    friction = 1 / (1 + torch.exp(-(s[2] - g).abs()))
    size = h.lr * math.sqrt(1 - h.beta2**t) / (1 - h.beta1**t)
    return p - size * friction * m / (v.sqrt() + h.eps), (m, v, g)


def adabelief(p: Tensor, g: Tensor, s: tuple[Tensor, ...], h: Any, t: float) -> tuple[Tensor, tuple[Tensor, ...]]:
    """AdaBelief; Zhuang et al. 2020, algorithm 2, with the release's rectification and its eps that stays in v."""
    if h.decoupled:
        p = p * (1 - (1.0 if h.fixed_decay else h.lr) * h.weight_decay)
    else:
        g = _coupled(p, g, h.weight_decay)
    m = _lerp(s[0], g, h.beta1)
    v = _second(s[1], g - m, h.beta2) + h.eps
    largest = torch.maximum(s[2], v) if len(s) == 3 else v
    states = (m, v, largest)[: len(s)]
    base, root_bc2 = h.lr / (1 - h.beta1**t), math.sqrt(1 - h.beta2**t)
    if not h.rectify:
        return p - base * m / (largest.sqrt() / root_bc2 + h.eps), states
    rho = _average_length(h.beta2, t)
    if rho >= 5:
        return p - base * _rectification(h.beta2, rho) * root_bc2 * m / (v.sqrt() + h.eps), states
    return p - (base if h.degenerated_to_sgd else 0.0) * m, states


def grams(p: Tensor, g: Tensor, s: tuple[Tensor, ...], h: Any, t: float) -> tuple[Tensor, tuple[Tensor, ...]]:
    """Grams; Cao et al. 2024, algorithm 1: the size of Adam's step, the sign of the gradient."""
    p = p * (1 - h.lr * h.weight_decay)
    m, v = _lerp(s[0], g, h.beta1), _second(s[1], g, h.beta2)
    corrected = math.sqrt(1 - h.beta2**t) / (1 - h.beta1**t) if h.correct_bias else 1.0
    return p - h.lr * corrected * g.sign() * m.abs() / (v.sqrt() + h.eps), (m, v)


def _cube_root(x: Tensor) -> Tensor:
    """Float32's own power is only good to 1e-6 here: its exponent is rounded."""
    return x.double().pow(1 / 3).to(x.dtype)


def _over(numerator: Tensor, root: Tensor) -> Tensor:
    """Nothing moves where nothing was summed."""
    return torch.where(root == 0, torch.zeros_like(numerator), numerator / torch.where(root == 0, 1.0, root))


def madgrad(p: Tensor, g: Tensor, s: tuple[Tensor, ...], h: Any, t: float) -> tuple[Tensor, tuple[Tensor, ...]]:
    """MADGRAD; Defazio and Jelassi 2022, algorithm 1. Without momentum x0 is recovered from the iterate."""
    size = h.lr + h.eps if h.lr != 0 else 0.0
    weight, before = size * math.sqrt(t), p
    if not h.decoupled:
        g = _coupled(p, g, h.weight_decay)
    total, dual = s[:2]
    if weight != 0:  # a learning rate of 0 leaves only the pull towards z
        total, dual = total + weight * g * g, dual + weight * g
    if len(s) == 3:
        z = s[2] - _over(dual, _cube_root(total) + h.eps)
        p = h.momentum * p + (1 - h.momentum) * z
    elif weight != 0:
        x0 = p + _over(s[1], _cube_root(s[0]) + h.eps)
        p = x0 - _over(dual, _cube_root(total) + h.eps)
    if h.decoupled:
        p = p - size * h.weight_decay * before
    return p, (total, dual, *s[2:])


def mirror_madgrad(p: Tensor, g: Tensor, s: tuple[Tensor, ...], h: Any, t: float) -> tuple[Tensor, tuple[Tensor, ...]]:
    """Mirror MADGRAD of the same release: the sum is an average that forgets, z moves like a mirror-descent iterate."""
    size = h.lr + h.eps if h.lr != 0 else 0.0
    if not h.decoupled:
        g = _coupled(p, g, h.weight_decay)
    total = math.sqrt((t - 1) / t) * s[0] + g * g
    z = s[1] * (1 - size * h.weight_decay) if h.decoupled else s[1]
    if size != 0:
        z = z - _over(size * t ** (1 / 3) * g, _cube_root(total) + h.eps)
    return h.momentum * p + (1 - h.momentum) * z, (total, z)


def _in_sign(p: Tensor, update: Tensor, least: float) -> Tensor:
    moved = p * torch.exp((-p.sign() * update).clamp(-80, 80))
    return torch.where(moved.abs() < least, p.sign() * least, moved) if least > 0 else moved


def exponentiated_sgd(
    p: Tensor, g: Tensor, s: tuple[Tensor, ...], h: Any, t: float
) -> tuple[Tensor, tuple[Tensor, ...]]:
    """Exponentiated gradient under Dale's law, SGD form; Cornford et al. 2024, eq. (3)."""
    _, buffer = sgd(torch.zeros_like(p), g + h.weight_decay * p.sign(), s, h.without_decay, t)
    d = g + h.weight_decay * p.sign()
    if s:
        d = d + h.momentum * buffer[0] if h.nesterov else buffer[0]
    return _in_sign(p, h.lr * d, h.min_magnitude), buffer


def exponentiated_adamw(
    p: Tensor, g: Tensor, s: tuple[Tensor, ...], h: Any, t: float
) -> tuple[Tensor, tuple[Tensor, ...]]:
    """Exponentiated gradient under Dale's law, AdamW form: decay shrinks the magnitude."""
    p = p * (1 - h.lr * h.weight_decay)
    m, v = _lerp(s[0], g, h.beta1), _second(s[1], g, h.beta2)
    update = m / (v.sqrt() / math.sqrt(1 - h.beta2**t) + h.eps)
    return _in_sign(p, h.lr / (1 - h.beta1**t) * update, h.min_magnitude), (m, v)
