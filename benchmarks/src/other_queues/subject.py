"""What a peer is: its settings, its worker, and how tasks are posted to it and their results fetched."""

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
class Peer:
    """One way to do the work. Its name is that of its module."""

    #: Posts a number of tasks that compute the n-th Fibonacci number; returns what their results are asked for by.
    post: Callable[[int, int], Sequence[Any]]
    #: ``None`` where nothing works on what is posted.
    fetch: Fetch | None = None
    #: What follows ``python`` in the command that becomes so many worker processes; ``None`` where there is no worker.
    worker: Callable[[int], list[str]] | None = None


class Deadline:
    """Seconds without any new result after which what is missing is lost."""

    def __init__(self, seconds: float) -> None:
        """Begin to count."""
        self.seconds = seconds
        self._until = time.monotonic() + seconds

    def renew(self) -> None:
        """Begin to count anew: a result has come."""
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
    """Return what asks for one result after the other; ``get`` takes a handle and the seconds to wait at most."""

    def fetch(handles: Sequence[Any], deadline: Deadline) -> Iterator[Any]:
        for handle in handles:
            try:
                yield TimeoutError() if deadline.over else get(handle, deadline.left)
            except Exception as error:  # noqa: BLE001  # every library has its own
                yield error

    return fetch


def setting(name: str) -> str:
    """Return an environment variable; raise ``SystemExit`` with what it should be when it is missing."""
    value = os.environ.get(name, "")
    if not value:
        raise SystemExit(f"{name} is not set: it says where the peer's services are, see python -m pydoc peers")
    return value
