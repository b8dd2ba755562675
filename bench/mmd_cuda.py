"""The kernel distances' rows on a GPU: against the same code in torch, and against what memory and products allow.

Everything runs in this process: the work is on the device. Other packages are not needed, and neither is a network. A line
that fails, or for which no time is left, costs its figures and not the run. Float32 products are torch's own on all sides,
without TF32.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property, partial

import torch
from torch import Tensor

import fastcore_ops as fo
from bench.context import Context
from bench.device import Function, host_seconds, race, waits_for_device
from bench.optim_cuda import guarded, lists, opened
from bench.optim_race import verdict
from bench.peers import mmd_sides
from bench.peers.mmd_data import Problem
from bench.report import Row
from bench.timing import seconds
from fastcore_ops import _backend
from fastcore_ops.mmd import _spectrum

DEVICE = torch.device("cuda")
GRAD_X, POINTS = 1, 7  # outputs: gradient in x; both gradients and the value
RECIPE = "three sorts"
SAME_MODES = 1e-6  # float64 on both sides, gradients float32
SAME_GRADIENT = 1e-3  # ties aside, and rounding of the products, both sides say the same
COLUMNS = ("case", "ours", "against", "its figure", "compared", "at least / aim", "bounds")
LABELLINGS = 1000


@dataclass(frozen=True)
class Points(Problem):
    """A problem on the device."""

    @cached_property
    def x(self) -> Tensor:
        return super().x.to(DEVICE)

    @cached_property
    def y(self) -> Tensor:
        return super().y.to(DEVICE)

    @cached_property
    def directions(self) -> Tensor:
        return self.draw(2).to(DEVICE)


def operator(name: str) -> Callable[..., tuple[Tensor, ...]]:
    chosen: Callable[..., tuple[Tensor, ...]] = _backend.pick(name, DEVICE)
    return chosen


def apart(ours: Tensor, theirs: Tensor) -> float:
    return float((ours - theirs).norm() / theirs.norm())


def versus(
    row: Row, context: Context, case: str, sides: dict[str, Function], bar: str, same: float | None = None
) -> None:
    """Ours against the side named next, in interleaved rounds with the bounds that follow it."""
    other, *bounds = list(sides)[1:]
    difference = None if same is None else apart(sides["ours"](), sides[other]())
    if difference is not None and same is not None and not difference < same:
        raise ArithmeticError(f"WRONG: {difference:.1e} apart from {other}")
    found = race(row, context, case, sides)
    ratio = found[other].median / found["ours"].median
    gates = not bar.startswith("-")
    row.add(
        [case, str(found["ours"]), other, str(found[other]), verdict(f"{ratio:.2f} x", ratio, bar, gates), bar,
         ", ".join(f"{name} {seconds(min(found[name].times))}" for name in bounds)],
        {"case": case, "ratio": ratio, "gate": float(bar.split()[0]) if gates else None, "gates": gates,
         "against": other, "apart": difference, "times": lists(found)},
    )  # fmt: skip


# Row 10: gradients ---------------------------------------------------------------------------------------------------


def products(problem: Problem) -> Function:
    """What a gradient along given directions cannot do without."""
    directions, x, y = problem.directions, problem.x, problem.y
    into = torch.empty(problem.slices, problem.n, device=DEVICE)

    def call() -> None:
        torch.mm(directions, x.T, out=into)
        torch.mm(directions, y.T, out=into)
        torch.mm(into.T, directions)

    return call


def split_products(problem: Problem) -> Function:
    """The same products of matrices in six bfloat16 parts, the parts given."""
    terms, wide = 6, {"device": DEVICE, "dtype": torch.bfloat16}
    slices, n, d = problem.slices, problem.n, problem.d
    rows, points = torch.randn(slices, terms * d, **wide), torch.randn(terms * d, n, **wide)
    gradients, columns = torch.randn(n, terms * slices, **wide), torch.randn(terms * slices, d, **wide)

    def call() -> None:
        torch.mm(rows, points, out_dtype=torch.float32)
        torch.mm(rows, points, out_dtype=torch.float32)
        torch.mm(gradients, columns, out_dtype=torch.float32)

    return call


def errors(row: Row, case: str, problem: Problem, sides: dict[str, Function]) -> None:
    """Of gradients in float32 against the recipe in float64."""
    x, y, directions = problem.x.double(), problem.y.double(), problem.directions.double()
    scale = mmd_sides.slicing_constant(problem.d) / problem.slices
    exact = scale * (mmd_sides.three_sorts(directions @ x.T, directions @ y.T).T @ directions)
    found = {name: apart(side(), exact) for name, side in sides.items()}
    row.add(
        [case, f"{found['ours']:.1e}", RECIPE, f"{found[RECIPE]:.1e}", "of the float64 gradient", "", ""],
        {"case": case, "errors": found},
    )


def transfer(x: Tensor, y: Tensor) -> Function:
    """Projections read once, gradients in x written once."""
    out = torch.empty_like(x)

    def call() -> None:
        out.copy_(x)
        y.sum()

    return call


def gradient(context: Context) -> Row:
    """Row 10: the gradient in x, independent and Hadamard slices."""
    row = opened(
        context, 10, "Gradient in x, float32, against matmul and three sorts in torch on the same GPU", COLUMNS
    )
    small = {"n": 4000, "slices": 256}
    for d in (784,) if context.quick else (784, 64):
        problem = Points(**({"d": d} | (small if context.quick else {"n": 20_000, "slices": 1000})))
        name, bar = f"N = M = {problem.n}, d = {d}, P = {problem.slices}", "6 / 12" if d == 784 else "- / 12"
        recipe = {RECIPE: mmd_sides.torch_gradient(problem), "products": products(problem)}
        if d >= 256:
            recipe["split products"] = split_products(problem)
        ours = mmd_sides.ours_gradient(problem)
        guarded(row, name, partial(versus, row, context, name, {"ours": ours, **recipe}, bar, SAME_GRADIENT))
        both = f"{name}, value and both gradients"
        sides = {"ours": mmd_sides.ours_both(problem), **recipe}
        guarded(row, both, partial(versus, row, context, both, sides, "-", SAME_GRADIENT))
        fast = f"{name}, Hadamard"
        sides = {"ours": partial(_hadamard_gradient, problem), **recipe}
        guarded(row, fast, partial(versus, row, context, fast, sides, "-"))
        accuracy = {"ours": ours, RECIPE: recipe[RECIPE]}
        guarded(row, f"{name}, error", partial(errors, row, f"{name}, error", problem, accuracy))
        guarded(row, f"{name}, on the host", partial(_on_host, row, f"{name}, on the host", ours, recipe[RECIPE]))
        guarded(row, f"{name}, memory", partial(_memory, row, f"{name}, memory", ours, recipe[RECIPE]))
    row.note(
        "products: projections of x and y and the back-projection, by torch; split: in bfloat16 parts, as we do from d = 256"
    )
    return row


def _hadamard_gradient(problem: Problem) -> Tensor:
    found: Tensor = fo.sliced_mmd_grad(problem.x, problem.y, num_slices=problem.slices, slices="hadamard", half=True)
    return found


def _on_host(row: Row, case: str, ours: Function, recipe: Function) -> None:
    mine, theirs, waits = host_seconds(ours), host_seconds(recipe), waits_for_device(ours)
    row.add(
        [case, str(mine), RECIPE, str(theirs), "waits for the device" if waits else "waits for nothing", "", ""],
        {"case": case, "ours": list(mine.times), "others": list(theirs.times), "waits": waits},
    )


def _memory(row: Row, case: str, ours: Function, recipe: Function) -> None:
    found = []
    for function in (ours, recipe):
        torch.cuda.synchronize()
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        function()
        torch.cuda.synchronize()
        found.append(torch.cuda.max_memory_allocated() - before)
    cells = [f"{size / 1e6:.0f} MB" for size in found]
    row.add([case, cells[0], RECIPE, cells[1], "", "", ""], {"case": case, "bytes": found})


# Row 11: operators ---------------------------------------------------------------------------------------------------


def _projections(slices: int, n: int, seed: int = 0, dtype: torch.dtype = torch.float32) -> Tensor:
    return torch.randn(slices, n, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).to(DEVICE, dtype)


def _ranks(row: Row, context: Context, slices: int, n: int, dtype: torch.dtype, law: str) -> None:
    x, y = _projections(slices, n, 0, dtype), _projections(slices, n, 1, dtype) + 0.3
    if law == "ties":
        x, y = (100 * x).round() / 100, (100 * y).round() / 100
    op, case = operator("mmd_rank"), f"ranks, P = {slices}, N = M = {n}, {str(dtype).removeprefix('torch.')}, {law}"
    on_cpu = _backend.pick("mmd_rank", torch.device("cpu"))(x[:2].cpu(), y[:2].cpu(), None, None, False, GRAD_X)[0]
    if not torch.equal(op(x, y, None, None, False, GRAD_X)[0][:2].cpu(), on_cpu):
        raise ArithmeticError("WRONG: not the bits of the CPU")
    sides = {
        "ours": lambda: op(x, y, None, None, False, GRAD_X)[0],
        RECIPE: lambda: mmd_sides.three_sorts(x, y),
        "one sort of x": lambda: torch.sort(x),
        "transfer": transfer(x, y),
        "with value and both gradients": lambda: op(x, y, None, None, False, POINTS),
    }
    versus(row, context, case, sides, "-")


def _hadamard(row: Row, context: Context, n: int, d: int) -> None:
    depth = 1 << (d - 1).bit_length()
    x, op = _projections(n, d), operator("mmd_hadamard")
    signs = torch.randint(0, 2, (3, depth), device=DEVICE).float() * 2 - 1
    slices = op(x, signs, depth, False)
    directions = torch.randn(depth, d, device=DEVICE)
    sides = {
        "ours": lambda: op(x, signs, depth, False),
        "matmul": lambda: directions @ x.T,
        "transposed": lambda: op(slices, signs, d, True),
        "transfer": lambda: (x.sum(), slices.fill_(0)),
    }
    versus(row, context, f"Hadamard, N = {n}, d = {d}", sides, "-")


def _permutations(row: Row, context: Context, n: int, slices: int, d: int) -> None:
    points, op = torch.randn(n, d, device=DEVICE), operator("mmd_permutation")
    z = torch.nn.functional.normalize(torch.randn(slices, d, device=DEVICE)) @ points.T
    order = torch.argsort(torch.rand(LABELLINGS, n, device=DEVICE), 1)
    labels = (order < n // 2).to(torch.uint8)
    signs = labels.float() * 4 / n - 2 / n

    def dense() -> Tensor:
        return ((signs @ torch.cdist(points, points)) * signs).sum(1)

    case = f"permutations, P = {slices}, n = {n}, B = {LABELLINGS}"
    versus(row, context, case, {"ours": lambda: op(z, labels), "dense": dense}, "-")


def _exponentials(row: Row, context: Context, slices: int, n: int) -> None:
    x, y, op = _projections(slices, n), _projections(slices, n, 1) + 0.3, operator("mmd_soe")

    def direct() -> Tensor:  # of one slice
        difference = x[0][:, None] - y[0]
        return (difference.abs().pow(0.5) * difference.sign()).mean(1)

    sides = {
        "ours": lambda: op(x, y, None, None, 0, 1.5, 0.0, 1.0, False, GRAD_X),
        "one slice, one pair of clouds, directly": direct,
        "transfer": transfer(x, y),
    }
    versus(row, context, f"sums of exponentials, r = 1.5, P = {slices}, N = M = {n}", sides, "-")


def _modes(row: Row, context: Context, kernel: str, shape: float, slices: int, n: int, d: int) -> None:
    """The bandwidth is that of clouds in R^d whose slices are standard normal: their median distance."""
    x, y = _projections(slices, n), _projections(slices, n, 1) + 0.3
    code = {"gaussian": _spectrum.GAUSSIAN, "matern": _spectrum.MATERN}[kernel]
    sigma = torch.full((), (2.0 * d) ** 0.5, dtype=torch.float64, device=DEVICE)
    series = (code, d, shape, 0.0, *_spectrum.band(code, d, shape, False), *_spectrum.period(code, d, False))
    op, wanted = operator("mmd_fourier"), int(_reference_modes(x[:1], y[:1], sigma, series)[5])
    sides = {
        "ours": lambda: op(x, y, None, None, sigma, *series, False, GRAD_X)[0],
        "torch": lambda: _reference_modes(x, y, sigma, series)[0],
        "transfer": transfer(x, y),
        "with value and both gradients": lambda: op(x, y, None, None, sigma, *series, False, POINTS),
    }
    case = f"Fourier modes, {kernel}, d = {d}, {wanted} modes, P = {slices}, N = M = {n}"
    versus(row, context, case, sides, "-", SAME_MODES)


def _reference_modes(x: Tensor, y: Tensor, sigma: Tensor, series: tuple[float, ...]) -> tuple[Tensor, ...]:
    """The same in torch's operations, slice by slice, in float64."""
    found: tuple[Tensor, ...] = _backend.pick("mmd_fourier", DEVICE, "reference")(
        x, y, None, None, sigma, *series, False, GRAD_X
    )
    return found


def operators(context: Context) -> Row:
    """Row 11: each operator alone. Nothing is promised there."""
    row = opened(context, 11, "Operators of the kernel distances alone, on the GPU", COLUMNS)
    n, slices = (4000, 256) if context.quick else (20_000, 1000)
    lines: dict[str, Callable[[], None]] = {}
    for points, law in ((1000, "normal"), (n, "normal"), (n, "ties")):
        lines[f"ranks {points} {law}"] = partial(_ranks, row, context, slices, points, torch.float32, law)
    lines["ranks beyond shared memory"] = partial(_ranks, row, context, 128, 2 * n, torch.float32, "normal")
    lines["ranks in float64"] = partial(_ranks, row, context, 128, n, torch.float64, "normal")
    lines["hadamard"] = partial(_hadamard, row, context, n, 784)
    lines["hadamard of long points"] = partial(_hadamard, row, context, n, 3072)
    lines["permutations"] = partial(_permutations, row, context, n, 32, 10)
    lines["sums of exponentials"] = partial(_exponentials, row, context, 132, n)
    for kernel, shape, d in (("gaussian", 0.0, 10), ("gaussian", 0.0, 784), ("matern", 1.5, 10)):
        lines[f"modes {kernel} {d}"] = partial(_modes, row, context, kernel, shape, 64, n, d)
    for case, line in lines.items():
        guarded(row, case, line)
    row.note("transfer: the operator's inputs read once and its output written once, by torch")
    return row


BENCHES: dict[int, Callable[[Context], Row]] = {10: gradient, 11: operators}
