"""Hand tasks to pool processes in batches, store their results in one go and acknowledge them together.

It takes part in the prefork pool, where a worker asks for batches and its broker is RabbitMQ. Celery hands every
message to a pool process by itself, stores every result by itself and acknowledges every message by itself; for tasks
of a millisecond that costs more than the tasks. Here a pool process gets what has arrived, up to a number of messages,
to a time that they are expected to take, and to 1 MiB, so heavy tasks still go one by one.

| environment variable | meaning |
|---|---|
| `CELERY_WORKER_BATCH` | most messages of a batch; 1, the default, leaves all to Celery |
| `CELERY_WORKER_BATCH_SECONDS` | how long a batch should take; default 0.05 |

Late acknowledgement holds, for every message of the worker: one is acknowledged when its result is stored, and never
together with others while anything before it is not settled. (:mod:`taskmill_worker.batching.machine` decides that, and
:mod:`taskmill_worker.batching.channel` tells it of every message, whoever handles it.) When a pool process dies, every
message of its batch goes back to its queue, and whatever is delivered once more takes Celery's own way, one by one.

So does every message that asks for more than to be run: with an ETA, an expiry, a time limit, stamps, retries, as part
of a group, and of any protocol but 2 in JSON. A task goes singly with a time limit, a rate limit, early
acknowledgement, `reject_on_worker_lost` off, or a Request or Strategy of its own. All do where the worker has time
limits or `max_tasks_per_child`, and where receivers of `task_received` want Celery's own request. A worker that is
ready says in its log which tasks go in batches, and which singly and why.

While batches are short, more messages are reserved than the app's settings say: 20,000 at most, and none while the
worker holds 64 MiB of them.

The tasks of a batch run in Celery's own tracer: signals, failures, retries, callbacks and chains are as ever. What is
different: a task that is handed out in a batch is no longer revoked, though its turn may be to come. With `terminate`
it is: the process of its batch ends, and the rest of the batch is delivered once more.
"""

from __future__ import annotations

from typing import Any

from celery import signals
from celery.app.task import Context, Task

from taskmill_worker.batching import pool, strategy
from taskmill_worker.batching.eligibility import STRATEGY

__all__ = ["install", "pool", "strategy"]


def install(_app: Any) -> None:
    """Have every task of this process take part where it may."""
    # Not the app's own class alone: a task's base may come from `celery.Task` itself.
    Task.Strategy = STRATEGY
    Context._get_custom_headers = pool.custom_headers
    signals.worker_ready.connect(strategy.say_who_goes_how)
