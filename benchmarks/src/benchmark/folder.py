"""The folder of a benchmark: what is to be measured, what was measured, and what is left.

A folder holds ``benchmark.json`` and one file for each measurement, ``measured/ROUND/WORKLOAD/SUBJECT.json``.
``benchmark.json`` holds:

* ``rounds``; ``command`` (runs the benchmark again); ``environment`` (text by name).
* ``subjects``, in the order in which they take turns: ``name``, ``title``, ``role`` (one of :data:`ROLES`),
  ``settings`` (text by name), and where they differ from the other subjects ``rounds``, ``workloads`` (names) and
  ``share`` (of a workload's tasks, by its name). The playbook alone reads ``how``.
* ``workloads``: ``name``, ``n`` and ``tasks``, and ``rounds`` where there are fewer.

A measurement holds ``tasks``, of which ``correct``, ``wrong`` and ``lost``; ``post_s`` and ``total_s``, seconds since
the first message; ``cpu_s``, CPU seconds by part; and, where they were measured, ``function_s`` (CPU seconds of the
function alone per task), ``memory_bytes`` (the client's most), ``fetch_s`` (fetching results that are all there) and
``after_last_s`` (from the last task's end to the last result). Or ``failed``: why there is no measurement.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

from taskmill.model.errors import TaskmillError
from taskmill.model.run_folder import read_json

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

NAME = "benchmark.json"
MEASURED = "measured"

#: What a subject is to the figures: taskmill; taskmill on the fastest interpreter; the article's stack; another task
#: queue; a bare multiprocessing pool; bare py-amqp, which publishes as fast as the broker allows.
OURS, FASTEST, ARTICLE, OTHER_QUEUE, POOL, CEILING = ROLES = (
    "ours",
    "fastest",
    "article",
    "other queue",
    "pool",
    "ceiling",
)
#: What folders of earlier revisions call their subjects, and two of the roles.
OLD_SUBJECTS = "contenders"
OLD_ROLES = {"post": ARTICLE, "peer": OTHER_QUEUE}
#: Workloads that figures are about.
TINY, MIDDLING, HEAVY = "tiny", "middling", "heavy"
POSTING = {processes: f"posting-{processes}" for processes in (1, 2, 3)}
SMALLER, LARGER = "growth-100000", "growth-1000000"
SIZES = {SMALLER: 100_000, LARGER: 1_000_000}
#: Parts of a task queue; the CPU per task is that of all of them.
PARTS = ("client", "broker", "workers", "results")


@dataclass(frozen=True)
class Subject:
    """One way to do the work."""

    name: str
    title: str
    role: str
    settings: dict[str, str]
    rounds: int | None = None
    workloads: list[str] | None = None
    share: dict[str, float] = field(default_factory=dict)
    how: dict[str, Any] = field(default_factory=dict)

    def size(self, workload: Workload) -> int:
        """Return how many tasks of a workload it gets."""
        return max(1, round(workload.tasks * self.share.get(workload.name, 1)))


@dataclass(frozen=True)
class Workload:
    """So many tasks, each of which computes the ``n``-th Fibonacci number."""

    name: str
    n: int
    tasks: int
    rounds: int | None = None
    #: The right result.
    expect: int | None = None


@dataclass(frozen=True)
class Measurement:
    """One measurement that is to be made; ``file`` is its path below the folder."""

    round: int
    workload: str
    subject: str
    n: int
    tasks: int
    expect: int | None
    file: str


@dataclass(frozen=True)
class Measurements:
    """All measurements of one subject at one workload, one for each round, and why others failed."""

    measured: list[dict[str, Any]] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)

    def over(self, figure: Callable[[dict[str, Any]], float | None]) -> list[float]:
        """Return a figure of each measurement that has it."""
        return [value for one in self.measured if (value := figure(one)) is not None]

    def count(self, key: str) -> int:
        """Return a count over all rounds."""
        return sum(one[key] for one in self.measured)

    @property
    def whole(self) -> bool:
        """Whether every round ended with every result correct."""
        return bool(self.measured) and not self.failures and not self.count("wrong") and not self.count("lost")


@dataclass(frozen=True)
class Benchmark:
    """The content of a folder."""

    rounds: int
    command: str
    environment: dict[str, str]
    subjects: list[Subject]
    workloads: list[Workload]
    #: By names of workload and subject.
    measurements: dict[tuple[str, str], Measurements]

    def of(self, role: str) -> list[Subject]:
        """Return the subjects of a role."""
        return [subject for subject in self.subjects if subject.role == role]

    def measured(self, role: str, workload: str) -> Measurements:
        """Return the measurements of the only subject of a role; none where there is no such subject."""
        names = [subject.name for subject in self.of(role)]
        return self.measurements.get((workload, names[0]), Measurements()) if names else Measurements()


def read(folder: Path) -> Benchmark:
    """Return the content of a folder.

    Raises:
        TaskmillError: The folder holds no benchmark, or measurements that cannot be compared.

    """
    data = read_json(folder / NAME)
    if data is None:
        raise TaskmillError(f"{folder} holds no {NAME}: give the folder that benchmarks/task-queues.yml named")
    try:
        benchmark = Benchmark(
            int(data["rounds"]),
            data["command"],
            data["environment"],
            subjects_of(data),
            [Workload(**entry) for entry in data["workloads"]],
            {},
        )
    except (KeyError, TypeError) as error:
        raise TaskmillError(f"{folder / NAME} cannot be read: {error}. benchmarks/task-queues.yml writes it") from error
    strange = {subject.role for subject in benchmark.subjects} - set(ROLES)
    if strange:
        raise TaskmillError(
            f"{folder / NAME}: no such role: {', '.join(sorted(strange))}; there are {', '.join(ROLES)}"
        )
    for workload in benchmark.workloads:
        if workload.tasks != SIZES.get(workload.name, workload.tasks):
            raise TaskmillError(
                f"{folder / NAME}: {workload.name} has {workload.tasks:,} tasks; another size needs another name"
            )
    for measurement in planned(benchmark):
        key = (measurement.workload, measurement.subject)
        measurements = benchmark.measurements.setdefault(key, Measurements())
        data = read_json(folder / measurement.file)
        if data is None:
            continue
        if "failed" in data:
            measurements.failures.append(" ".join(str(data["failed"]).split()))
            continue
        check(data, measurement, folder)
        measurements.measured.append(data)
    return benchmark


def subjects_of(data: dict[str, Any]) -> list[Subject]:
    """Return the subjects in the content of a ``benchmark.json``, of an earlier revision too."""
    entries = data["subjects"] if "subjects" in data else data[OLD_SUBJECTS]
    return [Subject(**entry | {"role": OLD_ROLES.get(entry["role"], entry["role"])}) for entry in entries]


def check(data: dict[str, Any], measurement: Measurement, folder: Path) -> None:
    """Raise ``TaskmillError`` for a measurement of another size, or one whose counts leave tasks out."""
    path = folder / measurement.file
    if data["tasks"] != measurement.tasks:
        raise TaskmillError(
            f"{path} was measured with {data['tasks']:,} tasks, not {measurement.tasks:,}: take a new folder"
        )
    if data["correct"] + data["wrong"] + data["lost"] != data["tasks"]:
        raise TaskmillError(f"{path}: correct, wrong and lost do not make up its {data['tasks']:,} tasks: remove it")


def planned(benchmark: Benchmark) -> list[Measurement]:
    """Return all measurements in their order, by round, workload and subject; rounds begin with different subjects."""
    measurements = []
    for place in range(benchmark.rounds):
        first = place % max(1, len(benchmark.subjects))
        for workload in benchmark.workloads:
            for subject in benchmark.subjects[first:] + benchmark.subjects[:first]:
                rounds = min(most for most in (benchmark.rounds, subject.rounds, workload.rounds) if most is not None)
                if place < rounds and (subject.workloads is None or workload.name in subject.workloads):
                    file = f"{MEASURED}/{place + 1}/{workload.name}/{subject.name}.json"
                    measurements.append(
                        Measurement(
                            place + 1,
                            workload.name,
                            subject.name,
                            workload.n,
                            subject.size(workload),
                            workload.expect,
                            file,
                        )
                    )
    return measurements


def left(folder: Path) -> list[dict[str, Any]]:
    """Return the measurements that are left, in their order; one that failed is not made again."""
    return [asdict(one) for one in planned(read(folder)) if read_json(folder / one.file) is None]
