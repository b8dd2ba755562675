"""AdEMAMix in torch operations, twice: a tensor at a time, and all tensors of a group at once (`torch._foreach_*`).

No release of AdEMAMix is on PyPI. Both are written here, after the paper's algorithm, in the manner of published code: one
in-place operation after the other, a temporary for the denominator and one for the update.
"""

from __future__ import annotations

from math import sqrt
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer


class _AdEMAMix(Optimizer):
    def __init__(
        self,
        params: Any,
        lr: float = 1e-3,
        betas: tuple[float, float, float] = (0.9, 0.999, 0.9999),
        alpha: float = 2.0,
        eps: float = 1e-8,
        weight_decay: float = 0.0,
    ) -> None:
        defaults = {"lr": lr, "betas": betas, "alpha": alpha, "eps": eps, "weight_decay": weight_decay, "count": 0}
        super().__init__(params, defaults)

    def states(self, p: Tensor) -> dict[str, Any]:
        state = self.state[p]
        if not state:
            state.update({name: torch.zeros_like(p) for name in ("fast", "slow", "square")})
        return state

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:
        for group in self.param_groups:
            group["count"] += 1
            beta1, beta2, _ = group["betas"]
            corrections = 1 - beta1 ** group["count"], sqrt(1 - beta2 ** group["count"])
            self.update(group, [p for p in group["params"] if p.grad is not None], *corrections)

    def update(self, group: dict[str, Any], params: list[Tensor], correction: float, root: float) -> None:
        raise NotImplementedError


class LoopAdEMAMix(_AdEMAMix):
    """A tensor at a time."""

    def update(self, group: dict[str, Any], params: list[Tensor], correction: float, root: float) -> None:
        beta1, beta2, beta3 = group["betas"]
        for p in params:
            g, state = p.grad, self.states(p)
            fast, slow, square = state["fast"], state["slow"], state["square"]
            fast.mul_(beta1).add_(g, alpha=1 - beta1)
            slow.mul_(beta3).add_(g, alpha=1 - beta3)
            square.mul_(beta2).addcmul_(g, g, value=1 - beta2)
            denominator = square.sqrt().div_(root).add_(group["eps"])
            direction = fast.div(correction).add_(slow, alpha=group["alpha"]).div_(denominator)
            if group["weight_decay"]:
                direction.add_(p, alpha=group["weight_decay"])
            p.add_(direction, alpha=-group["lr"])


class ForeachAdEMAMix(_AdEMAMix):
    """All tensors of a group in each operation."""

    def update(self, group: dict[str, Any], params: list[Tensor], correction: float, root: float) -> None:
        beta1, beta2, beta3 = group["betas"]
        grads = [p.grad for p in params]
        states = [self.states(p) for p in params]
        fast, slow, square = ([state[name] for state in states] for name in ("fast", "slow", "square"))
        torch._foreach_lerp_(fast, grads, 1 - beta1)
        torch._foreach_lerp_(slow, grads, 1 - beta3)
        torch._foreach_mul_(square, beta2)
        torch._foreach_addcmul_(square, grads, grads, 1 - beta2)
        denominators = torch._foreach_sqrt(square)
        torch._foreach_div_(denominators, root)
        torch._foreach_add_(denominators, group["eps"])
        directions = torch._foreach_div(fast, correction)
        torch._foreach_add_(directions, slow, alpha=group["alpha"])
        if group["weight_decay"]:
            torch._foreach_mul_(params, 1 - group["lr"] * group["weight_decay"])
        torch._foreach_addcdiv_(params, directions, denominators, -group["lr"])
