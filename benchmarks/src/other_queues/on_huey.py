"""huey with Redis, worker processes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from huey import RedisHuey

from fibonacci.recursion import fibonacci
from other_queues.subject import Subject, one_by_one, setting

if TYPE_CHECKING:
    from collections.abc import Sequence

huey = RedisHuey("other-queues-huey", url=setting("OTHER_QUEUES_REDIS_URL"))


@huey.task()
def compute(n: int) -> int:
    """Compute."""
    return fibonacci(n)


def publish(tasks: int, n: int) -> Sequence[Any]:
    """Publish one task after the other by calling it."""
    return [compute(n) for _ in range(tasks)]


SUBJECT = Subject(
    publish=publish,
    fetch=one_by_one(lambda result, seconds: result.get(blocking=True, timeout=seconds, backoff=1.0, max_delay=0.01)),
    worker=lambda processes: [
        "-m",
        "huey.bin.huey_consumer",
        "other_queues.on_huey.huey",
        f"--workers={processes}",
        "--worker-type=process",
        "--quiet",
    ],
)
