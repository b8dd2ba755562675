"""Optimizers: each published rule one pass over memory, behaving like ``torch.optim``."""

from . import _ops as _ops
from ._adabelief import AdaBelief
from ._adagrad import Adagrad
from ._adam import Adam
from ._adamw import AdamW
from ._ademamix import AdEMAMix
from ._available import OptimizerInfo, available
from ._diffgrad import DiffGrad
from ._exponentiated_gradient import ExponentiatedGradient
from ._grams import Grams
from ._lion import Lion
from ._madgrad import MADGRAD
from ._mirror_madgrad import MirrorMADGRAD
from ._nadam import NAdam
from ._radam import RAdam
from ._sgd import SGD
from ._switches import Switches

__all__ = [
    "MADGRAD",
    "SGD",
    "AdEMAMix",
    "AdaBelief",
    "Adagrad",
    "Adam",
    "AdamW",
    "DiffGrad",
    "ExponentiatedGradient",
    "Grams",
    "Lion",
    "MirrorMADGRAD",
    "NAdam",
    "OptimizerInfo",
    "RAdam",
    "Switches",
    "available",
]
