"""What a worker's main process does when its result store is away: it goes on. No services."""

from __future__ import annotations

import os
import threading
from typing import Any

import memcache
import pytest
from celery import Celery, signals
from celery._state import _task_stack
from celery.app.task import Context

from pool_process import PoolProcess
from services import wait_until
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
    assert results.waiting.qsize() == 1
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
