"""The operators of the sliced and exact kernel distances: each file registers its own."""

from __future__ import annotations

from . import _ops_exact as _ops_exact
from . import _ops_hadamard as _ops_hadamard
from . import _ops_rank as _ops_rank
from . import _ops_smooth as _ops_smooth
from . import _ops_split as _ops_split

__all__: list[str] = []
