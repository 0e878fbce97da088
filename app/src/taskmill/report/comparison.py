"""Several runs beside each other: ``taskmill compare``. The first of them is what the others are measured by."""

from __future__ import annotations

import io
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from rich import box
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from taskmill.report import charts as figures
from taskmill.report import page
from taskmill.report import run_folder as folder
from taskmill.report.cpu_breakdown import split
from taskmill.report.run_folder import as_dict, as_number
from taskmill.report.text import UNKNOWN, listed, number, percent, seconds, size

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from taskmill.report.run_folder import Run

#: What makes two loads the same load.
WORKLOAD = {
    "task": "task", "tasks": "tasks", "args": "arguments", "queues": "queues", "rate": "pace", "threads": "threads",
    "processes": "processes",
}  # fmt: skip
#: Figures of the record: where they are, what they are called, how they are written.
FIGURES: tuple[tuple[tuple[str, ...], str, Callable[[Any], str]], ...] = (
    (("rates", "completed_per_s"), "finished per second", number),
    (("rates", "posted_per_s"), "posted per second", number),
    (("seconds", "total"), "duration", seconds),
    (("seconds", "post"), "posting", seconds),
    (("efficiency",), "efficiency", percent),
    (("latency", "queue", "p50"), "in the queue, p50", seconds),
    (("latency", "queue", "p99"), "in the queue, p99", seconds),
    (("latency", "execution", "p50"), "in execution, p50", seconds),
    (("latency", "execution", "p99"), "in execution, p99", seconds),
    (("latency", "latency", "p99"), "from due to done, p99", seconds),
    (("counts", "lost"), "lost", number),
    (("counts", "wrong"), "wrong", number),
    (("counts", "failed"), "failed", number),
    (("counts", "duplicates"), "executed more than once", number),
    (("client", "cpu_seconds"), "client's CPU", seconds),
    (("client", "peak_memory_bytes"), "client's memory", size),
)
#: Of the environment, what differs in every two runs and says nothing.
PASSING = {"boot_id", "command", "function_seconds", "parts"}


@dataclass(frozen=True)
class Row:
    """A figure of every run, as text, with its ratio to the first run's."""

    name: str
    values: list[str]
    ratios: list[str]


@dataclass(frozen=True)
class Comparison:
    """What there is to say about the runs, as plain data."""

    runs: list[Run]
    names: list[str]
    workload: str
    environment: str
    rows: list[Row]
    missing: list[str]


def compare(folders: Sequence[Path]) -> Comparison:
    """Read and compare the runs; raise ``TaskmillError`` for a folder that is none of a run."""
    runs = [folder.read(path.resolve()) for path in folders]
    rows = [row(runs, path, name, write) for path, name, write in FIGURES]
    splits = [split(run) for run in runs]
    parts = dict.fromkeys(part.name for one in splits if one for part in one.parts)
    for part in parts:
        shares = [one.share(part) if one else None for one in splits]
        rows.append(make_row(f"cores: {part}", shares, percent))
    return Comparison(
        runs,
        [run.name for run in runs],
        workloads(runs),
        environments(runs),
        [one for one in rows if any(value != UNKNOWN for value in one.values)],
        [f"{run.name}: {what}" for run in runs for what in run.missing],
    )


def row(runs: Sequence[Run], path: tuple[str, ...], name: str, write: Callable[[Any], str]) -> Row:
    """Return one figure of every run."""
    values = []
    for run in runs:
        value: Any = run.data if run.recorded else {}
        for key in path:
            value = as_dict(value).get(key)
        values.append(as_number(value))
    return make_row(name, values, write)


def make_row(name: str, values: Sequence[float | None], write: Callable[[Any], str]) -> Row:
    """Return a figure with its ratios to the first run's."""
    first = values[0]
    ratios = [f"{value / first:.2f}" if value is not None and first else "" for value in values[1:]]
    return Row(name, [UNKNOWN if value is None else write(value) for value in values], ["", *ratios])


def workloads(runs: Sequence[Run]) -> str:
    """Return a sentence on whether the runs had the same load."""
    differ = []
    for key, name in WORKLOAD.items():
        values = [number(run.data["workload"].get(key)) for run in runs]
        if len(set(values)) > 1:
            differ.append(f"{name} ({' / '.join(values)})")
    if any(not run.recorded for run in runs):
        return f"Not comparable: {listed([run.name for run in runs if not run.recorded])} has no record."
    if differ:
        return f"The workloads differ, so the ratios say little: {listed(differ)}."
    return "All runs had the same workload."


def environments(runs: Sequence[Run]) -> str:
    """Return a sentence on what differs in the environment."""
    differ = differences([run.data["environment"] for run in runs])
    if not differ:
        return "Nothing that was recorded of the environment differs."
    return f"In the environment differ: {listed(differ)}."


def differences(sections: Sequence[dict[str, Any]], before: str = "") -> list[str]:
    """Return what differs between sections, each with its values; ``before`` leads to where they are."""
    found = []
    for key in dict.fromkeys(key for section in sections for key in section):
        values = [section.get(key) for section in sections]
        if key in PASSING or all(value == values[0] for value in values):
            continue
        name = f"{before}{key}".replace("_", " ")
        if all(isinstance(value, dict) for value in values):
            found += differences([as_dict(value) for value in values], f"{name} ")
        elif any(isinstance(value, dict) for value in values):
            found.append(f"{name} (not recorded by all)")
        else:
            found.append(f"{name} ({' / '.join(map(number, values))})")
    return found


def text(comparison: Comparison) -> str:
    """Return the lines for the terminal: the workload first."""
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("")
    for name in comparison.names:
        table.add_column(escape(name), justify="right")
        if name != comparison.names[0] or len(table.columns) > 2:
            table.add_column("ratio", justify="right")
    for one in comparison.rows:
        cells = [one.name, one.values[0]]
        for value, ratio in zip(one.values[1:], one.ratios[1:], strict=True):
            cells += [value, ratio]
        table.add_row(*(escape(cell) for cell in cells))
    stream = io.StringIO()
    Console(file=stream, width=40 + 44 * len(comparison.names)).print(table)
    lines = [comparison.workload, *(line.rstrip() for line in stream.getvalue().splitlines()), comparison.environment]
    return "\n".join([*lines, *(f"missing: {what}" for what in comparison.missing)])


def write(comparison: Comparison, path: Path) -> Path:
    """Write the page with the table and the charts, and return its path."""
    named = list(zip(comparison.names, comparison.runs, strict=True))
    splits = [(name, found) for name, run in reversed(named) if (found := split(run)) is not None]
    charts = figures.overlay(comparison.runs, comparison.names)
    if splits:
        bars = figures.with_legend(figures.bars(splits))
        charts.append(figures.Chart("where", "Where the time went", bars, 110 + 52 * len(splits)))
    return page.write(path, "compare.html.j2", {"comparison": comparison, "charts": charts})
