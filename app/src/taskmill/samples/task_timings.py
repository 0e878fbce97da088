"""When each task was due, posted, started and done: ``tasks.npz``, written while collecting, read on one clock.

The file holds one entry per result in arrays of the names below, with ``start`` and ``done`` by the worker's own clock;
:func:`load` turns them into the client's.
"""

from __future__ import annotations

import math
import zipfile
from array import array
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from taskmill.model.record import QUANTILES
from taskmill.model.run_folder import read_json

if TYPE_CHECKING:
    from pathlib import Path

    from taskmill.model.arrays import Floats

#: The key of a result that `task_times.py` adds.
KEY = "taskmill"
#: What a row is made of, as types of `array`.
COLUMNS = {"message": "L", "start": "d", "run": "f", "cpu": "f", "done": "d", "worker": "H", "outcome": "B"}
OUTCOMES = ("correct", "wrong", "failed")


@dataclass(frozen=True)
class Timings:
    """One entry per result, in each array. Unix seconds of the client's clock; NaN where a moment is not known."""

    due: Floats
    posted: Floats
    start: Floats
    done: Floats
    #: Seconds of the task's body: by the wall's clock, and of CPU.
    run: Floats
    cpu: Floats
    #: Places in ``queues`` and ``workers``.
    queue: npt.NDArray[np.integer[Any]]
    worker: npt.NDArray[np.integer[Any]]
    #: 0 correct, 1 wrong, 2 failed.
    outcome: npt.NDArray[np.integer[Any]]
    queues: list[str]
    workers: list[str]

    def latency(self) -> Floats:
        """Return the seconds from when a task was due to when it was done."""
        return self.done - self.due

    def queue_time(self) -> Floats:
        """Return the seconds from when a task was due to when a worker started it."""
        return self.start - self.due

    def summary(self) -> dict[str, dict[str, float]]:
        """Return count, mean and percentiles of ``queue``, ``execution`` and ``latency``; empty without times."""
        kinds = {"queue": self.queue_time(), "execution": self.run, "latency": self.latency()}
        return {name: summary(values) for name, values in kinds.items() if np.isfinite(values).any()}


class Rows:
    """The rows of ``tasks.npz`` as they are found."""

    def __init__(self) -> None:
        """Begin without any."""
        self._columns: dict[str, array[Any]] = {name: array(code) for name, code in COLUMNS.items()}
        self._places: dict[str, int] = {}

    def add(self, message: int, outcome: int, meta: dict[str, Any]) -> None:
        """Add the result of the message with that number, as Celery stored it (``meta``).

        Without the times of ``task_times.py`` there is at most Celery's ``date_done``; anything else there is no time.
        """
        start = run = cpu = done = math.nan
        worker = ""
        try:
            start, took, used, worker = meta[KEY]
            start, run, cpu = float(start), took / 1e6, math.nan if used is None else used / 1e6
            done = start + run
        except (KeyError, TypeError, ValueError):
            start = run = cpu = math.nan
            with suppress(KeyError, TypeError, ValueError):
                done = datetime.fromisoformat(meta["date_done"]).timestamp()
        place = self._places.setdefault(str(worker), len(self._places))
        values = (message, start, run, cpu, done, place, outcome)
        for column, value in zip(self._columns.values(), values, strict=True):
            column.append(value)

    def save(self, folder: Path, messages: dict[str, Any], queues: list[str]) -> None:
        """Write ``tasks.npz``; ``messages`` has ``due``, ``posted`` and ``queue`` of every message, by its number."""
        arrays: dict[str, Any] = {name: np.array(column) for name, column in self._columns.items()}
        number = arrays.pop("message")
        arrays |= {name: values[number] for name, values in messages.items()}
        arrays |= {"queues": np.array(queues), "workers": np.array(list(self._places) or [""])}
        # Written whole or not at all.
        temporary = folder / ".tasks.npz"
        with temporary.open("wb") as file:
            np.savez(file, **arrays)
        temporary.replace(folder / "tasks.npz")


def by(groups: npt.NDArray[np.integer[Any]], names: list[str], values: Floats) -> dict[str, float]:
    """Return the sum of those values that are known, by the name of their group."""
    sums = np.bincount(groups, np.nan_to_num(values), len(names))
    return dict(zip(names, np.round(sums, 6).tolist(), strict=True))


def summary(values: Floats) -> dict[str, float]:
    """Return count, mean, percentiles and maximum of those values that are known."""
    known = values[np.isfinite(values)]
    if not len(known):
        return {}
    quantiles = dict(zip(QUANTILES, np.quantile(known, list(QUANTILES.values())).tolist(), strict=True))
    return {"count": len(known), "mean": float(known.mean()), **quantiles, "max": float(known.max())}


def load(folder: Path, clocks: dict[str, Any] | None = None) -> Timings | None:
    """Read the folder's ``tasks.npz``; ``None`` when there is none. Raises ``ValueError`` for one that is broken.

    ``clocks`` are those of ``run.json``, which is read for them when they are not given.
    """
    path = folder / "tasks.npz"
    if not path.exists():
        return None
    try:
        with np.load(path, allow_pickle=False) as file:
            arrays = {name: file[name] for name in file.files}
        queues, workers = arrays["queues"].tolist(), arrays["workers"].tolist()
        if clocks is None:
            clocks = (read_json(folder / "run.json") or {}).get("clocks") or {}
        offsets = clock_offsets(clocks, workers, arrays)
        return Timings(
            **{name: arrays[name].astype(float) for name in ("due", "posted", "run", "cpu")},
            start=arrays["start"] - offsets,
            done=arrays["done"] - offsets,
            **{name: arrays[name] for name in ("queue", "worker", "outcome")},
            queues=queues,
            workers=workers,
        )
    except (OSError, KeyError, EOFError, ValueError, zipfile.BadZipFile) as error:
        raise ValueError(f"{path.name} cannot be read") from error


def clock_moves(clocks: dict[str, Any]) -> dict[str, float]:
    """Return by how many seconds each worker's clock moved against the client's; without those that did not say."""
    both = {name: [(one.get(at) or {}).get("offset_s") for at in ("start", "end")] for name, one in clocks.items()}
    return {name: end - start for name, (start, end) in both.items() if start is not None and end is not None}


def clock_offsets(clocks: dict[str, Any], workers: list[str], arrays: dict[str, Any]) -> Floats:
    """Return, for each task, its worker's clock less the client's: in a line from the run's start to its end."""
    due, done = arrays["due"], arrays["done"]
    offsets = np.zeros(len(due))
    if not len(due) or not np.isfinite(done).any():
        return offsets
    span = [float(np.nanmin(due)), float(np.nanmax(done))]
    for index, worker in enumerate(workers):
        both = [(clocks.get(worker) or {}).get(at, {}).get("offset_s") for at in ("start", "end")]
        known = [float(offset) for offset in both if offset is not None]
        if known:
            mine = arrays["worker"] == index
            offsets[mine] = np.interp(done[mine], span, [known[0], known[-1]])
    return offsets
