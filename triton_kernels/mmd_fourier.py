"""Slices of smooth kernels by Fourier modes in Triton (csrc/mmd/fourier_slice.h): the operator.

Four launches: the series of each slice from its range; sums over points of weight e^(2 pi i k u), by groups of points; groups
added up in their order, value, and the spectrum that each side sees; that spectrum summed up at each point. No number is read
on the host. How many modes a slice has is known on the device alone, so there is memory for MOST_MODES, a block of slices at a
time. Programs own what they write: results are deterministic.

All is float64, whatever the points are. To turn and to add are six operations a point and mode, which on a GPU for computing,
where float64 has half the rate, take as long as twelve in float32; sine and cosine in float32 are about twenty. And the sums
of two clouds differ by far less than they are: added up in float32 they would be apart by the order of the points.
"""

from __future__ import annotations

import math
from contextlib import nullcontext
from dataclasses import dataclass

import torch
import triton
from torch import Tensor

from . import mmd_fourier_kernels as kernels
from . import mmd_fourier_series as series
from .mmd_fourier_series import MOST_MODES, is_kernel, spectrum_of

GRAD_X, GRAD_Y, VALUE, POTENTIAL_X, POTENTIAL_Y = 1, 2, 4, 8, 16
MOST_POINTS = 1 << 30  # of both samples, as on the CPU
MOST_SLICES = 1024  # at a time
EPS = torch.finfo(torch.float64).eps
WANTED_PROGRAMS, MOST_GROUPS = 2048, 256  # of one warp; each keeps 64 KB of sums


def _check(condition: bool, what: str) -> None:
    if not condition:
        raise RuntimeError(f"mmd_fourier: {what}")


def _check_samples(x: Tensor, y: Tensor, a: Tensor | None, b: Tensor | None, unbiased: bool) -> None:
    _check(x.dim() == 2, f"`x` has {x.dim()} dimensions instead of 2")
    _check(x.dtype in (torch.float32, torch.float64), "`x` is neither float32 nor float64")
    for name, cloud in (("x", x), ("y", y)):
        _check(cloud.is_contiguous(), f"`{name}` is not contiguous")
        _check(cloud.dim() == 2 and cloud.shape[0] == x.shape[0], f"`{name}` is not a matrix of {x.shape[0]} rows")
        _check(cloud.shape[1] > 0, f"`{name}` has no points")
    _check((a is None) == (b is None), "`x_weights` and `y_weights` go together")
    for name, tensor, dtype, size in (
        ("x", x, x.dtype, x.shape),
        ("y", y, x.dtype, y.shape),
        ("x_weights", a, torch.float64, x.shape),
        ("y_weights", b, torch.float64, y.shape),
    ):
        if tensor is not None:
            fits = tensor.shape == size or (dtype == torch.float64 and tensor.shape == size[1:])
            _check(tensor.dtype == dtype and fits, f"`{name}` has the wrong dtype or shape")
            _check(tensor.is_contiguous(), f"`{name}` is not contiguous")
            _check(tensor.device == x.device, f"`{name}` is on another device than `x`")
    _check(x.shape[1] + y.shape[1] < MOST_POINTS, "`x` and `y` have too many points")
    _check(not unbiased or a is None, "`unbiased` has uniform weights only")
    _check(not unbiased or min(x.shape[1], y.shape[1]) > 1, "`unbiased` needs two points on each side")
    _check(x.is_cuda or kernels.INTERPRETED, "Triton runs CPU tensors only under TRITON_INTERPRET=1")


def _check_series(
    x: Tensor, bandwidth: Tensor, kernel: int, d: int, high: float, stretch: float, margin: float
) -> None:
    fits = bandwidth.dtype == torch.float64 and bandwidth.dim() == 0
    _check(fits, "`bandwidth` is not a float64 tensor of no dimension")
    _check(bandwidth.device == x.device, "`bandwidth` is on another device than `x`")
    _check(is_kernel(kernel), f"`kernel` {kernel} is unknown")
    _check(
        d > 0 and margin > 0 and stretch >= 1 and high > 0,
        "`d`, `high` and `margin` are positive, `stretch` at least 1",
    )


@dataclass
class _Side:
    """A block of slices of one sample, and the sums over its points by groups."""

    points: Tensor
    weights: Tensor | None
    share: float
    groups: int
    group_points: int
    sums: Tensor
    moments: Tensor | None

    @classmethod
    def of(cls, points: Tensor, weights: Tensor | None, unbiased: bool, kinked: bool) -> _Side:
        slices, n = points.shape
        tiles = triton.cdiv(n, kernels.BLOCK_SUMS)
        per_group = triton.cdiv(tiles, max(1, min(WANTED_PROGRAMS // slices, MOST_GROUPS, tiles)))
        groups = triton.cdiv(tiles, per_group)
        sums = points.new_empty(slices, groups, 2, MOST_MODES.value, dtype=torch.float64)
        wanted = kinked or weights is not None
        moments = sums.new_empty(slices, groups, kernels.MOMENTS.value) if wanted else None
        share = n / (n - 1) if unbiased else 1.0
        return cls(points, weights, share, groups, per_group * kernels.BLOCK_SUMS, sums, moments)

    @property
    def weights_row(self) -> int:
        return 0 if self.weights is None or self.weights.dim() == 1 else self.points.shape[1]

    def sum_up(self, facts: Tensor) -> None:
        kernels.fourier_sums_kernel[(self.groups, self.points.shape[0])](
            self.points,
            self.weights,
            facts,
            self.sums,
            self.moments,
            self.points.shape[1],
            self.weights_row,
            self.group_points,
            self.groups,
            MODES=kernels.BLOCK_MODES,
            BLOCK=kernels.BLOCK_SUMS,
            num_warps=1,
        )

    def at_points(
        self, side: int, facts: Tensor, kink: float, gradient: Tensor | None, potential: Tensor | None
    ) -> None:
        slices, n = self.points.shape
        if gradient is None and potential is None:
            return
        kernels.fourier_points_kernel[(triton.cdiv(n, kernels.BLOCK_POINTS), slices)](
            self.points,
            self.weights,
            facts,
            self.sums,
            gradient,
            potential,
            n,
            self.weights_row,
            self.groups,
            kink,
            SIDE=side,
            MODES=kernels.BLOCK_MODES,
            BLOCK=kernels.BLOCK_POINTS,
        )


def _run_block(x, y, a, b, bandwidth, form, kink, band, unbiased, wanted, outputs) -> None:
    """A block of slices: fills rows of the outputs, which are None where they are not wanted."""
    grad_x, grad_y, value, potential_x, potential_y = outputs
    slices, n, m = *x.shape, y.shape[1]
    facts = torch.empty(slices, series.FACTS.value, dtype=torch.float64, device=x.device)
    coefficients = facts.new_empty(slices, MOST_MODES.value)
    ends = (*torch.aminmax(x, dim=1), *torch.aminmax(y, dim=1))
    code, numbers = form
    series.fourier_series_kernel[(slices,)](
        *ends, bandwidth, facts, coefficients, wanted, *numbers, kink, *band, FORM=code.value, KINKED=kink != 0
    )
    of_x, of_y = _Side.of(x, a, unbiased, kink != 0), _Side.of(y, b, unbiased, kink != 0)
    of_x.sum_up(facts)
    of_y.sum_up(facts)
    kernels.fourier_value_kernel[(slices,)](
        of_x.sums,
        of_y.sums,
        of_x.moments,
        of_y.moments,
        coefficients,
        facts,
        value,
        n,
        m,
        of_x.groups,
        of_y.groups,
        kink,
        of_x.share,
        of_y.share,
        # By no more than this, times the weights, may sums of the same points differ in another order; as on the CPU.
        EPS * (8 + math.sqrt(max(n, m) / 32)),
        UNIFORM=a is None,
        UNBIASED=unbiased,
    )
    of_x.at_points(0, facts, kink, grad_x, potential_x)
    of_y.at_points(1, facts, kink, grad_y, potential_y)


def _fourier(
    x, y, x_weights, y_weights, bandwidth, kernel, d, shape, kink, low, high, stretch, margin, unbiased, outputs
):
    _check_samples(x, y, x_weights, y_weights, unbiased)
    _check_series(x, bandwidth, kernel, d, high, stretch, margin)
    found = _fake(x, y, outputs)
    into = [part if outputs >> k & 1 else None for k, part in enumerate(found[:5])]
    form, slices = spectrum_of(kernel, d, shape), x.shape[0]
    with torch.cuda.device(x.device) if x.is_cuda else nullcontext():
        for start in range(0, slices, MOST_SLICES):
            rows = slice(start, start + MOST_SLICES)
            a, b = (w if w is None or w.dim() == 1 else w[rows] for w in (x_weights, y_weights))
            parts = [part if part is None else part[rows] for part in into]
            band = (low, high, stretch, margin)
            _run_block(x[rows], y[rows], a, b, bandwidth, form, kink, band, unbiased, found[5][rows], parts)
    return found


def _fake(x, y, outputs):
    """Gradients, value, potentials and modes; of no elements what is not wanted."""
    shapes = (x.shape, y.shape, x.shape[:1], x.shape, y.shape)
    dtypes = (x.dtype, x.dtype, torch.float64, torch.float64, torch.float64)
    parts = [
        x.new_empty(shape if outputs >> k & 1 else (0,), dtype=dtype)
        for k, (shape, dtype) in enumerate(zip(shapes, dtypes, strict=True))
    ]
    return *parts, x.new_empty(x.shape[:1], dtype=torch.int64)


def _fourier_fake(x, y, *rest):
    return _fake(x, y, rest[-1])


_ARGUMENTS = (
    "Tensor x, Tensor y, Tensor? x_weights, Tensor? y_weights, Tensor bandwidth, int kernel, int d, float shape, "
)
_ARGUMENTS += "float kink, float low, float high, float stretch, float margin, bool unbiased, int outputs"
_RETURNS = "Tensor grad_x, Tensor grad_y, Tensor value, Tensor potential_x, Tensor potential_y, Tensor modes"
torch.library.define("fastcore_triton::mmd_fourier", f"({_ARGUMENTS}) -> ({_RETURNS})")
torch.library.impl("fastcore_triton::mmd_fourier", ("cpu", "cuda"), _fourier)
torch.library.register_fake("fastcore_triton::mmd_fourier", _fourier_fake)
