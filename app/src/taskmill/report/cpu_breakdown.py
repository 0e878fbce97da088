"""Where the time went: the core-seconds of a run, ``cores x seconds``, broken down into measured parts.

Cores of one machine count once, whichever of its hosts (containers, say) see them. A part's CPU is what its systemd
units used on all hosts. Idle time is what the kernel of each machine counts. What the parts leave of the whole is a
part of its own, :data:`UNACCOUNTED`.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from taskmill.report.plain_data import as_dict, as_list, as_number
from taskmill.samples import unit_samples

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from numpy.typing import NDArray

    from taskmill.report.run_folder import Run
    from taskmill.samples.unit_samples import UnitSamples

#: Names of the parts that are not units' parts of the run's environment.
FUNCTION = "the tasks' own function"
OVERHEAD = "Celery and libraries around it"
IDLE = "idle"
STOLEN = "taken by the hypervisor"
UNACCOUNTED = "not accounted for"
#: The part of the workers' units in the run's environment.
WORKER = "worker"


@dataclass(frozen=True)
class Part:
    """A part of the whole: core-seconds, their share of the whole, and how they were measured."""

    name: str
    core_seconds: float
    share: float
    source: str


@dataclass(frozen=True)
class Machine:
    """Hosts that share cores, and how many cores they share."""

    hosts: list[str]
    cores: int


@dataclass(frozen=True)
class CpuBreakdown:
    """The parts of a run's core-seconds, in the order of a task's way through the cluster; they sum up to the whole."""

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
    """Return the machines: hosts of one boot together, a host whose boot is not known alone."""
    known = run.environment("hosts")
    sampled = {host.name: len(host.cores) for host in run.host_samples}
    hosts_by_boot: dict[str, list[str]] = {}
    for name in sorted({*known, *sampled}):
        hosts_by_boot.setdefault(boot_id(run, name) or name, []).append(name)
    machines = []
    for names in hosts_by_boot.values():
        # A container may be given fewer cores than its machine has; sadf sees all of them.
        cores = [sampled.get(name) or as_number(as_dict(known.get(name)).get("cores")) or 0 for name in names]
        if max(cores):
            machines.append(Machine(names, int(max(cores))))
    return machines


def boot_id(run: Run, host: str) -> str:
    """Return the id of a host's boot, which hosts of one machine share; empty where it is not known."""
    return str(as_dict(run.environment("hosts").get(host)).get("boot_id") or "")


def group_hosts(run: Run, group: str) -> list[str]:
    """Return the hosts of an inventory group."""
    known = run.environment("hosts")
    return [name for name in known if group in as_list(as_dict(known[name]).get("groups"))]


def cpu_by_part(run: Run, at: NDArray[np.float64]) -> dict[str, NDArray[np.float64]]:
    """Return the CPU seconds that each part's units had used by those Unix times, on all hosts."""
    return sum_by_part(run, lambda unit: unit.cpu_used(at))


def memory_by_part(run: Run, at: NDArray[np.float64]) -> dict[str, NDArray[np.float64]]:
    """Return the bytes of memory that each part's units held at those Unix times, on all hosts."""
    return sum_by_part(run, lambda unit: np.interp(at, unit.times, unit.memory, left=0.0, right=0.0))


def sum_by_part(run: Run, measure: Callable[[UnitSamples], NDArray[np.float64]]) -> dict[str, NDArray[np.float64]]:
    """Return the sum of a measure over each part's units: parts in the environment's order, other units last."""
    patterns = unit_patterns(run.record.environment.get("parts"))
    sums: dict[str, NDArray[np.float64]] = {}
    for unit in (unit for units in run.unit_samples.values() for unit in units):
        part = unit_samples.part_of(unit.name, patterns)
        sums[part] = sums[part] + measure(unit) if part in sums else measure(unit)
    return {part: sums[part] for part in [*patterns, unit_samples.OTHER] if part in sums}


def unit_patterns(value: Any) -> Mapping[str, list[str]]:
    """Return the patterns of units' names by part; what does not have that shape is left out."""
    return {
        str(part): [str(pattern) for pattern in patterns]
        for part, patterns in as_dict(value).items()
        if isinstance(patterns, list)
    }


#: A part's name, its core-seconds and how they were measured.
Measured = tuple[str, float, str]


def measure(run: Run) -> CpuBreakdown | None:
    """Return the breakdown; ``None`` where cores or duration are not known, or nothing was sampled."""
    run_machines, seconds = machines(run), run.seconds
    if not run_machines or seconds <= 0 or run.start is None or not (run.unit_samples or run.host_samples):
        return None
    total = sum(machine.cores for machine in run_machines) * seconds
    notes: list[str] = []
    if alone := [machine.hosts[0] for machine in run_machines if not boot_id(run, machine.hosts[0])]:
        notes.append(f"It is not recorded whether {', '.join(alone)} share a machine; each counts as one of its own.")
    used = {
        part: float(cpu[1] - cpu[0])
        for part, cpu in cpu_by_part(run, np.array([run.start, run.start + seconds])).items()
    }
    measured = worker_parts(run, used, notes)
    measured += [(part, core_seconds, "CPU of its units") for part, core_seconds in used.items()]
    measured += kernel_parts(run, run_machines, notes)
    if not run.unit_samples:
        notes.append("What each service used was not sampled, so it is among what is not accounted for.")
    rest = total - sum(core_seconds for _, core_seconds, _ in measured)
    measured.append(
        (UNACCOUNTED, rest, "cores x seconds, less all of the above: the kernel, and what is no host's unit")
    )
    parts = [Part(name, core_seconds, core_seconds / total, source) for name, core_seconds, source in measured]
    return CpuBreakdown(run_machines, seconds, parts, notes)


def worker_parts(run: Run, used: dict[str, float], notes: list[str]) -> list[Measured]:
    """Take the workers' CPU out of ``used``, and return it as the function's and as the overhead around it."""
    function = function_core_seconds(run)
    if function is None:
        if WORKER not in used:
            return []
        notes.append("The tasks' own function could not be told from Celery: its time was not measured.")
        return [("workers, the function included", used.pop(WORKER), "CPU of the workers' units")]
    measured = [(FUNCTION, *function)]
    part = WORKER if WORKER in used else unit_samples.OTHER
    if part in used:
        name = OVERHEAD if part == WORKER else f"{unit_samples.OTHER}, less the function"
        overhead = max(0.0, used.pop(part) - function[0])
        measured.append((name, overhead, "CPU of the workers' units, less the function's"))
    return measured


def function_core_seconds(run: Run) -> tuple[float, str] | None:
    """Return the core-seconds of the tasks' own function and how they were measured; ``None`` where they were not."""
    measured = as_number(run.section("task_seconds").get("cpu"))
    if measured:
        return measured, "CPU time of every task's body, measured in the workers"
    baseline = as_number(run.record.environment.get("function_seconds"))
    if baseline and run.record.counts.done:
        return baseline * run.record.counts.done, "time of the bare function on one core, times the tasks"
    return None


def kernel_parts(run: Run, run_machines: list[Machine], notes: list[str]) -> list[Measured]:
    """Return the idle time of the machines, and the time that the hypervisor gave to others, by one host of each."""
    idle = stolen = 0.0
    by_name = {host.name: host for host in run.host_samples}
    for machine in run_machines:
        host = next((by_name[name] for name in machine.hosts if name in by_name), None)
        if host is None:
            notes.append(f"The cores of {', '.join(machine.hosts)} were not sampled; their idle time is not known.")
            continue
        capacity = machine.cores * run.seconds / 100
        idle += (100 - host.mean_busy()) * capacity
        stolen += float(host.stolen.mean()) * capacity
    measured = [(IDLE, idle, "the kernel's own count on each machine")] if run.host_samples else []
    return measured + ([(STOLEN, stolen, "the kernel's own count on each machine")] if stolen > 0 else [])
