"""
Noise flows to digits
=====================

A thousand points of uniform noise in [0, 1]^64 move along the gradient of the sliced energy distance to a thousand
handwritten digits of 8 x 8 pixels. Nothing is learned: the gradient of each slice is a difference of ranks, and 64 slices
are drawn anew for each step, with momentum where the table says so.

What the slices leave of the noise of their choice grows like ``step_size / (1 - momentum) * sqrt(d / num_slices)``. Orthogonal
slices carry a quarter of its variance, and so a momentum that independent ones do not: at 0.9 those never get there.
With as many particles as digits the particles end on the digits themselves; a generator learns the way from noise to
there, as in Hertrich, Wald, Altekrüger, Hagemann, *Generative Sliced MMD Flows with Riesz Kernels*, ICLR 2024.

Run the script with ``python examples/plot_mmd_flow.py``; ``--quick`` stops after 64 steps.
"""

import argparse
import time
from pathlib import Path

import numpy as np
import torch
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter
from sklearn.datasets import load_digits

import fastcore_ops as fo

here = Path(__file__).parent if "__file__" in globals() else Path()
torch.set_num_threads(1)  # a step is two milliseconds: threads would wait for one another
parser = argparse.ArgumentParser(description="A flow of the sliced energy distance from noise to digits.")
parser.add_argument("--quick", action="store_true", help="64 steps instead of 1024")
parser.add_argument("--save", type=Path, default=here / "mmd_flow.png", help="where the figure goes")
options = parser.parse_args()

# %%
# Four settings, and what they are to reach
# -----------------------------------------
# The exact D², half of the squared MMD, after 16, 64, 256 and 1024 steps. The last setting is one that fails.
SLICES = 64
STAGES = (16, 64) if options.quick else (16, 64, 256, 1024)
SETTINGS: dict[tuple[str, float], tuple[float, ...]] = {
    ("gaussian", 0.0): (1.5e-2, 7.7e-3, 1.9e-3, 8.3e-4),
    ("orthogonal", 0.7): (1.6e-2, 3.1e-3, 1.2e-3, 8.3e-4),
    ("orthogonal", 0.9): (9.8e-2, 7.2e-3, 3.0e-3, 3.0e-3),
    ("gaussian", 0.9): (8.7e-1, 4.2e-1, 5.0e-1, 4.7e-1),
}
COLORS = dict(zip(SETTINGS, ("#e69f00", "#0072b2", "#009e73", "#d55e00"), strict=True))
NAMES = {"gaussian": "independent slices", "orthogonal": "orthogonal slices"}

# %%
# The flows
# ---------
digits = torch.tensor(load_digits().data[:1000], dtype=torch.float32) / 16


def distance(points: torch.Tensor) -> float:
    """The exact D² of particles and digits."""
    return float(fo.mmd.energy_distance(points, digits, half=True))


def times() -> list[int]:
    """Steps at which D² is taken: four to a doubling, and the stages."""
    steps = {round(2 ** (k / 4)) for k in range(4 * int(np.log2(STAGES[-1])) + 1)}
    return sorted(steps | set(STAGES))


curves: dict[tuple[str, float], dict[int, float]] = {}
pictures: dict[tuple[str, float], dict[int, torch.Tensor]] = {}
for slices, momentum in SETTINGS:
    generator = torch.Generator().manual_seed(0)
    noise = torch.rand(1000, 64, generator=generator)
    flow = fo.mmd.MMDFlow(
        noise, digits, momentum=momentum, step_size=1.0, num_slices=SLICES, slices=slices, generator=generator
    )
    setting, done, seconds = (slices, momentum), 0, 0.0
    curves[setting], pictures[setting] = {0: distance(noise)}, {0: noise}
    for step in times():
        begun = time.perf_counter()
        points = flow.run(step - done)
        seconds += time.perf_counter() - begun
        done = step
        curves[setting][step] = distance(points)
        if step in STAGES:
            pictures[setting][step] = points.clone()
    print(f"{NAMES[slices]}, momentum {momentum:g}: {done} steps in {seconds:.1f} s")

# %%
# Beside the table
# ----------------
# A setting that works must come within a fifth of what is written above; the one that fails must fail.
misses: list[str] = []
print(f"\n{'exact D² after':32}" + "".join(f"{step:>20}" for step in (0, *STAGES)))
for (slices, momentum), expected in SETTINGS.items():
    curve = curves[slices, momentum]
    cells = [f"{curve[0]:20.3f}"]
    for step, value in zip(STAGES, expected, strict=False):
        cells.append(f"{curve[step]:9.1e} ({value:.1e})".rjust(20))
        fails = value > 0.2
        if curve[step] < 0.2 if fails else abs(curve[step] / value - 1) > 0.2:
            misses.append(
                f"{NAMES[slices]}, momentum {momentum:g}, step {step}: {curve[step]:.1e}, expected {value:.1e}"
            )
    print(f"{NAMES[slices] + f', momentum {momentum:g}':32}" + "".join(cells))

# %%
# The picture
# -----------
ROWS, COLUMNS = 5, 5
SHOWN: tuple[tuple[str, float], ...] = (("orthogonal", 0.7), ("gaussian", 0.9))


def mosaic(points: torch.Tensor) -> np.ndarray:
    """The same particles at each stage, with a thin frame around each."""
    tiles = points[: ROWS * COLUMNS].reshape(ROWS, COLUMNS, 8, 8)
    framed = torch.nn.functional.pad(tiles, (1, 0, 1, 0), value=0.5)
    wall = framed.permute(0, 2, 1, 3).reshape(9 * ROWS, 9 * COLUMNS)
    return torch.nn.functional.pad(wall, (0, 1, 0, 1), value=0.5).clamp(0, 1).numpy()


stages = (0, *STAGES)
figure = Figure(figsize=(3.1 * (len(stages) + 2.6), 6.9), facecolor="white", layout="constrained")
figure.get_layout_engine().set(w_pad=0.06, h_pad=0.1)
left, right = figure.subfigures(1, 2, width_ratios=(len(stages) + 0.1, 2.4))
for row, setting in zip(left.subplots(len(SHOWN), len(stages), squeeze=False), SHOWN, strict=True):
    for panel, step in zip(row, stages, strict=True):
        panel.imshow(mosaic(pictures[setting][step]), cmap="gray_r", vmin=0, vmax=1)
        panel.set(xticks=[], yticks=[])
        panel.set_title(f"{step} steps" if step else "noise", fontsize=12)
        panel.set_xlabel(f"D² = {curves[setting][step]:.2g}", fontsize=12)
    row[0].set_ylabel(f"{NAMES[setting[0]]}, momentum {setting[1]:g}", fontsize=12, color=COLORS[setting])

panel = right.subplots()
for setting, curve in curves.items():
    steps = [step for step in curve if step]
    label = f"{NAMES[setting[0]]}, momentum {setting[1]:g}"
    panel.plot(steps, [curve[step] for step in steps], color=COLORS[setting], lw=2, label=label)
    panel.plot(STAGES, SETTINGS[setting][: len(STAGES)], "o", color=COLORS[setting], mfc="white", mew=1.8, ms=8)
panel.set(xscale="log", yscale="log", xlabel="step (circles: the table)", title="Exact D² to the digits")
panel.xaxis.set_major_locator(LogLocator(base=4))
for axis in (panel.xaxis, panel.yaxis):
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axis.set_minor_formatter(NullFormatter())
panel.legend(frameon=False, fontsize=11, loc="lower left")
panel.grid(alpha=0.25)
panel.spines[["top", "right"]].set_visible(False)

options.save.parent.mkdir(parents=True, exist_ok=True)
quality = {"pil_kwargs": {"quality": 85}} if options.save.suffix in (".jpg", ".jpeg") else {}
figure.savefig(options.save, dpi=80, **quality)
print(f"\nFigure: {options.save}")
if misses:
    raise SystemExit("Not as it should be:\n  " + "\n  ".join(misses))
