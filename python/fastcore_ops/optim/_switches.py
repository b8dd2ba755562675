"""The switches that every optimizer takes, and the checks of hyper-parameters."""

from __future__ import annotations

from typing import Any, TypedDict

import torch

from .._checks import count, reject

NEAREST, STOCHASTIC, KAHAN, SPLIT_MASTER, MASTER = range(5)  # as the kernels number them
ROUNDING = {"nearest": NEAREST, "stochastic": STOCHASTIC, "kahan": KAHAN, "split_master": SPLIT_MASTER}


class Switches(TypedDict, total=False):
    """Keyword arguments of every optimizer here; each is a key of the parameter groups and may differ between them.

    Attributes
    ----------
    maximize : bool, default False
        Climb instead of descending.
    foreach : bool, optional
        Accepted for the sake of torch's state dicts; changes nothing.
    fused : bool, optional
        True: the kernel, or an error; False: the reference in torch operations; None: the kernel where there is one.
    capturable : bool, default False
        Keep step counters on the parameters' device. Those of parameters on a GPU are there anyway.
    differentiable : bool, default False
        Let autograd look on (in torch operations). Refused beside the switches that change gradients, dtypes or rounding, and
        by rules that need sums.
    max_norm : float, optional
        Shorten the gradient of all groups together to this norm before the rule sees it; ``p.grad`` stays as it is.
    skip_nonfinite : bool, default False
        Make a step a no-op, its count included, when a gradient is not finite.
    perp_grad : bool, default False
        Take the part along the parameter out of each parameter's gradient (L. Prieto et al., 2025, arXiv:2501.04697).
    perp_min_numel : int, default 2
        Parameters of fewer elements are left alone.
    perp_rescale : bool, default True
        Give what is left the norm of the whole.
    clip_value : float, optional
        Cut each element of the gradient to ``[-clip_value, clip_value]`` first.
    clip_quantile : float, optional
        Cut each element of a parameter's gradient to this quantile of their magnitudes (0.9 cuts the largest tenth), linear
        between order statistics (X. Pan, Y. Li, 2023, arXiv:2306.00204); after ``clip_value``.
    state_dtype : torch.dtype, optional
        Dtype of the moments; default the parameter's (MADGRAD, OPTAMSGrad: float32 beside 16 bits).
    rounding : {"nearest", "stochastic", "kahan", "split_master"}, default "nearest"
        How 16-bit parameters are written: to nearest; up or down at random, so that the mean is right (16-bit states too);
        with a 16-bit compensation kept beside them; or as the upper half of a float32 master whose lower half is kept.
    seed : int, default 0
        Of stochastic rounding.
    master_weights : bool, default False
        Keep a float32 copy of 16-bit parameters and step that.
    """

    maximize: bool
    foreach: bool | None
    fused: bool | None
    capturable: bool
    differentiable: bool
    max_norm: float | None
    skip_nonfinite: bool
    perp_grad: bool
    perp_min_numel: int
    perp_rescale: bool
    clip_value: float | None
    clip_quantile: float | None
    state_dtype: torch.dtype | None
    rounding: str
    seed: int
    master_weights: bool


DEFAULTS: Switches = {
    "maximize": False,
    "foreach": None,
    "fused": None,
    "capturable": False,
    "differentiable": False,
    "max_norm": None,
    "skip_nonfinite": False,
    "perp_grad": False,
    "perp_min_numel": 2,
    "perp_rescale": True,
    "clip_value": None,
    "clip_quantile": None,
    "state_dtype": None,
    "rounding": "nearest",
    "seed": 0,
    "master_weights": False,
}

# name of a hyper-parameter -> (what it must be, in words; the test)
_RANGES: dict[str, tuple[str, Any]] = {
    "lr": ("at least 0", lambda x: x >= 0),
    "eps": ("at least 0", lambda x: x >= 0),
    "weight_decay": ("at least 0", lambda x: x >= 0),
    "momentum": ("in [0, 1)", lambda x: 0 <= x < 1),
    "dampening": ("a number", lambda x: x == x),
    "lr_decay": ("at least 0", lambda x: x >= 0),
    "initial_accumulator_value": ("at least 0", lambda x: x >= 0),
    "momentum_decay": ("at least 0", lambda x: x >= 0),
    "alpha": ("at least 0", lambda x: x >= 0),
    "prox": ("at least 0", lambda x: x >= 0),
    "delta": ("at least 0", lambda x: x >= 0),
    "wd_ratio": ("at least 0", lambda x: x >= 0),
    "reps_rel": ("positive", lambda x: x > 0),
    "init_eta": ("positive", lambda x: x > 0),
    "b0": ("positive", lambda x: x > 0),
    "beta2": ("in [0, 1)", lambda x: 0 <= x < 1),
    "ridge": ("positive", lambda x: x > 0),
    "max_norm": ("positive", lambda x: x > 0),
    "perp_min_numel": ("at least 0", lambda x: x >= 0),
    "clip_value": ("positive", lambda x: x > 0),
    "clip_quantile": ("in (0, 1]", lambda x: 0 < x <= 1),
    "min_magnitude": ("at least 0", lambda x: x >= 0),
    "alpha_warmup": ("at least 0", lambda x: x >= 0),
    "beta3_warmup": ("at least 0", lambda x: x >= 0),
}


# those of them that may be None
_OPTIONAL = ("init_eta", "max_norm", "clip_value", "clip_quantile", "min_magnitude", "alpha_warmup", "beta3_warmup")


def check_switches(operation: str, switches: dict[str, Any]) -> None:
    """Reject keyword arguments that no optimizer has."""
    for name in switches:
        if name not in DEFAULTS:
            reject(operation, f"keyword arguments among {', '.join(DEFAULTS)}", repr(name), kind=TypeError)


def _check_number(operation: str, name: str, value: Any) -> None:
    if not hasattr(value, "__float__"):
        reject(operation, f"`{name}` to be a number", repr(value), kind=TypeError)


def check_group(operation: str, group: dict[str, Any], betas: int) -> None:
    """Check the hyper-parameters of a parameter group, whose rule takes so many ``betas``."""
    if isinstance(group["lr"], torch.Tensor) and group["lr"].numel() != 1:
        reject(operation, "a tensor `lr` to have one element", tuple(group["lr"].shape))
    for name, (words, test) in _RANGES.items():
        if name not in group or (name in _OPTIONAL and group[name] is None):
            continue
        _check_number(operation, name, group[name])
        if not bool(test(group[name])):
            reject(f"{operation}: Invalid `{name}`", words, group[name])
    if "betas" in group:
        _check_betas(operation, group["betas"], betas)
    if count(operation, "seed", group["seed"], 0) >= 2**63:
        reject(operation, "`seed` to be below 2**63", group["seed"])
    _check_modes(operation, group)


def _check_betas(operation: str, betas: Any, wanted: int) -> None:
    if not isinstance(betas, tuple | list) or len(betas) != wanted:
        reject(f"{operation}: Invalid `betas`", f"a tuple of {wanted}", repr(betas))
    if len({isinstance(beta, torch.Tensor) for beta in betas}) > 1:
        reject(f"{operation}: Invalid `betas`", "numbers only or tensors only", betas)
    for position, beta in enumerate(betas):
        _check_number(operation, f"betas[{position}]", beta)
        if not 0 <= float(beta) < 1:
            reject(f"{operation}: Invalid `betas`", f"beta {position + 1} in [0, 1)", beta)


def _check_modes(operation: str, group: dict[str, Any]) -> None:
    if group["foreach"] and group["fused"]:
        raise RuntimeError(f"{operation}: `fused` and `foreach` cannot both be True")
    if group["differentiable"] and group["fused"]:
        raise RuntimeError(f"{operation}: `fused` does not support `differentiable`")
    if group["rounding"] not in ROUNDING:
        reject(operation, f"`rounding` to be one of {', '.join(map(repr, ROUNDING))}", repr(group["rounding"]))
    if group["master_weights"] and group["rounding"] != "nearest":
        reject(
            operation, '`rounding="nearest"` with `master_weights`', repr(group["rounding"]),
            "The other modes keep what rounding loses in their own way.",
        )  # fmt: skip
    dtype = group["state_dtype"]
    if dtype is not None and dtype not in (torch.float32, torch.float64, torch.bfloat16, torch.float16):
        reject(operation, "`state_dtype` to be a floating dtype", dtype)


def rounding_code(group: dict[str, Any]) -> int:
    """Rounding mode of a group; ``master_weights`` is one of its own."""
    return MASTER if group["master_weights"] else ROUNDING[group["rounding"]]
