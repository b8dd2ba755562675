"""The barycentric map of a solved problem between points, at new points."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from .. import _backend
from .._arrays import is_numpy, to_numpy, to_tensor
from .._checks import reject, require_real
from ._envelope import NoGradientYet
from ._transport_result import OTResult


def transport_map(result: OTResult, *, reverse: bool = False) -> Callable[[Any], Any]:
    """Return the map ``T(x) = sum_j w_j(x) y_j`` with ``w_j`` proportional to ``b_j exp((g_j - c(x, y_j)) / reg)``.

    Parameters
    ----------
    result : OTResult
        Solved between points (``PointCloud``).
    reverse : bool, default False
        Map from the side of y to the side of x instead, with the same plan.

    Returns
    -------
    callable
        Takes points of shape (k, d) (any k, also points that the solve has not seen) and returns their images, same
        shape, dtype and kind. At the x of the problem it is the barycentric projection of the plan.

    Raises
    ------
    TypeError
        When the result was solved from a cost matrix, which says nothing about new points.

    References
    ----------
    A.-A. Pooladian, J. Niles-Weed, "Entropic estimation of optimal transport maps", 2021, arXiv:2109.12004.

    Examples
    --------
    >>> import fastcore_ops as fo, torch
    >>> x, y = torch.rand(50, 2), torch.rand(60, 2) + 1
    >>> move = fo.ot.transport_map(fo.sinkhorn_newton(fo.ot.PointCloud(x, y), reg=0.1))
    >>> move(torch.rand(5, 2)).shape
    torch.Size([5, 2])
    """
    problem = result.problem
    if not problem.is_points:
        reject(
            "transport_map",
            "a result between points (PointCloud)",
            "a cost matrix",
            "Pass points as the cost.",
            TypeError,
        )
    side = 0 if reverse else 1
    there, mass = problem.inputs[side].detach(), problem.inputs[side + 2].detach()
    metric, reg = problem.source[2], result.reg
    potential = result.detached_potentials()[side]
    massive = mass > 0
    targets = there[massive].double()
    middle = targets.mean(0)
    centred = (targets - middle).to(there.dtype)
    absolute = potential[massive] + reg * (mass[massive] / mass.sum()).log()

    def move(x_new: Any) -> Any:
        """Images of new points."""
        points = to_tensor("transport_map", "x_new", x_new)
        require_real("transport_map", "x_new", points)
        if points.dim() != 2 or points.shape[1] != there.shape[1]:
            reject("transport_map", f"`x_new` of shape (k, {there.shape[1]})", tuple(points.shape))
        if not bool(points.detach().isfinite().all()):
            reject("transport_map", "`x_new` to be finite", "NaN or infinity")
        if points.shape[0] == 0:
            return x_new
        product = _backend.pick("ot_plan_product", there.device, result.backend)
        moved = (points.detach().to(there.device).double() - middle).to(there.dtype).contiguous()
        ones = torch.ones(points.shape[0], dtype=torch.float64, device=there.device)
        source = (moved, centred.t().contiguous(), metric, None, None)
        coordinates = targets.t().contiguous()
        images = product(*source, absolute, ones, reg, coordinates, ones.new_zeros(0, points.shape[0]))[0].t()
        images = images.to(points.dtype if points.is_floating_point() else torch.float64).contiguous()
        if is_numpy(x_new):
            return to_numpy(images)
        sources = (points, *problem.inputs)
        asked = torch.is_grad_enabled() and any(source.requires_grad for source in sources)
        return NoGradientYet.apply(images, "transport_map()", *sources) if asked else images

    return move
