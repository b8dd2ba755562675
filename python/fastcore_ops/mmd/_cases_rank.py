"""Cases of the operators that rank projections."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from .. import _backend
from ..testing.cases import BadInput, Case, Inputs, Outputs, Tolerance
from . import _inputs_rank as inputs
from . import _reference_rank as reference


def run(name: str, names: tuple[str, ...], keep: tuple[str, ...]) -> Callable[..., Outputs]:
    """An operator as a Case's api; of its outputs those to ``keep``."""

    def api(backend: str, **arguments: Any) -> Outputs:
        device = next(value.device for value in arguments.values() if isinstance(value, Tensor))
        return truth(_backend.pick(name, device, backend, main=True), names, keep)(**arguments)

    return api


def truth(function: Callable[..., Any], names: tuple[str, ...], keep: tuple[str, ...]) -> Callable[..., Outputs]:
    def outputs(**arguments: Any) -> Outputs:
        found = function(*arguments.values())
        every = dict(zip(names, found if isinstance(found, tuple) else (found,), strict=True))
        return {name: every[name] for name in keep}

    return outputs


def spoilt(
    name: str,
    good: Callable[[torch.dtype, str, int], dict[str, Inputs]],
    variant: str,
    changes: dict[str, tuple[str, Callable[[Any], Any]]],
) -> Callable[[], list[BadInput]]:
    """One bad call per change of one argument; operators check what protects memory, and name operator and argument."""

    def bad_inputs() -> list[BadInput]:
        found = []
        for label, (argument, change) in changes.items():

            def call(argument: str = argument, change: Callable[[Any], Any] = change) -> Any:
                arguments = good(torch.float64, "cpu", 0)[variant]
                arguments[argument] = change(arguments[argument])
                return _backend.pick(name, torch.device("cpu"))(*arguments.values())

            found.append(BadInput(label, call, RuntimeError, (name, f"`{argument}`")))
        return found

    return bad_inputs


def in_float64(inputs: Inputs, dtype: torch.dtype) -> float:
    """Of outputs that are float64 sums of exact differences, whatever the dtype of the points."""
    return 2.2e-16 / torch.finfo(dtype).eps


_RANK = ("grad_x", "grad_y", "value", "potential_x", "potential_y")
_RANK_SORTED = ("grad_x", "value", "potential_x")
_WASSERSTEIN = ("grad_x", "grad_y", "value")
_VALUES = {
    "value": Tolerance(60, worst=14),
    "potential_x": Tolerance(150, worst=50),
    "potential_y": Tolerance(150, worst=51),
}
# Running sums of signed weights cancel, and a GPU takes them in another order; without weights the worst is 0.91.
_OF_SIGNED = Tolerance(20, worst=7.5)
_BAD_RANK: dict[str, tuple[str, Callable[[Any], Any]]] = {
    "x_strided": ("x", lambda x: x.t().contiguous().t()),
    "x_half": ("x", lambda x: x.half()),
    "x_flat": ("x", lambda x: x[0]),
    "weights_short": ("x_weights", lambda w: w[..., 1:].contiguous()),
    "weights_float32": ("x_weights", lambda w: w.float()),
    "weights_alone": ("x_weights", lambda w: None),
    "unbiased": ("unbiased", lambda u: True),
}


RANK_CASES = [
    Case(
        name="mmd_rank",
        api=run("mmd_rank", _RANK, _RANK[:2]),
        reference=truth(reference.rank, _RANK, _RANK[:2]),
        inputs=inputs.rank_inputs,
        tolerance={"grad_x": _OF_SIGNED, "grad_y": _OF_SIGNED},
        main_op="mmd_rank",
        ops=("mmd_rank",),
        bad_inputs=spoilt(
            "mmd_rank",
            inputs.rank_inputs,
            "weighted",
            {
                **_BAD_RANK,
                "y_float32": ("y", lambda y: y.float()),
                "y_slices": ("y", lambda y: y[1:].contiguous()),
                "y_empty": ("y", lambda y: y[:, :0].contiguous()),
                "y_weights_rows": ("y_weights", lambda w: w.expand(2, -1).contiguous()),
            },
        ),
    ),
    Case(
        name="mmd_rank_values",
        api=run("mmd_rank", _RANK, _RANK[2:]),
        reference=truth(reference.rank, _RANK, _RANK[2:]),
        inputs=inputs.rank_inputs,
        tolerance=_VALUES,
        condition=in_float64,
        main_op="mmd_rank",
    ),
    Case(
        name="mmd_sort",
        api=run("mmd_sort", ("sorted", "cumulative"), ("sorted", "cumulative")),
        reference=truth(reference.sort, ("sorted", "cumulative"), ("sorted", "cumulative")),
        inputs=inputs.sort_inputs,
        tolerance={"sorted": Tolerance(0, worst=0), "cumulative": Tolerance(6, worst=2.2)},
        condition=in_float64,
        main_op="mmd_sort",
        ops=("mmd_sort",),
        bad_inputs=spoilt(
            "mmd_sort",
            inputs.sort_inputs,
            "weighted",
            {
                "y_strided": ("y", lambda y: y.t().contiguous().t()),
                "weights_long": ("y_weights", lambda w: torch.cat([w, w])),
            },
        ),
    ),
    Case(
        name="mmd_rank_sorted",
        api=run("mmd_rank_sorted", _RANK_SORTED, _RANK_SORTED[:1]),
        reference=truth(reference.rank_sorted, _RANK_SORTED, _RANK_SORTED[:1]),
        inputs=inputs.rank_sorted_inputs,
        tolerance={"grad_x": _OF_SIGNED},
        main_op="mmd_rank_sorted",
        ops=("mmd_rank_sorted",),
        bad_inputs=spoilt(
            "mmd_rank_sorted",
            inputs.rank_sorted_inputs,
            "weighted",
            {
                **_BAD_RANK,
                "sorted_float32": ("sorted", lambda y: y.float()),
                "cumulative_short": ("cumulative", lambda c: c[:, 1:].contiguous()),
            },
        ),
    ),
    Case(
        name="mmd_rank_sorted_values",
        api=run("mmd_rank_sorted", _RANK_SORTED, _RANK_SORTED[1:]),
        reference=truth(reference.rank_sorted, _RANK_SORTED, _RANK_SORTED[1:]),
        inputs=inputs.rank_sorted_inputs,
        tolerance={name: _VALUES[name] for name in _RANK_SORTED[1:]},
        condition=in_float64,
        main_op="mmd_rank_sorted",
    ),
    Case(
        name="mmd_permutation",
        api=run("mmd_permutation", ("value",), ("value",)),
        reference=truth(reference.permutation, ("value",), ("value",)),
        inputs=inputs.permutation_inputs,
        tolerance={"value": Tolerance(10, worst=1.8)},
        condition=in_float64,
        main_op="mmd_permutation",
        ops=("mmd_permutation",),
        bad_inputs=spoilt(
            "mmd_permutation",
            inputs.permutation_inputs,
            "small",
            {
                "z_flat": ("z", lambda z: z[0]),
                "z_long": ("labels", lambda labels: labels[:, 1:].contiguous()),
                "labels_bool": ("labels", lambda labels: labels.bool()),
                "labels_uneven": ("labels", lambda labels: torch.cat([labels, 1 - labels])),
                "labels_of_one_side": ("labels", torch.ones_like),
            },
        ),
    ),
    Case(
        name="mmd_wasserstein",
        api=run("mmd_wasserstein", _WASSERSTEIN, _WASSERSTEIN),
        reference=truth(reference.wasserstein, _WASSERSTEIN, _WASSERSTEIN),
        inputs=inputs.wasserstein_inputs,
        tolerance={
            "grad_x": Tolerance(4, worst=0.93),
            "grad_y": Tolerance(6, worst=1.5),
            "value": Tolerance(12, worst=3),
        },
        main_op="mmd_wasserstein",
        ops=("mmd_wasserstein",),
        bad_inputs=spoilt(
            "mmd_wasserstein",
            inputs.wasserstein_inputs,
            "unequal",
            {
                "y_float32": ("y", lambda y: y.float()),
                "y_slices": ("y", lambda y: y[1:].contiguous()),
                "x_empty": ("x", lambda x: x[:, :0].contiguous()),
                "x_strided": ("x", lambda x: x.t().contiguous().t()),
                "p_below_1": ("p", lambda p: 0.5),
            },
        ),
    ),
]
