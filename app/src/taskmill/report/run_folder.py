"""Read a run's folder into plain data. Nothing here draws, and nothing here fails because a file is broken."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from datetime import datetime
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from taskmill.model import plan, record, run_folder, summary
from taskmill.model.clock import Moment
from taskmill.model.errors import TaskmillError
from taskmill.samples import host_samples as hosts
from taskmill.samples import profile
from taskmill.samples import task_timings as timings
from taskmill.samples import unit_samples as units

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from taskmill.model.arrays import Floats
    from taskmill.samples.host_samples import Host
    from taskmill.samples.task_timings import Timings
    from taskmill.samples.unit_samples import Unit

#: Faults that the report lists; all of them are in faults.jsonl.
FAULTS_SHOWN = 50
#: Bytes of a screenshot that the report takes in; a larger one stays beside it.
LARGEST_IMAGE = 1_000_000

COUNTS = ("posted", "confirmed", "distinct", "retrieved", "correct", "wrong", "failed", "lost", "duplicates")
SECTIONS: dict[str, dict[str, Any]] = {
    "workload": {
        "task": "",
        "tasks": 0,
        "n": None,
        "queues": [],
        "args": [],
        "threads": 0,
        "processes": 0,
        "rate": None,
    },
    "counts": dict.fromkeys(COUNTS, 0),
    "seconds": {"post": 0.0, "collect": 0.0, "total": 0.0},
    "rates": {"posted_per_s": 0.0, "completed_per_s": 0.0},
    "client": {},
    "environment": {},
    "memcached": {},
    "by_queue": {},
    "by_worker": {},
    "latency": {},
    "clocks": {},
    "task_seconds": {},
}
PLAIN: dict[str, Any] = {
    "schema": 0,
    "parked": 0,
    "name": "",
    "started_at": "",
    "stack": "",
    "efficiency": None,
    "state": record.STOPPED,
    "duplicates_from": "",
    "checked": True,
    "workers": [],
    "problems": [],
    "requirements": [],
}

#: What every entry of these lists has.
ENTRIES: dict[str, dict[str, Any]] = {
    "workers": {"name": "", "pool": "", "pool_size": None, "prefetch": None, "queues": [], "software": ""},
    "requirements": {"text": "", "metric": "", "value": None, "met": False},
}

#: What a host leaves is named after it; its name may have dots of its own.
SUFFIXES = (".units.csv", ".limits.json", ".json")

Value = TypeVar("Value")


@dataclass(frozen=True)
class Depth:
    """One queue's samples: Unix seconds, messages that wait, and consumers."""

    times: Floats
    ready: Floats
    consumers: Floats


@dataclass
class Run:
    """A run's folder as plain data. Times are Unix seconds of the client's clock."""

    folder: Path
    #: ``run.json`` with every section in it; ``recorded`` says whether there was one.
    data: dict[str, Any]
    recorded: bool
    start: float | None
    #: From the first post to the last result.
    seconds: float = 0.0
    timings: Timings | None = None
    depths: dict[str, Depth] = field(default_factory=dict)
    hosts: list[Host] = field(default_factory=list)
    units: dict[str, list[Unit]] = field(default_factory=dict)
    limits: dict[str, dict[str, Any]] = field(default_factory=dict)
    #: Offsets of the hosts' clocks: ``client``, ``start`` and ``end``.
    clocks: dict[str, Any] = field(default_factory=dict)
    profile: profile.Entries = field(default_factory=dict)
    #: By worker: how often py-spy saw each stack, outermost function first.
    stacks: dict[str, dict[tuple[str, ...], int]] = field(default_factory=dict)
    cost: dict[str, Any] = field(default_factory=dict)
    screenshots: dict[str, bytes] = field(default_factory=dict)
    faults: list[dict[str, str]] = field(default_factory=list)
    #: What the folder lacks, one sentence each.
    missing: list[str] = field(default_factory=list)

    @property
    def name(self) -> str:
        """The run's name and the moment it began."""
        return self.folder.name

    @property
    def headline(self) -> str:
        """The verdict in one sentence."""
        return summary.headline(record.RunRecord.of(self.data)) if self.recorded else "This run has no record."

    @property
    def good(self) -> bool:
        """Whether the run came to its end and nothing is wrong."""
        return self.recorded and not self.data["problems"] and self.data["state"] == record.COMPLETE

    def environment(self, name: str) -> dict[str, Any]:
        """Return one of the environment's sections, empty where there is none."""
        return as_dict(self.data["environment"].get(name))

    def since(self, times: Floats) -> Floats:
        """Return Unix seconds as seconds since the run's start."""
        return times - (self.start or 0.0)


def read(folder: Path) -> Run:
    """Read the folder; raise ``TaskmillError`` when it is none of a run.

    What is missing or broken is left out, and named in ``missing``.
    """
    if not (folder / "plan.json").exists() and not (folder / "run.json").exists():
        raise TaskmillError(f"{folder} is no run folder: it has neither plan.json nor run.json")
    data = record.load(folder)
    run = Run(folder, whole(data or {}), data is not None, None)
    if data is None:
        run.missing.append(
            "run.json: the run was not recorded to its end; `taskmill collect` of this folder fetches the "
            "results by the ids on disk and records it"
        )
    elif run.data["schema"] != plan.SCHEMA:
        run.missing.append(
            f"run.json: it has schema {run.data['schema']}, and this taskmill reads schema {plan.SCHEMA}; what it "
            f"does not know is left out"
        )
    run.start = began(run)
    run.seconds = as_number(run.data["seconds"]["total"]) or 0.0
    read_timings(run)
    read_depths(run)
    read_hosts(run)
    read_profiles(run)
    read_faults(run)
    run.cost = run_folder.read_json(folder / "profile-cost.json") or {}
    for path in sorted((folder / "screenshots").glob("*.png")):
        image = path.read_bytes()
        if len(image) <= LARGEST_IMAGE:
            run.screenshots[path.stem] = image
        else:
            run.missing.append(f"screenshots/{path.name}: too large to be part of this page")
    return run


def whole(data: dict[str, Any]) -> dict[str, Any]:
    """Return a record with every key that the report reads, so that one cut down by hand still makes a page."""
    complete = {name: like(default, data.get(name)) for name, default in PLAIN.items()}
    for name, defaults in SECTIONS.items():
        given = as_dict(data.get(name))
        complete[name] = given | {key: like(default, given.get(key)) for key, default in defaults.items()}
    for name in ("by_queue", "by_worker"):
        complete[name] = {key: as_dict(value) for key, value in complete[name].items()}
    for name, defaults in ENTRIES.items():
        complete[name] = [
            {key: like(default, entry.get(key)) for key, default in defaults.items()}
            for entry in complete[name]
            if isinstance(entry, dict)
        ]
    complete["efficiency"] = as_number(complete["efficiency"])
    return data | complete


def like(default: Any, value: Any) -> Any:
    """Return the value where it is of the default's kind, else the default."""
    if default is None:
        return value
    if isinstance(default, (int, float)) and not isinstance(default, bool):
        return default if as_number(value) is None else value
    return value if isinstance(value, type(default)) else default


def as_dict(value: Any) -> dict[str, Any]:
    """Return a dictionary, an empty one in place of anything else."""
    return value if isinstance(value, dict) else {}


def as_list(value: Any) -> list[Any]:
    """Return a list, an empty one in place of anything else."""
    return value if isinstance(value, list) else []


def as_number(value: Any) -> float | None:
    """Return a finite number, ``None`` in place of anything else."""
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not np.isfinite(value):
        return None
    return value


def began(run: Run) -> float | None:
    """Return when the run began: to the microsecond by ``post.json``, else to the second by the record."""
    moment = Moment.load((run_folder.read_json(run.folder / "post.json") or {}).get("started"))
    try:
        recorded = datetime.fromisoformat(str(run.data["started_at"]).replace("Z", "+00:00")).timestamp()
    except ValueError:
        return moment.wall if moment else None
    return moment.wall if moment and abs(moment.wall - recorded) < 2 else recorded


def attempt(run: Run, name: str, lacking: str, broken: str, read_it: Callable[[Path], Value]) -> Value | None:
    """Read one file of the run; where that fails, note why and return ``None``."""
    path = run.folder / name
    if not path.exists():
        run.missing.append(f"{name}: {lacking}")
        return None
    try:
        return read_it(path)
    except (OSError, ValueError, TypeError, KeyError, IndexError, AttributeError, EOFError):
        run.missing.append(f"{name}: {broken}")
        return None


def read_timings(run: Run) -> None:
    """Read the moments of every task."""
    run.timings = attempt(
        run,
        "tasks.npz",
        "the times of the tasks were not recorded, so posting and finishing over time, and the time in queues, are not "
        "shown",
        "the times of the tasks cannot be read",
        lambda _: timings.load(run.folder),
    )
    if run.timings is None or not len(run.timings.posted):
        return
    if run.start is None:
        run.start = float(run.timings.posted.min())
    if not run.seconds:
        # The run was not recorded to its end: what its tasks say of it.
        last = np.nanmax(np.concatenate((run.timings.posted, run.timings.done)))
        run.seconds = max(0.0, float(last) - run.start)


def read_depths(run: Run) -> None:
    """Read the queues' depths, the run's queues first and in its order, so that colours stay."""
    lacking = "no depths of the queues were sampled"
    series = attempt(run, "queues.csv", lacking, "it cannot be read", run_folder.read_queue_depths) or {}
    if not series and (run.folder / "queues.csv").exists():
        run.missing.append("queues.csv: it has no samples")
    order = [str(queue) for queue in run.data["workload"]["queues"]]
    for queue in sorted(series, key=lambda name: (order.index(name) if name in order else len(order), name)):
        times, ready, consumers = (np.array(column, float) for column in zip(*series[queue], strict=True))
        run.depths[queue] = Depth(times, ready, consumers)


def read_hosts(run: Run) -> None:
    """Read what was sampled on the hosts, on the client's clock and cut to the run."""
    run.clocks = run_folder.read_json(run.folder / "hosts" / "clocks.json") or {}
    known = run.environment("hosts")
    names = {
        path.name.removesuffix(next(suffix for suffix in SUFFIXES if path.name.endswith(suffix)))
        for path in (run.folder / "hosts").glob("*")
        if path.name.endswith(SUFFIXES)
    } - {"clocks"}
    if not names:
        run.missing.append("hosts/: no samples of the hosts' CPUs")
    elif not run.clocks:
        run.missing.append(
            "hosts/clocks.json: the clocks of the hosts were not compared; their samples are as they came"
        )
    for name in sorted(names):
        host = attempt(
            run, f"hosts/{name}.json", "no samples of the cores", "it is not what `sadf -j` prints", hosts.read
        )
        if host is not None:
            read_cores(run, host)
        cores = as_number(as_dict(known.get(name)).get("cores")) or (len(host.cores) if host else 0)
        found = attempt(
            run,
            f"hosts/{name}.units.csv",
            "what each service used was not sampled",
            "it cannot be read",
            partial(units.read, cores=int(cores) or 1),
        )
        if found:
            run.units[name] = [
                units.Unit(unit.name, corrected(run, name, unit.times), unit.cpu, unit.memory) for unit in found
            ]
        limits = attempt(
            run,
            f"hosts/{name}.limits.json",
            "limits that were hit there are not known",
            "it cannot be read",
            run_folder.read_json,
        )
        if limits is not None:
            run.limits[name] = limits


def read_cores(run: Run, host: Host) -> None:
    """Take a host's samples in, on the client's clock."""
    host = replace(host, times=corrected(run, host.name, host.times))
    if run.start is not None and run.seconds:
        host = host.between(run.start, run.start + run.seconds + 1)
    if len(host.times):
        run.hosts.append(host)
    else:
        run.missing.append(f"hosts/{host.name}.json: no samples from the time of the run")


def corrected(run: Run, host: str, times: Floats) -> Floats:
    """Return a host's Unix seconds as the client's: less the offset, in a line from the run's start to its end."""
    offsets = [as_number(as_dict(as_dict(run.clocks.get(at)).get(host)).get("offset_s")) for at in ("start", "end")]
    known = [offset for offset in offsets if offset is not None]
    if not known or not len(times):
        return times
    start = run.start if run.start is not None else float(times[0])
    return times - np.interp(times - known[0], [start, start + max(run.seconds, 1e-3)], [known[0], known[-1]])


def read_profiles(run: Run) -> None:
    """Read the client's cProfile, and what py-spy saw of the workers."""
    lacking = "the client was not profiled"
    run.profile = attempt(run, "profile.pstats", lacking, "it cannot be read", profile.entries) or {}
    for path in sorted((run.folder / "pyspy").glob("*.txt")):
        stacks = attempt(run, f"pyspy/{path.name}", "", "it cannot be read", collapsed)
        if stacks:
            run.stacks[path.stem] = stacks
        elif stacks is not None:
            run.missing.append(f"pyspy/{path.name}: it has no samples")


def collapsed(path: Path) -> dict[tuple[str, ...], int]:
    """Read collapsed stacks, ``outer;inner count`` by line; broken lines are left out."""
    stacks: dict[tuple[str, ...], int] = {}
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
        stack, _, seen = line.rpartition(" ")
        if stack and seen.isdecimal():
            key = tuple(stack.split(";"))
            stacks[key] = stacks.get(key, 0) + int(seen)
    return stacks


def read_faults(run: Run) -> None:
    """Read the first faults."""
    found = attempt(
        run,
        "faults.jsonl",
        "the results were not collected to their end",
        "it cannot be read",
        lambda path: list(run_folder.read_faults(path, FAULTS_SHOWN)),
    )
    run.faults = [
        {name: str(fault.get(name, "")) for name in ("outcome", "queue", "id", "detail")} for fault in found or []
    ]


def mapping(value: Any) -> Mapping[str, list[str]]:
    """Return the units' patterns by part; what is not of that shape is left out."""
    return {
        str(part): [str(pattern) for pattern in patterns]
        for part, patterns in as_dict(value).items()
        if isinstance(patterns, list)
    }
