"""Celery as it comes: the first steps of its documentation, ten threads calling ``delay``, results by ``get``."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

from celery import Celery

from fibonacci.recursion import fibonacci
from peers.peer import Peer, one_by_one, setting

if TYPE_CHECKING:
    from collections.abc import Sequence

THREADS = 10

app = Celery(
    "peers.plain_celery", broker=setting("PEERS_AMQP_URL"), backend=f"cache+memcached://{setting('PEERS_MEMCACHED')}/"
)
app.conf.task_default_queue = "peers-celery"


@app.task
def compute(n: int) -> int:
    """Compute."""
    return fibonacci(n)


def post(tasks: int, n: int) -> Sequence[Any]:
    """Post from ten threads, as the post did."""
    with ThreadPoolExecutor(THREADS) as pool:
        return list(pool.map(lambda _: compute.delay(n), range(tasks)))


PEER = Peer(
    post=post,
    fetch=one_by_one(lambda handle, seconds: handle.get(timeout=seconds, interval=0.01)),
    worker=lambda processes: [
        "-m",
        "celery",
        "--app=peers.plain_celery",
        "worker",
        f"--concurrency={processes}",
        "--loglevel=warning",
    ],
)
