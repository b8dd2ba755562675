"""
Do two samples come from one law?
=================================

A permutation test with the sliced energy distance on the thirty features of scikit-learn's breast-cancer data. Malignant
against benign: it must reject. Two halves of the benign class: it must not, and over many random halves its p-values must
be spread evenly, so that a test at 5 % rejects in 5 % of them.

The points of each slice are sorted once for all labellings. The p-value is (1 + the labellings whose statistic comes up to the
observed one) / (1 + all labellings), and so never 0.

Run the script with ``python examples/plot_two_sample.py``; ``--quick`` splits less often.
"""

import argparse
import time
from pathlib import Path

import numpy as np
import torch
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter
from sklearn.datasets import load_breast_cancer

import fastcore_ops as fo

here = Path(__file__).parent if "__file__" in globals() else Path()
torch.set_num_threads(1)  # a test is some milliseconds: threads would wait for one another
parser = argparse.ArgumentParser(description="A permutation test on two real samples.")
parser.add_argument("--quick", action="store_true", help="40 random halves instead of 400")
parser.add_argument("--save", type=Path, default=here / "two_sample.png", help="where the figure goes")
options = parser.parse_args()

# %%
# Two samples
# -----------
# Every feature is standardised by mean and deviation of all patients, whatever their class.
data = load_breast_cancer()
features = torch.tensor(data.data)
features = ((features - features.mean(0)) / features.std(0)).float()
classes = torch.tensor(data.target)
malignant, benign = features[classes == 0], features[classes == 1]
generator = torch.Generator().manual_seed(0)


def halves() -> tuple[torch.Tensor, torch.Tensor]:
    """The benign class in two, at random."""
    order = torch.randperm(len(benign), generator=generator)
    return benign[order[: len(order) // 2]], benign[order[len(order) // 2 :]]


# %%
# Two tests
# ---------
TESTS = {"malignant and benign": (malignant, benign), "two halves of benign": halves()}
results = {}
for name, (x, y) in TESTS.items():
    begun = time.perf_counter()
    results[name] = fo.mmd.mmd_test(x, y, num_permutations=999, generator=generator)
    seconds = time.perf_counter() - begun
    found = results[name]
    print(
        f"{name}: {len(x)} and {len(y)} points, statistic {found.statistic:.3g}, p = {found.p_value:.3f}, {seconds:.2f} s"
    )

# %%
# Many halves
# -----------
count = 40 if options.quick else 400
begun = time.perf_counter()
p_values = [fo.mmd.mmd_test(*halves(), num_permutations=199, generator=generator).p_value for _ in range(count)]
share = float(np.mean([p <= 0.05 for p in p_values]))
print(f"{count} random halves: {share:.1%} rejected at 5 %, {time.perf_counter() - begun:.1f} s")

# %%
# What came out
# -------------
misses: list[str] = []
if results["malignant and benign"].p_value > 0.0015:
    misses.append(f"malignant and benign: p = {results['malignant and benign'].p_value}, expected 0.001")
if results["two halves of benign"].p_value <= 0.05:
    misses.append(f"two halves of benign: p = {results['two halves of benign'].p_value}, expected above 0.05")
deviation = (0.05 * 0.95 / count) ** 0.5
if abs(share - 0.05) > 3.5 * deviation:
    misses.append(f"random halves: {share:.1%} rejected, expected 5 % within {3.5 * deviation:.1%}")

figure = Figure(figsize=(15, 4.6), facecolor="white", layout="constrained")
figure.get_layout_engine().set(w_pad=0.12, h_pad=0.08)
panels = figure.subplots(1, 3)
for panel, (name, result) in zip(panels, results.items(), strict=False):
    null = np.asarray(result.null)
    edge = max(null.max(), result.statistic) * 1.5
    bins = np.geomspace(null.min(), null.max(), 30)
    panel.hist(null, bins=bins, color="#56b4e9", label="999 labellings at random")
    panel.axvline(result.statistic, color="#d55e00", lw=2.5, label="the labels as they are")
    panel.set(xscale="log", xlim=(null.min() / 1.2, edge), xlabel="squared MMD", ylabel="labellings")
    panel.set_title(f"{name[0].upper() + name[1:]}: p = {result.p_value:.3f}")
    panel.set_ylim(top=1.35 * panel.get_ylim()[1])
    panel.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    panel.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    panel.xaxis.set_minor_formatter(NullFormatter())
    panel.legend(framealpha=1, edgecolor="none", fontsize=11, loc="upper left")

panel = panels[2]
panel.hist(p_values, bins=np.linspace(0, 1, 21), color="#009e73")
panel.axhline(count / 20, color="black", lw=1.5, ls=(0, (4, 3)))
panel.set(xlim=(0, 1), xlabel="p-value (dashed: evenly spread)", ylabel="random halves")
panel.set_title(f"{count} random halves of benign: {share:.1%} below 5 %")
for panel in panels:
    panel.grid(alpha=0.25)
    panel.set_axisbelow(True)
    panel.spines[["top", "right"]].set_visible(False)

options.save.parent.mkdir(parents=True, exist_ok=True)
quality = {"pil_kwargs": {"quality": 90}} if options.save.suffix in (".jpg", ".jpeg") else {}
figure.savefig(options.save, dpi=100, **quality)
print(f"\nFigure: {options.save}")
if misses:
    raise SystemExit("Not as it should be:\n  " + "\n  ".join(misses))
