"""taskiq with Redis streams, which acknowledge, and results in Redis."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from taskiq_redis import RedisAsyncResultBackend, RedisStreamBroker

from fibonacci.recursion import fibonacci
from other_queues.subject import Deadline, Subject, setting

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

#: Tasks that are published, and results that are waited for, at the same time.
CHUNK = 100

broker = RedisStreamBroker(url=setting("OTHER_QUEUES_REDIS_URL"), queue_name="other-queues-taskiq").with_result_backend(
    RedisAsyncResultBackend(redis_url=setting("OTHER_QUEUES_REDIS_URL"))
)


@broker.task
async def compute(n: int) -> int:
    """Compute."""
    return fibonacci(n)


loop = asyncio.new_event_loop()


async def publish_all(tasks: int, n: int) -> list[Any]:
    """Publish ``CHUNK`` tasks at the same time."""
    await broker.startup()
    handles: list[Any] = []
    while len(handles) < tasks:
        count = min(CHUNK, tasks - len(handles))
        handles += await asyncio.gather(*(compute.kiq(n) for _ in range(count)))
    return handles


def publish(tasks: int, n: int) -> Sequence[Any]:
    """Publish in the event loop that fetches the results."""
    return loop.run_until_complete(publish_all(tasks, n))


async def get_some(handles: Sequence[Any], seconds: float) -> list[Any]:
    """Wait for some results at the same time; return each one, or the exception in its place."""
    waits = (handle.wait_result(check_interval=0.01, timeout=seconds) for handle in handles)
    return await asyncio.gather(*waits, return_exceptions=True)


def fetch(handles: Sequence[Any], deadline: Deadline) -> Iterator[Any]:
    """Yield the results, ``CHUNK`` of which are asked for at the same time."""
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


SUBJECT = Subject(
    publish=publish,
    fetch=fetch,
    worker=lambda processes: [
        "-m",
        "taskiq",
        "worker",
        "other_queues.on_taskiq:broker",
        f"--workers={processes}",
        "--log-level=WARNING",
    ],
)
