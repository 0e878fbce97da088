"""The metrics of a run that met a fault. One that is not known is ``None``, and meets no bound.

* ``missing``: tasks of the plan without a right result, for whatever reason. ``lost``, ``wrong``, ``failed`` as in the
  record, after the run was resumed or repaired. ``parked``: of the failed tasks, those that were given up since each
  time they ran their process was lost; ``failed_otherwise``: the others. ``repaired``: results that were missing and
  that ``taskmill repair`` made up for.
* ``run_twice``: tasks whose function ran to its end more than once, by the files that the workers wrote
  (``executions/``); ``uncounted``: those of them beyond the messages that the client sent more than once. ``versions``:
  the versions of the app that every worker ran, at least.
* ``idle_processes``: pool processes that executed tasks before the fault and have no successor that did after its end,
  by the same files; of a worker that never came back, all of them.
* ``back_s``: seconds from the fault until as many tasks end per second as before; 0 where that rate never fell.
* ``resumed_s``: seconds from the end of the fault until every worker that had worked has started a task again; ``None``
  where one did not.
* ``redelivered_s``: seconds from the fault until all tasks are done that were published before its end; ``None`` where
  one never was.
* ``blocked_s``: seconds that the broker blocked publishing, over all threads. ``republished``: messages sent more than
  once. ``beyond_windows``: of these, what is beyond one window (of unconfirmed messages) of each publishing thread; and
  tasks that ran twice beyond the messages sent more than once and those that the workers had reserved.
* ``clock_jump_s``: the most seconds by which a worker's clock moved against the client's during the run; ``flagged``:
  the number of workers whose clock the record names for that.
* what the playbook counted on the hosts, by the names that it gives.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from taskmill.samples import task_timings

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from taskmill.samples.task_timings import TaskTimings

#: Seconds of the windows in which tasks that end are counted.
WINDOW = 1.0
#: The share of the rate before the fault that counts as back.
BACK = 0.95
#: Names of the metrics that are neither in every record nor counted on the hosts.
NAMES = (
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
    """What was done, from when to when: Unix seconds of the client's clock."""

    name: str
    title: str
    began: float
    over: float
    #: Whether a safeguard was off, so that a loss had to be seen.
    control: bool = False


def measure(folder: Path, record: dict[str, Any], fault: Fault) -> dict[str, float | None]:
    """Return the metrics of :data:`NAMES`, from the run's folder and its record."""
    counts, client = record["counts"], record["client"]
    metrics: dict[str, float | None] = {
        "missing": record["workload"]["tasks"] - counts["correct"],
        "parked": record["parked"],
        "failed_otherwise": counts["failed"] - record["parked"],
        "repaired": sum(repair["correct"] for repair in record.get("repaired", [])),
        "blocked_s": client["blocked_seconds"],
        "republished": client["republished"],
        "clock_jump_s": max(map(abs, task_timings.clock_moves(record["clocks"]).values()), default=None),
        "flagged": len(record["clock_jumps"]),
        **executions(folder / "executions", fault),
        **dict.fromkeys(("uncounted", "beyond_windows", "back_s", "resumed_s", "redelivered_s")),
    }
    run_twice, republished = metrics["run_twice"], client["republished"]
    if run_twice is not None:
        workload = record["workload"]
        windows = record["environment"]["window"] * workload["threads"] * workload["processes"]
        reserved = sum(worker["prefetch"] for worker in record["workers"])
        metrics["uncounted"] = max(0, run_twice - republished)
        metrics["beyond_windows"] = max(0, republished - windows) + max(0, run_twice - republished - reserved)
    timings = task_timings.load(folder, record["clocks"])
    if timings is not None and np.isfinite(timings.done).any():
        metrics |= {
            "back_s": seconds_until_back(timings.done[np.isfinite(timings.done)], fault.began),
            "resumed_s": seconds_until_resumed(timings, fault),
            "redelivered_s": seconds_until_redelivered(timings, fault),
        }
    return metrics


def executions(directory: Path, fault: Fault) -> dict[str, float | None]:
    """Return the metrics of the files that the pool processes wrote, ``WORKER.PID.VERSION``; ``None`` without any."""
    times_run: Counter[bytes] = Counter()
    versions: dict[str, set[str]] = {}
    busy_before: Counter[str] = Counter()
    busy_after: Counter[str] = Counter()
    for path in directory.glob("*/*"):
        lines = [line.split() for line in path.read_bytes().splitlines()]
        if not lines:
            continue
        times_run.update(identifier for _, identifier in lines)
        worker, _, version = path.name.rsplit(".", 2)
        versions.setdefault(worker, set()).add(version)
        busy_before[worker] += float(lines[0][0]) < fault.began
        busy_after[worker] += float(lines[-1][0]) >= fault.over
    if not times_run:
        return dict.fromkeys(("run_twice", "versions", "idle_processes"))
    return {
        "run_twice": sum(1 for count in times_run.values() if count > 1),
        "versions": min(map(len, versions.values())),
        "idle_processes": (busy_before - busy_after).total(),
    }


def seconds_until_back(done: NDArray[np.float64], began: float) -> float | None:
    """Return the seconds after which as many tasks ended per second as before, ``None`` where that never was so.

    That is :data:`BACK` of the median rate in the second half of the time before the fault; or the lowest rate of that
    half, where even without a fault the rate swings by more.
    """
    start = float(done.min())
    before = count_per_window(done, start + (began - start) / 2, began)
    after = count_per_window(done, began, float(done.max()))
    if not len(before) or not len(after):
        return None
    enough = min(BACK * float(np.median(before)), float(before.min()))
    low = np.flatnonzero(after < enough)
    if not len(low):
        return 0.0
    back = np.flatnonzero(after[low[0] :] >= enough)
    return float(low[0] + back[0]) * WINDOW if len(back) else None


def count_per_window(done: NDArray[np.float64], start: float, end: float) -> NDArray[np.float64]:
    """Return how many tasks ended in each whole window from ``start`` to ``end``."""
    windows = max(0, int((end - start) / WINDOW))
    counts: NDArray[np.float64] = np.histogram(done, start + WINDOW * np.arange(windows + 1))[0].astype(float)
    return counts


def seconds_until_resumed(timings: TaskTimings, fault: Fault) -> float | None:
    """Return the seconds from the fault's end until every worker that had started a task before it starts another."""
    first_starts = []
    for place in np.unique(timings.worker[timings.start < fault.began]):
        later = timings.start[(timings.worker == place) & (timings.start >= fault.over)]
        if not len(later):
            return None
        first_starts.append(float(later.min()) - fault.over)
    return round(max(first_starts), 1) if first_starts else None


def seconds_until_redelivered(timings: TaskTimings, fault: Fault) -> float | None:
    """Return the seconds from the fault until all tasks are done that were published before its end."""
    done = timings.done[timings.posted < fault.over]
    return round(float(done.max()) - fault.began, 1) if len(done) and np.isfinite(done).all() else None
