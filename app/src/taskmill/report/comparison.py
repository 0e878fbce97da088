"""Several runs beside each other: ``taskmill compare``. The others are compared with the first."""

from __future__ import annotations

import io
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from rich import box
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from taskmill.report import cpu_breakdown, page, run_folder
from taskmill.report.charts import cores, overlay
from taskmill.report.charts.style import Chart, with_legend
from taskmill.report.plain_data import as_dict, as_number
from taskmill.report.text import UNKNOWN, listed, number, percent, seconds, size

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from taskmill.report.run_folder import Run

#: What two runs must have in common to be runs of the same load: its key, and what it is called.
WORKLOAD = {
    "task": "task", "tasks": "tasks", "args": "arguments", "queues": "queues", "rate": "pace", "threads": "threads",
    "processes": "processes",
}  # fmt: skip
#: Metrics of the record: where they stand, what they are called, how they are written.
METRICS: tuple[tuple[tuple[str, ...], str, Callable[[Any], str]], ...] = (
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
#: Keys of the environment that differ between any two runs, or say nothing of it.
IGNORED = {"boot_id", "command", "function_seconds", "parts"}


@dataclass(frozen=True)
class Row:
    """A metric of every run, as text, and its ratios to the first run's, empty where there is none."""

    name: str
    values: list[str]
    ratios: list[str]


@dataclass(frozen=True)
class Comparison:
    """Runs with all that is said of them, as plain data; ``workload`` and ``environment`` are sentences."""

    runs: list[Run]
    names: list[str]
    workload: str
    environment: str
    rows: list[Row]
    missing: list[str]


def compare(folders: Sequence[Path]) -> Comparison:
    """Read and compare the runs; raise ``TaskmillError`` for a folder that is not one of a run."""
    runs = [run_folder.read(path.resolve()) for path in folders]
    rows = [metric_row(runs, path, name, write) for path, name, write in METRICS]
    breakdowns = [cpu_breakdown.measure(run) for run in runs]
    parts = dict.fromkeys(part.name for breakdown in breakdowns if breakdown for part in breakdown.parts)
    for part in parts:
        shares = [breakdown.share(part) if breakdown else None for breakdown in breakdowns]
        rows.append(make_row(f"cores: {part}", shares, percent))
    return Comparison(
        runs,
        [run.name for run in runs],
        compare_workloads(runs),
        compare_environments(runs),
        [row for row in rows if any(value != UNKNOWN for value in row.values)],
        [f"{run.name}: {missing}" for run in runs for missing in run.missing],
    )


def metric_row(runs: Sequence[Run], path: tuple[str, ...], name: str, write: Callable[[Any], str]) -> Row:
    """Return the row of a metric; ``path`` is where it stands in the record."""
    values = []
    for run in runs:
        value: Any = run.data
        for key in path:
            value = as_dict(value).get(key)
        values.append(as_number(value))
    return make_row(name, values, write)


def make_row(name: str, values: Sequence[float | None], write: Callable[[Any], str]) -> Row:
    """Return the row of the values, ``None`` for what is not known, with their ratios to the first."""
    first = values[0]
    ratios = [f"{value / first:.2f}" if value is not None and first else "" for value in values[1:]]
    return Row(name, [UNKNOWN if value is None else write(value) for value in values], ["", *ratios])


def compare_workloads(runs: Sequence[Run]) -> str:
    """Return a sentence that says whether the runs had the same workload."""
    differ = []
    for key, name in WORKLOAD.items():
        values = [number(getattr(run.record.workload, key)) for run in runs]
        if len(set(values)) > 1:
            differ.append(f"{name} ({' / '.join(values)})")
    if any(not run.recorded for run in runs):
        return f"Not comparable: {listed([run.name for run in runs if not run.recorded])} has no record."
    if differ:
        return f"The workloads differ, so the ratios say little: {listed(differ)}."
    return "All runs had the same workload."


def compare_environments(runs: Sequence[Run]) -> str:
    """Return a sentence that says what differs in the environment."""
    differ = differences([run.record.environment for run in runs])
    if not differ:
        return "Nothing that was recorded of the environment differs."
    return f"In the environment differ: {listed(differ)}."


def differences(sections: Sequence[dict[str, Any]], prefix: str = "") -> list[str]:
    """Return the keys whose values differ between the sections, with the values; ``prefix`` stands before each key."""
    differing = []
    for key in dict.fromkeys(key for section in sections for key in section):
        values = [section.get(key) for section in sections]
        if key in IGNORED or all(value == values[0] for value in values):
            continue
        name = f"{prefix}{key}".replace("_", " ")
        if all(isinstance(value, dict) for value in values):
            differing += differences([as_dict(value) for value in values], f"{name} ")
        elif any(isinstance(value, dict) for value in values):
            differing.append(f"{name} (not recorded by all)")
        else:
            differing.append(f"{name} ({' / '.join(map(number, values))})")
    return differing


def text(comparison: Comparison) -> str:
    """Return the comparison for a terminal."""
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("")
    for name in comparison.names:
        table.add_column(escape(name), justify="right")
        if name != comparison.names[0] or len(table.columns) > 2:
            table.add_column("ratio", justify="right")
    for row in comparison.rows:
        cells = [row.name, row.values[0]]
        for value, ratio in zip(row.values[1:], row.ratios[1:], strict=True):
            cells += [value, ratio]
        table.add_row(*(escape(cell) for cell in cells))
    stream = io.StringIO()
    Console(file=stream, width=40 + 44 * len(comparison.names)).print(table)
    lines = [comparison.workload, *(line.rstrip() for line in stream.getvalue().splitlines()), comparison.environment]
    return "\n".join([*lines, *(f"missing: {missing}" for missing in comparison.missing)])


def write(comparison: Comparison, path: Path) -> Path:
    """Write the page with the table and the charts, and return its path."""
    charts = [chart for chart in (overlay.over_time(comparison.runs), overlay.latency(comparison.runs)) if chart]
    breakdowns = [
        (run.name, breakdown)
        for run in reversed(comparison.runs)
        if (breakdown := cpu_breakdown.measure(run)) is not None
    ]
    if breakdowns:
        bars = with_legend(cores.breakdown_bars(breakdowns))
        charts.append(Chart("where", "Where the time went", bars, 110 + 52 * len(breakdowns)))
    return page.write(path, "compare.html.j2", {"comparison": comparison, "charts": charts})
