"""The record of a run: ``run.json``, which everything after it reads. Its shape, and all reading and writing of it.

``docs/run-schema.json`` is made of these structures. A key that does not apply is absent where its type has
``UnsetType``; everything else is always written. Times are in seconds, sizes in bytes. The module is long since the
shape stands here and nowhere else.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import msgspec
from msgspec import UNSET, Meta, Struct, UnsetType, field

from taskmill.model.run_folder import read_json, write_json
from taskmill.model.tolerant import read

if TYPE_CHECKING:
    from pathlib import Path

SCHEMA = 1
NAME = "run.json"
COMPLETE = "complete"
POSTED = "posted"
STOPPED = "interrupted"
FAILED = "posting failed"
STOPPED_AS_FAILED = "stopped as failed"
#: Names of the percentiles in a summary of latencies, and which they are.
QUANTILES = {"p50": 0.5, "p90": 0.9, "p99": 0.99, "p99_9": 0.999}


class Workload(Struct):
    """What was published; ``n`` is the only argument where that is one whole number, ``rate`` the tasks per second.

    ``scenario`` is the name of the file that says what was published, in the run's folder ``scenario``.
    """

    task: str = ""
    tasks: int = 0
    n: int | None = None
    queues: list[str] = []
    threads: int = 0
    processes: int = 0
    args: list[Any] = []
    rate: float | None = None
    scenario: str | UnsetType = UNSET


class Counts(Struct):
    """How many tasks.

    ``posted`` are messages that the broker has, or may have; ``confirmed`` those it confirmed; ``retrieved`` the final
    results fetched. ``acknowledged`` are tasks that store no result and are done; no value of theirs was compared.
    """

    posted: int = 0
    confirmed: int = 0
    distinct: int = 0
    retrieved: int = 0
    correct: int = 0
    wrong: int = 0
    failed: int = 0
    lost: int = 0
    duplicates: int = 0
    acknowledged: int | UnsetType = UNSET

    @property
    def done(self) -> int:
        """Tasks that came to their end, as far as is known: by their result, or by their acknowledgement."""
        return self.retrieved + (self.acknowledged or 0)


class Seconds(Struct):
    """How long publishing and collecting took, and all of it from the first message to the last result."""

    post: float = 0.0
    collect: float = 0.0
    total: float = 0.0


class Rates(Struct):
    """Messages confirmed, and tasks whose result was fetched, per second."""

    posted_per_s: float = 0.0
    completed_per_s: float = 0.0


class Client(Struct):
    """What the client used and met: ``late_s`` is the most that a message was late, ``between_seconds`` the time from
    publishing to a later ``taskmill collect``, ``after_last_s`` that from the last task's end to the end of collecting.
    """

    peak_memory_bytes: int = 0
    cpu_seconds: float = 0.0
    lean: bool = True
    persistent: bool = True
    republished: int = 0
    nacked: int = 0
    reconnects: int = 0
    blocked_seconds: float = 0.0
    late_s: float = 0.0
    between_seconds: float = 0.0
    unsent: int = 0
    after_last_s: float | None = None


class Worker(Struct):
    """What a worker said of itself; ``executed`` counts its executions of each task since it started."""

    name: str = ""
    pid: int = 0
    pool: str = ""
    pool_size: int = 0
    prefetch: int = 0
    uptime: int = 0
    software: str = ""
    queues: list[str] = []
    executed: dict[str, int] = {}


class Memcached(Struct):
    """What memcached said of itself; ``evicted_during_run`` is ``null`` where that is not known."""

    limit_bytes: int | UnsetType = UNSET
    used_bytes: int | UnsetType = UNSET
    items: int | UnsetType = UNSET
    evictions: int | UnsetType = UNSET
    version: str | UnsetType = UNSET
    growth_factor: float | UnsetType = UNSET
    evicted_during_run: int | None = None


class ResultStore(Memcached):
    """Where the results were fetched from, and what it said of itself.

    ``kind`` is ``memcached``, ``redis``, another scheme of Celery's ``result_backend``, or ``none`` where the tasks
    store nothing.
    """

    kind: str = "memcached"


class Spread(Struct):
    """Count, mean, percentiles and maximum of a latency; empty where no task has times."""

    count: int | UnsetType = UNSET
    mean: float | UnsetType = UNSET
    p50: float | UnsetType = UNSET
    p90: float | UnsetType = UNSET
    p99: float | UnsetType = UNSET
    p99_9: float | UnsetType = UNSET
    max: float | UnsetType = UNSET


class Latency(Struct):
    """Seconds in the queue, in execution and of both, counted ``from`` when a task was ``due`` or ``posted``."""

    queue: Spread | UnsetType = UNSET
    execution: Spread | UnsetType = UNSET
    latency: Spread | UnsetType = UNSET
    counted_from: str | UnsetType = field(default=UNSET, name="from")


class Outcomes(Struct):
    """What came of some of the tasks; wall and CPU seconds that their functions ran, and their latency, where known."""

    posted: int = 0
    correct: int = 0
    wrong: int = 0
    failed: int = 0
    lost: int = 0
    run_s: float | UnsetType = UNSET
    cpu_s: float | UnsetType = UNSET
    latency: Spread | UnsetType = UNSET
    acknowledged: int | UnsetType = UNSET

    def count(self, outcome: str) -> None:
        """Count one more ``correct``, ``wrong``, ``failed`` or ``lost``."""
        setattr(self, outcome, getattr(self, outcome) + 1)


class Queue(Outcomes):
    """What came of one queue's tasks; wall and CPU seconds that their functions ran, and their latency, where known."""


class Kind(Outcomes):
    """What came of one kind of a scenario; wall and CPU seconds that its tasks' functions ran, and seconds in the
    queue, in execution and of both, where known.
    """

    task: str = ""
    queue: Spread | UnsetType = UNSET
    execution: Spread | UnsetType = UNSET


class Stage(Struct):
    """A stage of the load: its planned tasks and seconds; the most that one of its messages was late, the seconds from
    its first due message to its last task's end, and those that its tasks were in the queue, where known.
    """

    text: str = ""
    tasks: int = 0
    seconds: float = 0.0
    late_s: float | UnsetType = UNSET
    caught_up_s: float | UnsetType = UNSET
    queue: Spread | UnsetType = UNSET


class WorkerTotals(Struct):
    """What one worker stored results of, and the wall and CPU seconds of these tasks' functions."""

    succeeded: int = 0
    failed: int = 0
    run_s: float = 0.0
    cpu_s: float = 0.0


class TaskSeconds(Struct):
    """Wall and CPU seconds of all tasks' functions; empty where no task has times."""

    run: float | UnsetType = UNSET
    cpu: float | UnsetType = UNSET


class Clock(Struct):
    """A worker's clock less the client's, and the most that this can be off."""

    offset_s: float = 0.0
    error_s: float = 0.0


class Clocks(Struct):
    """A worker's clock at the start and at the end of the run, as far as it was asked."""

    start: Clock | UnsetType = UNSET
    end: Clock | UnsetType = UNSET


class Repair(Struct):
    """What one ``taskmill repair`` made up for: how many were ``missing``, how many of them were published once more,
    and what came of them.
    """

    at: str = ""
    missing: int = 0
    posted: int = 0
    correct: int = 0
    wrong: int = 0
    failed: int = 0
    lost: int = 0


class Probed(Struct):
    """One task as it was tried before the run.

    ``seconds`` are those of its function, as the ``worker`` has ``measured`` them, or of the ``round trip`` from its
    message to its result. ``result_bytes`` is null where no result is stored. ``kind`` is that of a scenario.
    """

    task: str = ""
    queue: str = ""
    worker: str = ""
    seconds: float = 0.0
    measured: str = "worker"
    message_bytes: int = 0
    result_bytes: int | None = None
    kind: str = ""


class Judged(Struct):
    """A threshold, and whether the run meets it; ``note`` says why one over time is not met."""

    text: str = ""
    metric: str = ""
    value: int | float | None = None
    met: bool = False
    note: str | UnsetType = UNSET


class Watched(Struct):
    """A threshold over time: its metric's last value, null where none was known, and the ``seconds`` that it was
    watched.

    Where it stopped the publishing, ``stopped_at`` is when (UTC, ISO 8601), ``after_s`` the seconds from the first
    message until then, and ``least`` and ``most`` are the values while the condition held.
    """

    value: float | None = None
    seconds: float = 0.0
    stopped_at: str | UnsetType = UNSET
    after_s: float | UnsetType = UNSET
    least: float | UnsetType = UNSET
    most: float | UnsetType = UNSET


class RunRecord(Struct, kw_only=True, dict=True):
    """What happened in a run."""

    schema: int = SCHEMA
    name: str = ""
    started_at: Annotated[str, Meta(description="UTC, ISO 8601.")] = ""
    stack: str = ""
    workload: Workload = field(default_factory=Workload)
    counts: Annotated[
        Counts, Meta(description="After a repair those after it; seconds, rates and latency stay those of the run.")
    ] = field(default_factory=Counts)
    seconds: Seconds = field(default_factory=Seconds)
    rates: Rates = field(default_factory=Rates)
    efficiency: Annotated[
        float | None,
        Meta(
            description="Share of the workers' cores that did the tasks' own work; null when the function's time or "
            "the workers' cores were not given."
        ),
    ] = None
    environment: Annotated[
        dict[str, Any], Meta(description="Versions, settings, hosts, and what --environment adds.")
    ] = {}
    state: Annotated[
        str,
        Meta(
            description="complete; posted (and not collected yet); interrupted (publishing or collecting was stopped); "
            "stopped as failed (a threshold over time stopped the publishing); posting failed (the broker stayed away, "
            "or lacks a queue). `taskmill resume` and `collect` go on from all but the first."
        ),
    ] = STOPPED
    duplicates_from: Annotated[
        str,
        Meta(
            description="workers: duplicates are what the workers executed, by their own counts before and after, "
            "beyond one per distinct id. republished: these counts were not to be had, and duplicates are the messages "
            "sent twice because a confirm was missing; not all of them need to have been executed twice."
        ),
    ] = ""
    unstored: Annotated[list[str], Meta(description="The tasks that store no result.")] = []
    acknowledged_from: Annotated[
        str,
        Meta(
            description="workers: what is acknowledged was executed, by the workers' own counts. queues: these counts "
            "were not to be had; no queue and no worker has a message of these tasks any more. Empty where all tasks "
            "store their results."
        ),
    ] = ""
    checked: Annotated[bool, Meta(description="Whether results were compared with an expected value.")] = True
    client: Client = field(default_factory=Client)
    workers: list[Worker] = []
    memcached: Memcached = field(default_factory=Memcached)
    result_store: ResultStore = field(default_factory=ResultStore)
    by_queue: dict[str, Queue] = {}
    by_kind: Annotated[dict[str, Kind], Meta(description="By the scenario's kinds; empty without a scenario.")] = {}
    stages: Annotated[list[Stage], Meta(description="The stages of a scenario, in their order.")] = []
    waiting: Annotated[dict[str, int], Meta(description="Messages that waited in a queue at the end.")] = {}
    parked: Annotated[
        int,
        Meta(description="Of the failed tasks, those that were lost with their process too often: dead letters now."),
    ] = 0
    repaired: list[Repair] = []
    clocks: dict[str, Clocks] = {}
    clock_jumps: Annotated[
        dict[str, float], Meta(description="Seconds by which a worker's clock moved, if by more than half a second.")
    ] = {}
    latency: Latency = field(default_factory=Latency)
    by_worker: dict[str, WorkerTotals] = {}
    task_seconds: TaskSeconds = field(default_factory=TaskSeconds)
    requirements: list[Judged] = []
    watched: Annotated[
        dict[str, Watched], Meta(description="By their texts, the thresholds that were watched while publishing.")
    ] = {}
    probed: Annotated[
        list[Probed], Meta(description="One of each task, run before the first message of the run; it does not count.")
    ] = []
    problems: Annotated[list[str], Meta(description="What is wrong, in words.")] = []

    @classmethod
    def of(cls, data: dict[str, Any]) -> RunRecord:
        """Return the record that plain data hold, of this taskmill or an older one, or damaged: see ``tolerant``."""
        return read(cls, data)

    @classmethod
    def load(cls, folder: Path) -> RunRecord | None:
        """Read ``run.json`` of a run's folder; ``None`` when there is none that can be read."""
        data = load(folder)
        if data is None:
            return None
        record = cls.of(data)
        record.__dict__["folder"] = folder
        return record

    @property
    def folder(self) -> Path | None:
        """The run's folder that it was read from or written to; ``None`` for a record that never was."""
        return self.__dict__.get("folder")

    @property
    def ended_as(self) -> str:
        """What tasks that store no result were: ``executed``, by the workers' own count, or ``acknowledged``."""
        return "executed" if self.acknowledged_from == "workers" else "acknowledged"

    def plain(self) -> dict[str, Any]:
        """Return what is written, as plain data."""
        data: dict[str, Any] = msgspec.to_builtins(self)
        return data

    def save(self, folder: Path) -> None:
        """Write ``run.json`` into a run's folder."""
        write_json(folder / NAME, self.plain())
        self.__dict__["folder"] = folder

    def update(self, folder: Path) -> None:
        """Write ``run.json`` of a run's folder anew; keys in it that this taskmill does not know stay."""
        write_json(folder / NAME, merged(load(folder), self.plain()))


def merged(old: Any, new: Any) -> Any:
    """Return new plain data with the keys of the old ones that they do not have, at every depth."""
    if isinstance(old, dict) and isinstance(new, dict):
        return {key: merged(old.get(key), value) for key, value in new.items()} | {
            key: value for key, value in old.items() if key not in new
        }
    if isinstance(old, list) and isinstance(new, list):
        return [*map(merged, old, new), *new[len(old) :]]
    return new


def load(folder: Path) -> dict[str, Any] | None:
    """Return ``run.json`` as plain data; ``None`` when there is none that can be read.

    It is as it stands there, but that the only store of an older taskmill, ``memcached``, is the ``result_store``, too.
    """
    data = read_json(folder / NAME)
    if data and data.get("memcached") and not data.get("result_store"):
        data["result_store"] = data["memcached"]
    return data


def json_schema() -> dict[str, Any]:
    """Return the JSON Schema of ``run.json``."""
    return msgspec.json.schema(RunRecord)
