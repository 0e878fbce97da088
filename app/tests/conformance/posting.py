"""What a feature is, and how its tasks are posted.

A feature is a function that is given a :class:`Poster`. What it posts is told apart by labels, ``FEATURE/COPY/STEP``.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from celery.canvas import StampingVisitor
from celery.result import AsyncResult

from conformance import tasks

#: Pools in which a task can be ended from outside.
PROCESSES = ("prefork",)
POOLS = ("prefork", "threads", "solo", "gevent")
#: Where a process is forked when the worker's main process has stored something, such as that a task has expired. With
#: pymemcache, stock Celery has both use one connection to memcached then: results get mixed up, or never come.
SHARING = ("memcached",)


@dataclass
class Poster:
    """Posts the tasks of one copy of a feature, and keeps what the client is to look at."""

    prefix: str
    #: Results by label.
    results: dict[str, AsyncResult] = field(default_factory=dict)
    #: Labels of messages that have no result, by id.
    ids: dict[str, str] = field(default_factory=dict)
    #: States that the client is to see, and to say so, by label; and the label whose sign it gives.
    watched: dict[str, tuple[str, str]] = field(default_factory=dict)

    def own_id(self, step: str) -> str:
        """Return an id of the client's own choice, that every result backend takes, for the label of a step."""
        label = self.label(step)
        identifier = label.replace("/", "-").replace(" ", "-")
        self.ids[identifier] = label
        return identifier

    def label(self, step: str = "") -> str:
        """Return the label of a step."""
        return f"{self.prefix}/{step}"

    def __call__(self, task: Any, *args: Any, step: str = "", watch: str = "", sign: str = "", **options: Any) -> Any:
        """Post one task, and keep its result; `watch` is a state to look for, `sign` the step that is told."""
        label = self.label(step)
        result = task.apply_async(args, {"label": label}, **options)
        return self.keep(label, result, watch, sign)

    def keep(self, label: str, result: Any, watch: str = "", sign: str = "") -> Any:
        """Keep a result."""
        self.results[label] = result
        if watch:
            self.watched[label] = (watch, self.label(sign) if sign else label)
        return result

    def add(self, step: str, *args: Any) -> Any:
        """Return the signature of a sum."""
        return tasks.add.s(*args, label=self.label(step))

    def total(self, step: str = "body") -> Any:
        """Return the signature of a chord's body."""
        return tasks.total.s(label=self.label(step))


@dataclass(frozen=True)
class Feature:
    """What is posted for a feature, and where it can be."""

    name: str
    post: Callable[[Poster], object]
    pools: tuple[str, ...] = POOLS
    #: It ends processes, and what else is in the worker meanwhile would not be as ever.
    alone: bool = False
    #: Result backends with which it cannot be compared.
    without: tuple[str, ...] = ()

    def runs(self, pool: str, backend: str) -> bool:
        """Say whether it can be compared with a pool and a result backend."""
        return pool in self.pools and backend not in self.without


FEATURES: dict[str, Feature] = {}


def feature(
    pools: tuple[str, ...] = POOLS, *, alone: bool = False, without: tuple[str, ...] = ()
) -> Callable[[Any], Any]:
    """Have a function be a feature of its name."""

    def register(post: Callable[[Poster], object]) -> Callable[[Poster], object]:
        name = post.__name__.replace("_", " ")
        FEATURES[name] = Feature(name, post, pools, alone, without)
        return post

    return register


class Visitor(StampingVisitor):  # type: ignore[misc]  # Celery carries no types
    """Stamps every signature alike."""

    def on_signature(self, _sig: Any, **_headers: Any) -> dict[str, Any]:
        """Return the stamps."""
        return {"color": "red", "stamped_headers": ["color"]}
