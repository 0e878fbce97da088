"""What to post: written to ``plan.json`` of the run folder before the first message."""

from __future__ import annotations

import json
import re
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

from taskmill.model.errors import TaskmillError
from taskmill.model.run_folder import read_json, write_json

if TYPE_CHECKING:
    from pathlib import Path

SCHEMA = 1
#: What fields are called in ``plan.json``, where that is another name.
IN_FILE = {"routes": "kinds", "minimal_headers": "lean"}
#: Seconds without any new result, where nothing says how long a task takes.
RESULT_TIMEOUT = 120.0
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")


@dataclass(frozen=True)
class Route:
    """A task by its registered name, and the queue that its messages go to."""

    task: str
    queue: str

    @classmethod
    def parse(cls, text: str) -> Route:
        """Read ``TASK=QUEUE``; raise ``ValueError`` when it has another form."""
        task, separator, queue = text.partition("=")
        if not (task and separator and queue):
            raise ValueError(f"{text!r} does not have the form TASK=QUEUE, such as fibonacci.tasks.red=red")
        if any(character.isspace() for character in queue):
            raise ValueError(f"the queue's name in {text!r} has a space in it")
        if len(queue.encode()) > 255:
            raise ValueError(f"the queue's name in {text!r} is longer than AMQP's 255 bytes")
        return cls(task, queue)


@dataclass(frozen=True)
class Plan:
    """One run. Times are in seconds; ``args`` and ``expect`` are values that Celery's JSON carries.

    ``threads`` counts per process: 10 threads and 2 processes are 20 posting threads. Message number ``i`` of the run
    goes by the route ``i`` modulo their number, so every route gets its even share.
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
        whole, rest = divmod(self.tasks, len(self.routes))
        return sum(whole + (place < rest) for place, one in enumerate(self.routes) if one.task not in self.unstored)

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

        data = {IN_FILE.get(name, name): value for name, value in asdict(self).items()}
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
            data["routes"] = tuple(Route(**route) for route in data["routes"])
            data["args"] = tuple(data["args"])
            data["unstored"] = tuple(data.get("unstored", ()))
            return cls(**data)
        except (KeyError, TypeError) as error:
            raise TaskmillError(f"{folder / 'plan.json'} is not a plan of this version of taskmill: {error}") from error
