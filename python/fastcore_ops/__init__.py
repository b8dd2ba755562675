"""fastcore_ops: hand-written kernels for the slow inner loops of machine-learning research."""

from . import ot
from ._backend import use_backend
from ._result import ConvergenceError, ConvergenceWarning
from ._version import __version__
from .ot import sinkhorn, sinkhorn_newton

__all__ = [
    "ConvergenceError",
    "ConvergenceWarning",
    "__version__",
    "ot",
    "sinkhorn",
    "sinkhorn_newton",
    "use_backend",
]
