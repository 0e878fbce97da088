"""Where the time went: the core-seconds of a run, ``cores x seconds``, split into measured parts.

Cores of one machine count once, whichever of its hosts (containers, say) see them. A part's CPU is what its units used
on all hosts. Idle is what the kernel of each machine says; what is left between the sum and the whole is shown as such.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from taskmill.report.run_folder import as_dict, as_list, as_number, mapping
from taskmill.samples import unit_samples as units

if TYPE_CHECKING:
    from collections.abc import Callable

    from taskmill.model.arrays import Floats
    from taskmill.report.run_folder import Run
    from taskmill.samples.unit_samples import Unit

FUNCTION = "the tasks' own function"
AROUND = "Celery and libraries around it"
IDLE = "idle"
STOLEN = "taken by the hypervisor"
REST = "not accounted for"
WORKER = "worker"


@dataclass(frozen=True)
class Part:
    """A part of the whole: core-seconds, their share, and how they were measured."""

    name: str
    core_seconds: float
    share: float
    source: str


@dataclass(frozen=True)
class Machine:
    """Hosts that share cores, with those that have samples of them."""

    hosts: list[str]
    cores: int


@dataclass(frozen=True)
class Where:
    """The whole, and its parts in the order of a task's way; they sum up to it."""

    machines: list[Machine]
    seconds: float
    parts: list[Part]
    notes: list[str] = field(default_factory=list)

    @property
    def cores(self) -> int:
        """Cores of all machines."""
        return sum(machine.cores for machine in self.machines)

    @property
    def total(self) -> float:
        """Core-seconds of the whole."""
        return self.cores * self.seconds

    def share(self, name: str) -> float | None:
        """Return a part's share of the whole; ``None`` when there is no such part."""
        return next((part.share for part in self.parts if part.name == name), None)

    def core_seconds(self, name: str) -> float | None:
        """Return a part's core-seconds; ``None`` when there is no such part."""
        return next((part.core_seconds for part in self.parts if part.name == name), None)


def machines(run: Run) -> list[Machine]:
    """Return the machines, hosts of one boot together; a host whose boot is not known counts as one of its own."""
    known = run.environment("hosts")
    sampled = {host.name: len(host.cores) for host in run.hosts}
    together: dict[str, list[str]] = {}
    for name in sorted({*known, *sampled}):
        together.setdefault(boot_id(run, name) or name, []).append(name)
    found = []
    for names in together.values():
        # A container may be given fewer cores than its machine has; sadf sees all of them.
        cores = [sampled.get(name) or as_number(as_dict(known.get(name)).get("cores")) or 0 for name in names]
        if max(cores):
            found.append(Machine(names, int(max(cores))))
    return found


def boot_id(run: Run, host: str) -> str:
    """Return what tells a host's boot, and so its machine, from others; empty where it is not known."""
    return str(as_dict(run.environment("hosts").get(host)).get("boot_id") or "")


def group_hosts(run: Run, group: str) -> list[str]:
    """Return the hosts of one of the landscape's groups."""
    known = run.environment("hosts")
    return [name for name in known if group in as_list(as_dict(known[name]).get("groups"))]


def used_by_part(run: Run, at: Floats) -> dict[str, Floats]:
    """Return the CPU seconds that each part's units used by those Unix times, on all hosts; the run's parts first."""
    return by_part(run, lambda unit: unit.used(at))


def memory_by_part(run: Run, at: Floats) -> dict[str, Floats]:
    """Return the bytes of memory that each part's units held at those Unix times, on all hosts."""
    return by_part(run, lambda unit: np.interp(at, unit.times, unit.memory, left=0.0, right=0.0))


def by_part(run: Run, figure: Callable[[Unit], Floats]) -> dict[str, Floats]:
    """Return the sum of a figure over each part's units."""
    parts = mapping(run.data["environment"].get("parts"))
    sums: dict[str, Floats] = {}
    for unit in (unit for found in run.units.values() for unit in found):
        part = units.part_of(unit.name, parts)
        sums[part] = sums[part] + figure(unit) if part in sums else figure(unit)
    return {part: sums[part] for part in [*parts, units.OTHER] if part in sums}


def split(run: Run) -> Where | None:
    """Return the split; ``None`` where the cores or the run's time are not known, or nothing was measured."""
    there, seconds = machines(run), run.seconds
    if not there or seconds <= 0 or run.start is None or not (run.units or run.hosts):
        return None
    total = sum(machine.cores for machine in there) * seconds
    notes: list[str] = []
    if alone := [machine.hosts[0] for machine in there if not boot_id(run, machine.hosts[0])]:
        notes.append(f"It is not recorded whether {', '.join(alone)} share a machine; each counts as one of its own.")
    used = {
        part: float(spent[1] - spent[0])
        for part, spent in used_by_part(run, np.array([run.start, run.start + seconds])).items()
    }
    found: list[tuple[str, float, str]] = []
    function = own_function(run)
    around = WORKER if WORKER in used else units.OTHER
    if function is not None:
        found.append((FUNCTION, *function))
        if around in used:
            found.append(
                (
                    AROUND if around == WORKER else f"{units.OTHER}, less the function",
                    max(0.0, used.pop(around) - function[0]),
                    "CPU of the workers' units, less the function's",
                )
            )
    elif WORKER in used:
        found.append(("workers, the function included", used.pop(WORKER), "CPU of the workers' units"))
        notes.append("The tasks' own function could not be told from Celery: its time was not measured.")
    found += [(part, spent, "CPU of its units") for part, spent in used.items()]
    found += resting(run, there, notes)
    if not run.units:
        notes.append("What each service used was not sampled, so it is among what is not accounted for.")
    rest = total - sum(spent for _, spent, _ in found)
    found.append((REST, rest, "cores x seconds, less all of the above: the kernel, and what is no host's unit"))
    return Where(there, seconds, [Part(name, spent, spent / total, source) for name, spent, source in found], notes)


def own_function(run: Run) -> tuple[float, str] | None:
    """Return the core-seconds of the tasks' own function, and how they are known."""
    measured = as_number(run.data["task_seconds"].get("cpu"))
    if measured:
        return measured, "CPU time of every task's body, measured in the workers"
    bare = as_number(run.data["environment"].get("function_seconds"))
    if bare and run.data["counts"]["retrieved"]:
        return bare * run.data["counts"]["retrieved"], "time of the bare function on one core, times the tasks"
    return None


def resting(run: Run, there: list[Machine], notes: list[str]) -> list[tuple[str, float, str]]:
    """Return the idle time of the machines, one host's samples for each, and what the hypervisor took."""
    idle = stolen = 0.0
    by_name = {host.name: host for host in run.hosts}
    for machine in there:
        host = next((by_name[name] for name in machine.hosts if name in by_name), None)
        if host is None:
            notes.append(f"The cores of {', '.join(machine.hosts)} were not sampled; their idle time is not known.")
            continue
        capacity = machine.cores * run.seconds / 100
        idle += (100 - host.mean()) * capacity
        stolen += float(host.stolen.mean()) * capacity
    found = [(IDLE, idle, "the kernel's own count on each machine")] if run.hosts else []
    return found + ([(STOLEN, stolen, "the kernel's own count on each machine")] if stolen > 0 else [])
