"""The plot: how many times faster than the best peer, one panel per row that states ratios."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
from matplotlib import pyplot as plt
from matplotlib.ticker import FuncFormatter, NullFormatter

from bench.report import Row

REACHED, SHORT, BOUND = "#2a6f97", "#c1121f", "#89c2d9"


def ratios(rows: Sequence[Row], path: Path) -> None:
    panels = [
        (row, [r for r in row.records if r.get("gates") and r.get("ratio")])
        for row in sorted(rows, key=lambda row: row.number)
    ]
    panels = [(row, records) for row, records in panels if records]
    if not panels:
        return
    drawn = sorted(record["ratio"] for _, records in panels for record in records)
    heights = [len(records) + 1.5 for _, records in panels]
    figure, axes = plt.subplots(
        len(panels), 1, figsize=(9, 0.34 * sum(heights) + 0.6), squeeze=False,
        gridspec_kw={"height_ratios": heights}, constrained_layout=True,
    )  # fmt: skip
    for axis, (row, records) in zip(axes[:, 0], panels, strict=True):
        names = [record["case"] for record in records]
        values = [record["ratio"] for record in records]
        colours = [SHORT if r["ratio"] < r["gate"] else BOUND if r.get("bound") else REACHED for r in records]
        axis.barh(names, values, color=colours)
        for index, record in enumerate(records):
            axis.plot([record["gate"]] * 2, [index - 0.45, index + 0.45], color="black")
            label = f"{'> ' if record.get('bound') else ''}{record['ratio']:.3g}x {record.get('against', '')}"
            axis.text(record["ratio"], index, " " + label, va="center", fontsize=8)
        axis.set_xscale("log")
        axis.set_xlim(0.6 * min(drawn[0], 1.0), 4 * drawn[-1])
        axis.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        axis.xaxis.set_minor_formatter(NullFormatter())
        axis.invert_yaxis()
        axis.set_title(f"{row.number}. {row.title}", fontsize=9, loc="left")
        axis.tick_params(labelsize=8)
    axes[-1, 0].set_xlabel("times faster (black: at least; light: lower bound; red: short of it)", fontsize=8)
    figure.savefig(path, dpi=130)
    plt.close(figure)
