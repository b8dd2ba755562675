"""Results on disk: one JSON file, one Markdown table, one plot per family and device."""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any


@dataclass
class Row:
    """One row of a family's promises: what is compared, the lines measured, the verdict.

    `records` hold everything in plain types, for JSON; `lines` are the table's cells. A record
    with `ratio` (and `gate`, `aim`, `bound`) is drawn in the plot.
    """

    number: int
    title: str
    columns: Sequence[str]
    lines: list[list[str]] = field(default_factory=list)
    records: list[dict[str, Any]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    seconds: float = 0.0
    environment: dict[str, Any] = field(default_factory=dict)

    def add(self, cells: Sequence[str], record: dict[str, Any]) -> None:
        """Add a line, and print it at once: a run may be cut short."""
        self.lines.append(list(cells))
        self.records.append(record)
        print("  " + " | ".join(cells), flush=True)

    def note(self, text: str) -> None:
        self.notes.append(text)
        print(f"  note: {text}", flush=True)


def cpu_name() -> str:
    try:
        with open("/proc/cpuinfo") as file:
            return next(line.split(":", 1)[1].strip() for line in file if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()


def environment(versions: dict[str, str], **more: Any) -> dict[str, Any]:
    """What somebody needs to judge the figures."""
    facts: dict[str, Any] = {
        "date": datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "cpu": cpu_name(),
        "cpus_usable": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.machine()}",
        "versions": dict(sorted(versions.items())),
    }
    for package in ("torch", "numpy"):
        with suppress(metadata.PackageNotFoundError):  # built from source, say
            facts["versions"].setdefault(package, metadata.version(package))
    return {**facts, **more}


class Results:
    """Rows measured now, beside the rows an earlier run left in the same file."""

    def __init__(self, family: str, device: str, folder: Path) -> None:
        self.name = f"{family}_{device}"
        self.folder = folder
        self.rows: dict[int, Row] = {}
        path = folder / f"{self.name}.json"
        if path.exists():
            for stored in json.loads(path.read_text())["rows"]:
                self.rows[stored["number"]] = Row(**stored)

    def write(self, row: Row) -> None:
        """Called after each row, so that an interrupted run leaves what it has measured."""
        self.rows[row.number] = row
        rows = [self.rows[number] for number in sorted(self.rows)]
        self.folder.mkdir(parents=True, exist_ok=True)
        stored = json.dumps({"name": self.name, "rows": [asdict(r) for r in rows]}, indent=1)
        (self.folder / f"{self.name}.json").write_text(stored + "\n")
        (self.folder / f"{self.name}.md").write_text(markdown(self.name, rows))

    def plot(self) -> None:
        try:
            from bench.plot import ratios
        except ImportError as error:
            print(f"no plot: {error}")
            return
        ratios(list(self.rows.values()), self.folder / f"{self.name}.png")


def table(columns: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    rule = ["---"] * len(columns)
    return "\n".join("| " + " | ".join(cells) + " |" for cells in (columns, rule, *lines))


def markdown(name: str, rows: Sequence[Row]) -> str:
    """The Markdown page; the environment is repeated wherever it differs from the row before."""
    parts = [f"# Benchmark `{name}`\n\nWritten by `python -m bench`; every figure is in the JSON beside it."]
    previous: str | None = None
    for row in rows:
        facts = row.environment
        described = "; ".join(f"{key}: {_flat(value)}" for key, value in facts.items() if key != "date")
        parts.append(f"## {row.number}. {row.title}")
        parts.append(table(row.columns, row.lines))
        if row.notes:
            parts.append("\n".join(f"- {note}" for note in row.notes))
        parts.append(f"Measured {facts.get('date', '')} in {row.seconds:.0f} s.")
        if described != previous:
            parts.append(f"Environment: {described}.")
        previous = described
    return "\n\n".join(parts) + "\n"


def _flat(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{key} {item}" for key, item in value.items())
    return str(value)
