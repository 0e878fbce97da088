"""What a worker's main process does when its result store is away: it goes on. No services."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from typing import Any

import memcache
import pytest
from celery import Celery, signals
from celery._state import _task_stack
from celery.app.task import Context

from pool_process import PoolProcess
from services import SOURCE, wait_until
from taskmill_worker import late_results
from taskmill_worker.memcached_backend import MemcachedBackend


@pytest.fixture
def process(monkeypatch: pytest.MonkeyPatch) -> PoolProcess:
    """Return an app in what is the main process of a worker, as it says itself when it is ready."""
    monkeypatch.setattr(late_results, "main_process", None)
    monkeypatch.setattr(late_results, "late_results", late_results.LateResults())
    late_results.install()
    signals.worker_ready.send(None)
    return PoolProcess(monkeypatch)


def fail(process: PoolProcess) -> None:
    """Store a failure as the main process does for a pool process that it has lost."""
    context = Context({"id": "one", "task": "lost"})
    process.app.backend.mark_as_failure("one", ValueError("lost"), request=context)


def test_the_main_process_tries_briefly_and_a_thread_goes_on(process: PoolProcess) -> None:
    """Nothing is raised there, and the result comes when memcached does."""
    process.task(lambda: None, name="lost", acks_late=True)
    process.memory.failing = 5
    fail(process)
    wait_until(lambda: process.stored(("", "one")).get("status") == "FAILURE", 60, "the result stored by the thread")
    assert process.memory.states == [("one", "FAILURE")] * 6


def test_what_is_lost_at_last_is_said(process: PoolProcess, caplog: pytest.LogCaptureFixture) -> None:
    """One line names the task."""
    process.app.backend.patience = 3
    process.memory.failing = 1000
    fail(process)
    wait_until(lambda: "The result FAILURE of task one is lost" in caplog.text, 60, "the line in the log")
    assert len(process.memory.states) == 1 + late_results.RETRIES + 1 + 3


#: A worker's main process that ends while results wait to be stored.
ENDS = """
import logging, threading, time
from taskmill_worker import late_results
logging.basicConfig(format="%(message)s")
late_results.LAST = {seconds}
late_results.late_results.add("one", "FAILURE", {store})
late_results.late_results.add("two", "REVOKED", lambda: print("stored"))
"""


def ended(seconds: float, store: str) -> subprocess.CompletedProcess[str]:
    """Return what such a process printed and logged; it has so many seconds, and the first is stored in this way."""
    code = ENDS.format(seconds=seconds, store=store)
    environment = {"PYTHONPATH": str(SOURCE), "PYTHONDONTWRITEBYTECODE": "1"}
    return subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True, timeout=60
    )


def test_what_still_waits_when_the_worker_ends_is_said() -> None:
    """One line names each task: that of the result that is being stored, and of those behind it."""
    lines = ended(0.1, "threading.Event().wait").stderr.splitlines()
    assert [line for line in lines if "is lost" in line] == [
        "The result FAILURE of task one is lost: the worker ended.",
        "The result REVOKED of task two is lost: the worker ended.",
    ]


def test_what_is_stored_while_the_worker_ends_is_not_lost() -> None:
    """It has a few seconds for that, and does not wait them out."""
    done = ended(600, "lambda: time.sleep(0.5)")
    assert done.stdout == "stored\n"
    assert "is lost" not in done.stderr


def test_more_than_there_is_room_for_is_lost_and_said(
    process: PoolProcess, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """What waits takes no memory without bound."""
    monkeypatch.setattr(late_results, "MOST", 1)
    results = late_results.LateResults()
    monkeypatch.setattr(late_results, "late_results", results)
    monkeypatch.setattr(results, "thread", threading.current_thread())  # none that takes anything out
    process.memory.failing = 1000
    fail(process)
    fail(process)
    assert len(results.waiting) == 1
    assert "is lost: 1 others wait" in caplog.text


def in_a_task(app: Celery) -> Any:
    """Return what a task of the app would find, run by this very process (pool solo)."""
    _task_stack.push(app.Task())
    try:
        return app.backend.max_retries, app.backend.client
    finally:
        _task_stack.pop()


def in_a_thread(app: Celery) -> Any:
    """Return what another thread of this process finds."""
    found: list[Any] = []
    backend = app.backend
    thread = threading.Thread(target=lambda: found.extend((backend.max_retries, backend.client)))
    thread.start()
    thread.join(60)
    return tuple(found)


@pytest.mark.parametrize("elsewhere", [in_a_task, in_a_thread])
def test_only_the_main_process_itself_is_brief(monkeypatch: pytest.MonkeyPatch, elsewhere: Any) -> None:
    """A task that it runs, and its other threads, wait as ever; so does it before it is a worker."""
    app = Celery("main", broker="memory://", set_as_current=False)
    app.backend_cls = f"{MemcachedBackend.__module__}:{MemcachedBackend.__name__}+memcached://127.0.0.1:1/"
    app.conf.result_backend = app.backend_cls

    def seen(retries: int, client: memcache.Client) -> tuple[int, float, float]:
        return retries, client.socket_timeout, client.dead_retry

    assert seen(app.backend.max_retries, app.backend.client) == (30, 5, 1)
    monkeypatch.setattr(late_results, "main_process", os.getpid())
    assert seen(app.backend.max_retries, app.backend.client) == (1, 1, 30)
    assert seen(*elsewhere(app)) == (30, 5, 1)
    monkeypatch.setattr(late_results, "main_process", os.getpid() + 1)
    assert seen(app.backend.max_retries, app.backend.client) == (30, 5, 1)
