"""Calls that the sliced distances refuse, each with the words its message must have."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from ..testing.cases import BadInput
from ._directions import make_directions
from ._flow import MMDFlow
from ._sliced_wasserstein import sliced_wasserstein
from ._target import SlicedTarget
from ._two_sample import mmd_test

_X = torch.arange(12.0).reshape(4, 3) % 5
_Y = torch.arange(15.0).reshape(5, 3) % 7
_ROWS = make_directions(3, 6, generator=torch.Generator().manual_seed(0))
_A, _B = torch.full((4,), 0.25), torch.full((5,), 0.2)


def _bad(call: Callable[..., Any], arguments: dict[str, Any]) -> Callable[..., BadInput]:
    """Maker of bad calls: the good arguments with some changed."""
    name = getattr(call, "__name__", "")

    def make(label: str, words: str, error: type[Exception] = ValueError, **changes: Any) -> BadInput:
        given = {**arguments, **changes}
        return BadInput(label, lambda: call(**given), error, (name, *words.split("|")))

    return make


def _bad_points(bad: Callable[..., BadInput]) -> list[BadInput]:
    meta = torch.device("meta")
    return [
        bad("x_no_points", "`x` with at least one point|(0, 3)", x=_X[:0]),
        bad("y_no_points", "`y` with at least one point|(0, 3)", y=_Y[:0]),
        bad("no_dimensions", "at least one dimension|(4, 0)", x=_X[:, :0], y=_Y[:, :0]),
        bad("x_vector", "`x` of shape (..., points, dimensions)|(4,)|x[:, None]", x=_X[:, 0]),
        bad("y_vector", "`y` of shape (..., points, dimensions)|y[:, None]", y=_Y[:, 0]),
        bad("other_dimension", "`y` in as many dimensions as `x` (3)|2", y=_Y[:, :2]),
        bad("other_dtype", "`y` of the dtype of `x`|float64|never promoted", TypeError, y=_Y.double()),
        bad("half_and_float", "`y` of the dtype of `x` (torch.float16)|Convert", TypeError, x=_X.half()),
        bad("other_device", "`y` on the device of `x`|Move", y=_Y.to(meta)),
        bad("integers", "`x` of a floating dtype|int64|x.float()", TypeError, x=_X.long()),
        bad("booleans", "`x` of a floating dtype|bool|Convert", TypeError, x=_X > 2),
        bad("complex", "`x` of a floating dtype|complex64|Convert", TypeError, x=_X.to(torch.complex64)),
        bad("complex_array", "`x` of a real dtype|complex|Convert", TypeError, x=_X.numpy() * 1j),
        bad("eight_bits", "`x` of a floating dtype (float16|float8|Convert", TypeError, x=_X.to(torch.float8_e5m2)),
        bad("sparse", "`x` to be a dense tensor|to_dense", TypeError, x=_X.to_sparse()),
        bad("nothing", "`x` to be a tensor or an array|NoneType", TypeError, x=None),
        bad("object", "`y` to be a tensor or an array", TypeError, y=object()),
    ]


def _bad_directions(bad: Callable[..., BadInput]) -> list[BadInput]:
    given = {"directions": _ROWS}
    return [
        bad("num_slices_zero", "`num_slices` to be at least 1|0", num_slices=0),
        bad("num_slices_float", "`num_slices` to be an integer", TypeError, num_slices=8.0),
        bad("slices_unknown", "`slices` to be one of|'hadamard'|'random'", slices="random"),
        bad("circle_in_space", 'only for points of dimension 2|d = 3|slices="auto"', slices="circle"),
        bad("spiral_in_plane", "only for points of dimension 3|d = 2", slices="spiral", x=_X[:, :2], y=_Y[:, :2]),
        bad("directions_wide", "`directions` of shape (num_slices, 3)|(6, 2)|make_directions", directions=_ROWS[:, :2]),
        bad("directions_none", "`directions` of shape (num_slices, 3)|(0, 3)", directions=_ROWS[:0]),
        bad("directions_vector", "`directions` of shape (num_slices, 3)|(3,)", directions=_ROWS[0]),
        bad("directions_double", "`directions` of dtype torch.float32|.to(", TypeError, directions=_ROWS.double()),
        bad("directions_int", "`directions` of dtype torch.float32", TypeError, directions=_ROWS.long()),
        bad("directions_grad", "`directions` without a gradient|detach()", directions=_ROWS.clone().requires_grad_()),
        bad("directions_and_slices", "no `slices` with `directions`|Leave one", **given, slices="gaussian"),
        bad(
            "directions_and_number",
            "`num_slices` to be the number of `directions` (6)|5|Leave it out",
            **given,
            num_slices=5,
        ),
        bad("generator_seed", "`generator` to be a torch.Generator|int", TypeError, generator=3),
    ]


def bad_slices(call: Callable[..., Any]) -> list[BadInput]:
    """Bad calls of ``sliced_mmd`` and ``sliced_mmd_grad``."""
    bad = _bad(call, {"x": _X, "y": _Y})
    weights = {"x_weights": _A, "y_weights": _B}
    target = SlicedTarget(_Y, _ROWS)
    normal = SlicedTarget.standard_normal(3)
    return [
        *_bad_points(bad),
        *_bad_directions(bad),
        bad("method_unknown", "`method` to be one of 'auto', 'sliced', 'exact'|'fast'", method="fast"),
        bad("kernel_unknown", "`kernel` to be one of|'riesz'|'energy'", kernel="energy"),
        bad("r_zero", "`r` strictly between 0 and 2|0", r=0.0),
        bad("r_two", "`r` strictly between 0 and 2|means", r=2.0),
        bad("r_nan", "`r` strictly between 0 and 2|nan", r=math.nan),
        bad("switch_text", "`unbiased` to be True or False|'no'", TypeError, unbiased="no"),
        bad("switch_number", "`half` to be True or False|1", TypeError, half=1),
        bad("switch_none", "`signed` to be True or False|None", TypeError, signed=None),
        bad("switch_tensor", "`sharded` to be True or False|tensor", TypeError, sharded=torch.tensor(False)),
        bad("r_string", "`r` to be a number", TypeError, r="1.0"),
        bad("r_bool", "`r` to be a number|True", TypeError, r=True),
        bad("bandwidth_zero", "`bandwidth` to be a finite number above 0", kernel="gaussian", bandwidth=0.0),
        bad("bandwidth_negative", "`bandwidth` to be a finite number above 0|-1", kernel="imq", bandwidth=-1.0),
        bad("bandwidth_text", "`bandwidth` to be a positive number|'1'", TypeError, kernel="imq", bandwidth="1"),
        bad("bandwidth_bool", "`bandwidth` to be a positive number|True", TypeError, kernel="imq", bandwidth=True),
        bad("kernel_array", "`kernel` to be one of|array", kernel=np.array(["riesz", "imq"])),
        bad("log_biased", "`unbiased=True` with the kernel 'log'|infinite", kernel="log", num_slices=4),
        bad("polynomial_sliced", '"polynomial"|"exact"', kernel="polynomial", method="sliced"),
        bad(
            "polynomial_directions", "no `directions`|polynomial|leave them out", kernel="polynomial", directions=_ROWS
        ),
        bad("exact_directions", 'no `directions` with method="exact"|sliced', method="exact", directions=_ROWS),
        bad("polynomial_slices", "`slices` with the kernel|no slices", kernel="polynomial", slices="gaussian"),
        bad("polynomial_num_slices", 'no `num_slices`|use method="exact"', kernel="polynomial", num_slices=4),
        bad("one_point_unbiased", "at least 2 points in `x`|unbiased=False", x=_X[:1], unbiased=True),
        bad("weights_unbiased", "no `x_weights` with unbiased=True|uniform", **weights, unbiased=True),
        bad("weights_short", "`x_weights` with one weight for each of the 4 points", x_weights=_B, y_weights=_B),
        bad(
            "weights_unequal", "equal totals|Rescale one of them in float64|signed=True", x_weights=2 * _A, y_weights=_B
        ),
        bad("weights_negative", "`y_weights` of at least 0|signed=True", x_weights=_A, y_weights=_B - 0.3),
        bad("weights_int", "`x_weights` of a floating dtype", TypeError, x_weights=torch.ones(4, dtype=torch.int64)),
        bad("sharded_alone", "torch.distributed|init_process_group", sharded=True),
        bad("target_directions", "no `directions` with a SlicedTarget|its own", y=target, directions=_ROWS),
        bad("target_num_slices", "no `num_slices` with a SlicedTarget", y=target, num_slices=6),
        bad("target_slices", "no `slices` with a SlicedTarget", y=target, slices="gaussian"),
        bad("target_y_weights", "no `y_weights` with a SlicedTarget", y=target, y_weights=_B),
        bad("target_exact", 'no SlicedTarget for `y` with method="exact"', y=target, method="exact"),
        bad("target_dimension", "`x` in the target's dimension (3)|2", y=target, x=_X[:, :2]),
        bad("target_dtype", "`x` of the target's dtype|float64|Convert", TypeError, y=target, x=_X.double()),
        bad("target_weights", "equal totals", y=target, x_weights=2 * _A),
        bad("normal_gaussian", "standard normal target|gaussian|sample", y=normal, kernel="gaussian", bandwidth=1.0),
    ]


def bad_targets() -> list[BadInput]:
    """Bad calls of ``SlicedTarget``."""
    bad = _bad(SlicedTarget, {"y": _Y})
    normal = _bad(SlicedTarget.standard_normal, {"d": 3})
    return [
        bad("y_vector", "`y` of shape (..., points, dimensions)", y=_Y[:, 0]),
        bad("y_batch", "`y` of shape (points, dimensions)|one for each of a batch", y=_Y[None]),
        bad("y_integers", "`y` of a floating dtype", TypeError, y=_Y.long()),
        bad("directions_wide", "`directions` of shape (num_slices, 3)", directions=_ROWS[:, :2]),
        bad("num_slices_zero", "`num_slices` to be at least 1", num_slices=0),
        bad("y_weights_long", "`y_weights` with one weight for each of the 5 points", y_weights=torch.ones(6)),
        normal("normal_d_zero", "`d` to be at least 1", d=0),
        normal("normal_half", "`dtype` to be float32 or float64", TypeError, dtype=torch.float16),
    ]


def bad_flows() -> list[BadInput]:
    """Bad calls of ``MMDFlow``."""
    bad = _bad(MMDFlow, {"x": _X, "target": _Y})
    target = SlicedTarget(_Y, _ROWS)
    return [
        bad("flow_momentum_one", "`momentum` of at least 0 and below 1|1.0", momentum=1.0),
        bad("flow_momentum_negative", "`momentum` of at least 0|-0.5", momentum=-0.5),
        bad("flow_momentum_tensor", "`momentum` of at least 0 and below 1", momentum=torch.tensor(1.5)),
        bad("flow_momentum_bool", "`momentum` to be a number|True", TypeError, momentum=True),
        bad("flow_step_size", "`step_size` to be a finite number above 0", step_size=0.0),
        bad("flow_batch", "`x` of shape (points, dimensions)|for each of a batch", x=_X[None]),
        bad("flow_dimension", "`target` in as many dimensions", target=_Y[:, :2]),
        bad("flow_target_vector", "`target` of shape", target=_Y[:, 0]),
        bad("flow_num_slices", "`num_slices` to be at least 1", num_slices=0),
        bad("flow_pool", "`num_slices` of at most the target's pool (6)|7", target=target, num_slices=7),
        bad("flow_pool_slices", "no `slices` with a SlicedTarget", target=target, slices="gaussian"),
        bad("flow_progress", "`progress` to be True or False|1", TypeError, progress=1),
        bad("flow_callback", "`callback` to be callable", TypeError, callback=3),
        bad("flow_generator", "`generator` to be a torch.Generator", TypeError, generator=3),
        BadInput("flow_steps", lambda: MMDFlow(_X, _Y).run(-1), ValueError, ("MMDFlow", "`steps` to be at least 0")),
    ]


def bad_wasserstein() -> list[BadInput]:
    """Bad calls of ``sliced_wasserstein``."""
    bad = _bad(sliced_wasserstein, {"x": _X, "y": _Y})
    return [
        *_bad_points(bad),
        *_bad_directions(bad),
        bad("p_below_one", "`p` between 1 and 32|0.5", p=0.5),
        bad("p_text", "`p` to be a positive number", TypeError, p="2"),
        bad("p_huge", "`p` between 1 and 32", p=100),
        bad("p_nan", "`p` to be a finite number", p=math.nan),
    ]


def bad_tests() -> list[BadInput]:
    """Bad calls of ``mmd_test``."""
    bad = _bad(mmd_test, {"x": _X, "y": _Y})
    return [
        *_bad_points(bad),
        *_bad_directions(bad),
        bad("batch", "`x` of shape (points, dimensions)|by itself", x=_X[None]),
        bad("num_permutations_zero", "`num_permutations` to be at least 1", num_permutations=0),
        bad("kernel_log", "`kernel` to be one of|'log'", kernel="log"),
        bad("kernel_polynomial", "`kernel` to be one of", kernel="polynomial"),
        bad("bandwidth_negative", "`bandwidth` to be a finite number above 0", kernel="gaussian", bandwidth=-1.0),
    ]
