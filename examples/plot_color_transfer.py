"""
Color transfer between two photographs
======================================

Optimal transport moves the colors of one photograph to those of another as a whole: each color of the
source goes where it must for the source to take on the *distribution* of colors of the target, at the
least total change of color.

Thousands of pixels of each photograph stand for its palette. The cost, squared distance in RGB, is
computed on the fly (``PointCloud``): no matrix is stored. The solved problem gives a map of the color
cube, which then recolors every pixel.

Run it with ``make demo``, or ``python examples/plot_color_transfer.py --help``.
"""

import argparse
import contextlib
import io
import time
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from scipy.ndimage import uniform_filter1d
from sklearn.datasets import load_sample_image

import fastcore_ops as fo

here = Path(__file__).parent if "__file__" in globals() else Path()
parser = argparse.ArgumentParser(description="Color transfer between two photographs.")
parser.add_argument("--pixels", type=int, default=3000, help="pixels of each photograph (%(default)s)")
parser.add_argument("--reg", type=float, default=2e-3, help="in units of squared RGB distance (%(default)s)")
parser.add_argument("--tol", type=float, default=1e-9, help="marginal error to reach (%(default)s)")
parser.add_argument("--seconds", type=float, default=15.0, help="limit for Sinkhorn, and POT (%(default)s)")
parser.add_argument("--save", type=Path, default=here / "color_transfer.png", help="where the figure goes")
options = parser.parse_args()
reg, tol = options.reg, options.tol

# %%
# Two photographs, and a palette of each
# --------------------------------------
# Both come with scikit-learn. Colors are in [0, 1].
china, flower = (load_sample_image(name) / 255.0 for name in ("china.jpg", "flower.jpg"))
generator = np.random.default_rng(0)


def palette(image: np.ndarray) -> np.ndarray:
    """Colors of pixels drawn at random."""
    pixels = image.reshape(-1, 3)
    return pixels[generator.choice(len(pixels), options.pixels, replace=False)]


x, y = palette(china), palette(flower)
print(f"Palettes of {len(x)} and {len(y)} pixels, reg {reg:g}, marginal error to reach {tol:g}\n")

# %%
# Solve
# -----
# Sinkhorn-Newton solves the problem once. The way back is the same problem with its sides exchanged, so
# the potentials, exchanged too, are its solution already: one pass confirms it.
rows: list[tuple[str, ...]] = []
curves: dict[str, tuple[list[float], ...]] = {}  # passes, seconds, errors


def note(name: str, error: float, passes: float, seconds: float, remark: str) -> None:
    """Keep a row of the table."""
    figures = (f"{len(x)}", f"{len(y)}", f"{reg:g}", f"{error:.1e}", f"{passes:.0f}", f"{seconds:.2f}")
    rows.append((name, *figures, remark))


def timed(name: str, solve: Callable[[], fo.ot.OTResult]) -> fo.ot.OTResult:
    """Run a solver, and keep its row and its curve."""
    begun = time.perf_counter()
    result = solve()
    note(name, result.marginal_error, result.n_passes, time.perf_counter() - begun, result.status)
    at_target = [record for record in result.history if record["reg"] == reg]  # the others are annealing
    curves[name] = tuple([record[key] for record in at_target] for key in ("passes", "seconds", "error"))
    return result


solved = timed(
    "Sinkhorn-Newton",
    lambda: fo.sinkhorn_newton(fo.ot.PointCloud(x, y), reg=reg, tol=tol, progress=True),
)

# %%
# Plain Sinkhorn gets the same problem and a limit in time: a callback that returns True ends a solve.
deadline = time.perf_counter() + options.seconds
with warnings.catch_warnings():
    warnings.simplefilter("ignore", fo.ConvergenceWarning)  # that it does not get there is what we show
    timed(
        "Sinkhorn",
        lambda: fo.sinkhorn(
            fo.ot.PointCloud(x, y),
            reg=reg,
            tol=tol,
            max_passes=1_000_000,
            progress=True,
            callback=lambda record: time.perf_counter() > deadline,
        ),
    )


# %%
# And POT, where it is installed: its plain matrix form, two matrix-vector products an iteration. At this
# ``reg`` it is POT's fastest; its stabilized and logarithmic forms take ten times as long an iteration.
def run_pot() -> None:
    """POT in chunks, each starting where the last one ended; the error is checked between them, untimed."""
    with contextlib.redirect_stdout(io.StringIO()):  # some optional packages of POT print on import
        import ot

    a, b = np.full(len(x), 1 / len(x)), np.full(len(y), 1 / len(y))
    points: list[tuple[float, float, float]] = []
    start, iterations, seconds, error, status = None, 0, 0.0, np.inf, "stopped"
    while status == "stopped" and seconds < options.seconds:
        chunk = 50 if points else 10
        begun = time.perf_counter()
        if not points:
            cost = ot.dist(x, y)
        plan, log = ot.sinkhorn(
            a, b, cost, reg, method="sinkhorn", numItermax=chunk, stopThr=tol / len(b) ** 0.5,
            warmstart=start, log=True, warn=False,
        )  # fmt: skip
        seconds += time.perf_counter() - begun
        start = (np.log(log["u"]), np.log(log["v"]))
        iterations += log["niter"] + 1
        error = float(np.abs(plan.sum(1) - a).sum() + np.abs(plan.sum(0) - b).sum())
        points.append((iterations, seconds, error))
        if error <= tol:
            status = "converged"
        elif log["niter"] + 1 < chunk:
            status = "numerical trouble"
    curves["POT"] = tuple(map(list, zip(*points, strict=True)))
    note("POT, sinkhorn", error, iterations, seconds, status)


try:
    run_pot()
except ImportError:
    print("POT is not installed (pip install POT): no comparison with it")


# %%
# Recolor the full images
# -----------------------
# ``transport_map`` sends any color, one that the solver has seen or not, to the mean of the colors that
# the plan pairs it with; ``reverse=True`` goes the other way with the same plan. Equal pixels have equal
# images, so each color is mapped once.
#
# The sky is split between two colors of the target, and the split would show the blocks of the JPEG file.
# A guided filter (He, Sun, Tang 2013) of the *change* of color, with the photograph as its guide, makes
# the change smooth where the photograph is smooth, and keeps its edges.
def recolor(image: np.ndarray, move: Callable[[np.ndarray], np.ndarray]) -> np.ndarray:
    """Barycentric map of every pixel."""
    colors, inverse = np.unique(image.reshape(-1, 3), axis=0, return_inverse=True)
    moved = move(colors)
    change = moved[inverse.ravel()].reshape(image.shape) - image
    return np.clip(image + guided_filter(change, image), 0.0, 1.0)


def guided_filter(values: np.ndarray, guide: np.ndarray, radius: int = 20, eps: float = 4e-4) -> np.ndarray:
    """Locally linear regression of ``values`` on the colors of ``guide``."""

    def box(field: np.ndarray) -> np.ndarray:
        for axis in (0, 1):
            field = uniform_filter1d(field, 2 * radius + 1, axis=axis, mode="nearest")
        return field

    def outer(left: np.ndarray, right: np.ndarray) -> np.ndarray:
        return left[..., :, None] * right[..., None, :]

    mean_guide, mean = box(guide), box(values)
    covariance = box(outer(guide, guide)) - outer(mean_guide, mean_guide)
    slope = np.linalg.solve(covariance + eps * np.eye(3), box(outer(guide, values)) - outer(mean_guide, mean))
    intercept = mean - (mean_guide[..., None, :] @ slope)[..., 0, :]
    return (guide[..., None, :] @ box(slope))[..., 0, :] + box(intercept)


begun = time.perf_counter()
china_recolored = recolor(china, fo.ot.transport_map(solved))
flower_recolored = recolor(flower, fo.ot.transport_map(solved, reverse=True))
seconds = time.perf_counter() - begun
print(f"\nRecolored {(china.size + flower.size) // 3} pixels in {seconds:.1f} s\n")

# %%
# What came out
# -------------
header = ("solver", "n", "m", "reg", "error", "passes", "seconds", "")
try:
    from rich.console import Console
    from rich.table import Table

    table = Table(*header, box=None, pad_edge=False)
    for column in table.columns[1:7]:
        column.justify = "right"
    for row in rows:
        table.add_row(*row)
    Console(width=100).print(table)
except ImportError:
    widths = [max(map(len, column)) for column in zip(header, *rows, strict=True)]
    for row in (header, *rows):
        print("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())

# %%
# On the left the photographs, in the middle each in the colors of the other, on the right the error of the
# marginals. Where a solver anneals, only what it does at the final ``reg`` is drawn. An iteration of POT
# counts as one pass.
WIDTH, HEIGHT = 14.9, 7.4  # inches
figure = Figure(figsize=(WIDTH, HEIGHT), facecolor="white")


def panel(left: float, bottom: float, width: float, height: float, title: str):
    """Axes at a place in inches."""
    axes = figure.add_axes((left / WIDTH, bottom / HEIGHT, width / WIDTH, height / HEIGHT))
    axes.set_title(title, fontsize=13)
    return axes


for left, bottom, image, title in (
    (0.05, 3.75, china, "Source"),
    (5.15, 3.75, china_recolored, "Source in the colors of the target"),
    (0.05, 0.05, flower, "Target"),
    (5.15, 0.05, flower_recolored, "Target in the colors of the source"),
):
    axes = panel(left, bottom, 5.0, 5.0 * image.shape[0] / image.shape[1], title)
    axes.imshow(image)
    axes.axis("off")

styles = {"Sinkhorn-Newton": ("#d1495b", 2.8), "Sinkhorn": ("#30638e", 2.0), "POT": ("#8d99ae", 2.0)}
for bottom, abscissa, label, title in (
    (4.25, 0, "passes over the n × m pairs", f"{len(x)} × {len(y)} colors, reg = {reg:g}"),
    (0.55, 1, "seconds", ""),
):
    axes = panel(11.0, bottom, 3.75, 2.84, title)
    drawn = [name for name in styles if name in curves]
    longest = max(curves[name][abscissa][-1] for name in drawn)
    for name in drawn:
        color, width = styles[name]
        along, error = curves[name][abscissa], curves[name][2]
        axes.semilogy(along, error, color=color, lw=width)
        axes.plot(along[-1:], error[-1:], "o", color=color, ms=6)
        side = "right" if along[-1] > 0.5 * longest else "left"
        place = {"xytext": (4 if side == "right" else -4, -9), "va": "top"}
        if error[-1] <= tol:  # the end of a steep curve: beside it
            place = {"xytext": (-10 if side == "right" else 10, 0), "va": "center"}
            place["bbox"] = {"fc": "white", "ec": "none", "pad": 2}
        axes.annotate(
            name, (along[-1], error[-1]), textcoords="offset points", ha=side, color=color, fontsize=11, **place
        )
    axes.axhline(tol, color="0.55", lw=0.9, ls=(0, (4, 3)), zorder=0)
    axes.set_xlim(left=0)
    axes.set_ylim(top=10.0)
    axes.set_xlabel(label)
    axes.set_ylabel("marginal error")
    axes.grid(alpha=0.25)
    axes.spines[["top", "right"]].set_visible(False)

options.save.parent.mkdir(parents=True, exist_ok=True)
quality = {"pil_kwargs": {"quality": 92}} if options.save.suffix in (".jpg", ".jpeg") else {}
figure.savefig(options.save, dpi=110, **quality)
print(f"\nFigure: {options.save}")
