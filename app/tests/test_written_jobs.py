"""What a pool process was given when its worker stops or loses its connection is done once, and the worker goes on."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from batch_cluster import Cluster, cluster_of
from services import OTHER_VHOST, Memcached, RabbitMQ, Worker, depth, wait_until

BATCHES = pytest.mark.parametrize(
    "batch", [pytest.param(1, id="one by one"), pytest.param(20, id="in batches", marks=pytest.mark.thorough)]
)


@pytest.fixture
def start(rabbitmq: RabbitMQ, memcached: Memcached, tmp_path: Path) -> Iterator[Callable[[int], Cluster]]:
    """Yield what makes a cluster without workers, with so many messages in a batch."""
    with ExitStack() as stack:

        def start(batch: int) -> Cluster:
            kind = type("Sized", (Cluster,), {"batch": batch})
            return stack.enter_context(cluster_of(kind, rabbitmq, memcached, tmp_path))

        yield start


@contextmanager
def pool_stands_still(worker: Worker) -> Iterator[None]:
    """Have the pool processes of a worker stand still meanwhile, so that they accept nothing."""
    assert worker.process is not None
    main = worker.process.pid
    processes = [int(pid) for pid in Path(f"/proc/{main}/task/{main}/children").read_text().split()]
    for pid in processes:
        os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        for pid in processes:
            os.kill(pid, signal.SIGCONT)


def broker_has(rabbitmq: RabbitMQ, column: str) -> int:
    """Return a number that the broker has of the queue."""
    lines = rabbitmq.ctl("list_queues", "-p", OTHER_VHOST, "name", column).splitlines()
    return sum(int(line.split()[1]) for line in lines if line.split()[0] == Cluster.queue)


def consuming(rabbitmq: RabbitMQ) -> set[str]:
    """Return the connections that have consumers now: those of workers."""
    lines = rabbitmq.ctl("list_channels", "-p", OTHER_VHOST, "connection", "consumer_count").splitlines()
    return {connection for connection, count in (line.split() for line in lines) if count.isdigit() and int(count)}


def has_lost(worker: Worker, connections: int) -> bool:
    """Say whether a worker has lost so many connections."""
    return worker.log.read_text().count("Connection to broker lost") == connections


def values(results: list[Any]) -> list[Any]:
    """Wait for results and return them."""
    return [result.get(timeout=60) for result in results]


@BATCHES
def test_a_stopping_worker_acknowledges_what_a_process_had_not_accepted(
    start: Callable[[int], Cluster], rabbitmq: RabbitMQ, batch: int
) -> None:
    """It stands in the pipe of a process: that runs it, and it runs nowhere else."""
    cluster = start(batch)
    worker = cluster.start()
    assert worker.process is not None
    with pool_stands_still(worker):
        results = [cluster.post(cluster.tasks.double, number) for number in range(5)]
        wait_until(lambda: broker_has(rabbitmq, "messages_unacknowledged") > 0, 60, "messages delivered")
        # An answer: what came before it is handed out.
        cluster.ask("ping")
        worker.process.send_signal(signal.SIGTERM)
        # It has flushed its pool by then.
        wait_until(lambda: broker_has(rabbitmq, "consumers") == 0, 60, "the end of the consumer")
    assert worker.process.wait(20) == 0
    done = sum(cluster.executions().values())
    assert done > 0
    assert depth(rabbitmq, cluster.queue, OTHER_VHOST) == 5 - done
    cluster.start()
    assert values(results) == [2 * number for number in range(5)]
    assert set(cluster.executions().values()) == {1}


@pytest.mark.thorough
@BATCHES
def test_a_worker_goes_on_after_connections_that_were_lost(
    start: Callable[[int], Cluster], rabbitmq: RabbitMQ, batch: int
) -> None:
    """What no process was given is forgotten with the connection, and keeps no place for what comes."""
    cluster = start(batch)
    worker = cluster.start("--prefetch-multiplier=8", concurrency=2)
    for loss in range(3):
        with pool_stands_still(worker):
            # Whatever expires goes singly, to each of the processes; what comes then waits in the pool.
            results = [cluster.post(cluster.tasks.double, number, expires=600) for number in range(2)]
            results += [cluster.post(cluster.tasks.double, number) for number in range(2, 50)]
            wait_until(lambda: broker_has(rabbitmq, "messages_unacknowledged") > 0, 60, "messages delivered")
            # An answer: what came before it is handed out.
            cluster.ask("ping")
            for connection in consuming(rabbitmq):
                rabbitmq.ctl("close_connection", connection, "a test")
            wait_until(partial(has_lost, worker, loss + 1), 60, "the loss")
        assert values(results) == [2 * number for number in range(50)]
    wait_until(lambda: broker_has(rabbitmq, "messages") == 0, 60, "every message acknowledged")
