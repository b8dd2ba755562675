"""What there is: every rule with its paper, its states and what they cost."""

from __future__ import annotations

import inspect
from dataclasses import dataclass

import torch

from ._adabelief import AdaBelief
from ._adagrad import Adagrad
from ._adagrad_norm import AdaGradNorm
from ._adam import Adam
from ._adamp import AdamP
from ._adamw import AdamW
from ._ademamix import AdEMAMix
from ._diffgrad import DiffGrad
from ._dog import DoG
from ._exponentiated_gradient import ExponentiatedGradient
from ._fedspeed import FedSpeed
from ._grams import Grams
from ._ldog import LDoG
from ._lion import Lion
from ._madgrad import MADGRAD
from ._mirror_madgrad import MirrorMADGRAD
from ._nadam import NAdam
from ._opt_amsgrad import OPTAMSGrad
from ._optimizer import FusedOptimizer
from ._radam import RAdam
from ._sania import SANIA
from ._sgd import SGD
from ._sgdp import SGDP

OPTIMIZERS: tuple[type[FusedOptimizer], ...] = (
    AdaBelief,
    Adagrad,
    AdaGradNorm,
    Adam,
    AdamP,
    AdamW,
    AdEMAMix,
    DiffGrad,
    DoG,
    ExponentiatedGradient,
    FedSpeed,
    Grams,
    LDoG,
    Lion,
    MADGRAD,
    MirrorMADGRAD,
    NAdam,
    OPTAMSGrad,
    RAdam,
    SANIA,
    SGD,
    SGDP,
)


@dataclass(frozen=True)
class OptimizerInfo:
    """One optimizer at its default hyper-parameters, with float32 parameters."""

    name: str
    summary: str
    paper: str
    states: tuple[str, ...]
    state_bytes: int  # per parameter
    traffic_bytes: int  # read and written per parameter and step: parameter, gradient and states


def _section(kind: type, title: str) -> str:
    text = inspect.cleandoc(kind.__doc__ or "")
    return " ".join(text.split(f"{title}\n{'-' * len(title)}\n")[1].split("\n\n")[0].split())


def available() -> list[OptimizerInfo]:
    """List the optimizers.

    Returns
    -------
    list of OptimizerInfo
        ``name``, ``summary``, ``paper``, ``states`` (names in the state dict), ``state_bytes`` and ``traffic_bytes``.

    Examples
    --------
    >>> import fastcore_ops as fo
    >>> [info.state_bytes for info in fo.optim.available() if info.name == "AdamW"]
    [8]
    """
    found = []
    for kind in OPTIMIZERS:
        optimizer = kind([torch.zeros(1)], lr=1.0)  # type: ignore[call-arg]
        states = optimizer.states(optimizer.param_groups[0])
        read_only = sum(state.copies_parameter and state.like_parameter for state in states)
        summary = inspect.cleandoc(kind.__doc__ or "").split("\n")[0]
        traffic = 12 + 8 * len(states) - 4 * read_only
        names = tuple(state.name for state in states)
        found.append(
            OptimizerInfo(kind.__name__, summary, _section(kind, "References"), names, 4 * len(states), traffic)
        )
    return found
