"""taskiq with Redis streams, which acknowledge, and results in Redis."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from taskiq_redis import RedisAsyncResultBackend, RedisStreamBroker

from fibonacci.recursion import fibonacci
from peers.peer import Deadline, Peer, setting

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

#: Tasks that are posted, and results that are waited for, at the same time.
CHUNK = 100

broker = RedisStreamBroker(url=setting("PEERS_REDIS_URL"), queue_name="peers-taskiq").with_result_backend(
    RedisAsyncResultBackend(redis_url=setting("PEERS_REDIS_URL"))
)


@broker.task
async def compute(n: int) -> int:
    """Compute."""
    return fibonacci(n)


loop = asyncio.new_event_loop()


async def post_all(tasks: int, n: int) -> list[Any]:
    """Post, some at the same time."""
    await broker.startup()
    handles: list[Any] = []
    while len(handles) < tasks:
        count = min(CHUNK, tasks - len(handles))
        handles += await asyncio.gather(*(compute.kiq(n) for _ in range(count)))
    return handles


def post(tasks: int, n: int) -> Sequence[Any]:
    """Post in the loop that the results are fetched in."""
    return loop.run_until_complete(post_all(tasks, n))


async def get_some(handles: Sequence[Any], seconds: float) -> list[Any]:
    """Wait for some results at the same time."""
    waits = (handle.wait_result(check_interval=0.01, timeout=seconds) for handle in handles)
    return await asyncio.gather(*waits, return_exceptions=True)


def fetch(handles: Sequence[Any], deadline: Deadline) -> Iterator[Any]:
    """Ask for some at the same time."""
    for first in range(0, len(handles), CHUNK):
        some = handles[first : first + CHUNK]
        if deadline.over:
            yield from (TimeoutError() for _ in some)
            continue
        for result in loop.run_until_complete(get_some(some, deadline.left)):
            if isinstance(result, Exception):
                yield result
            else:
                yield result.error if result.is_err else result.return_value


PEER = Peer(
    post=post,
    fetch=fetch,
    worker=lambda processes: [
        "-m",
        "taskiq",
        "worker",
        "peers.on_taskiq:broker",
        f"--workers={processes}",
        "--log-level=WARNING",
    ],
)
