"""What a subject is: how tasks are published to it, how their results are fetched, and how its workers start."""

from __future__ import annotations

import os
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    #: Yields the result of each handle in the same order: its value, or the exception that stands for it.
    Fetch = Callable[[Sequence[Any], "Deadline"], Iterator[Any]]


@dataclass(frozen=True)
class Subject:
    """One way to do the work; its module is named after it."""

    #: Publishes a number of tasks that compute the n-th Fibonacci number; returns a handle for each result.
    publish: Callable[[int, int], Sequence[Any]]
    #: ``None`` where no worker takes the messages.
    fetch: Fetch | None = None
    #: Takes the number of worker processes, returns what follows ``python`` in their command; ``None`` without workers.
    worker: Callable[[int], list[str]] | None = None


class Deadline:
    """Counts seconds without a new result; when they are over, what is missing is lost."""

    def __init__(self, seconds: float) -> None:
        """Start to count."""
        self.seconds = seconds
        self._until = time.monotonic() + seconds

    def renew(self) -> None:
        """Start again: a result has come."""
        self._until = time.monotonic() + self.seconds

    @property
    def over(self) -> bool:
        """Whether there is no time left."""
        return time.monotonic() >= self._until

    @property
    def left(self) -> float:
        """Seconds that are left, at least a little, since some libraries take 0 for without limit."""
        return max(0.05, self._until - time.monotonic())


def one_by_one(get: Callable[[Any, float], Any]) -> Fetch:
    """Return a fetch that asks for one result after the other; ``get`` takes a handle and the most seconds to wait."""

    def fetch(handles: Sequence[Any], deadline: Deadline) -> Iterator[Any]:
        for handle in handles:
            try:
                yield TimeoutError() if deadline.over else get(handle, deadline.left)
            except Exception as error:  # noqa: BLE001  # every library has its own
                yield error

    return fetch


def setting(name: str) -> str:
    """Return an environment variable; raise ``SystemExit`` where it is not set."""
    value = os.environ.get(name, "")
    if not value:
        raise SystemExit(f"{name} is not set: python -m pydoc other_queues says what it holds")
    return value
