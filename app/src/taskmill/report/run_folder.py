"""Read a run's folder into plain data. Nothing here draws, and nothing here fails because a file is broken."""

from __future__ import annotations

import json
from dataclasses import dataclass, field, replace
from datetime import datetime
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from taskmill.model import record, run_folder, summary
from taskmill.model.clock import Moment
from taskmill.model.errors import TaskmillError
from taskmill.model.record import RunRecord
from taskmill.report.plain_data import as_dict, as_list, as_number
from taskmill.samples import host_samples, profile, task_timings, unit_samples

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from numpy.typing import NDArray

    from taskmill.samples.host_samples import HostSamples
    from taskmill.samples.task_timings import TaskTimings
    from taskmill.samples.unit_samples import UnitSamples

#: Faults that the report lists; all of them are in faults.jsonl.
FAULTS_SHOWN = 50
#: Bytes of a screenshot that the report takes in; a larger one stays beside it.
LARGEST_IMAGE = 1_000_000
#: The files of a host are named after it; its name may have dots of its own.
HOST_FILE_SUFFIXES = (".units.csv", ".limits.json", ".json")

#: Why a fault that a scenario names did not come, where nothing was noted.
NOT_INJECTED = "nothing is noted of it; run-load.yml alone injects faults"

Value = TypeVar("Value")


@dataclass(frozen=True)
class QueueDepth:
    """One queue's samples, one entry each: Unix seconds, messages that wait, and consumers."""

    times: NDArray[np.float64]
    ready: NDArray[np.float64]
    consumers: NDArray[np.float64]


@dataclass(frozen=True)
class Injected:
    """A fault of the run's scenario: when it came, in seconds of the run, or why it did not."""

    name: str
    title: str
    #: When it was to come.
    at: float
    hosts: list[str]
    began: float | None = None
    over: float | None = None
    failed: str = ""


@dataclass
class Run:
    """A run's folder as plain data. Times are Unix seconds of the client's clock."""

    folder: Path
    #: ``run.json`` with a default for what it lacks.
    record: RunRecord
    #: ``run.json`` as it stands, empty without one: for sections in which a key that is not there means "not known".
    data: dict[str, Any]
    recorded: bool
    start: float | None = None
    #: From the first message to the last result.
    seconds: float = 0.0
    timings: TaskTimings | None = None
    queue_depths: dict[str, QueueDepth] = field(default_factory=dict)
    host_samples: list[HostSamples] = field(default_factory=list)
    #: By host.
    unit_samples: dict[str, list[UnitSamples]] = field(default_factory=dict)
    #: By host: the limits that were hit there.
    limits: dict[str, dict[str, Any]] = field(default_factory=dict)
    #: Offsets of the hosts' clocks: ``client``, ``start`` and ``end``.
    clocks: dict[str, Any] = field(default_factory=dict)
    profile: profile.Entries = field(default_factory=dict)
    #: By worker: how often py-spy saw each stack, outermost function first.
    worker_stacks: dict[str, dict[tuple[str, ...], int]] = field(default_factory=dict)
    profile_cost: dict[str, Any] = field(default_factory=dict)
    screenshots: dict[str, bytes] = field(default_factory=dict)
    #: What was done to the cluster meanwhile.
    injected: list[Injected] = field(default_factory=list)
    #: The first :data:`FAULTS_SHOWN` tasks that did not end well.
    faults: list[dict[str, str]] = field(default_factory=list)
    #: What the folder lacks, one sentence each.
    missing: list[str] = field(default_factory=list)

    @property
    def name(self) -> str:
        """The folder's name: the time of the start and the run's name."""
        return self.folder.name

    @property
    def headline(self) -> str:
        """The verdict in one sentence."""
        return summary.headline(self.record) if self.recorded else "This run has no record."

    @property
    def good(self) -> bool:
        """Whether the run came to its end and nothing is wrong."""
        return self.recorded and not self.record.problems and self.record.state == record.COMPLETE

    def environment(self, name: str) -> dict[str, Any]:
        """Return a section of the record's environment, an empty one where there is none."""
        return as_dict(self.record.environment.get(name))

    def section(self, name: str) -> dict[str, Any]:
        """Return a section of ``run.json`` as it stands, an empty one where there is none."""
        return as_dict(self.data.get(name))

    def entries(self, name: str) -> dict[str, dict[str, Any]]:
        """Return a section of ``run.json`` whose entries are dictionaries, such as ``by_queue``."""
        return {key: as_dict(entry) for key, entry in self.section(name).items()}

    @property
    def result_store(self) -> dict[str, Any]:
        """What the result store said of itself."""
        return self.section("result_store")

    def elapsed(self, times: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return Unix seconds as seconds since the run's start."""
        return times - (self.start or 0.0)


def read(folder: Path) -> Run:
    """Read a run's folder; raise ``TaskmillError`` when it is not one.

    Files that are missing or broken are left out and named in ``missing``.
    """
    if not (folder / "plan.json").exists() and not (folder / "run.json").exists():
        raise TaskmillError(f"{folder} is no run folder: it has neither plan.json nor run.json")
    data = record.load(folder)
    run = Run(folder, RunRecord.of(data or {}), data or {}, data is not None)
    if data is None:
        run.missing.append(
            "run.json: the run was not recorded to its end; `taskmill collect` of this folder fetches the "
            "results by the ids on disk and records it"
        )
    elif (schema := as_number(data.get("schema")) or 0) != record.SCHEMA:
        run.missing.append(
            f"run.json: it has schema {schema}, and this taskmill reads schema {record.SCHEMA}; what it does not know "
            "is left out"
        )
    run.start = start_time(run)
    run.seconds = as_number(run.record.seconds.total) or 0.0
    add_timings(run)
    add_queue_depths(run)
    add_hosts(run)
    add_injected(run)
    add_profiles(run)
    add_faults(run)
    add_screenshots(run)
    return run


def start_time(run: Run) -> float | None:
    """Return when the run started: to the microsecond by ``post.json``, else to the second by the record."""
    moment = Moment.load((run_folder.read_json(run.folder / "post.json") or {}).get("started"))
    try:
        recorded = datetime.fromisoformat(run.record.started_at.replace("Z", "+00:00")).timestamp()
    except ValueError:
        return moment.wall if moment else None
    return moment.wall if moment and abs(moment.wall - recorded) < 2 else recorded


def read_file(run: Run, name: str, lacking: str, broken: str, reader: Callable[[Path], Value]) -> Value | None:
    """Return what ``reader`` returns of one file of the run.

    Where there is no such file or it cannot be read, ``lacking`` or ``broken`` is added to ``run.missing``, and
    ``None`` is returned.
    """
    path = run.folder / name
    if not path.exists():
        run.missing.append(f"{name}: {lacking}")
        return None
    try:
        return reader(path)
    except (OSError, ValueError, TypeError, KeyError, IndexError, AttributeError, EOFError):
        run.missing.append(f"{name}: {broken}")
        return None


def add_timings(run: Run) -> None:
    """Read the moments of every task."""
    run.timings = read_file(
        run,
        "tasks.npz",
        "the times of the tasks were not recorded, so posting and finishing over time, and the time in queues, are not "
        "shown",
        "the times of the tasks cannot be read",
        lambda _: task_timings.load(run.folder),
    )
    if run.timings is None or not len(run.timings.posted):
        return
    if run.start is None:
        run.start = float(run.timings.posted.min())
    if not run.seconds:
        # The run was not recorded to its end; its tasks tell how long it lasted.
        last = np.nanmax(np.concatenate((run.timings.posted, run.timings.done)))
        run.seconds = max(0.0, float(last) - run.start)


def add_queue_depths(run: Run) -> None:
    """Read the queues' depths, the run's queues first and in its order, so that their colours stay."""
    reader = run_folder.read_queue_depths
    samples = read_file(run, "queues.csv", "no depths of the queues were sampled", "it cannot be read", reader) or {}
    if not samples and (run.folder / "queues.csv").exists():
        run.missing.append("queues.csv: it has no samples")
    order = run.record.workload.queues
    for queue in sorted(samples, key=lambda name: (order.index(name) if name in order else len(order), name)):
        times, ready, consumers = (np.array(column, float) for column in zip(*samples[queue], strict=True))
        run.queue_depths[queue] = QueueDepth(times, ready, consumers)


def add_hosts(run: Run) -> None:
    """Read what was sampled on the hosts, on the client's clock and cut to the run."""
    run.clocks = run_folder.read_json(run.folder / "hosts" / "clocks.json") or {}
    names = {
        path.name.removesuffix(next(suffix for suffix in HOST_FILE_SUFFIXES if path.name.endswith(suffix)))
        for path in (run.folder / "hosts").glob("*")
        if path.name.endswith(HOST_FILE_SUFFIXES)
    } - {"clocks"}
    if not names:
        run.missing.append("hosts/: no samples of the hosts' CPUs")
    elif not run.clocks:
        run.missing.append(
            "hosts/clocks.json: the clocks of the hosts were not compared; their samples are as they came"
        )
    for name in sorted(names):
        add_host(run, name)


def add_host(run: Run, name: str) -> None:
    """Read the three files of one host: samples of its cores, samples of its units, limits that were hit."""
    host = read_file(
        run, f"hosts/{name}.json", "no samples of the cores", "it is not what `sadf -j` prints", host_samples.read
    )
    if host is not None:
        add_host_samples(run, host)
    recorded = as_number(as_dict(run.environment("hosts").get(name)).get("cores"))
    cores = recorded or (len(host.cores) if host else 0)
    units = read_file(
        run,
        f"hosts/{name}.units.csv",
        "what each service used was not sampled",
        "it cannot be read",
        partial(unit_samples.read, cores=int(cores) or 1),
    )
    if units:
        run.unit_samples[name] = [replace(unit, times=on_client_clock(run, name, unit.times)) for unit in units]
    limits = read_file(
        run,
        f"hosts/{name}.limits.json",
        "limits that were hit there are not known",
        "it cannot be read",
        run_folder.read_json,
    )
    if limits is not None:
        run.limits[name] = limits


def add_host_samples(run: Run, host: HostSamples) -> None:
    """Add a host's samples from the time of the run, on the client's clock."""
    host = replace(host, times=on_client_clock(run, host.name, host.times))
    if run.start is not None and run.seconds:
        host = host.between(run.start, run.start + run.seconds + 1)
    if len(host.times):
        run.host_samples.append(host)
    else:
        run.missing.append(f"hosts/{host.name}.json: no samples from the time of the run")


def on_client_clock(run: Run, host: str, times: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return Unix seconds of a host's clock as those of the client's.

    The offsets between the clocks were measured at the start and at the end of the run; in between they are
    interpolated.
    """
    offsets = [as_number(as_dict(as_dict(run.clocks.get(at)).get(host)).get("offset_s")) for at in ("start", "end")]
    known = [offset for offset in offsets if offset is not None]
    if not known or not len(times):
        return times
    start = run.start if run.start is not None else float(times[0])
    return times - np.interp(times - known[0], [start, start + max(run.seconds, 1e-3)], [known[0], known[-1]])


def add_injected(run: Run) -> None:
    """Read what came of the faults of the scenario, and of which of them nothing is noted."""
    planned = as_list(as_dict(run_folder.read_json(run.folder / "plan.json")).get("faults"))
    path = run.folder / "injected.json"
    came = (read_file(run, path.name, "", "it cannot be read", read_list) or []) if path.exists() else planned
    run.injected = [injected(run, as_dict(fault), "" if path.exists() else NOT_INJECTED) for fault in came]


def read_list(path: Path) -> list[Any]:
    """Read a file with a JSON list; raise ``ValueError`` for another."""
    found = json.loads(path.read_text(encoding="utf-8"))
    if not isinstance(found, list):
        raise ValueError(f"{path} holds no list")  # noqa: TRY004  # of the file's content
    return found


def injected(run: Run, fault: dict[str, Any], failed: str) -> Injected:
    """Return what came of one fault: when it began on the first of its hosts, and was over on the last."""
    times: dict[str, list[float]] = {"began": [], "over": []}
    for host, said in as_dict(fault.get("times")).items():
        for key, known in times.items():
            if (time := unix_seconds(as_dict(said).get(key))) is not None and run.start is not None:
                known.append(float(run.elapsed(on_client_clock(run, host, np.array([time])))[0]))
    name = str(fault.get("fault", ""))
    return Injected(
        name,
        str(fault.get("title") or name),
        as_number(fault.get("at")) or 0.0,
        [str(host) for host in as_list(fault.get("hosts"))],
        min(times["began"], default=None),
        max(times["over"], default=None),
        str(fault.get("failed") or failed),
    )


def unix_seconds(text: Any) -> float | None:
    """Return what ``date`` printed as a number, ``None`` in place of anything else."""
    try:
        return as_number(float(text))
    except (TypeError, ValueError):
        return None


def add_profiles(run: Run) -> None:
    """Read the client's cProfile, what it cost, and the stacks that py-spy saw in the workers."""
    run.profile_cost = run_folder.read_json(run.folder / "profile-cost.json") or {}
    lacking = "the client was not profiled"
    run.profile = read_file(run, "profile.pstats", lacking, "it cannot be read", profile.entries) or {}
    for path in sorted((run.folder / "pyspy").glob("*.txt")):
        stacks = read_file(run, f"pyspy/{path.name}", "", "it cannot be read", read_stacks)
        if stacks:
            run.worker_stacks[path.stem] = stacks
        elif stacks is not None:
            run.missing.append(f"pyspy/{path.name}: it has no samples")


def read_stacks(path: Path) -> dict[tuple[str, ...], int]:
    """Read collapsed stacks, ``outer;inner count`` by line; broken lines are left out."""
    stacks: dict[tuple[str, ...], int] = {}
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
        stack, _, count = line.rpartition(" ")
        if stack and count.isdecimal():
            functions = tuple(stack.split(";"))
            stacks[functions] = stacks.get(functions, 0) + int(count)
    return stacks


def add_faults(run: Run) -> None:
    """Read the first tasks that did not end well."""
    faults = read_file(
        run,
        "faults.jsonl",
        "the results were not collected to their end",
        "it cannot be read",
        lambda path: list(run_folder.read_faults(path, FAULTS_SHOWN)),
    )
    run.faults = [
        {name: str(fault.get(name, "")) for name in ("outcome", "kind", "queue", "id", "detail")}
        for fault in faults or []
    ]


def add_screenshots(run: Run) -> None:
    """Read the pictures that are not too large for a page."""
    for path in sorted((run.folder / "screenshots").glob("*.png")):
        image = path.read_bytes()
        if len(image) <= LARGEST_IMAGE:
            run.screenshots[path.stem] = image
        else:
            run.missing.append(f"screenshots/{path.name}: too large to be part of this page")
