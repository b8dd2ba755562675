"""What one step makes of the hyper-parameters: `prepare` of csrc/optim/*.h, for all parameters of a call at once.

In torch, in float64, on whatever device the step counters or the learning rate are: nothing is read back from a GPU. `h`
gives the hyper-parameters as numbers, but the learning rate `lr` as a tensor; `t` the step of each parameter, from 1.
Each function returns the scalars in the order in which its rule reads them.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor

Scalars = list[Any]  # numbers and tensors


def _bias_correction(beta: float, t: Tensor) -> Tensor:
    """1 - beta^t, without cancellation for beta near 1 and small t."""
    return -torch.expm1(t * math.log(beta)) if beta > 0 else torch.ones_like(t)


def _decays(h: SimpleNamespace) -> Scalars:
    """Factor of the parameter and share of it in the gradient."""
    return [1 - h.lr * h.weight_decay, 0.0] if h.decoupled else [1.0, h.weight_decay]


def _averages(h: SimpleNamespace) -> Scalars:
    return [1 - h.beta1, h.beta2, 1 - h.beta2]


def adam(h: SimpleNamespace, t: Tensor) -> Scalars:
    size, root = h.lr / _bias_correction(h.beta1, t), _bias_correction(h.beta2, t).sqrt()
    return [*_decays(h), *_averages(h), size, 1 / root, h.eps]


def _half_life(beta: float) -> float:
    return -math.log(2.0) / math.log(beta + 1e-8) - 1


def ademamix(h: SimpleNamespace, t: Tensor) -> Scalars:
    alpha, beta3 = h.alpha, h.beta3
    if h.alpha_warmup > 0:
        alpha = torch.where(t < h.alpha_warmup, h.alpha * t / h.alpha_warmup, h.alpha)
    if h.beta3_warmup > 0:
        x = t / h.beta3_warmup
        grown = torch.pow(0.5, 1 / ((1 - x) * _half_life(h.beta1) + x * _half_life(h.beta3) + 1))
        beta3 = torch.where(t < h.beta3_warmup, grown, h.beta3)
    inverse_bc1, root = 1 / _bias_correction(h.beta1, t), _bias_correction(h.beta2, t).sqrt()
    first = [1 - h.beta1, inverse_bc1, 1 - beta3, alpha, h.beta2, 1 - h.beta2]
    return [*first, 1 / root, h.eps, h.weight_decay, h.lr]


def nadam_momentum(h: SimpleNamespace, t: Tensor) -> Tensor:
    return h.beta1 * (1 - 0.5 * torch.pow(0.96, t * h.momentum_decay))


def nadam(h: SimpleNamespace, t: Tensor) -> Scalars:
    """`h.product`: the product of the momenta, this step's included."""
    mu, following = nadam_momentum(h, t), nadam_momentum(h, t + 1)
    take_gradient, take_average = h.lr * (1 - mu) / (1 - h.product), h.lr * following / (1 - h.product * following)
    inverse_bc2 = 1 / _bias_correction(h.beta2, t)
    return [*_decays(h), *_averages(h), inverse_bc2, h.eps, take_gradient, take_average]


def _rectification(beta2: float, t: Tensor) -> tuple[Tensor, Tensor]:
    """Length of the simple moving average, and the factor of the step once it is long enough."""
    most, bc2 = 2 / (1 - beta2) - 1, _bias_correction(beta2, t)
    rho = most - 2 * t * torch.pow(beta2, t) / bc2
    factor = torch.sqrt((rho - 4) * (rho - 2) * most / ((most - 4) * (most - 2) * rho))
    return rho, factor * bc2.sqrt()


def radam(h: SimpleNamespace, t: Tensor) -> Scalars:
    rho, factor = _rectification(h.beta2, t)
    base, rectified = h.lr / _bias_correction(h.beta1, t), rho > 5
    return [*_decays(h), *_averages(h), torch.where(rectified, base * factor, base), h.eps, rectified]


def adabelief(h: SimpleNamespace, t: Tensor) -> Scalars:
    decays = [1 - (1.0 if h.fixed_decay else h.lr) * h.weight_decay, 0.0] if h.decoupled else [1.0, h.weight_decay]
    base = h.lr / _bias_correction(h.beta1, t)
    first = [*decays, *_averages(h), h.eps]
    if not h.rectify:
        return [*first, base, 1 / _bias_correction(h.beta2, t).sqrt(), 1.0, 0.0]
    rho, factor = _rectification(h.beta2, t)
    adaptive = rho >= 5  # RAdam's own rule has > 5
    return [*first, torch.where(adaptive, base * factor, base if h.degenerated_to_sgd else 0.0), 1.0, adaptive, 1.0]


def _scaled(h: SimpleNamespace, t: Tensor) -> Tensor:
    return h.lr * _bias_correction(h.beta2, t).sqrt() / _bias_correction(h.beta1, t)


def grams(h: SimpleNamespace, t: Tensor) -> Scalars:
    return [1 - h.lr * h.weight_decay, *_averages(h), _scaled(h, t) if h.correct_bias else h.lr, h.eps]


def sgd(h: SimpleNamespace, t: Tensor) -> Scalars:
    """The first step puts the gradient into the buffer undamped."""
    first = (t == 1).double()
    keep, take = (1 - first) * h.momentum, first + (1 - first) * (1 - h.dampening)
    return [h.lr, h.weight_decay, keep, take, h.momentum, float(h.nesterov != 0)]


def lion(h: SimpleNamespace, t: Tensor) -> Scalars:
    return [1 - h.lr * h.weight_decay, h.lr, 1 - h.beta1, 1 - h.beta2]


def adagrad(h: SimpleNamespace, t: Tensor) -> Scalars:
    return [h.lr / (1 + (t - 1) * h.lr_decay), h.weight_decay, h.eps]


def diffgrad(h: SimpleNamespace, t: Tensor) -> Scalars:
    return [h.weight_decay, *_averages(h), _scaled(h, t), h.eps]


def _size(h: SimpleNamespace) -> Tensor:
    """MADGRAD's learning rate."""
    return torch.where(h.lr != 0, h.lr + h.eps, 0.0)


def madgrad(h: SimpleNamespace, t: Tensor) -> Scalars:
    size = _size(h)
    decays = [0.0, size * h.weight_decay] if h.decoupled else [h.weight_decay, 0.0]
    return [*decays, size * t.sqrt(), h.momentum, 1 - h.momentum, h.eps]


def mirror_madgrad(h: SimpleNamespace, t: Tensor) -> Scalars:
    size = _size(h)
    decays = [0.0, 1 - size * h.weight_decay] if h.decoupled else [h.weight_decay, 1.0]
    return [*decays, ((t - 1) / t).sqrt(), size * torch.pow(t, 1 / 3), h.momentum, 1 - h.momentum, h.eps]


def exponentiated_sgd(h: SimpleNamespace, t: Tensor) -> Scalars:
    return [*sgd(h, t), h.min_magnitude]


def exponentiated_adamw(h: SimpleNamespace, t: Tensor) -> Scalars:
    size, root = h.lr / _bias_correction(h.beta1, t), _bias_correction(h.beta2, t).sqrt()
    return [1 - h.lr * h.weight_decay, *_averages(h), size, 1 / root, h.eps, h.min_magnitude]


_ADAM = ("lr", "beta1", "beta2", "eps", "weight_decay")
_SGD = ("lr", "momentum", "dampening", "weight_decay", "nesterov")
_MADGRAD = ("lr", "momentum", "weight_decay", "eps", "decoupled")

# Names of the hyper-parameters in the operators' order, and the function.
PREPARE: dict[str, tuple[tuple[str, ...], Callable[[SimpleNamespace, Tensor], Scalars]]] = {
    "adam": ((*_ADAM, "decoupled"), adam),
    "ademamix": (
        ("lr", "beta1", "beta2", "beta3", "alpha", "eps", "weight_decay", "alpha_warmup", "beta3_warmup"), ademamix,
    ),
    "nadam": ((*_ADAM, "decoupled", "momentum_decay"), nadam),
    "radam": ((*_ADAM, "decoupled"), radam),
    "adabelief": ((*_ADAM, "decoupled", "fixed_decay", "rectify", "degenerated_to_sgd"), adabelief),
    "grams": ((*_ADAM, "correct_bias"), grams),
    "sgd": (_SGD, sgd),
    "lion": (("lr", "beta1", "beta2", "weight_decay"), lion),
    "adagrad": (("lr", "lr_decay", "weight_decay", "eps"), adagrad),
    "diffgrad": (_ADAM, diffgrad),
    "madgrad": (_MADGRAD, madgrad),
    "mirror_madgrad": (_MADGRAD, mirror_madgrad),
    "exponentiated_sgd": ((*_SGD, "min_magnitude"), exponentiated_sgd),
    "exponentiated_adamw": ((*_ADAM, "min_magnitude"), exponentiated_adamw),
}  # fmt: skip
