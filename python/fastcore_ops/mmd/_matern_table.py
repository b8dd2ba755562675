"""The Matern kernel of general order as the kernels read it: log K and log |slope| as polynomials on short intervals."""

from __future__ import annotations

import functools
import math

import torch
from torch import Tensor

from ._reference_exact import log_bessel

LOW, HIGH, PARTS, DEGREE = -64, 10, 16, 7  # those of csrc/mmd/radial.h
CLOSED_FORMS = (0.5, 1.5, 2.5)


def matern_table(nu: float, device: torch.device) -> Tensor:
    """Coefficients (1184, 16), float64: for z = sqrt(2 nu) rho / s in ((16 + i) / 16) 2^e [1, 1 + 1 / (16 + i)], powers of t in
    [-1, 1] of log K(z), then of log(-s^2 K'(rho) / rho). Relative error at most 2e-13 (measured, nu from 0.1 to 50).
    """
    return _on_cpu(nu).to(device)


@functools.lru_cache(maxsize=32)
def _on_cpu(nu: float) -> Tensor:
    with torch.no_grad():
        octaves = torch.arange(LOW, HIGH, dtype=torch.float64)
        starts = (torch.exp2(octaves)[:, None] * (1 + torch.arange(PARTS, dtype=torch.float64) / PARTS)).reshape(-1, 1)
        widths = torch.exp2(octaves).repeat_interleave(PARTS)[:, None] / PARTS
        t = torch.cos((torch.arange(DEGREE + 1, dtype=torch.float64) + 0.5) * (math.pi / (DEGREE + 1)))
        z = starts + widths * (t + 1) / 2
        constant = (1 - nu) * math.log(2) - math.lgamma(nu)
        log_value = constant + nu * z.log() + log_bessel(nu, z)
        log_slope = math.log(2 * nu) + constant + (nu - 1) * z.log() + log_bessel(nu - 1, z)
        powers = t[:, None] ** torch.arange(DEGREE + 1, dtype=torch.float64)
        fits = []
        for values in (log_value, log_slope):
            middle = values[:, DEGREE // 2 : DEGREE // 2 + 1]  # small numbers lose less in the solve
            fit = torch.linalg.solve(powers, (values - middle).t()).t()
            fit[:, :1] += middle
            fits.append(fit)
        return torch.cat(fits, dim=1).contiguous()
