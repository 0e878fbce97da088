"""What each systemd unit of a host used during a run, from ``hosts/<host>.units.csv``.

Columns: ``unix`` (seconds), ``unit``, ``cpu_s`` (seconds of CPU since the unit began, all its processes), ``rss_bytes``
and ``processes``; one line per unit and sample.
"""

from __future__ import annotations

import csv
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

#: Units that belong to none of the run's parts.
OTHER = "everything else"


@dataclass(frozen=True)
class UnitSamples:
    """One unit's samples, one entry each: Unix seconds, CPU seconds used since the first sample, bytes of memory."""

    name: str
    times: NDArray[np.float64]
    cpu: NDArray[np.float64]
    memory: NDArray[np.float64]

    def cpu_used(self, at: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the CPU seconds used by those Unix times, interpolated."""
        return np.interp(at, self.times, self.cpu)


def read(path: Path, cores: int) -> list[UnitSamples]:
    """Return the units of a host with so many cores; lines that cannot be read are left out.

    Raises ``OSError`` when there is no file.
    """
    rows: dict[str, list[tuple[float, float, float]]] = {}
    with path.open(encoding="utf-8", newline="", errors="replace") as file:
        for row in csv.reader(file):
            try:
                sample = float(row[0]), float(row[2]), float(row[3])
            except (IndexError, ValueError):
                continue
            rows.setdefault(row[1], []).append(sample)
    first = min((samples[0][0] for samples in rows.values()), default=0.0)
    units = []
    for name, samples in rows.items():
        times, cpu, memory = (np.array(column) for column in zip(*sorted(samples), strict=True))
        units.append(UnitSamples(name, times, cpu_since_first(times, cpu, cores, came_later=times[0] > first), memory))
    return units


def cpu_since_first(
    times: NDArray[np.float64], cpu: NDArray[np.float64], cores: int, came_later: bool
) -> NDArray[np.float64]:
    """Return the CPU seconds used since the first sample, from a counter that starts at 0 again when its unit restarts.

    A unit that was started while the sampling ran has used all of its first sample's seconds during the run.
    """
    growth, again = np.diff(cpu), cpu[1:]
    # After a restart the counter holds what the new processes used. If that is more than the cores could do since the
    # sample before, nothing was restarted: the counter sums over processes, and one of them has ended.
    restarted = np.where(again <= np.diff(times) * cores, again, 0.0)
    return np.concatenate(([cpu[0] if came_later else 0.0], np.where(growth >= 0, growth, restarted))).cumsum()


def part_of(unit: str, parts: Mapping[str, Sequence[str]]) -> str:
    """Return the part of the run that a unit belongs to by the parts' patterns; ``OTHER`` for none."""
    for part, patterns in parts.items():
        if any(fnmatchcase(unit, pattern) for pattern in patterns):
            return part
    return OTHER
