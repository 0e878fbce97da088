"""Hand tasks to pool processes in batches, store their results in one go and acknowledge them together.

It takes part in the prefork pool, where a worker asks for batches. Celery hands every message to a pool process by
itself, stores every result by itself and acknowledges every message by itself; for tasks of a millisecond that costs
more than the tasks. Here a pool process gets what has arrived, up to a number of messages and to a time that they are
expected to take, so heavy tasks still go one by one.

| environment variable | meaning |
|---|---|
| `CELERY_WORKER_BATCH` | most messages of a batch; 1, the default, leaves all to Celery |
| `CELERY_WORKER_BATCH_SECONDS` | how long a batch should take; default 0.05 |

Late acknowledgement holds: a message is acknowledged when its result is stored. When a pool process dies, or results
cannot be stored, every message of the batch goes back to its queue, and whatever is delivered once more takes Celery's
own way, one by one. So does every message that asks for more than to be run: with an ETA, an expiry, time limits,
retries, as part of a group, of a task with a rate limit or early acknowledgement, and of any protocol but 2 in JSON.
With time limits or `max-tasks-per-child` of the whole worker, everything does.

The tasks of a batch run in Celery's own tracer: signals, failures, retries, callbacks and chains are as ever. What is
different: a chain goes on before its predecessor's result is stored (by a batch at most), and a task that is in a batch
already can no longer be revoked, nor terminated.
"""

from __future__ import annotations

from typing import Any

from celery.app.task import Context
from celery.backends.base import KeyValueStoreBackend
from celery.utils.log import get_logger

from taskmill_worker.batching import inspection, pool, strategy

__all__ = ["inspection", "install", "pool", "strategy"]

logger = get_logger(__name__)


def install(app: Any) -> None:
    """Have every task of `app` take part; say so where its result backend cannot."""
    if not isinstance(app.backend, KeyValueStoreBackend):
        logger.warning("Tasks run one by one: the result backend %s has no keys.", type(app.backend).__name__)
        return
    app.Task.Strategy = f"{strategy.__name__}:strategy"
    Context._get_custom_headers = pool.custom_headers
