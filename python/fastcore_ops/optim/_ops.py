"""The optimizers' operators: one for each rule, all with the same arguments, writing to parameters and states."""

from __future__ import annotations

import torch

from .. import _backend, _native
from ._adabelief import AdaBelief
from ._adagrad import Adagrad
from ._adam import Adam
from ._ademamix import AdEMAMix
from ._diffgrad import DiffGrad
from ._exponentiated_gradient import ADAMW_FORM, SGD_FORM
from ._grams import Grams
from ._lion import Lion
from ._madgrad import MADGRAD
from ._mirror_madgrad import MirrorMADGRAD
from ._nadam import NAdam
from ._radam import RAdam
from ._reference_step import dots, make_step
from ._rule import Rule
from ._sgd import SGD

_CLASSES = (Adam, SGD, Lion, AdEMAMix, NAdam, RAdam, Adagrad, DiffGrad, AdaBelief, Grams, MADGRAD, MirrorMADGRAD)
RULES: dict[str, Rule] = {rule.op: rule for rule in (*(kind.rule for kind in _CLASSES), SGD_FORM, ADAMW_FORM)}


def _writes_only(*arguments: object) -> None:
    """Shape function: nothing is returned."""


def _dots_fake(params, grads, like):  # type: ignore[no-untyped-def]
    return like.new_empty(3, len(params), dtype=torch.float64)


_backend.register("optim_dots", dots, ("cpp", "cuda"))
_native.register_fake("optim_dots", _dots_fake)
for _rule in RULES.values():
    _backend.register(f"optim_{_rule.op}_", make_step(_rule), ("cpp", "cuda"))
    _native.register_fake(f"optim_{_rule.op}_", _writes_only)
