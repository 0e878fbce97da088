"""huey with Redis, worker processes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from huey import RedisHuey

from fibonacci.recursion import fibonacci
from peers.peer import Peer, one_by_one, setting

if TYPE_CHECKING:
    from collections.abc import Sequence

huey = RedisHuey("peers-huey", url=setting("PEERS_REDIS_URL"))


@huey.task()
def compute(n: int) -> int:
    """Compute."""
    return fibonacci(n)


def post(tasks: int, n: int) -> Sequence[Any]:
    """Post one task after the other, as calling it does."""
    return [compute(n) for _ in range(tasks)]


PEER = Peer(
    post=post,
    fetch=one_by_one(lambda result, seconds: result.get(blocking=True, timeout=seconds, backoff=1.0, max_delay=0.01)),
    worker=lambda processes: [
        "-m",
        "huey.bin.huey_consumer",
        "peers.on_huey.huey",
        f"--workers={processes}",
        "--worker-type=process",
        "--quiet",
    ],
)
