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

    from taskmill.model.arrays import Floats

#: Units that belong to none of the run's parts.
OTHER = "everything else"


@dataclass(frozen=True)
class Unit:
    """One unit's samples: Unix seconds, CPU seconds used since the first of them, and bytes of memory."""

    name: str
    times: Floats
    cpu: Floats
    memory: Floats

    def used(self, at: Floats) -> Floats:
        """Return the CPU seconds used by those Unix times, interpolated."""
        return np.interp(at, self.times, self.cpu)


def read(path: Path, cores: int) -> list[Unit]:
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
        units.append(Unit(name, times, since_first(times, cpu, cores, came_later=times[0] > first), memory))
    return units


def since_first(times: Floats, cpu: Floats, cores: int, came_later: bool) -> Floats:
    """Return the growth of a counter that starts at nothing again when its unit does.

    A unit that came while the sampling ran has used all that its first sample says since the one before.
    """
    growth, again = np.diff(cpu), cpu[1:]
    # After a fall the counter holds what new processes used. More than the cores could do since the sample before is no
    # new start: the counter was a sum over processes, and one of them has gone.
    restarted = np.where(again <= np.diff(times) * cores, again, 0.0)
    return np.concatenate(([cpu[0] if came_later else 0.0], np.where(growth >= 0, growth, restarted))).cumsum()


def part_of(unit: str, parts: Mapping[str, Sequence[str]]) -> str:
    """Return the part of the run that a unit belongs to by the parts' patterns; ``OTHER`` for none."""
    for part, patterns in parts.items():
        if any(fnmatchcase(unit, pattern) for pattern in patterns):
            return part
    return OTHER
