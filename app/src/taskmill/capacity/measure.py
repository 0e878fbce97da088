"""The search on a cluster: loads one after the other, each a run of its own, and ``capacity.json`` after every one.

The folder ``RUNS/<utc time>-<name>/`` holds ``plan.json`` (what every load posts), ``capacity.json`` (settings, loads,
answer), ``capacity.md``, and the runs in ``loads/``. A search that was interrupted goes on from what is there.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any

import numpy as np
from msgspec import UnsetType

from taskmill.capacity import scale, steady, text
from taskmill.capacity.search import answer, search
from taskmill.model import errors
from taskmill.model.errors import TaskmillError
from taskmill.model.plan import Plan
from taskmill.model.record import COMPLETE as RUN_COMPLETE
from taskmill.model.record import RunRecord, Spread
from taskmill.model.run_folder import read_json, write_json
from taskmill.samples import task_timings as timings

if TYPE_CHECKING:
    import threading
    from pathlib import Path

    from taskmill.progress import Reporter
    from taskmill.samples.task_timings import TaskTimings

SCHEMA = 1
COMPLETE, INTERRUPTED, USED_UP, FAILED = text.STATES
NAME = "capacity.json"
LOADS = "loads"
#: Tasks of the first load without a pace, and how many times more the next may have.
START, GROWTH = 64, 20
#: Share of a load's seconds that the last load without a pace has to last.
LONG_ENOUGH = 0.5
#: Fewest tasks of a load that is judged.
FEWEST = 60
#: Seconds of a load beside its posting, as long as none has been seen.
AROUND = 10.0

#: Does one load in a folder that it makes in the directory, and returns it; ``None`` when the user asked for an end.
Driver = Callable[[Plan, "Path"], "Path | None"]


@dataclass(frozen=True)
class Settings:
    """How to search. Times in seconds, ``tolerance`` as a share.

    ``hosts`` are the numbers of worker hosts to extrapolate to.
    """

    seconds: float = 20.0
    tolerance: float = 0.05
    rounds: int = 3
    budget: float = 900.0
    hosts: tuple[int, ...] = (2, 4, 8)


@dataclass(frozen=True)
class Load:
    """What one load left: its folder below the search's, its record and its tasks' times."""

    folder: str
    record: RunRecord
    times: TaskTimings


class FaultsError(TaskmillError):
    """A load had results that are wrong, failed or lost."""

    exit_code = errors.FAULTS


class Search:
    """A search in its folder; ``data`` is what ``capacity.json`` holds."""

    def __init__(self, folder: Path, plan: Plan, settings: Settings, data: dict[str, Any] | None = None) -> None:
        """Begin, or go on from ``data``."""
        self.folder = folder
        self.plan = plan
        self.settings = settings
        self.data: dict[str, Any] = data or {
            "schema": SCHEMA,
            "name": plan.name,
            "started_at": datetime.now(timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ"),
            "unpaced": None,
            "loads": [],
            "seconds": 0.0,
        }
        self.data |= {"settings": asdict(settings), "problems": []}

    @classmethod
    def resume(cls, folder: Path, budget: float | None) -> Search:
        """Take up the search in a folder; raise ``TaskmillError`` when there is none."""
        data = read_json(folder / NAME)
        if data is None or data.get("schema") != SCHEMA:
            raise TaskmillError(f"{folder} holds no search: give the folder that `taskmill capacity` named")
        settings = Settings(**(data["settings"] | {"hosts": tuple(data["settings"]["hosts"])}))
        if budget is not None:
            settings = replace(settings, budget=budget)
        return cls(folder, Plan.load(folder), settings, data)

    def run(self, drive: Driver, stop: threading.Event, reporter: Reporter) -> int:
        """Search until the answer is found, the budget is used up or an end is asked for; return the exit code."""
        began, before = time.monotonic(), self.data["seconds"]
        around = AROUND
        self.save(INTERRUPTED)
        try:
            if self.data["unpaced"] is None:
                self.data["unpaced"] = self._unpaced(drive, reporter)
            while self.data["unpaced"] is not None and not stop.is_set():
                rate = self._found().next
                if rate is None:
                    break
                spent = time.monotonic() - began
                if spent + self.settings.seconds + around > self.settings.budget:
                    reporter.say(f"the budget of {self.settings.budget:,.0f} s has no room for another load")
                    break
                load = self._paced(rate, drive)
                if load is None:
                    break
                around = time.monotonic() - began - spent - self.settings.seconds
                self.data["loads"].append(load)
                self.data["seconds"] = round(before + time.monotonic() - began, 1)
                self.save(INTERRUPTED)
                reporter.say(f"{text.load_line(load)}; {self.data['seconds']:,.0f} s by now")
        except TaskmillError as error:
            self.data["problems"] = [str(error)]
            self.save(FAILED)
            raise
        return self.conclude(stop.is_set())

    def conclude(self, interrupted: bool) -> int:
        """Write down what was found, and return the exit code."""
        found = self._found() if self.data["unpaced"] else None
        complete = found is not None and found.next is None
        evidence(self.folder, self.data, self.settings)
        self.save(COMPLETE if complete else INTERRUPTED if interrupted else USED_UP)
        if interrupted and not complete:
            return errors.INTERRUPTED
        return errors.OK if complete or self.data["answer"] else TaskmillError.exit_code

    def save(self, state: str) -> None:
        """Write ``capacity.json`` and ``capacity.md``."""
        self.data["state"] = state
        found = self._found() if self.data["unpaced"] else None
        self.data["rounds"] = [asdict(one) for one in found.rounds] if found else []
        best = answer(found) if found else None
        self.data["answer"] = asdict(best) if best else None
        write(self.folder, self.data)

    def _found(self) -> Any:
        states = [load["state"] for load in self.data["loads"]]
        return search(
            self.data["unpaced"]["rate"],
            self.settings.tolerance,
            self.settings.rounds,
            (state == steady.STEADY for state in states),
        )

    def _unpaced(self, drive: Driver, reporter: Reporter) -> dict[str, Any] | None:
        """Post as fast as the broker takes it, more each time until it lasts; return the last load's rates."""
        tasks = START
        while True:
            done = self._load("unpaced", tasks, None, drive)
            if done is None:
                return None
            record, times = done.record, done.times
            seconds = record.seconds.total
            try:
                rate = steady.ceiling(times.done)
            except ValueError:
                # All done at one moment, by a clock that is no finer.
                rate = record.rates.completed_per_s
            reporter.say(f"{tasks:,} tasks as fast as they go: {rate:,.4g}/s")
            if seconds >= LONG_ENOUGH * self.settings.seconds:
                break
            tasks = round(min(max(rate * self.settings.seconds, 2 * tasks), GROWTH * tasks))
        expected = rate * self.settings.seconds
        if expected < FEWEST:
            raise TaskmillError(
                f"a load of {self.settings.seconds:g} s would hold but {expected:.0f} of these tasks, too few "
                f"to tell a trend from chance: give --seconds {FEWEST / rate:.0f} or more"
            )
        return {
            "rate": rate,
            "tasks": tasks,
            "posted_per_s": record.rates.posted_per_s,
            "worker_hosts": len({worker.name.rpartition("@")[2] for worker in record.workers}),
            "pool_processes": sum(worker.pool_size for worker in record.workers),
        }

    def _paced(self, rate: float, drive: Driver) -> dict[str, Any] | None:
        """Post at a rate; return what the load came to."""
        tasks = max(FEWEST, round(rate * self.settings.seconds))
        done = self._load(f"{rate:.1f}-per-s", tasks, rate, drive)
        if done is None:
            return None
        record, times = done.record, done.times
        try:
            verdict = steady.judge(rate, times.posted, times.done)
        except ValueError as error:
            raise TaskmillError(f"a load of {tasks:,} tasks cannot be judged: {error}") from error
        latency = record.latency.latency or Spread()
        return {
            "folder": done.folder,
            "rate": rate,
            "tasks": tasks,
            **asdict(verdict),
            "busy": busy(times, self.data["unpaced"]["pool_processes"]),
            "late_s": record.client.late_s,
            "p50_s": None if isinstance(latency.p50, UnsetType) else latency.p50,
            "p99_s": None if isinstance(latency.p99, UnsetType) else latency.p99,
        }

    def _load(self, name: str, tasks: int, rate: float | None, drive: Driver) -> Load | None:
        """Do one load and read what it left; raise ``TaskmillError`` unless every result is there and right.

        It has a scenario's kinds, and neither its stages nor its faults.
        """
        plan = replace(self.plan, name=name, tasks=tasks, rate=rate, stages=(), faults=())
        folder = drive(plan, self.folder / LOADS)
        if folder is None:
            return None
        record, times = RunRecord.load(folder), timings.load(folder)
        if record is None or record.state != RUN_COMPLETE or times is None:
            said = "; ".join(record.problems if record else []) or "it left no record"
            raise TaskmillError(f"the load in {folder} did not come to its end: {said}")
        if record.counts.lost or record.counts.wrong or record.counts.failed:
            pace = "without a pace" if plan.rate is None else f"at {plan.rate:,.4g} tasks per second"
            raise FaultsError(
                f"capacity is that of right results, and the load {pace} had others: {'; '.join(record.problems)}, "
                f"in {folder}"
            )
        return Load(f"{LOADS}/{folder.name}", record, times)


def busy(times: TaskTimings, pools: int) -> float | None:
    """Return the share of the pool processes' time, while messages came in, that went into tasks' bodies."""
    start, end = float(times.posted.min()), float(times.posted.max())
    inside = np.minimum(times.done, end) - np.maximum(times.start, start)
    known = inside[np.isfinite(inside)]
    if not len(known) or not pools or end <= start:
        return None
    return float(known.clip(min=0).sum() / (pools * (end - start)))


def evidence(folder: Path, data: dict[str, Any], settings: Settings) -> None:
    """Add what holds the cluster back, and what more worker hosts would bring, to the data."""
    data |= scale.look(folder, data, settings.hosts)


def write(folder: Path, data: dict[str, Any]) -> None:
    """Write both files."""
    write_json(folder / NAME, data)
    (folder / "capacity.md").write_text(text.markdown(data), encoding="utf-8")


def conclude_again(folder: Path) -> dict[str, Any]:
    """Look at a finished search once more, with the hosts' samples in ``hosts/`` that have come since; write it."""
    search = Search.resume(folder, None)
    for load in (folder / LOADS).iterdir():
        link = load / "hosts"
        if (folder / "hosts").is_dir() and load.is_dir() and not load.is_symlink() and not link.exists():
            link.symlink_to("../../hosts")
    evidence(folder, search.data, search.settings)
    write(folder, search.data)
    return search.data
