"""What the probe says of an app."""

from __future__ import annotations

from typing import Any

from msgspec import Struct, field


class Parameter(Struct):
    """A parameter that a call of a task has to give."""

    name: str
    annotation: str
    keyword: bool


class Task(Struct):
    """A registered task; times are in seconds, and None where the task sets none."""

    name: str
    file: str
    line: int
    queue: str
    exchange: str
    routing_key: str
    priority: int | None
    route_error: str
    acks_late: bool | None
    ignore_result: bool | None
    serializer: str | None
    time_limit: float | None
    soft_time_limit: float | None
    retry_delay: float | None
    backoff: float
    parameters: list[Parameter] | None


class Queue(Struct):
    """A queue; ``declared`` says whether its workers declare it."""

    name: str
    exchange: str
    arguments: dict[str, Any]
    declared: bool
    durable: bool


class Setting(Struct):
    """A setting of Celery's, and whether its value is Celery's own."""

    value: Any
    default: bool


class Beat(Struct):
    """An entry of the beat schedule."""

    name: str
    task: str
    schedule: str


class Variable(Struct):
    """A variable of the environment that the app's code read; ``given`` says whether it was set.

    ``made_up`` says whether it got a value here that means nothing.

    ``cluster`` says whose address it is: that of the ``broker``, that of the ``results``, or none of these.
    """

    name: str
    file: str
    line: int
    needed: bool
    given: bool
    made_up: bool = False
    cluster: str = ""


class Distribution(Struct):
    """An installed distribution; ``carries`` says whether it brings its system libraries along."""

    version: str
    carries: bool


class Django(Struct):
    """Django's settings module, and whether it is in debug mode."""

    settings: str
    debug: bool


class Failure(Struct):
    """What kept the app from being imported; ``file`` and ``line`` are the app's own, where it got that far."""

    kind: str
    text: str
    module: str
    file: str
    line: int


class App(Struct):
    """A Celery app; with ``error`` the rest is not known. ``broker`` and ``own_backend`` are schemes of addresses."""

    python: str
    celery: str = ""
    name: str = ""
    tasks: list[Task] = field(default_factory=list)
    queues: list[Queue] = field(default_factory=list)
    settings: dict[str, Setting] = field(default_factory=dict)
    beat: list[Beat] = field(default_factory=list)
    environment: list[Variable] = field(default_factory=list)
    broker: str = ""
    broker_heeded: bool = True
    backend: str = ""
    backend_heeded: bool = True
    backend_error: str = ""
    own_backend: str = ""
    django: Django | None = None
    distributions: dict[str, Distribution] = field(default_factory=dict)
    error: Failure | None = None

    def setting(self, name: str) -> Any:
        """Return a setting's value; None where this Celery has no such setting."""
        return self.settings[name].value if name in self.settings else None
