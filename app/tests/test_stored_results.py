"""What a worker that takes batches stores of them, and when; with RabbitMQ and memcached."""

from __future__ import annotations

import importlib
import os
import signal
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from unittest import mock

import pytest

from services import ADMIN, DEAD, OTHER_VHOST, Memcached, RabbitMQ, Worker, depth, purge_queue, take_all, wait_until

QUEUE = "blue"


class Cluster:
    """A worker of the app ``stored`` that takes batches, and what posts to it."""

    def __init__(self, rabbitmq: RabbitMQ, memcached: Memcached, folder: Path) -> None:
        """Start nothing yet."""
        self.log = folder / "executions"
        self.log.touch()
        self.environment = {
            "CELERY_BROKER_URL": rabbitmq.url(ADMIN, OTHER_VHOST),
            "CELERY_RESULT_BACKEND": memcached.url,
            "CELERY_WORKER_BATCH": "50",
            "CELERY_WORKER_BATCH_SECONDS": "100",
            "STORED_LOG": str(self.log),
        }
        options = ("--include=taskmill_worker", "--prefetch-multiplier=100")
        self.worker = Worker(
            "stored",
            self.environment,
            folder / "worker.log",
            "stored",
            [QUEUE],
            1,
            options,
            directory=Path(__file__).parent,
        )
        self._patch = mock.patch.dict(os.environ, self.environment)
        self._patch.start()
        # Anew for every test: the app reads its addresses once.
        sys.modules.pop("stored", None)
        self.tasks: Any = importlib.import_module("stored")

    def start(self, *known: tuple[str, Any]) -> None:
        """Start the worker, and have it run these tasks once: what it does not know goes alone."""
        self.worker.start()
        wait_until(self.worker.ready, 60, "worker ready")
        for name, argument in known:
            result = self.post(name, argument)
            wait_until(result.ready, 60, f"a first {name}")

    def post(self, name: str, argument: Any) -> Any:
        """Post one task."""
        return getattr(self.tasks, name).apply_async((argument,), queue=QUEUE)

    def at_once(self, *tasks: tuple[str, Any]) -> list[Any]:
        """Post tasks that the worker gets all at once."""
        with self.worker.paused():
            return [self.post(name, argument) for name, argument in tasks]

    def say(self, line: str) -> None:
        """Write a line that a task waits for."""
        with self.log.open("a") as log:
            log.write(f"{line}\n")

    def executions(self) -> Counter[str]:
        """Return how often each task ran, by what it noted."""
        return Counter(self.log.read_text().splitlines())

    def left(self, rabbitmq: RabbitMQ) -> int:
        """Have the worker stop when its work is done; return how many messages it leaves to the broker."""
        assert self.worker.process is not None
        self.worker.process.send_signal(signal.SIGTERM)
        assert self.worker.process.wait(60) == 0
        return depth(rabbitmq, QUEUE, OTHER_VHOST)

    def end(self) -> None:
        """End the worker, and forget the connections that the app made."""
        self.worker.stop()
        self.tasks.app.close()
        self._patch.stop()


@pytest.fixture
def store(start_memcached: Callable[..., Memcached]) -> Memcached:
    """Return a memcached that the test may stop."""
    return start_memcached()


@pytest.fixture
def cluster(rabbitmq: RabbitMQ, store: Memcached, tmp_path: Path) -> Iterator[Cluster]:
    """Yield a cluster that has nothing to do yet."""
    for queue in (QUEUE, DEAD):
        purge_queue(rabbitmq, queue, OTHER_VHOST)
    one = Cluster(rabbitmq, store, tmp_path)
    try:
        yield one
    finally:
        one.end()
        for queue in (QUEUE, DEAD):
            purge_queue(rabbitmq, queue, OTHER_VHOST)


def numbers(first: int, last: int) -> list[tuple[str, int]]:
    """Return tasks that double these numbers."""
    return [("double", number) for number in range(first, last)]


def test_what_a_batch_has_done_is_seen_while_it_goes_on(cluster: Cluster) -> None:
    """Results of its neighbours, its own progress, and that a task is to be tried again."""
    cluster.say("early")
    cluster.start(("double", -1), ("progress", "early"), ("retry_later", 0))
    *before, retried, running = cluster.at_once(*numbers(0, 10), ("retry_later", 600), ("progress", "late"))
    wait_until(lambda: running.state == "PROGRESS", 60, "the progress seen")
    wait_until(lambda: all(result.ready() for result in before), 60, "the results of its neighbours")
    wait_until(lambda: retried.state == "RETRY", 60, "the retry seen")
    assert running.state == "PROGRESS"
    assert [result.result for result in before] == [2 * number for number in range(10)]
    cluster.say("late")
    wait_until(running.ready, 60, "its end")
    assert running.result == 7


def test_a_hook_decides_over_its_own_task_alone(cluster: Cluster, rabbitmq: RabbitMQ) -> None:
    """Whatever it raises: everything runs once, every result is stored, and nothing is a dead letter."""
    cluster.start(("double", -1), ("hooked", "KeyError"))
    cluster.log.write_text("")
    errors = ["KeyError", "ConnectionError", "SystemExit"]
    mixed: list[tuple[str, Any]] = [
        task for error in errors for task in (("hooked", error), *numbers(len(error), len(error) + 1))
    ]
    results = cluster.at_once(*mixed)
    wait_until(lambda: all(result.ready() for result in results), 60, "all results")
    assert [result.result for result in results] == [
        2 * argument if name == "double" else argument for name, argument in mixed
    ]
    assert cluster.left(rabbitmq) == 0
    assert set(cluster.executions().values()) == {1}
    assert take_all(rabbitmq, DEAD, OTHER_VHOST) == []


def test_a_result_that_is_too_large_fails_alone(cluster: Cluster, rabbitmq: RabbitMQ) -> None:
    """It runs once, and so do its neighbours; the error says what to set."""
    cluster.start(("double", -1), ("large", 5))
    *before, large, after = cluster.at_once(*numbers(0, 5), ("large", 2 << 20), ("double", 5))
    results = [*before, after]
    wait_until(lambda: all(result.ready() for result in (*results, large)), 60, "all results")
    assert [result.result for result in results] == [2 * number for number in range(6)]
    assert large.state == "FAILURE"
    assert "server_max_value_length" in str(large.result)
    assert cluster.left(rabbitmq) == 0
    assert set(cluster.executions().values()) == {1}


def test_a_memcached_that_is_away_for_a_moment_has_no_task_run_twice(
    cluster: Cluster, store: Memcached, rabbitmq: RabbitMQ
) -> None:
    """The pool process tries again to store the results of its batch."""
    cluster.start(("double", -1))
    store.stop()
    results = cluster.at_once(*numbers(0, 20))
    wait_until(lambda: "are not stored yet" in cluster.worker.log.read_text(), 60, "a write that failed")
    store.start()
    wait_until(lambda: all(result.ready() for result in results), 120, "all results")
    assert cluster.left(rabbitmq) == 0
    assert [result.result for result in results] == [2 * number for number in range(20)]
    assert set(cluster.executions().values()) == {1}
