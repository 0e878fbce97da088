"""What a worker that takes batches stores of them, and when; with RabbitMQ and memcached."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from celery.result import AsyncResult

from batch_cluster import Cluster, cluster_of
from services import DEAD, OTHER_VHOST, Memcached, RabbitMQ, depth, take_all, wait_until


class OneWorker(Cluster):
    """A cluster of one worker, which gets all that is published at once."""

    module = "stored"
    queue = "blue"
    batch = 50
    batch_seconds = 100

    def begin(self, *known: tuple[str, Any]) -> None:
        """Start the worker, and have it run these tasks once: what it does not know goes alone."""
        self.start("--prefetch-multiplier=100")
        for name, argument in known:
            result = self.publish(name, argument)
            wait_until(result.ready, 60, f"a first {name}")

    def publish(self, name: str, argument: Any) -> AsyncResult:
        """Publish one task by its name in the app."""
        return self.post(getattr(self.tasks, name), argument)

    def at_once(self, *tasks: tuple[str, Any]) -> list[Any]:
        """Post tasks that the worker gets all at once."""
        with self.workers[0].paused():
            return [self.publish(name, argument) for name, argument in tasks]

    def left(self) -> int:
        """Have the worker stop when its work is done; return how many messages it leaves to the broker."""
        process = self.workers[0].process
        assert process is not None
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 0
        return depth(self.rabbitmq, self.queue, OTHER_VHOST)


@pytest.fixture
def store(start_memcached: Callable[..., Memcached]) -> Memcached:
    """Return a memcached that the test may stop."""
    return start_memcached()


@pytest.fixture
def cluster(rabbitmq: RabbitMQ, store: Memcached, tmp_path: Path) -> Iterator[OneWorker]:
    """Yield a cluster that has nothing to do yet."""
    with cluster_of(OneWorker, rabbitmq, store, tmp_path) as cluster:
        yield cluster


def numbers(first: int, last: int) -> list[tuple[str, int]]:
    """Return tasks that double these numbers."""
    return [("double", number) for number in range(first, last)]


def test_what_a_batch_has_done_is_seen_while_it_goes_on(cluster: OneWorker) -> None:
    """Results of its neighbours, its own progress, and that a task is to be tried again."""
    cluster.say("early")
    cluster.begin(("double", -1), ("progress", "early"), ("retry_later", 0))
    *before, retried, running = cluster.at_once(*numbers(0, 10), ("retry_later", 600), ("progress", "late"))
    wait_until(lambda: running.state == "PROGRESS", 60, "the progress seen")
    wait_until(lambda: all(result.ready() for result in before), 60, "the results of its neighbours")
    wait_until(lambda: retried.state == "RETRY", 60, "the retry seen")
    assert running.state == "PROGRESS"
    assert [result.result for result in before] == [2 * number for number in range(10)]
    cluster.say("late")
    wait_until(running.ready, 60, "its end")
    assert running.result == 7


def test_a_hook_decides_over_its_own_task_alone(cluster: OneWorker, rabbitmq: RabbitMQ) -> None:
    """Whatever it raises: everything runs once, every result is stored, and nothing is a dead letter."""
    cluster.begin(("double", -1), ("hooked", "KeyError"))
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
    assert cluster.left() == 0
    assert set(cluster.executions().values()) == {1}
    assert take_all(rabbitmq, DEAD, OTHER_VHOST) == []


def test_a_result_that_is_too_large_fails_alone(cluster: OneWorker) -> None:
    """It runs once, and so do its neighbours; the error says what to set."""
    cluster.begin(("double", -1), ("large", 5))
    *before, large, after = cluster.at_once(*numbers(0, 5), ("large", 2 << 20), ("double", 5))
    results = [*before, after]
    wait_until(lambda: all(result.ready() for result in (*results, large)), 60, "all results")
    assert [result.result for result in results] == [2 * number for number in range(6)]
    assert large.state == "FAILURE"
    assert "server_max_value_length" in str(large.result)
    assert cluster.left() == 0
    assert set(cluster.executions().values()) == {1}


def test_a_memcached_that_is_away_for_a_moment_has_no_task_run_twice(cluster: OneWorker, store: Memcached) -> None:
    """The pool process tries again to store the results of its batch."""
    cluster.begin(("double", -1))
    store.stop()
    results = cluster.at_once(*numbers(0, 20))
    wait_until(lambda: "are not stored yet" in cluster.workers[0].log.read_text(), 60, "a write that failed")
    store.start()
    wait_until(lambda: all(result.ready() for result in results), 120, "all results")
    assert cluster.left() == 0
    assert [result.result for result in results] == [2 * number for number in range(20)]
    assert set(cluster.executions().values()) == {1}
