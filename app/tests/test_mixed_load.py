"""A worker with batches under a load of an ordinary app's tasks, one of its pool processes killed now and then."""

from __future__ import annotations

import contextlib
import json
import os
import random
import signal
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from batch_cluster import Cluster, cluster_of
from services import DEAD, OTHER_VHOST, Memcached, RabbitMQ, Worker, depth, wait_until
from taskmill import publish
from taskmill.results.memcached import Results

#: How many tasks, and how many seconds between two kills. A million takes two cores half an hour.
TASKS = int(os.environ.get("TASKMILL_MIXED_TASKS") or 20_000)
SECONDS = float(os.environ.get("TASKMILL_MIXED_SECONDS") or 2)
#: Published and looked at together.
ROUND = 10_000
#: Of twenty tasks in a row; one of them goes singly, and one publishes itself again.
MIX = ["plain"] * 14 + ["limited", "progress", "retried", "failing", "large", "unstored"]
#: What the worker's main process may have more at the end than after its first minute, in kB.
GROWTH = 8 << 10


class Mixed(Cluster):
    """A cluster of the mixed app."""

    module = "mixed"
    batch = 100
    batch_seconds = 1


def kind_of(number: int) -> str:
    """Return the name of a task by its number."""
    return MIX[number % len(MIX)]


def right(number: int) -> tuple[str, Any]:
    """Return the state and the value that a task's result has."""
    kind = kind_of(number)
    if kind == "failing":
        return "FAILURE", [f"no {number}"]
    return "SUCCESS", f"{number}".ljust(10_000) if kind == "large" else 2 * number


def children(process: int) -> list[int]:
    """Return the ids of the processes that a process has started."""
    return [int(child) for child in Path(f"/proc/{process}/task/{process}/children").read_text().split()]


def resident(process: int) -> int:
    """Return the memory of a process in kB."""
    lines = Path(f"/proc/{process}/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmRSS:"))


class Killer(threading.Thread):
    """Kills one of a worker's pool processes now and then, and notes the main process's memory each time."""

    def __init__(self, worker: Worker) -> None:
        """Take the worker."""
        super().__init__()
        assert worker.process is not None
        self.main = worker.process.pid
        self.memory: list[int] = []
        self.killed = 0
        self.ended = threading.Event()

    def run(self) -> None:
        """Go on until told to end."""
        chance = random.Random(7)
        while not self.ended.wait(SECONDS):
            self.memory.append(resident(self.main))
            with contextlib.suppress(ProcessLookupError, IndexError):
                os.kill(chance.choice(children(self.main)), signal.SIGKILL)
                self.killed += 1


@contextlib.contextmanager
def kills(worker: Worker) -> Iterator[Killer]:
    """Kill pool processes meanwhile."""
    killer = Killer(worker)
    killer.start()
    try:
        yield killer
    finally:
        killer.ended.set()
        killer.join()


def outcomes(store: Results, ids: dict[str, int]) -> dict[int, tuple[str, Any]]:
    """Return state and value of the tasks that have ended, by number; of a failure its exception's arguments."""
    ended = {}
    keys = [identifier.encode() for identifier in ids]
    for first in range(0, len(keys), store.batch):
        for key, text in store.get(keys[first : first + store.batch]).items():
            meta = json.loads(text) if isinstance(text, str) else {}
            if meta.get("status") in {"SUCCESS", "FAILURE"}:
                failed = meta["status"] == "FAILURE"
                value = meta["result"]["exc_message"] if failed else meta["result"]
                ended[ids[key.decode()]] = (meta["status"], value)
    return ended


def load(cluster: Cluster, store: Results, numbers: range) -> dict[int, tuple[str, Any]]:
    """Publish the tasks with these numbers, wait until all that store a result have ended, and return how."""
    signatures = (getattr(cluster.tasks, kind_of(number)).s(number).set(queue=cluster.queue) for number in numbers)
    ids = publish(signatures, cluster.app)
    waited = {key: number for key, number in zip(ids, numbers, strict=True) if kind_of(number) != "unstored"}
    wait_until(lambda: len(outcomes(store, waited)) == len(waited), 600, f"the tasks {numbers}", 1)
    return outcomes(store, waited)


@pytest.mark.thorough
@pytest.mark.timeout(0)
def test_mixed_load_loses_nothing_and_leaves_the_worker_as_large_as_it_was(
    rabbitmq: RabbitMQ, start_memcached: Callable[..., Memcached], tmp_path: Path
) -> None:
    """Every result is right, what stores none has run, no message is left or parked, and memory does not grow."""
    memcached = start_memcached(1024)
    with cluster_of(Mixed, rabbitmq, memcached, tmp_path) as cluster:
        worker, store = cluster.start(concurrency=2), Results(memcached.url)
        with kills(worker) as killer:
            for first in range(0, TASKS, ROUND):
                numbers = range(first, min(first + ROUND, TASKS))
                was = load(cluster, store, numbers)
                assert {number: outcome for number, outcome in was.items() if outcome != right(number)} == {}
                print(f"{numbers.stop:,} tasks, {killer.killed} kills, {resident(killer.main):,} kB", flush=True)
        unstored = {str(number) for number in range(TASKS) if kind_of(number) == "unstored"}
        wait_until(lambda: set(cluster.executions()) == unstored, 60, "the tasks that store no result")
        wait_until(lambda: depth(rabbitmq, cluster.queue, OTHER_VHOST) == 0, 60, "an empty queue")
        assert depth(rabbitmq, DEAD, OTHER_VHOST) == 0
        # Only what was in a killed process's batch may have run twice.
        assert Counter(cluster.executions().values()).total() - len(unstored) <= killer.killed * cluster.batch
        assert killer.killed > 1
        settled = killer.memory[min(int(60 / SECONDS), len(killer.memory) // 3)]
        assert resident(killer.main) <= settled + GROWTH
