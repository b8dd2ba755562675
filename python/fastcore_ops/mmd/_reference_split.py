"""Readable torch truth of the split of float32 numbers into bfloat16 parts."""

from __future__ import annotations

import torch
from torch import Tensor

# The six largest of the nine products of parts (0 the largest), small ones first; what is left out is below 2^-26 of the
# product. A matrix and its partner are split in these two orders.
PARTS, PARTNER_PARTS = (2, 1, 0, 1, 0, 0), (0, 1, 2, 0, 1, 0)


def split(x: Tensor, shift: Tensor | None, first: int, count: int, stacked: bool, partner: bool) -> Tensor:
    """Split float32 rows ``first`` … ``first + count - 1`` of x (R, C), less ``shift`` (1, C), into parts (count, 6 C).

    ``stacked``: columns of x, and the parts under one another, (6 R, count). What lies beyond x is zero. Three bfloat16 numbers
    of 8 significant bits hold the 24 of a float32 number: their sum is exact.
    """
    x = x[:, first : first + count] if stacked else x[first : first + count]
    rest = x if shift is None else x - shift
    missing = count - rest.shape[1 if stacked else 0]
    rest = torch.nn.functional.pad(rest, (0, missing) if stacked else (0, 0, 0, missing))
    parts = []
    for _ in range(3):
        parts.append(rest.bfloat16())
        rest = rest - parts[-1].float()
    return torch.cat([parts[k] for k in (PARTNER_PARTS if partner else PARTS)], 0 if stacked else 1)
