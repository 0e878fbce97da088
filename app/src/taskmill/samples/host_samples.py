"""CPU and memory of the hosts during a run, from ``hosts/<host>.json``: what sysstat's ``sadf -j`` prints."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from numpy.typing import NDArray

#: sadf's names for the time in which a core executed nothing: it was idle, or it waited for a disk.
IDLE_STATES = ("idle", "iowait")


@dataclass(frozen=True)
class HostSamples:
    """One host's samples: the Unix seconds at which each ended, and percentages over the seconds before it.

    Every array has one entry per sample.
    """

    name: str
    times: NDArray[np.float64]
    #: Percent busy (100 less idle and waiting for a disk) for ``all`` and for every core by number.
    busy: dict[str, NDArray[np.float64]]
    #: Percent of all cores' time that the hypervisor gave to others.
    stolen: NDArray[np.float64]
    #: Percent of memory in use; empty when it was not recorded with every sample.
    memory: NDArray[np.float64]

    @property
    def cores(self) -> list[str]:
        """The cores' numbers, in order."""
        return sorted((core for core in self.busy if core != "all"), key=int)

    def mean_busy(self, core: str = "all") -> float:
        """Return the mean percent busy of a core, or of all; 0 without samples."""
        values = self.busy.get(core)
        return float(values.mean()) if values is not None and len(values) else 0.0

    def between(self, start: float, end: float) -> HostSamples:
        """Return only the samples between two Unix times."""
        keep = (self.times >= start) & (self.times <= end)
        memory = self.memory[keep] if len(self.memory) else self.memory
        busy = {core: values[keep] for core, values in self.busy.items()}
        return replace(self, times=self.times[keep], busy=busy, stolen=self.stolen[keep], memory=memory)


def read(path: Path) -> HostSamples:
    """Read one host's file; raise ``ValueError`` when it is not what sadf prints."""
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
        samples = [sample for host in document["sysstat"]["hosts"] for sample in host["statistics"]]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{path.name} is not what `sadf -j` prints") from error
    times: list[float] = []
    busy: dict[str, list[float]] = {}
    stolen: list[float] = []
    memory: list[float] = []
    for sample in samples:
        time, loads = unix_time(sample), list(core_loads(sample))
        if time is None or not loads:
            continue
        times.append(time)
        stolen.append(next((steal for core, _, steal in loads if core == "all"), 0.0))
        for core, percent, _ in loads:
            busy.setdefault(core, []).append(percent)
        used = (sample.get("memory") or {}).get("memused-percent")
        if isinstance(used, (int, float)):
            memory.append(float(used))
    return HostSamples(
        path.stem,
        np.array(times),
        # A core that was not there in every sample has no place on a common time axis.
        {core: np.array(values) for core, values in busy.items() if len(values) == len(times)},
        np.array(stolen),
        np.array(memory if len(memory) == len(times) else []),
    )


def unix_time(sample: Any) -> float | None:
    """Return a sample's time in Unix seconds, ``None`` where it cannot be read. sadf writes UTC by default."""
    try:
        stamp = sample["timestamp"]
        moment = datetime.strptime(f"{stamp['date']} {stamp['time']}", "%Y-%m-%d %H:%M:%S")  # noqa: DTZ007  # UTC: next line
    except (KeyError, TypeError, ValueError):
        return None
    return moment.replace(tzinfo=timezone.utc).timestamp()


def core_loads(sample: Any) -> Iterator[tuple[str, float, float]]:
    """Yield each core of a sample, ``all`` among them, with its percent busy and its percent stolen."""
    for entry in sample.get("cpu-load") or sample.get("cpu-load-all") or []:
        core = str(entry.get("cpu"))
        idle_percents = [entry.get(name) for name in IDLE_STATES]
        if not isinstance(idle_percents[0], (int, float)) or not (core == "all" or core.isdecimal()):
            continue
        idle = sum(float(percent) for percent in idle_percents if isinstance(percent, (int, float)))
        steal = entry.get("steal")
        yield core, min(100.0, max(0.0, 100.0 - idle)), float(steal) if isinstance(steal, (int, float)) else 0.0
