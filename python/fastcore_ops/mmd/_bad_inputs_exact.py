"""Calls of the exact distances that must be refused, with words of the message."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from ..testing.cases import BadInput
from ._divergence import cauchy_schwarz_divergence, cauchy_schwarz_mutual_information
from ._exact import energy_distance, mmd


def _cloud(n: int, d: int) -> torch.Tensor:
    return torch.linspace(0.0, 1.0, n * d).reshape(n, d)


def _shape_calls(name: str, function: Callable[..., Any]) -> list[BadInput]:
    """What every call on two clouds refuses."""
    x, y = _cloud(5, 2), _cloud(5, 2)

    def bad(label: str, error: type[Exception], words: tuple[str, ...], *clouds: Any) -> BadInput:
        return BadInput(label, lambda: function(*clouds), error, (name, *words))

    return [
        bad("points_on_the_line", ValueError, ("`x`", "x[:, None]"), x[:, 0], y),
        bad("y_on_the_line", ValueError, ("`y`", "y[:, None]"), x, y[:, 0]),
        bad("no_points", ValueError, ("`x`", "(0, 2)"), x[:0], y),
        bad("no_dimensions", ValueError, ("`y`", "(5, 0)"), x, y[:, :0]),
        bad("integers", TypeError, ("`x`", "x.float()"), x.long(), y),
        bad("booleans", TypeError, ("`y`", "y.float()"), x, y > 0.5),
        bad("complex", TypeError, ("`x`", "complex64"), x.to(torch.complex64), y),
        bad("two_dtypes", TypeError, ("`y`", "float64", "Convert"), x, y.double()),
        bad("half_and_float", TypeError, ("`y`", "float32", "Convert"), x.half(), y),
        bad("batches", ValueError, ("`x` and `y`", "broadcast"), torch.ones(2, 5, 2), torch.ones(3, 5, 2)),
        bad("no_array", TypeError, ("`x`", "a tensor or an array"), {"x": 1}, y),
    ]


def bad_distances() -> list[BadInput]:
    """Refusals of ``mmd``."""
    x, y = _cloud(5, 2), _cloud(4, 2)
    uniform_x, uniform_y = torch.full((5,), 0.2), torch.full((4,), 0.25)

    def bad(label: str, words: tuple[str, ...], error: type[Exception] = ValueError, **options: Any) -> BadInput:
        return BadInput(label, lambda: mmd(x, y, **options), error, ("mmd", *words))

    return [
        *_shape_calls("mmd", mmd),
        BadInput("widths", lambda: mmd(x, _cloud(4, 3)), ValueError, ("mmd", "`y`", "3", "(5, 2)")),
        bad("switch_unbiased", ("`unbiased` to be True or False", "1"), TypeError, unbiased=1),
        bad("switch_half", ("`half` to be True or False", "'yes'"), TypeError, half="yes"),
        bad("switch_signed", ("`signed` to be True or False", "None"), TypeError, signed=None),
        bad("unknown_kernel", ("`kernel`", "'gaussian'", "'rbf'"), kernel="rbf"),
        bad("r_zero", ("`r`", "0", "2"), r=0.0),
        bad("r_two", ("`r`", "means"), r=2),
        bad("r_nan", ("`r`", "nan"), r=float("nan")),
        bad("r_text", ("`r`", "number"), TypeError, r="one"),
        bad("bandwidth_zero", ("`bandwidth`", "above 0"), kernel="gaussian", bandwidth=0.0),
        bad("bandwidth_infinite", ("`bandwidth`",), kernel="gaussian", bandwidth=float("inf")),
        bad("bandwidth_text", ("`bandwidth`",), TypeError, kernel="laplace", bandwidth="wide"),
        bad("nu", ("`nu`", "gaussian"), kernel="matern", nu=1e3),
        bad("alpha", ("`alpha`", "above 0"), kernel="rational_quadratic", alpha=-1.0),
        bad("beta", ("`beta`", "above 0"), kernel="imq", beta=0.0),
        bad("degree", ("`degree`", "at least 1"), kernel="polynomial", degree=0),
        bad("degree_broken", ("`degree`", "integer"), TypeError, kernel="polynomial", degree=2.5),
        bad("log_biased", ("`unbiased=True`", "infinite"), kernel="log"),
        BadInput("one_point", lambda: mmd(x[:1], y, unbiased=True), ValueError, ("`x`", "unbiased=False")),
        BadInput("one_point_y", lambda: mmd(x, y[:1], unbiased=True), ValueError, ("`y`", "unbiased=False")),
        bad("unbiased_weights", ("`y_weights`", "uniform"), y_weights=uniform_y, unbiased=True),
        bad("weights_short", ("`x_weights`", "5", "(4,)"), x_weights=uniform_y),
        bad("weights_batch", ("`x_weights`", "(5,)"), x_weights=uniform_x.expand(3, 5)),
        bad(
            "weights_integer",
            ("`x_weights`", "x_weights.float()"),
            TypeError,
            x_weights=torch.ones(5, dtype=torch.int64),
        ),
        bad("weights_negative", ("`x_weights`", "signed=True"), x_weights=uniform_x - 0.3),
        bad("totals", ("`x_weights` and `y_weights`", "signed=True", "Rescale"), x_weights=2 * uniform_x),
    ]


def bad_energy_distances() -> list[BadInput]:
    """Refusals of ``energy_distance``."""
    x, masses = _cloud(5, 2), torch.full((5,), 0.4)
    call: Callable[..., Any] = energy_distance
    return [
        *_shape_calls("energy_distance", energy_distance),
        BadInput("unbiased", lambda: call(x, x, unbiased=1), TypeError, ("`unbiased` to be True or False",)),
        BadInput("half", lambda: call(x, x, half="no"), TypeError, ("`half` to be True or False", "'no'")),
        BadInput(
            "negative", lambda: energy_distance(x, x, x_weights=-masses), ValueError, ("`x_weights`", "Use `mmd` with")
        ),
        BadInput(
            "totals", lambda: energy_distance(x, x, x_weights=masses), ValueError, ("totals", "or use `mmd` with")
        ),
    ]


def bad_divergences() -> list[BadInput]:
    """Refusals of ``cauchy_schwarz_divergence``."""
    x = _cloud(5, 2)
    return [
        *_shape_calls("cauchy_schwarz_divergence", cauchy_schwarz_divergence),
        BadInput(
            "bandwidth", lambda: cauchy_schwarz_divergence(x, x, bandwidth=-1.0), ValueError, ("`bandwidth`", "above 0")
        ),
    ]


def bad_informations() -> list[BadInput]:
    """Refusals of ``cauchy_schwarz_mutual_information``."""
    x = _cloud(5, 2)
    call: Callable[..., Any] = cauchy_schwarz_mutual_information
    return [
        *_shape_calls("cauchy_schwarz_mutual_information", call),
        BadInput("unpaired", lambda: call(x, _cloud(4, 2)), ValueError, ("`y`", "as many points", "pairs")),
        BadInput("x_bandwidth", lambda: call(x, x, x_bandwidth=0), ValueError, ("`x_bandwidth`", "above 0")),
        BadInput("y_bandwidth", lambda: call(x, x, y_bandwidth="a"), TypeError, ("`y_bandwidth`",)),
    ]
