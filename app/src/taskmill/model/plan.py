"""What to post: written to ``plan.json`` of the run folder before the first message."""

from __future__ import annotations

import json
import math
import re
from collections import Counter
from dataclasses import asdict, dataclass, field, fields
from functools import cached_property
from typing import TYPE_CHECKING, Any

from taskmill.model.errors import TaskmillError
from taskmill.model.run_folder import read_json, write_json
from taskmill.model.stages import Stage

if TYPE_CHECKING:
    from pathlib import Path

SCHEMA = 1
#: What fields are called in ``plan.json``, where that is another name.
IN_FILE = {"routes": "kinds", "minimal_headers": "lean"}
#: Seconds without any new result, where nothing says how long a task takes.
RESULT_TIMEOUT = 120.0
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
#: Directory of a run folder with the scenario, the files with rows and the modules that it names.
SCENARIO_FILES = "scenario"


@dataclass(frozen=True)
class FaultMoment:
    """A fault that comes ``at`` so many seconds after the first message; who runs the playbook injects it."""

    fault: str
    at: float

    def __str__(self) -> str:
        """Return it in words."""
        return f"{self.fault} at {self.at:g} s"


@dataclass(frozen=True)
class Right:
    """What is right for the results of a kind of message.

    ``how`` says what ``value`` is: ``value`` (the result itself; in a kind with rows it may name a column),
    ``function`` (``MODULE:FUNCTION``, called with the task's arguments), ``fails`` (the name of the exception that is
    to end the task), or ``nothing``: only the state is looked at.
    """

    how: str = "nothing"
    value: Any = None


@dataclass(frozen=True)
class Route:
    """A kind of message: a task by its registered name, and the queue that its messages go to.

    Only a scenario sets more than that. Its kinds have a ``name``; of ``weight`` messages out of all weights' sum each
    is of this kind.
    """

    task: str
    queue: str
    name: str = ""
    weight: int = 1
    #: ``None`` for those of the plan.
    args: tuple[Any, ...] | None = field(default=None, hash=False)
    kwargs: dict[str, Any] = field(default_factory=dict, hash=False)
    #: A CSV or JSON lines file in the plan's directory; ``$column`` in ``args``, ``kwargs`` and ``right`` is its value.
    rows: str = ""
    #: ``MODULE:FUNCTION`` that makes the arguments, in place of ``args`` and ``kwargs``.
    generate: str = ""
    priority: int | None = None
    #: Seconds before which no worker runs the task.
    countdown: float = 0.0
    #: ``None`` for what the plan says.
    right: Right | None = field(default=None, hash=False)

    @classmethod
    def parse(cls, text: str) -> Route:
        """Read ``TASK=QUEUE``; raise ``ValueError`` when it has another form."""
        task, separator, queue = text.partition("=")
        if not (task and separator and queue):
            raise ValueError(f"{text!r} does not have the form TASK=QUEUE, such as shop.tasks.invoice=orders")
        if any(character.isspace() for character in queue):
            raise ValueError(f"the queue's name in {text!r} has a space in it")
        if len(queue.encode()) > 255:
            raise ValueError(f"the queue's name in {text!r} is longer than AMQP's 255 bytes")
        return cls(task, queue)

    def plain(self) -> dict[str, Any]:
        """Return what ``plan.json`` says of it: task, queue, and what is not the default."""
        data = asdict(self)
        default = Route(self.task, self.queue)
        return {
            name: value for name, value in data.items() if name in {"task", "queue"} or value != getattr(default, name)
        }

    @classmethod
    def of(cls, data: dict[str, Any]) -> Route:
        """Return the kind that ``plain`` returned; raise ``TypeError`` for keys that it does not have."""
        lists = {"args": tuple(data["args"])} if data.get("args") is not None else {}
        right = {"right": Right(**data["right"])} if data.get("right") is not None else {}
        return cls(**{**data, **lists, **right})


@dataclass(frozen=True)
class Plan:
    """One run. Times are in seconds; ``args`` and ``expect`` are values that Celery's JSON carries.

    ``threads`` counts per process: 10 threads and 2 processes are 20 posting threads. Message number ``i`` of the run
    is of the kind in ``slots[i % len(slots)]``: without weights the routes take turns, so each gets its even share.
    """

    name: str
    routes: tuple[Route, ...]
    tasks: int
    args: tuple[Any, ...]
    #: The ``n`` of the workload when the arguments were given as one number, else ``None``.
    n: int | None = None
    #: Whether results are compared with ``expect``; without it, only their state is looked at.
    check: bool = False
    expect: Any = None
    threads: int = 10
    processes: int = 1
    #: Most messages that one thread leaves unconfirmed.
    window: int = 1000
    #: Tasks per second that are due, over all threads; ``None`` to post as fast as the broker takes them.
    rate: float | None = None
    #: In place of ``rate``: what is due when. A load of fewer tasks ends before its stages do.
    stages: tuple[Stage, ...] = ()
    #: Seconds without any new result after which what is missing counts as lost; ``None`` to have it follow from how
    #: long the tasks take, see :func:`taskmill.session.probe.result_timeout`.
    deadline: float | None = None
    #: Seconds to wait for a broker that went away while posting.
    broker_deadline: float = 120.0
    profile: bool = True
    #: Whether messages leave out what no worker needs, see :func:`taskmill.publishing.message.build`.
    minimal_headers: bool = True
    #: Whether the broker keeps messages on disk.
    persistent: bool = True
    stack: str = "celery5"
    #: The tasks that store no result, as the workers say before the first message.
    unstored: tuple[str, ...] = ()
    #: Single-core seconds of the bare function on a worker, and the cores of all workers: for the efficiency.
    function_seconds: float | None = None
    worker_cores: int | None = None
    environment: dict[str, Any] = field(default_factory=dict)
    #: What the arguments that a scenario generates depend on, beside the number of the message.
    seed: int = 0
    #: What the scenario requires of its runs, such as ``p99_queue_s of small<5``.
    thresholds: tuple[str, ...] = ()
    #: What is done to the cluster meanwhile, by :file:`run-load.yml`.
    faults: tuple[FaultMoment, ...] = ()
    #: Name of the scenario's file; empty for a plan without one.
    scenario: str = ""
    #: Directory of the scenario with the files that it names. In a run's folder that is ``scenario``.
    directory: str = field(default="", compare=False)

    @cached_property
    def slots(self) -> tuple[int, ...]:
        """Places in ``routes`` of messages in a row; they repeat. Every kind is spread as evenly as its weight lets."""
        common = math.gcd(*(route.weight for route in self.routes))
        turns = [
            ((2 * turn + 1) / (2 * (route.weight // common)), place)
            for place, route in enumerate(self.routes)
            for turn in range(route.weight // common)
        ]
        return tuple(place for _, place in sorted(turns))

    @property
    def kinds(self) -> list[str]:
        """The names of a scenario's kinds, in the order of ``routes``; empty for a plan without one."""
        return [route.name for route in self.routes] if self.scenario else []

    @property
    def paced(self) -> bool:
        """Whether every message has a moment at which it is due."""
        return self.rate is not None or bool(self.stages)

    @property
    def checks(self) -> bool:
        """Whether any result is compared with what is right for it."""
        return any(route.right.how != "nothing" if route.right else self.check for route in self.routes)

    @property
    def queues(self) -> list[str]:
        """The queues, each once, in the order given."""
        return list(dict.fromkeys(route.queue for route in self.routes))

    @property
    def result_timeout(self) -> float:
        """The deadline in seconds, if only the usual one."""
        return RESULT_TIMEOUT if self.deadline is None else self.deadline

    @property
    def task(self) -> str:
        """The task names, parted by commas."""
        return ", ".join(dict.fromkeys(route.task for route in self.routes))

    @property
    def storing(self) -> int:
        """How many of the messages are of tasks that store a result."""
        counts = self.counts()
        return sum(counts[place] for place, one in enumerate(self.routes) if one.task not in self.unstored)

    def counts(self) -> Counter[int]:
        """Return how many of the messages are of each kind, by its place in ``routes``."""
        whole, rest = divmod(self.tasks, len(self.slots))
        return Counter({place: whole * number for place, number in Counter(self.slots).items()}) + Counter(
            self.slots[:rest]
        )

    def posters(self) -> list[tuple[int, int]]:
        """Return first message number and count for each posting thread, those of one process together.

        Threads that would have nothing to do are left out.
        """
        number = self.threads * self.processes
        share, rest = divmod(self.tasks, number)
        spans, start = [], 0
        for index in range(number):
            count = share + (index < rest)
            if count:
                spans.append((start, count))
            start += count
        return spans

    def save(self, folder: Path) -> None:
        """Write ``plan.json``."""
        from kombu.utils import json as celery_json  # noqa: PLC0415  # who reads a plan needs no client library

        data = {one.name: getattr(self, one.name) for one in fields(self) if one.name != "directory"}
        data["routes"] = [route.plain() for route in self.routes]
        data["stages"] = [asdict(stage) for stage in self.stages]
        data["faults"] = [asdict(fault) for fault in self.faults]
        if not self.scenario:
            del data["seed"], data["scenario"], data["stages"], data["thresholds"], data["faults"]
        data = {IN_FILE.get(name, name): value for name, value in data.items()}
        # Values that plain JSON does not have stand there as they do in messages.
        write_json(folder / "plan.json", json.loads(celery_json.dumps({"schema": SCHEMA, **data})))

    @classmethod
    def load(cls, folder: Path) -> Plan:
        """Read ``plan.json``; raise ``TaskmillError`` when the folder holds no plan that can be read."""
        data = read_json(folder / "plan.json")
        if data is None:
            raise TaskmillError(
                f"{folder} is no run folder: it has no plan.json. Give the folder that `taskmill run` or "
                f"`taskmill publish` named"
            )
        try:
            data.pop("schema")
            data.update({name: data.pop(old) for name, old in IN_FILE.items() if old in data})
            data["routes"] = tuple(map(Route.of, data["routes"]))
            data["args"] = tuple(data["args"])
            data["stages"] = tuple(Stage(**stage) for stage in data.get("stages", ()))
            data["thresholds"] = tuple(data.get("thresholds", ()))
            data["faults"] = tuple(FaultMoment(**fault) for fault in data.get("faults", ()))
            data["unstored"] = tuple(data.get("unstored", ()))
            return cls(**data, directory=str(folder / SCENARIO_FILES) if data.get("scenario") else "")
        except (KeyError, TypeError) as error:
            raise TaskmillError(f"{folder / 'plan.json'} is not a plan of this version of taskmill: {error}") from error
