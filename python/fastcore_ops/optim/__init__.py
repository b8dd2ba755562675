"""Optimizers: each published rule one pass over memory, behaving like ``torch.optim``."""

from . import _ops as _ops
from ._adabelief import AdaBelief
from ._adagrad import Adagrad
from ._adagrad_norm import AdaGradNorm
from ._adam import Adam
from ._adamp import AdamP
from ._adamw import AdamW
from ._ademamix import AdEMAMix
from ._auto_clip import AutoClip
from ._available import OptimizerInfo, available
from ._averager import PolynomialDecayAverager
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
from ._radam import RAdam
from ._sania import SANIA
from ._sgd import SGD
from ._sgdp import SGDP
from ._switches import Switches

__all__ = [
    "MADGRAD",
    "SANIA",
    "SGD",
    "SGDP",
    "AdEMAMix",
    "AdaBelief",
    "AdaGradNorm",
    "Adagrad",
    "Adam",
    "AdamP",
    "AdamW",
    "AutoClip",
    "DiffGrad",
    "DoG",
    "ExponentiatedGradient",
    "FedSpeed",
    "Grams",
    "LDoG",
    "Lion",
    "MirrorMADGRAD",
    "NAdam",
    "OPTAMSGrad",
    "OptimizerInfo",
    "PolynomialDecayAverager",
    "RAdam",
    "Switches",
    "available",
]
