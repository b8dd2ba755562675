"""fastcore_ops: hand-written kernels for the slow inner loops of machine-learning research."""

from . import optim, ot
from ._backend import use_backend
from ._result import ConvergenceError, ConvergenceWarning
from ._version import __version__
from .ot import sinkhorn, sinkhorn_newton

__all__ = [
    "ConvergenceError",
    "ConvergenceWarning",
    "__version__",
    "optim",
    "ot",
    "sinkhorn",
    "sinkhorn_newton",
    "use_backend",
]
