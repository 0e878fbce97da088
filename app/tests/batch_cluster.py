"""Workers of one of the tests' apps that take batches, and what publishes to them."""

import contextlib
import importlib
import os
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TypeVar
from unittest import mock

from celery.result import AsyncResult

from services import ADMIN, DEAD, OTHER_VHOST, Memcached, RabbitMQ, Worker, purge_queue, wait_until

C = TypeVar("C", bound="Cluster")


class Cluster:
    """Workers of an app that take batches from a queue, and what publishes to them."""

    #: The module of the app, which keeps notes (:mod:`notes`).
    module = "odd"
    queue = "red"
    batch = 20
    batch_seconds = 10

    def __init__(self, rabbitmq: RabbitMQ, memcached: Memcached, folder: Path) -> None:
        """Start nothing yet."""
        self.rabbitmq = rabbitmq
        self.folder = folder
        self.log = folder / "executions"
        self.log.touch()
        self.environment = {
            "CELERY_BROKER_URL": rabbitmq.url(ADMIN, OTHER_VHOST),
            "CELERY_RESULT_BACKEND": memcached.url,
            "CELERY_WORKER_BATCH": str(self.batch),
            "CELERY_WORKER_BATCH_SECONDS": str(self.batch_seconds),
            "TASK_NOTES": str(self.log),
        }
        self.workers: list[Worker] = []
        self._patch = mock.patch.dict(os.environ, self.environment)
        self._patch.start()
        # Anew for every test: the app reads its addresses once.
        sys.modules.pop(self.module, None)
        self.tasks: Any = importlib.import_module(self.module)
        self.app = self.tasks.app

    def start(self, *options: str, concurrency: int = 1) -> Worker:
        """Start a worker and wait until it consumes."""
        name = f"{self.module}{len(self.workers)}"
        worker = Worker(
            name,
            self.environment,
            self.folder / f"{name}.log",
            app=self.module,
            queues=[self.queue],
            concurrency=concurrency,
            options=["--include=taskmill_worker", *options],
        )
        self.workers.append(worker)
        worker.start()
        wait_until(worker.ready, 60, f"worker {name} ready")
        return worker

    def executions(self) -> Counter[str]:
        """Return how often each task ran, by what it noted."""
        return Counter(self.log.read_text().splitlines())

    def post(self, task: Any, *args: Any, **options: Any) -> AsyncResult:
        """Post one task."""
        return task.apply_async(args, queue=self.queue, **options)

    def say(self, line: str) -> None:
        """Write a line that a task waits for."""
        with self.log.open("a") as log:
            log.write(f"{line}\n")

    def ask(self, what: str) -> Any:
        """Return what the one worker answers; it is asked again when the question, or its answer, is lost."""
        answers: list[Any] = []

        def asked() -> bool:
            answers[:] = (getattr(self.app.control.inspect(timeout=10, limit=1), what)() or {}).values()
            return bool(answers)

        wait_until(asked, 60, f"the worker's answer to {what}")
        return answers[0]

    def end(self) -> None:
        """End the workers, and forget the connections that the app made."""
        for worker in self.workers:
            worker.stop()
        self.app.close()
        self._patch.stop()


@contextlib.contextmanager
def cluster_of(kind: type[C], rabbitmq: RabbitMQ, memcached: Memcached, folder: Path) -> Iterator[C]:
    """Yield a cluster without workers, and empty queues; they are empty afterwards, too."""
    for queue in (kind.queue, DEAD):
        purge_queue(rabbitmq, queue, OTHER_VHOST)
    cluster = kind(rabbitmq, memcached, folder)
    try:
        yield cluster
    finally:
        cluster.end()
        for queue in (kind.queue, DEAD):
            purge_queue(rabbitmq, queue, OTHER_VHOST)
