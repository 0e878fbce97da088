"""A worker with gevent takes messages as they come."""

from __future__ import annotations

import time
from typing import Any

import pytest
from celery.worker import loops

from batch_cluster import Cluster as Batches
from batch_cluster import cluster_of
from services import Memcached, RabbitMQ
from taskmill_worker import green_loop


class Cluster(Batches):
    """Workers without batches."""

    batch = 1


class Instance:
    """A worker as Celery's signals have it, with greenlets or without."""

    def __init__(self, is_green: bool) -> None:
        """Have a pool."""
        self.pool_cls = type("Pool", (), {"is_green": is_green})


class Connection:
    """Keeps for how long it was waited for."""

    def __init__(self) -> None:
        """Begin with nothing."""
        self.timeouts: list[float] = []

    def drain_events(self, timeout: float) -> None:
        """Keep it, and have received nothing."""
        self.timeouts.append(timeout)
        raise TimeoutError


@pytest.mark.parametrize(("is_green", "timeout"), [(True, 0), (False, 0.1)])
def test_only_greenlets_do_not_wait_for_events(monkeypatch: pytest.MonkeyPatch, is_green: bool, timeout: float) -> None:
    """The loop of other pools asks once, at its beginning, and waits as ever."""
    monkeypatch.setattr(loops, "_quick_drain", green_loop.drain)
    green_loop.use_in_green_pools(Instance(is_green))
    connection = Connection()
    loops._quick_drain(connection)
    assert connection.timeouts == [timeout]


def test_a_gevent_worker_takes_more_than_ten_messages_a_second(
    rabbitmq: RabbitMQ, memcached: Memcached, tmp_path: Any
) -> None:
    """Celery's own loop of 5.7 waits for 30 seconds in all."""
    with cluster_of(Cluster, rabbitmq, memcached, tmp_path) as cluster:
        cluster.start("--pool=gevent", concurrency=10)
        begun = time.monotonic()
        results = [cluster.post(cluster.tasks.double, number) for number in range(300)]
        assert [result.get(timeout=60) for result in results] == [2 * number for number in range(300)]
        assert time.monotonic() - begun < 25
