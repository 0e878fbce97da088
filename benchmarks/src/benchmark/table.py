"""The tables of a benchmark: as data in ``table.json``, and as a page in ``benchmark.md``."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from statistics import median
from typing import TYPE_CHECKING, Any

from benchmark.figures import between, finished, milliseconds, published, times
from benchmark.folder import OURS, PARTS, Benchmark, Workload, left, read
from benchmark.verdicts import verdicts
from taskmill.model.run_folder import write_json
from taskmill.report.text import UNKNOWN, number, rate

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

TABLE = "table.json"
PAGE = "benchmark.md"


def conclude(folder: Path) -> dict[str, Any]:
    """Write ``table.json`` and ``benchmark.md``, and return what the former holds."""
    benchmark = read(folder)
    complete = not left(folder)
    table = {
        "complete": complete,
        "verdicts": [asdict(one) for one in verdicts(benchmark)],
        "rows": [asdict(one) for workload in benchmark.workloads for one in rows(benchmark, workload)],
    }
    write_json(folder / TABLE, table)
    (folder / PAGE).write_text(text(benchmark, complete=complete), encoding="utf-8")
    return table


@dataclass(frozen=True)
class Row:
    """One subject at one workload: medians over its rounds, ``None`` where a figure is not known."""

    workload: str
    subject: str
    title: str
    rounds: int
    #: How many tasks a round had.
    tasks: int
    finished_per_s: float | None
    lowest: float | None
    highest: float | None
    #: taskmill's finished tasks per second, divided by this subject's.
    ours_to_this: float | None
    posted_per_s: float | None
    #: CPU seconds per task by part.
    cpu_s: dict[str, float]
    wrong: int
    lost: int
    failures: list[str]


def rows(benchmark: Benchmark, workload: Workload) -> list[Row]:
    """Return a row for each subject that has the workload, the fastest first."""
    ours = middle(benchmark.measured(OURS, workload.name).over(finished))
    lines = []
    for subject in benchmark.subjects:
        measurements = benchmark.measurements.get((workload.name, subject.name))
        if measurements is None:
            continue
        values = measurements.over(finished)
        mine = middle(values)
        parts = dict.fromkeys(part for measured in measurements.measured for part in measured["cpu_s"])
        spent = {
            part: [one["cpu_s"][part] / one["tasks"] for one in measurements.measured if part in one["cpu_s"]]
            for part in parts
        }
        lines.append(
            Row(
                workload.name,
                subject.name,
                subject.title,
                len(measurements.measured),
                subject.size(workload),
                mine,
                min(values, default=None),
                max(values, default=None),
                ours / mine if ours and mine else None,
                middle(measurements.over(published)),
                {part: median(seconds) for part, seconds in spent.items()},
                measurements.count("wrong"),
                measurements.count("lost"),
                measurements.failures,
            )
        )
    return sorted(lines, key=lambda row: -(row.finished_per_s or 0))


def middle(values: Sequence[float]) -> float | None:
    """Return the median; ``None`` where there are no values."""
    return median(values) if values else None


def text(benchmark: Benchmark, *, complete: bool) -> str:
    """Return the page as Markdown: the verdicts, a table for each workload, the settings, how to run it again."""
    lines = ["# Benchmarks", ""]
    if not complete:
        lines += ["Not everything was measured: this is what was known by then.", ""]
    lines += [
        "Every subject publishes all tasks, fetches every result and compares it with the right value. Finished are",
        "the correct results per second, from the first message to the last result. Figures are medians over the",
        "rounds, in each of which all subjects took turns. A subject gets as many tasks a round as take it seconds.",
        "",
        "## Figures",
        "",
        *table(
            ["figure", "has to be", "came", "rounds from, to", "verdict"],
            [
                [v.figure, v.goal, v.came, v.spread, f"{v.verdict}{f' ({v.reason})' if v.reason else ''}"]
                for v in verdicts(benchmark)
            ],
        ),
    ]
    for workload in benchmark.workloads:
        lines += ["", f"## {workload.name}: fib({workload.n})", ""]
        lines += table(
            [
                *("subject", "tasks", "finished", "from, to", "ours to this", "published"),
                *(f"CPU, {part}" for part in PARTS),
                *("wrong", "lost", "rounds"),
            ],
            [cells(row) for row in rows(benchmark, workload)],
        )
    lines += ["", "CPU is per task.", "", "## Settings", ""]
    lines += table(
        ["subject", "settings"],
        [[one.title, "; ".join(f"{k}: {v}" for k, v in one.settings.items())] for one in benchmark.subjects],
    )
    lines += ["", "## Environment", "", *table(["", ""], [list(pair) for pair in benchmark.environment.items()])]
    return "\n".join([*lines, "", f"Again: `{benchmark.command}`."]) + "\n"


def cells(row: Row) -> list[str]:
    """Return the cells of a row as text; a subject that failed says why."""
    reason = f" (failed: {'; '.join(dict.fromkeys(row.failures))})" if row.failures else ""

    def known(value: float | None, write: Callable[[float], str]) -> str:
        return UNKNOWN if value is None else write(value)

    return [
        f"{row.title}{reason}",
        number(row.tasks),
        known(row.finished_per_s, rate),
        UNKNOWN if row.lowest is None or row.highest is None else between([row.lowest, row.highest], rate),
        known(row.ours_to_this, times),
        known(row.posted_per_s, rate),
        *(known(row.cpu_s.get(part), milliseconds) for part in PARTS),
        number(row.wrong),
        number(row.lost),
        number(row.rounds),
    ]


def table(head: Sequence[str], body: Sequence[Sequence[str]]) -> list[str]:
    """Return the lines of a table in Markdown; a ``|`` within a cell is escaped."""
    lines = [f"| {' | '.join(head)} |", f"|{'---|' * len(head)}"]
    return lines + [f"| {' | '.join(cell.replace('|', '&#124;') for cell in row)} |" for row in body]
