"""rq with Redis: the worker without a fork per job, which its documentation names for jobs of milliseconds."""

from __future__ import annotations

import math
import os
from typing import TYPE_CHECKING, Any

from redis import Redis
from rq import Queue
from rq.results import Result

from fibonacci.recursion import fibonacci
from other_queues.subject import Subject, one_by_one, setting

if TYPE_CHECKING:
    from collections.abc import Sequence

#: Jobs that are enqueued in one round trip.
CHUNK = 500


def publish(tasks: int, n: int) -> Sequence[Any]:
    """Enqueue many jobs in one round trip, as its documentation advises."""
    queue = Queue("other-queues-rq", connection=Redis.from_url(setting("OTHER_QUEUES_REDIS_URL")))
    jobs: list[Any] = []
    while len(jobs) < tasks:
        count = min(CHUNK, tasks - len(jobs))
        jobs += queue.enqueue_many([Queue.prepare_data(fibonacci, (n,)) for _ in range(count)])
    return jobs


def get(job: Any, seconds: float) -> Any:
    """Wait for a result in Redis."""
    result = job.latest_result() or job.latest_result(timeout=math.ceil(seconds))
    if result is None or result.type != Result.Type.SUCCESSFUL:
        raise TimeoutError("no result" if result is None else str(result.exc_string))
    return result.return_value


def worker(processes: int) -> list[str]:
    """Return the command of the worker pool; the environment says where Redis is, since the URL holds a password."""
    os.environ["RQ_REDIS_URL"] = setting("OTHER_QUEUES_REDIS_URL")
    pool = ["-m", "rq.cli", "worker-pool", "--num-workers", str(processes)]
    return [*pool, "--worker-class", "rq.SimpleWorker", "--quiet", "other-queues-rq"]


SUBJECT = Subject(publish=publish, fetch=one_by_one(get), worker=worker)
