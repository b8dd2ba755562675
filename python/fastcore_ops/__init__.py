"""fastcore_ops: hand-written kernels for the slow inner loops of machine-learning research."""

from . import mmd, optim, ot
from ._backend import use_backend
from ._result import ConvergenceError, ConvergenceWarning
from ._version import __version__
from .mmd import sliced_mmd, sliced_mmd_grad
from .ot import sinkhorn, sinkhorn_newton

__all__ = [
    "ConvergenceError",
    "ConvergenceWarning",
    "__version__",
    "mmd",
    "optim",
    "ot",
    "sinkhorn",
    "sinkhorn_newton",
    "sliced_mmd",
    "sliced_mmd_grad",
    "use_backend",
]
