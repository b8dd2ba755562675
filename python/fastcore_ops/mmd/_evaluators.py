"""What a walk computes on each block of projections, by kernel; and the same as differentiable torch."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from .. import _backend
from . import _profiles, _walk
from ._differentiable_modes import slice_values
from ._directions import slicing_constant
from ._kernels import Kernel
from ._plan import Evaluate, Plan

Outputs = tuple[Tensor, Tensor, Tensor, Tensor, Tensor]
_KINKED = ("riesz", "laplace", "log", "thin_plate")  # no modes alone: a sort or sums of exponentials


def is_ranked(kernel: Kernel) -> bool:
    """Whether the kernel is -|v|, whose slices need ranks alone."""
    return kernel.name == "riesz" and kernel.shape == 1.0


def evaluator(
    kernel: Kernel, d: int, unbiased: bool, dtype: torch.dtype, device: torch.device, backend: str | None
) -> tuple[Evaluate, float]:
    """The distance of a slice up to a factor, and the factor, for directions on the sphere of R^d."""
    if is_ranked(kernel):
        rank = _backend.pick("mmd_rank", device, backend, main=True)

        def ranked(
            start: int, stop: int, tx: Tensor, ty: Tensor, a: Tensor | None, b: Tensor | None, outputs: int
        ) -> Outputs:
            found: Outputs = rank(tx, ty, a, b, unbiased, outputs)
            return found

        return ranked, slicing_constant(d, 1.0)
    _backend.pick(
        "mmd_soe" if kernel.name in ("riesz", "log", "thin_plate") else "mmd_fourier", device, backend, main=True
    )
    slices = profile(kernel, d, dtype)

    def smooth(
        start: int, stop: int, tx: Tensor, ty: Tensor, a: Tensor | None, b: Tensor | None, outputs: int
    ) -> Outputs:
        return slices(tx, ty, a, b, unbiased, outputs, backend)

    return smooth, 1.0


def profile(kernel: Kernel, d: int, dtype: torch.dtype) -> Callable[..., Outputs]:
    """``_profiles.profile`` of a kernel whose numbers are known."""
    name = {"riesz": "r", "matern": "nu", "rational_quadratic": "alpha", "imq": "beta"}.get(kernel.name)
    numbers = {} if name is None else {name: kernel.shape}
    return _profiles.profile(kernel.name, d, bandwidth=kernel.scale, dtype=dtype, **numbers)


def differentiable(kernel: Kernel, d: int, unbiased: bool, dtype: torch.dtype) -> Callable[..., Tensor] | None:
    """Value (B,) of a plan as torch that autograd can go through twice; None where the Hessian of slices misleads."""
    if kernel.name in _KINKED or (kernel.name == "matern" and kernel.shape == 0.5):
        return None

    def value(plan: Plan, x: Tensor, y: Tensor, a: Tensor | None, b: Tensor | None) -> Tensor:
        rows = plan.slices.explicit(x.shape[-1]).double()
        shift = _walk.centre(x.detach(), y.detach())
        clouds = [(cloud - shift).double() @ rows.t() for cloud in (x, y)]
        found = []
        for i in range(x.shape[0]):
            of_x, of_y = (None if w is None else w[i] for w in (a, b))
            tx, ty = (cloud[i].t() for cloud in clouds)
            found.append(slice_values(kernel, d, dtype == torch.float64, tx, ty, of_x, of_y, unbiased).sum())
        total = torch.stack(found) * (plan.factor / plan.total)
        return total.to(x.dtype)

    return value
