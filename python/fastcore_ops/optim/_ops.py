"""The optimizers' operators: one for each rule, all with the same arguments, writing to parameters and states."""

from __future__ import annotations

import torch

from .. import _backend, _native
from . import _reference_two_phase as two_phase
from ._adabelief import AdaBelief
from ._adagrad import Adagrad
from ._adagrad_norm import SUMS as NORM_SUMS
from ._adam import Adam
from ._adamp import AdamP
from ._ademamix import AdEMAMix
from ._diffgrad import DiffGrad
from ._dog import SCALED
from ._dog import SUMS as DOG_SUMS
from ._exponentiated_gradient import ADAMW_FORM, SGD_FORM
from ._fedspeed import SUMS as FEDSPEED_SUMS
from ._fedspeed import FedSpeed
from ._grams import Grams
from ._lion import Lion
from ._madgrad import MADGRAD
from ._mirror_madgrad import MirrorMADGRAD
from ._nadam import NAdam
from ._opt_amsgrad import KEEP, OPTAMSGrad
from ._radam import RAdam
from ._reference_step import make_step
from ._reference_sums import make_projected_step, make_sums, quantile, scaled_rows
from ._rule import Rule, Sums
from ._sania import SANIA
from ._sania import SUMS as SANIA_SUMS
from ._sgd import SGD
from ._sgdp import SGDP

_CLASSES = (Adam, SGD, Lion, AdEMAMix, NAdam, RAdam, Adagrad, DiffGrad, AdaBelief, Grams, MADGRAD, MirrorMADGRAD)
ELEMENTWISE: dict[str, Rule] = {rule.op: rule for rule in (*(kind.rule for kind in _CLASSES), SGD_FORM, ADAMW_FORM)}
TWO_PHASE: dict[str, Rule] = {rule.op: rule for rule in (SCALED, SANIA.rule, FedSpeed.rule, OPTAMSGrad.rule)}
PROJECTED: dict[str, Rule] = {rule.op: rule for rule in (AdamP.rule, SGDP.rule)}
RULES = ELEMENTWISE | TWO_PHASE | PROJECTED
DOTS, SQUARES = Sums("dots", two_phase.dots), Sums("squares", two_phase.squares)
SUMS: dict[str, Sums] = {
    sums.op: sums for sums in (DOTS, SQUARES, KEEP, NORM_SUMS, DOG_SUMS, SANIA_SUMS, FEDSPEED_SUMS)
}


def _writes_only(*arguments: object) -> None:
    """Shape function: nothing is returned."""


def _sums_fake(count: int):  # type: ignore[no-untyped-def]
    def fake(params, grads, states, steps, extra, index, *others):  # type: ignore[no-untyped-def]
        rows = sum(p.shape[0] if p.dim() else 1 for p in params) if others[-1] else len(params)
        return index.new_empty(count, rows, dtype=torch.float64, device=params[0].device if params else index.device)

    return fake


def _quantile_fake(params, grads, steps, extra, index, *others):  # type: ignore[no-untyped-def]
    return index.new_empty(len(params), dtype=torch.float64, device=params[0].device if params else index.device)


for _rule in RULES.values():
    _reference = make_projected_step(_rule) if _rule.op in PROJECTED else make_step(_rule)
    _kernels = ("cpp", "cuda", "triton") if _rule.op in ELEMENTWISE else ("cpp", "cuda")
    _backend.register(f"optim_{_rule.op}_", _reference, _kernels)
    _native.register_fake(f"optim_{_rule.op}_", _writes_only)
_backend.register("optim_scaled_rows_", scaled_rows, ("cpp", "cuda"))
_native.register_fake("optim_scaled_rows_", _writes_only)
_backend.register("optim_quantile", quantile, ("cpp", "cuda"))
_native.register_fake("optim_quantile", _quantile_fake)
for _sums in SUMS.values():
    _backend.register(f"optim_{_sums.op}", make_sums(_sums), ("cpp", "cuda"))
    _native.register_fake(f"optim_{_sums.op}", _sums_fake({"dots": 3, "dog_sums": 3}.get(_sums.op, 1)))
