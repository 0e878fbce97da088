"""CPU and memory of the hosts during a run, from ``hosts/<host>.json``: what sysstat's ``sadf -j`` prints."""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@dataclass(frozen=True)
class Host:
    """One host's samples: Unix seconds, and percent busy (100 less idle) for ``all`` and for every core by number."""

    name: str
    times: list[float]
    busy: dict[str, list[float]]
    #: Percent of memory in use, by sample; empty when it was not recorded.
    memory: list[float]

    @property
    def cores(self) -> list[str]:
        """The cores' numbers, in order."""
        return sorted((core for core in self.busy if core != "all"), key=int)

    def mean(self, core: str = "all") -> float:
        """Return the mean percent busy."""
        values = self.busy.get(core) or []
        return sum(values) / len(values) if values else 0.0


def read(path: Path, start: float = float("-inf"), end: float = float("inf")) -> Host:
    """Read one file, only the samples between two Unix times; raise ``ValueError`` when it is not what sadf prints."""
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
        samples = [sample for host in document["sysstat"]["hosts"] for sample in host["statistics"]]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{path.name} is not what `sadf -j` prints") from error
    times: list[float] = []
    busy: dict[str, list[float]] = {}
    memory: list[float] = []
    for sample in samples:
        when, loads = unix(sample), list(cores(sample))
        if when is None or not loads or not start <= when <= end:
            continue
        times.append(when)
        for core, percent in loads:
            busy.setdefault(core, []).append(percent)
        used = (sample.get("memory") or {}).get("memused-percent")
        if isinstance(used, (int, float)):
            memory.append(float(used))
    # A core that was not there in every sample has no place on a common time axis.
    return Host(path.stem, times, {core: values for core, values in busy.items() if len(values) == len(times)}, memory)


def unix(sample: Any) -> float | None:
    """Return a sample's time; sadf writes UTC unless told otherwise."""
    try:
        stamp = sample["timestamp"]
        moment = datetime.strptime(f"{stamp['date']} {stamp['time']}", "%Y-%m-%d %H:%M:%S")  # noqa: DTZ007  # UTC: next line
    except (KeyError, TypeError, ValueError):
        return None
    return moment.replace(tzinfo=timezone.utc).timestamp()


def cores(sample: Any) -> Iterator[tuple[str, float]]:
    """Yield each core of a sample, ``all`` among them, with its percent busy."""
    for entry in sample.get("cpu-load") or sample.get("cpu-load-all") or []:
        core, idle = str(entry.get("cpu")), entry.get("idle")
        if isinstance(idle, (int, float)) and (core == "all" or core.isdecimal()):
            yield core, min(100.0, max(0.0, 100.0 - float(idle)))
