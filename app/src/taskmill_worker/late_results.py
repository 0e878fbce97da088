"""Results that a worker's main process has to store: it tries briefly, and a thread of its own goes on.

A main process stores what a pool process no longer can: that a task ran into its time limit, or was lost. While it
waits for a result store that is away it sends no heartbeats, and the broker ends its connection.
"""

from __future__ import annotations

import os
import queue
import threading
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


class LateResults:
    """Stores results one after the other from a thread; what cannot be stored is said in the log."""

    def __init__(self) -> None:
        """Start nothing yet."""
        self.waiting: queue.Queue[tuple[str, str, Callable[[], Any]]] = queue.Queue(MOST)
        self.lock = threading.Lock()
        self.thread: threading.Thread | None = None

    def add(self, task_id: str, state: str, store: Callable[[], Any]) -> None:
        """Have a result stored by a call that tries as often as it may."""
        try:
            self.waiting.put_nowait((task_id, state, store))
        except queue.Full:
            logger.critical("The result %s of task %s is lost: %d others wait to be stored.", state, task_id, MOST)
            return
        logger.warning("The result %s of task %s is not stored yet; it is tried again.", state, task_id)
        with self.lock:
            if self.thread is None:
                self.thread = threading.Thread(target=self.work, name="late-results", daemon=True)
                self.thread.start()

    def work(self) -> None:
        """Store what waits."""
        while True:
            task_id, state, store = self.waiting.get()
            try:
                store()
            except Exception as error:  # noqa: BLE001  # of whatever kind the backend raises
                logger.critical("The result %s of task %s is lost: %s", state, task_id, error)


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
