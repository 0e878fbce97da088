"""When each task was due, posted, started and done: ``tasks.npz`` on one clock, the client's."""

from __future__ import annotations

import zipfile
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from taskmill.plan import read_json

if TYPE_CHECKING:
    from pathlib import Path

    from taskmill.arrays import Floats

QUANTILES = {"p50": 0.5, "p90": 0.9, "p99": 0.99, "p99_9": 0.999}


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


def summary(values: Floats) -> dict[str, float]:
    """Return count, mean, percentiles and maximum of those values that are known."""
    known = values[np.isfinite(values)]
    if not len(known):
        return {}
    quantiles = dict(zip(QUANTILES, np.quantile(known, list(QUANTILES.values())).tolist(), strict=True))
    return {"count": len(known), "mean": float(known.mean()), **quantiles, "max": float(known.max())}


def load(folder: Path) -> Timings | None:
    """Read the folder's ``tasks.npz``; ``None`` when there is none. Raises ``ValueError`` for one that is broken."""
    path = folder / "tasks.npz"
    if not path.exists():
        return None
    try:
        with np.load(path, allow_pickle=False) as file:
            arrays = {name: file[name] for name in file.files}
        queues, workers = arrays["queues"].tolist(), arrays["workers"].tolist()
        offsets = clock_offsets(folder, workers, arrays)
        return Timings(
            **{name: arrays[name].astype(float) for name in ("due", "posted", "run", "cpu")},
            start=arrays["start"] - offsets,
            done=arrays["done"] - offsets,
            **{name: arrays[name] for name in ("queue", "worker", "outcome")},
            queues=queues,
            workers=workers,
        )
    except (OSError, KeyError, EOFError, zipfile.BadZipFile) as error:
        raise ValueError(f"{path.name} cannot be read") from error


def clock_offsets(folder: Path, workers: list[str], arrays: dict[str, Any]) -> Floats:
    """Return, for each task, its worker's clock less the client's: in a line from the run's start to its end."""
    clocks = (read_json(folder / "run.json") or {}).get("clocks") or {}
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
