"""What a fault did to a run: figures beside its record, judged by bounds, and the table of several of them.

``fault.json`` of a run's folder says what was done to it, when, and what came of it. ``figures`` are:

* ``missing``: tasks of the plan without a right result, for whatever reason. ``lost``, ``wrong``, ``failed`` as in the
  record, after what was taken up. ``parked``: of the failed, those that always took their process with them;
  ``failed_otherwise`` the others. ``repaired``: results that were missing and were made up for.
* ``run_twice``: tasks whose function ran to its end more than once, by the workers' own notes (``executions/``);
  ``uncounted``: those of them beyond the messages that the client says it sent more than once. ``versions``: how many
  versions of the app every worker ran at least.
* ``idle_processes``: pool processes that worked before the fault and have no successor that worked after its end, by
  the same notes; in workers that never came back, all of them.
* ``back_s``: seconds from the fault until as many tasks end per second as before; 0 where that never fell.
* ``resumed_s``: seconds from the end of the fault until every worker that had worked has begun a task again; ``None``
  where one did not.
* ``redelivered_s``: seconds from the fault until all is done that was posted before its end; ``None`` where something
  never was.
* ``blocked_s``: seconds that the broker blocked posting, over all threads. ``republished``: messages sent more than
  once. ``beyond_windows``: of these, what is beyond one window (of unconfirmed messages) of each posting thread; and
  tasks that ran twice beyond the messages sent more than once and those that the workers had reserved.
* ``clock_jump_s``: most seconds by which a worker's clock moved against the client's during the run; ``flagged``: how
  many workers the record names for it.
* what the playbook counted on the hosts, by the names it gives.

A figure that is not known is ``None``, and meets no bound.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from taskmill.model import record as records
from taskmill.model import thresholds as requirements
from taskmill.model.errors import TaskmillError
from taskmill.model.run_folder import read_json, write_json
from taskmill.samples import task_timings as timings

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from taskmill.model.arrays import Floats
    from taskmill.samples.task_timings import Timings

NAME = "fault.json"
TABLE = "faults.md"
#: Seconds of the windows that completions are counted in, and the share of the rate before that counts as back.
WINDOW = 1.0
BACK = 0.95
#: Figures that are not counted on the hosts.
FIGURES = (
    "missing",
    "parked",
    "failed_otherwise",
    "repaired",
    "run_twice",
    "uncounted",
    "versions",
    "idle_processes",
    "back_s",
    "resumed_s",
    "redelivered_s",
    "blocked_s",
    "republished",
    "beyond_windows",
    "clock_jump_s",
    "flagged",
)


@dataclass(frozen=True)
class Fault:
    """What was done: Unix seconds of the client's clock."""

    name: str
    title: str
    began: float
    over: float
    #: Whether a safeguard was off, so that a loss had to be seen.
    control: bool = False


def conclude(folder: Path, fault: Fault, bounds: Sequence[str], counted: Mapping[str, float]) -> dict[str, Any]:
    """Write ``fault.json`` of the run in ``folder`` and return it.

    Raises ``ValueError`` for a bound that is none, ``TaskmillError`` where the run has no record.
    """
    metrics = requirements.METRICS | {name: ("fault", name) for name in (*FIGURES, *counted)}
    required = [requirements.Requirement.parse(bound, metrics) for bound in bounds]
    record = records.load(folder)
    if record is None:
        raise TaskmillError(f"{folder} has no run.json: the run that the fault {fault.name!r} met was not recorded")
    figures = measure(folder, record, fault) | dict(counted)
    judged = requirements.judge(required, record | {"fault": figures})
    counts = record["counts"]
    found = {
        "fault": fault.name,
        "title": fault.title,
        "control": fault.control,
        "began": fault.began,
        "over": fault.over,
        "tasks": record["workload"]["tasks"],
        "figures": {name: counts[name] for name in ("lost", "wrong", "failed")} | figures,
        "bounds": judged,
        "held": all(one["met"] for one in judged),
    }
    write_json(folder / NAME, found)
    return found


def failed(folder: Path, fault: Fault, reason: str) -> dict[str, Any]:
    """Write that the fault came to no verdict, and why; return it."""
    found = {"fault": fault.name, "title": fault.title, "control": fault.control, "reason": reason, "held": False}
    folder.mkdir(parents=True, exist_ok=True)
    write_json(folder / NAME, found)
    return found


def measure(folder: Path, record: dict[str, Any], fault: Fault) -> dict[str, float | None]:
    """Return the figures that the run's folder tells."""
    counts, client = record["counts"], record["client"]
    figures: dict[str, float | None] = {
        "missing": record["workload"]["tasks"] - counts["correct"],
        "parked": record["parked"],
        "failed_otherwise": counts["failed"] - record["parked"],
        "repaired": sum(one["correct"] for one in record.get("repaired", [])),
        "blocked_s": client["blocked_seconds"],
        "republished": client["republished"],
        "clock_jump_s": max(map(abs, timings.clock_moves(record["clocks"]).values()), default=None),
        "flagged": len(record["clock_jumps"]),
        **executed(folder / "executions", fault.began, fault.over),
        **dict.fromkeys(("uncounted", "beyond_windows", "back_s", "resumed_s", "redelivered_s")),
    }
    twice, again = figures["run_twice"], client["republished"]
    if twice is not None:
        workload = record["workload"]
        windows = record["environment"]["window"] * workload["threads"] * workload["processes"]
        reserved = sum(worker["prefetch"] for worker in record["workers"])
        figures["uncounted"] = max(0, twice - again)
        figures["beyond_windows"] = max(0, again - windows) + max(0, twice - again - reserved)
    found = timings.load(folder, record["clocks"])
    if found is not None and np.isfinite(found.done).any():
        figures |= {
            "back_s": back(found.done[np.isfinite(found.done)], fault.began),
            "resumed_s": resumed(found, fault.began, fault.over),
            "redelivered_s": redelivered(found, fault.began, fault.over),
        }
    return figures


def executed(directory: Path, began: float, over: float) -> dict[str, float | None]:
    """Return what the workers' notes tell, which are ``WORKER.PID.VERSION``; ``None`` without any."""
    times: Counter[bytes] = Counter()
    versions: dict[str, set[str]] = {}
    before: Counter[str] = Counter()
    after: Counter[str] = Counter()
    for path in directory.glob("*/*"):
        lines = [line.split() for line in path.read_bytes().splitlines()]
        if not lines:
            continue
        times.update(identifier for _, identifier in lines)
        worker, _, version = path.name.rsplit(".", 2)
        versions.setdefault(worker, set()).add(version)
        before[worker] += float(lines[0][0]) < began
        after[worker] += float(lines[-1][0]) >= over
    if not times:
        return dict.fromkeys(("run_twice", "versions", "idle_processes"))
    return {
        "run_twice": sum(1 for count in times.values() if count > 1),
        "versions": min(map(len, versions.values())),
        "idle_processes": (before - after).total(),
    }


def back(done: Floats, began: float) -> float | None:
    """Return the seconds after which the rate was back, ``None`` where it never was.

    Back is :data:`BACK` of the median rate of the second half before the fault, or its lowest window where a quiet
    machine's rate swings by more than that.
    """
    start = float(done.min())
    before = per_window(done, start + (began - start) / 2, began)
    after = per_window(done, began, float(done.max()))
    if not len(before) or not len(after):
        return None
    enough = min(BACK * float(np.median(before)), float(before.min()))
    low = np.flatnonzero(after < enough)
    if not len(low):
        return 0.0
    again = np.flatnonzero(after[low[0] :] >= enough)
    return float(low[0] + again[0]) * WINDOW if len(again) else None


def per_window(done: Floats, start: float, end: float) -> Floats:
    """Return how many tasks ended in each whole window from ``start`` on."""
    number = max(0, int((end - start) / WINDOW))
    counted: Floats = np.histogram(done, start + WINDOW * np.arange(number + 1))[0].astype(float)
    return counted


def resumed(found: Timings, began: float, over: float) -> float | None:
    """Return the seconds from ``over`` until every worker that had begun a task before ``began`` begins another."""
    first = []
    for place in np.unique(found.worker[found.start < began]):
        later = found.start[(found.worker == place) & (found.start >= over)]
        if not len(later):
            return None
        first.append(float(later.min()) - over)
    return round(max(first), 1) if first else None


def redelivered(found: Timings, began: float, over: float) -> float | None:
    """Return the seconds from ``began`` until all is done that was posted before ``over``."""
    done = found.done[found.posted < over]
    return round(float(done.max()) - began, 1) if len(done) and np.isfinite(done).all() else None


def text(found: dict[str, Any]) -> str:
    """Return a verdict for people, a line or two."""
    what = f"{found['fault']}{' (control)' if found['control'] else ''}"
    if "reason" in found:
        return f"{what}: no verdict: {found['reason']}"
    said = ", ".join(f"{name} {number(value)}" for name, value in found["figures"].items() if value is not None)
    lines = [f"{what}: {'held' if found['held'] else 'NOT HELD'}: {said}"]
    return "\n".join([*lines, *(f"  {sentence}" for sentence in requirements.unmet(found["bounds"]))])


def table(folder: Path) -> str:
    """Write :data:`TABLE` of all runs below ``folder`` that met a fault, in the order of time, and return it.

    Raises ``TaskmillError`` where there is none.
    """
    found = [data for path in sorted(folder.glob(f"*/{NAME}")) if (data := read_json(path))]
    if not found:
        raise TaskmillError(f"{folder} holds no run with a {NAME}")
    columns = {
        "tasks": "tasks", "lost": "lost", "wrong": "wrong", "failed": "failed", "repaired": "repaired",
        "run_twice": "run twice", "back_s": "s until the rate is back",
        "redelivered_s": "s until all before it is done",
    }  # fmt: skip
    lines = [
        "| fault | " + " | ".join(columns.values()) + " | verdict |",
        "|---|" + "---|" * (len(columns) + 1),
    ]
    for one in found:
        figures = {"tasks": one.get("tasks")} | one.get("figures", {})
        cells = [one["title"] + (" (safeguard off)" if one["control"] else "")]
        cells += [number(figures.get(name)) for name in columns]
        lines.append("| " + " | ".join([*cells, verdict(one)]) + " |")
    page = "\n".join(lines) + "\n"
    (folder / TABLE).write_text(page, encoding="utf-8")
    return page


def verdict(found: dict[str, Any]) -> str:
    """Return the last cell of a row."""
    if "reason" in found:
        return f"no verdict: {found['reason']}"
    if found["held"]:
        return "the loss is seen" if found["control"] else "held"
    return "; ".join(requirements.unmet(found["bounds"]))


def number(value: float | None) -> str:
    """Return a figure for people."""
    if value is None:
        return "-"
    return f"{value:,.0f}" if float(value).is_integer() else f"{value:,.1f}"
