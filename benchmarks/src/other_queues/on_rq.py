"""rq with Redis: the worker without a fork per job, which its documentation names for jobs of milliseconds."""

from __future__ import annotations

import math
import os
from typing import TYPE_CHECKING, Any

from redis import Redis
from rq import Queue
from rq.results import Result

from fibonacci.recursion import fibonacci
from peers.peer import Peer, one_by_one, setting

if TYPE_CHECKING:
    from collections.abc import Sequence

#: Jobs that are posted in one round trip.
CHUNK = 500


def post(tasks: int, n: int) -> Sequence[Any]:
    """Post many jobs in one go, as its documentation has it for many."""
    queue = Queue("peers-rq", connection=Redis.from_url(setting("PEERS_REDIS_URL")))
    jobs: list[Any] = []
    while len(jobs) < tasks:
        count = min(CHUNK, tasks - len(jobs))
        jobs += queue.enqueue_many([Queue.prepare_data(fibonacci, (n,)) for _ in range(count)])
    return jobs


def get(job: Any, seconds: float) -> Any:
    """Wait in Redis for a result."""
    result = job.latest_result() or job.latest_result(timeout=math.ceil(seconds))
    if result is None or result.type != Result.Type.SUCCESSFUL:
        raise TimeoutError("no result" if result is None else str(result.exc_string))
    return result.return_value


def worker(processes: int) -> list[str]:
    """Tell the worker pool where Redis is by the environment: the address holds a password."""
    os.environ["RQ_REDIS_URL"] = setting("PEERS_REDIS_URL")
    pool = ["-m", "rq.cli", "worker-pool", "--num-workers", str(processes)]
    return [*pool, "--worker-class", "rq.SimpleWorker", "--quiet", "peers-rq"]


PEER = Peer(post=post, fetch=one_by_one(get), worker=worker)
