"""The table of all runs in a folder that met a fault, as ``faults.md``."""

from __future__ import annotations

from typing import TYPE_CHECKING

from taskmill.faults.verdict import FILE_NAME, number, outcome
from taskmill.model.errors import TaskmillError
from taskmill.model.run_folder import read_json

if TYPE_CHECKING:
    from pathlib import Path

TABLE_NAME = "faults.md"
#: Metrics that have a column, and its title.
COLUMNS = {
    "tasks": "tasks", "lost": "lost", "wrong": "wrong", "failed": "failed", "repaired": "repaired",
    "run_twice": "run twice", "back_s": "s until the rate is back",
    "redelivered_s": "s until all before it is done",
}  # fmt: skip


def table(folder: Path) -> str:
    """Write ``faults.md`` of all runs below ``folder`` that met a fault, in the order of time, and return it.

    Raises ``TaskmillError`` where there is no such run.
    """
    verdicts = [verdict for path in sorted(folder.glob(f"*/{FILE_NAME}")) if (verdict := read_json(path))]
    if not verdicts:
        raise TaskmillError(f"{folder} holds no run with a {FILE_NAME}")
    lines = [
        "| fault | " + " | ".join(COLUMNS.values()) + " | verdict |",
        "|---|" + "---|" * (len(COLUMNS) + 1),
    ]
    for verdict in verdicts:
        figures = {"tasks": verdict.get("tasks")} | verdict.get("figures", {})
        cells = [verdict["title"] + (" (safeguard off)" if verdict["control"] else "")]
        cells += [number(figures.get(name)) for name in COLUMNS]
        lines.append("| " + " | ".join([*cells, outcome(verdict)]) + " |")
    page = "\n".join(lines) + "\n"
    (folder / TABLE_NAME).write_text(page, encoding="utf-8")
    return page
