"""Celery as in the first steps of its documentation: ten threads call ``delay``, and ``get`` fetches each result."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

from celery import Celery

from fibonacci.recursion import fibonacci
from other_queues.subject import Subject, one_by_one, setting

if TYPE_CHECKING:
    from collections.abc import Sequence

THREADS = 10

app = Celery(
    "other_queues.plain_celery",
    broker=setting("OTHER_QUEUES_AMQP_URL"),
    backend=f"cache+memcached://{setting('OTHER_QUEUES_MEMCACHED')}/",
)
app.conf.task_default_queue = "other-queues-celery"


@app.task
def compute(n: int) -> int:
    """Compute."""
    return fibonacci(n)


def publish(tasks: int, n: int) -> Sequence[Any]:
    """Publish from ten threads, as the article does."""
    with ThreadPoolExecutor(THREADS) as pool:
        return list(pool.map(lambda _: compute.delay(n), range(tasks)))


SUBJECT = Subject(
    publish=publish,
    fetch=one_by_one(lambda handle, seconds: handle.get(timeout=seconds, interval=0.01)),
    worker=lambda processes: [
        "-m",
        "celery",
        "--app=other_queues.plain_celery",
        "worker",
        f"--concurrency={processes}",
        "--loglevel=warning",
    ],
)
