"""A Celery app with tasks that store no result, and two that do; FORGETFUL_BACKEND is its result backend, if any."""

import os
import time

from celery import Celery, Task
from kombu import Queue

app = Celery("forgetful", broker=os.environ.get("CELERY_BROKER_URL"), backend=os.environ.get("FORGETFUL_BACKEND"))
app.conf.update(
    task_acks_late=True,
    broker_connection_retry_on_startup=True,
    # The broker has it already.
    task_queues=[Queue("red", routing_key="red", no_declare=True)],
    task_default_exchange="",
)
app.loader.override_backends = {"cache": "taskmill_worker.memcached_backend:MemcachedBackend"}


@app.task(ignore_result=True)  # type: ignore[untyped-decorator]  # Celery carries no types
def forget(number: int, seconds: float = 0) -> int:
    """Return a value that nobody keeps."""
    time.sleep(seconds)
    return number


@app.task(ignore_result=True, store_errors_even_if_ignored=True)  # type: ignore[untyped-decorator]  # as above
def forget_unless_it_fails(number: int) -> int:
    """Raise."""
    raise ValueError(f"no {number}")


@app.task  # type: ignore[untyped-decorator]  # as above
def keep(number: int, seconds: float = 0) -> int:
    """Return a value that is stored."""
    time.sleep(seconds)
    return number


@app.task(bind=True)  # type: ignore[untyped-decorator]  # as above
def hand_on(self: Task, number: int, seconds: float = 0) -> None:
    """Have another task take this one's place, which stores the value."""
    self.replace(keep.si(number, seconds).set(queue="red"))
