"""Results that a worker's main process has to store: it tries briefly, and a thread of its own goes on.

A main process stores what a pool process no longer can: that a task ran into its time limit, or was lost. While it
waits for a result store that is away it sends no heartbeats, and the broker ends its connection. When the worker ends,
what still waits has a few seconds more; then it is lost, and the log says so.
"""

from __future__ import annotations

import atexit
import os
import threading
from collections import deque
from typing import TYPE_CHECKING, Any

from celery import signals
from celery._state import get_current_task
from celery.utils.log import get_logger

if TYPE_CHECKING:
    from collections.abc import Callable

logger = get_logger(__name__)

#: How often the main process tries again, and the seconds that it waits for the store each time.
RETRIES = 1
TIMEOUT = 1
#: Most results that wait for a store that is away.
MOST = 10_000
#: Seconds that those have when the worker ends.
LAST = 5.0


class LateResults:
    """Stores results one after the other from a thread; what cannot be stored is said in the log."""

    def __init__(self) -> None:
        """Start nothing yet."""
        #: Task, state and what stores it; the first is being stored.
        self.waiting: deque[tuple[str, str, Callable[[], Any]]] = deque()
        self.changed = threading.Condition()
        self.thread: threading.Thread | None = None
        self.ended = threading.Event()

    def add(self, task_id: str, state: str, store: Callable[[], Any]) -> None:
        """Have a result stored by a call that tries as often as it may."""
        with self.changed:
            full = len(self.waiting) >= MOST
            if not full:
                self.waiting.append((task_id, state, store))
                self.changed.notify_all()
        if full:
            logger.critical("The result %s of task %s is lost: %d others wait to be stored.", state, task_id, MOST)
            return
        logger.warning("The result %s of task %s is not stored yet; it is tried again.", state, task_id)
        with self.changed:
            if self.thread is None:
                atexit.register(self.end, os.getpid())
                self.thread = threading.Thread(target=self.work, name="late-results", daemon=True)
                self.thread.start()

    def work(self) -> None:
        """Store what waits, until the worker ends."""
        while True:
            with self.changed:
                self.changed.wait_for(lambda: self.waiting)
                if self.ended.is_set():
                    return
                task_id, state, store = self.waiting[0]
            failure: Exception | None = None
            try:
                store()
            except Exception as error:  # noqa: BLE001  # of whatever kind the backend raises
                failure = error
            with self.changed:
                if self.ended.is_set():
                    return
                self.waiting.popleft()
                self.changed.notify_all()
            if failure is not None:
                logger.critical("The result %s of task %s is lost: %s", state, task_id, failure)

    def end(self, process: int) -> None:
        """Wait a few seconds for what is not stored yet, and say of the rest that it is lost.

        Called when a process ends, and of use in the one whose number is given: one that it forked has no such thread.
        """
        if os.getpid() != process:
            return
        with self.changed:
            self.changed.wait_for(lambda: not self.waiting, LAST)
            self.ended.set()
            lost = list(self.waiting)
        for task_id, state, _ in lost:
            logger.critical("The result %s of task %s is lost: the worker ended.", state, task_id)


late_results = LateResults()
main_process: int | None = None


def note_main_process(**_: Any) -> None:
    """Remember that this is the main process of a worker."""
    global main_process  # noqa: PLW0603  # it is a fact about the process
    main_process = os.getpid()


def must_be_brief() -> bool:
    """Say whether a worker's main process would wait here, and not for a task of its own (pool solo)."""
    return (
        os.getpid() == main_process
        and threading.current_thread() is threading.main_thread()
        and get_current_task() is None
    )


def install() -> None:
    """Have the main process of a worker noticed when it is ready."""
    signals.worker_ready.connect(note_main_process, weak=False)
