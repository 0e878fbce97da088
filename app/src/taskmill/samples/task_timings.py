"""When each task was due, published, started and done: ``tasks.npz``.

The collector writes the file: one entry per result in each of the arrays that :class:`TaskTimings` names. In the file
``start`` and ``done`` are by the worker's own clock; :func:`load` corrects them to the client's.
"""

from __future__ import annotations

import math
import zipfile
from array import array
from contextlib import suppress
from dataclasses import dataclass, field, fields, replace
from datetime import datetime
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from taskmill.model.record import QUANTILES
from taskmill.model.run_folder import read_json

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path


#: The key of a result that `task_times.py` adds.
KEY = "taskmill"
#: What a row is made of, as types of `array`.
COLUMNS = {"message": "L", "start": "d", "run": "f", "cpu": "f", "done": "d", "worker": "H", "outcome": "B"}
OUTCOMES = ("correct", "wrong", "failed")


@dataclass(frozen=True)
class TaskTimings:
    """One entry per result, in each array. Unix seconds of the client's clock; NaN where a moment is not known."""

    due: npt.NDArray[np.float64]
    posted: npt.NDArray[np.float64]
    start: npt.NDArray[np.float64]
    done: npt.NDArray[np.float64]
    #: Seconds of the task's body: by the wall's clock, and of CPU.
    run: npt.NDArray[np.float64]
    cpu: npt.NDArray[np.float64]
    #: Places in ``queues`` and ``workers``.
    queue: npt.NDArray[np.integer[Any]]
    worker: npt.NDArray[np.integer[Any]]
    #: 0 correct, 1 wrong, 2 failed.
    outcome: npt.NDArray[np.integer[Any]]
    queues: list[str]
    workers: list[str]
    #: Place in ``kinds``; both are empty for a run without a scenario.
    kind: npt.NDArray[np.integer[Any]] = field(default_factory=lambda: np.zeros(0, dtype=np.uint16))
    kinds: list[str] = field(default_factory=list)
    #: Place in the plan's stages; empty for a run without them.
    stage: npt.NDArray[np.integer[Any]] = field(default_factory=lambda: np.zeros(0, dtype=np.uint16))

    def latency(self) -> npt.NDArray[np.float64]:
        """Return the seconds from when a task was due to when it was done."""
        return self.done - self.due

    def queue_time(self) -> npt.NDArray[np.float64]:
        """Return the seconds from when a task was due to when a worker started it."""
        return self.start - self.due

    def of(self, chosen: npt.NDArray[np.bool_]) -> TaskTimings:
        """Return those of the results that are chosen."""
        arrays = {
            one.name: getattr(self, one.name) for one in fields(self) if one.name not in {"queues", "workers", "kinds"}
        }
        return replace(self, **{name: values[chosen] for name, values in arrays.items() if len(values)})

    def summary(self) -> dict[str, dict[str, float]]:
        """Return count, mean and percentiles of ``queue``, ``execution`` and ``latency``; empty without times."""
        kinds = {"queue": self.queue_time(), "execution": self.run, "latency": self.latency()}
        return {name: summary(values) for name, values in kinds.items() if np.isfinite(values).any()}


class TaskTimingsWriter:
    """Gathers one row per result, in the order in which results come, and writes ``tasks.npz``."""

    def __init__(self) -> None:
        """Start without rows."""
        self._columns: dict[str, array[Any]] = {name: array(code) for name, code in COLUMNS.items()}
        self._places: dict[str, int] = {}

    def add(self, message: int, outcome: int, meta: dict[str, Any]) -> None:
        """Add the result of the message with that number, as Celery stored it (``meta``).

        A result without the times of ``task_times.py`` has Celery's ``date_done`` at most; all other times are NaN.
        """
        start, run, cpu, done, worker = of_result(meta)
        place = self._places.setdefault(worker, len(self._places))
        values = (message, start, run, cpu, done, place, outcome)
        for column, value in zip(self._columns.values(), values, strict=True):
            column.append(value)

    def save(self, folder: Path, messages: dict[str, Any], queues: list[str], kinds: Sequence[str] = ()) -> None:
        """Write ``tasks.npz``; ``messages`` has ``due``, ``posted`` and ``queue`` of every message, by its number.

        Where there are ``kinds``, it has the ``kind`` of every message, too.
        """
        arrays: dict[str, Any] = {name: np.array(column) for name, column in self._columns.items()}
        number = arrays.pop("message")
        arrays |= {name: values[number] for name, values in messages.items()}
        arrays |= {"queues": np.array(queues), "workers": np.array(list(self._places) or [""])}
        arrays |= {"kinds": np.array(kinds)} if kinds else {}
        # Written whole or not at all.
        temporary = folder / ".tasks.npz"
        with temporary.open("wb") as file:
            np.savez(file, **arrays)
        temporary.replace(folder / "tasks.npz")


def of_result(meta: dict[str, Any]) -> tuple[float, float, float, float, str]:
    """Return ``start``, ``run``, ``cpu``, ``done`` and worker of a result as Celery stored it, by the worker's clock.

    What is not known is NaN: of a result without the times of ``task_times.py``, all but Celery's ``date_done``.
    """
    start = run = cpu = done = math.nan
    worker = ""
    try:
        start, run_us, cpu_us, worker = meta[KEY]
        start, run, cpu = float(start), run_us / 1e6, math.nan if cpu_us is None else cpu_us / 1e6
        done = start + run
    except (KeyError, TypeError, ValueError):
        start = run = cpu = math.nan
        with suppress(KeyError, TypeError, ValueError):
            done = datetime.fromisoformat(meta["date_done"]).timestamp()
    return start, run, cpu, done, str(worker)


def sums_by_name(
    groups: npt.NDArray[np.integer[Any]], names: list[str], values: npt.NDArray[np.float64]
) -> dict[str, float]:
    """Return the sum of the known values of each group; ``groups`` has the place of each value's group in ``names``."""
    sums = np.bincount(groups, np.nan_to_num(values), len(names))
    return dict(zip(names, np.round(sums, 6).tolist(), strict=True))


def summary(values: npt.NDArray[np.float64]) -> dict[str, float]:
    """Return count, mean, percentiles and maximum of the finite values; empty without any."""
    known = values[np.isfinite(values)]
    if not len(known):
        return {}
    quantiles = dict(zip(QUANTILES, np.quantile(known, list(QUANTILES.values())).tolist(), strict=True))
    return {"count": len(known), "mean": float(known.mean()), **quantiles, "max": float(known.max())}


def load(folder: Path, clocks: dict[str, Any] | None = None) -> TaskTimings | None:
    """Read the folder's ``tasks.npz``; return ``None`` when there is none. Raises ``ValueError`` for a broken file.

    ``clocks`` are the workers' clocks as ``run.json`` has them; without the argument they are read from there.
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
        return TaskTimings(
            **{name: arrays[name].astype(float) for name in ("due", "posted", "run", "cpu")},
            start=arrays["start"] - offsets,
            done=arrays["done"] - offsets,
            **{name: arrays[name] for name in ("queue", "worker", "outcome")},
            queues=queues,
            workers=workers,
            **({"kind": arrays["kind"], "kinds": arrays["kinds"].tolist()} if "kinds" in arrays else {}),
            **({"stage": arrays["stage"]} if "stage" in arrays else {}),
        )
    except (OSError, KeyError, EOFError, ValueError, zipfile.BadZipFile) as error:
        raise ValueError(f"{path.name} cannot be read") from error


def clock_moves(clocks: dict[str, Any]) -> dict[str, float]:
    """Return by how many seconds each worker's clock moved against the client's during the run, where that is known."""
    offsets = {
        worker: [(clock.get(at) or {}).get("offset_s") for at in ("start", "end")] for worker, clock in clocks.items()
    }
    return {worker: end - start for worker, (start, end) in offsets.items() if start is not None and end is not None}


def clock_offsets(clocks: dict[str, Any], workers: list[str], arrays: dict[str, Any]) -> npt.NDArray[np.float64]:
    """Return, for each task, the seconds by which its worker's clock was ahead of the client's.

    A clock is asked at the start and at the end of the run; in between its offset is interpolated.
    """
    due, done = arrays["due"], arrays["done"]
    offsets = np.zeros(len(due))
    if not len(due) or not np.isfinite(done).any():
        return offsets
    span = [float(np.nanmin(due)), float(np.nanmax(done))]
    for index, worker in enumerate(workers):
        measured = [(clocks.get(worker) or {}).get(at, {}).get("offset_s") for at in ("start", "end")]
        known = [float(offset) for offset in measured if offset is not None]
        if known:
            of_worker = arrays["worker"] == index
            offsets[of_worker] = np.interp(done[of_worker], span, [known[0], known[-1]])
    return offsets
