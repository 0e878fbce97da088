"""Ctrl-C and SIGTERM ask for an orderly end; the second Ctrl-C ends at once."""

from __future__ import annotations

import signal
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import FrameType

SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Interrupted(Exception):  # noqa: N818  # no error: the user asked for it
    """Raised where work stops because the user asked for it."""


@contextmanager
def watch() -> Iterator[threading.Event]:
    """Yield an event that is set by the first SIGINT or SIGTERM; the next one raises ``KeyboardInterrupt``."""
    event = threading.Event()

    def handle(_number: int, _frame: FrameType | None) -> None:
        if event.is_set():
            raise KeyboardInterrupt
        event.set()

    before = {number: signal.signal(number, handle) for number in SIGNALS}
    try:
        yield event
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


class Stop(threading.Event):
    """Asks for an orderly end when the user does, or when it is set itself."""

    def __init__(self, user: threading.Event) -> None:
        """Begin with what the user asks for."""
        super().__init__()
        self._user = user

    def is_set(self) -> bool:
        """Say whether either asks for it."""
        return super().is_set() or self._user.is_set()

    def wait(self, timeout: float | None = None) -> bool:
        """Wait for the user, at most so many seconds; say whether either asks for it."""
        return self._user.wait(timeout) or self.is_set()
