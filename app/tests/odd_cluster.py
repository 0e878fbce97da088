"""Workers of the app `odd` that take batches, as `test_batching` starts them."""

import importlib
import os
import sys
from collections import Counter
from pathlib import Path
from typing import Any
from unittest import mock

from celery.result import AsyncResult

from services import ADMIN, OTHER_VHOST, Memcached, RabbitMQ, Worker, wait_until

QUEUE = "red"


class Cluster:
    """Workers of the app `odd` that take batches, and what posts to them."""

    def __init__(self, rabbitmq: RabbitMQ, memcached: Memcached, folder: Path) -> None:
        """Start nothing yet."""
        self.rabbitmq = rabbitmq
        self.folder = folder
        self.log = folder / "executions"
        self.log.touch()
        self.environment = {
            "CELERY_BROKER_URL": rabbitmq.url(ADMIN, OTHER_VHOST),
            "CELERY_RESULT_BACKEND": memcached.url,
            "CELERY_WORKER_BATCH": "20",
            "CELERY_WORKER_BATCH_SECONDS": "10",
            "ODD_LOG": str(self.log),
        }
        self.workers: list[Worker] = []
        self._patch = mock.patch.dict(os.environ, self.environment)
        self._patch.start()
        # Anew for every test: the app reads its addresses once.
        sys.modules.pop("odd", None)
        self.tasks: Any = importlib.import_module("odd")
        self.app = self.tasks.app

    def start(self, *options: str, concurrency: int = 1) -> Worker:
        """Start a worker and wait until it consumes."""
        name = f"odd{len(self.workers)}"
        worker = Worker(
            name,
            self.environment,
            self.folder / f"{name}.log",
            app="odd",
            queues=[QUEUE],
            concurrency=concurrency,
            options=["--include=taskmill_worker", *options],
            directory=Path(__file__).parent,
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
        return task.apply_async(args, queue=QUEUE, **options)

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
