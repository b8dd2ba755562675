"""DoG."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, ClassVar, Unpack

import torch
from torch import Tensor

from .. import _backend
from . import _reference_two_phase
from ._call import Call, Scaling, total
from ._flat import EXTRA_NAMES, is_distributed
from ._kernel import GroupKernel
from ._optimizer import FusedOptimizer
from ._reference_step import read_parameter
from ._rule import Rule, State, Sums, factor
from ._switches import Switches, rounding_code

SCALED = Rule("scaled", _reference_two_phase.scaled, ("lr", "weight_decay"), numbers=1)
SUMS = Sums("dog_sums", _reference_two_phase.dog_sums, ("lr", "weight_decay"))


class DoG(FusedOptimizer):
    """DoG: steps as long as the distance travelled over the root of the sum of squared gradients; no rate to tune.

    ``rbar = max(rbar, |x - x0|)``, ``G += |g|^2``, ``eta = lr * rbar / sqrt(G)``, ``p -= eta * g``, with norms over a whole
    parameter group; at the first step ``rbar = reps_rel * (1 + |x|)`` and ``G`` takes ``eps`` in. The group holds ``rbar``,
    ``G`` and ``eta`` as tensors. Take the average of the iterates:
    :class:`fastcore_ops.optim.PolynomialDecayAverager`.

    Parameters
    ----------
    params : iterable
        Parameters, named parameters or groups, as for ``torch.optim``.
    lr : float or Tensor, default 1
        Factor of the step, to be left alone.
    reps_rel : float, default 1e-6
        First distance, relative to the size of the parameters; 1e-4 with batch normalisation.
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
    >>> optimizer = fo.optim.DoG(model.parameters())
    >>> averager = fo.optim.PolynomialDecayAverager(model)
    >>> model(torch.ones(1, 3)).sum().backward()
    >>> optimizer.step()
    >>> averager.step()
    """

    has_sums: ClassVar[bool] = True
    takes_complex: ClassVar[bool] = False
    rule = SCALED

    def __init__(
        self,
        params: Any,
        lr: float | Tensor = 1.0,
        reps_rel: float = 1e-6,
        weight_decay: float = 0.0,
        eps: float = 1e-8,
        init_eta: float | None = None,
        **switches: Unpack[Switches],
    ) -> None:
        defaults = {
            "lr": lr,
            "reps_rel": reps_rel,
            "weight_decay": weight_decay,
            "eps": eps,
            "init_eta": init_eta,
        }
        super().__init__(params, defaults, dict(switches))

    def states(self, group: dict[str, Any]) -> tuple[State, ...]:
        """States in the kernel's order."""
        return (State("x0", like_parameter=True, copies_parameter=True),)

    def looks_at_all(self, group: dict[str, Any]) -> str | None:
        """Norms are over the group."""
        return "the rule"

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Add a group with numbers of its own."""
        super().add_param_group(param_group)
        for name in ("rbar", "G", "eta"):
            self.param_groups[-1].setdefault(name, torch.zeros((), dtype=torch.float64))

    def sum_up(self, calls: list[Call], scaling: Scaling) -> None:
        """The size of each group's step."""
        for call in calls:
            call.sums = call.measure(SUMS.op, scaling, self.hyper(call.group), call.flat.states)
        for group in self.param_groups:
            of_group = [call for call in calls if call.group is group]
            if of_group:
                self._size_group(group, of_group, scaling)

    def apply(self, kernel: GroupKernel, call: Call, scaling: Scaling) -> None:
        """The step, which does not look at where it began."""
        operator = _backend.pick(f"optim_{self.rule.op}_", call.device, call.forced)
        call.step(operator, self.hyper(call.group), scaling, [])

    def _size_group(self, group: dict[str, Any], calls: list[Call], scaling: Scaling) -> None:
        device = calls[0].device
        moved, squares, size = total(calls, device)
        absent = [p for p in group["params"] if p.grad is None]
        moved = moved + self._moved(group, absent, device)
        size = size + _square_norm([self._kept(group, p) for p in absent], device)
        kept = {name: move_number([group], name, device) for name in ("rbar", "G", "eta")}
        made = step_sizes(group, moved, squares, size, kept["rbar"], kept["G"])
        for name, value in made.items():
            write_number([group], name, scaling.taken(value, kept[name]))
        for call in calls:
            call.numbers = group["eta"].to(call.device).expand(1, len(call.params))

    def _moved(self, group: dict[str, Any], params: Iterable[Tensor], device: torch.device) -> Tensor:
        """``|x - x0|^2`` of parameters that have no gradient now."""
        starts = [(self._kept(group, p), self.state[p]["x0"]) for p in params if self.state.get(p)]
        return _square_norm([p.double() - start.double() for p, start in starts], device)

    def _kept(self, group: dict[str, Any], p: Tensor) -> Tensor:
        """A parameter with what its rounding mode keeps beside it, as the sums of those with a gradient have it."""
        code = rounding_code(group)
        extra = self.state[p].get(EXTRA_NAMES[code]) if code in EXTRA_NAMES and self.state.get(p) else None
        if extra is None:
            return p.detach()
        if not is_distributed(p):
            return read_parameter(p.detach(), extra, code)
        from ._distributed import as_its_parameter, local  # needs torch.distributed

        return as_its_parameter(read_parameter(local(p), local(extra), code), p)


def move_number(groups: list[dict[str, Any]], name: str, device: torch.device) -> Tensor:
    """A number that groups share, put where the parameters are; there it is written to, and a CUDA graph goes on counting."""
    kept: Tensor = groups[0][name]
    if kept.device != device:
        kept = kept.to(device)
    for group in groups:
        group[name] = kept
    return kept


def write_number(groups: list[dict[str, Any]], name: str, value: Tensor) -> None:
    """Write to a number that groups share, in place."""
    if not torch.compiler.is_compiling():
        groups[0][name].copy_(value)
        return
    for group in groups:  # a trace would write to a copy of what stands in a group
        group[name] = value


def _square_norm(tensors: Iterable[Tensor], device: torch.device) -> Tensor:
    total = torch.zeros((), dtype=torch.float64, device=device)
    for x in tensors:
        square: Any = x.detach().double().square().sum()
        total = total + (square.full_tensor() if is_distributed(square) else square).to(device)
    return total


def step_sizes(
    group: dict[str, Any], moved: Tensor, squares: Tensor, size: Tensor, rbar: Tensor, kept: Tensor
) -> dict[str, Tensor]:
    """``rbar``, ``G`` and ``eta`` after this step; Ivgi et al. 2023, algorithm 1. ``kept``, G, is 0 before the first step.

    ``moved``, ``squares`` and ``size`` are the squares of ``|x - x0|``, ``|g|`` and ``|x|``; all may hold many parameters.
    """
    first = kept == 0
    init_eta = group["init_eta"]
    start = 0.0 if init_eta is not None else float(group["reps_rel"]) * (1 + size.sqrt())
    rbar = torch.where(first, start + torch.zeros_like(rbar), torch.maximum(rbar, moved.sqrt()))
    whole = kept + squares + float(group["eps"]) * first.to(kept.dtype)
    eta = torch.where(whole > 0, factor(group["lr"], rbar.device) * rbar / whole.sqrt(), torch.zeros_like(rbar))
    eta = torch.where(whole.isnan(), whole, eta)
    if init_eta is not None:
        eta = torch.where(first, float(init_eta), eta)
    return {"rbar": rbar, "G": whole, "eta": eta}
