"""L-DoG."""

from __future__ import annotations

from typing import Any

from ._call import Call, Scaling
from ._dog import SUMS, DoG, step_sizes
from ._optimizer import FusedOptimizer
from ._rule import Scalar


class LDoG(DoG):
    """L-DoG: DoG with a step size for each parameter tensor.

    As :class:`DoG`, but ``rbar``, ``G`` and ``eta`` belong to each parameter and stand in its state.

    Parameters
    ----------
    params : iterable
        Parameters, named parameters or groups, as for ``torch.optim``.
    lr : float or Tensor, default 1
        Factor of the step, to be left alone.
    reps_rel : float, default 1e-6
        First distance, relative to the size of the parameter; 1e-4 with batch normalisation.
    weight_decay : float, default 0
        Weight decay, in the gradient.
    eps : float, default 1e-8
        Added to the first sum of squares.
    init_eta : float, optional
        The first step's ``eta``, instead of ``reps_rel``.
    **switches : Switches
        What every optimizer here takes: ``maximize``, ``fused``, ``capturable``, ``rounding``, ``seed``,
        ``master_weights`` and more; see :class:`fastcore_ops.optim.Switches`. ``differentiable`` is refused.

    References
    ----------
    M. Ivgi, O. Hinder, Y. Carmon, "DoG is SGD's Best Friend: A Parameter-Free Dynamic Step Size Schedule", ICML 2023,
    arXiv:2302.12022.

    Examples
    --------
    >>> import fastcore_ops as fo, torch
    >>> model = torch.nn.Linear(3, 1)
    >>> optimizer = fo.optim.LDoG(model.parameters())
    >>> model(torch.ones(1, 3)).sum().backward()
    >>> optimizer.step()
    """

    def scalars(self, group: dict[str, Any]) -> tuple[Scalar, ...]:
        """Numbers that are kept for each parameter."""
        return Scalar("rbar"), Scalar("G"), Scalar("eta")

    def looks_at_all(self, group: dict[str, Any]) -> str | None:
        """Norms are over one parameter."""
        return FusedOptimizer.looks_at_all(self, group)

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Add a group as every optimizer does."""
        FusedOptimizer.add_param_group(self, param_group)

    def sum_up(self, calls: list[Call], scaling: Scaling) -> None:
        """The size of each parameter's step."""
        for call in calls:
            moved, squares, size = call.measure(SUMS.op, scaling, self.hyper(call.group), call.flat.states)
            kept = {name: call.scalar(name) for name in ("rbar", "G", "eta")}
            made = step_sizes(call.group, moved, squares, size, kept["rbar"].to(moved), kept["G"].to(moved))
            for name, value in made.items():
                call.set_scalar(name, scaling.taken(value, kept[name].to(value)))
            call.numbers = call.scalar("eta").to(call.device)[None]
