"""Sliced MMD: kernel distances between point clouds, and their gradients, by sorting."""

from . import _ops as _ops
from ._directions import make_directions, slicing_constant
from ._divergence import cauchy_schwarz_divergence, cauchy_schwarz_mutual_information
from ._exact import energy_distance, mmd
from ._flow import MMDFlow
from ._kid import KIDResult, kid
from ._sliced import sliced_mmd, sliced_mmd_grad
from ._sliced_wasserstein import sliced_wasserstein
from ._target import SlicedTarget
from ._two_sample import MMDTestResult, mmd_test

__all__ = [
    "KIDResult",
    "MMDFlow",
    "MMDTestResult",
    "SlicedTarget",
    "cauchy_schwarz_divergence",
    "cauchy_schwarz_mutual_information",
    "energy_distance",
    "kid",
    "make_directions",
    "mmd",
    "mmd_test",
    "sliced_mmd",
    "sliced_mmd_grad",
    "sliced_wasserstein",
    "slicing_constant",
]
