"""What Celery asks, by ``Task.Strategy``, for the handler of a task's messages."""

from __future__ import annotations

import logging
import os
from typing import TYPE_CHECKING, Any

from celery import signals
from celery.app import trace
from celery.utils.log import get_logger
from celery.worker import state
from celery.worker.strategy import default

from taskmill_worker import settings
from taskmill_worker.batching.eligibility import against_message, against_task, against_worker, limited
from taskmill_worker.batching.gatherer import Gatherer

if TYPE_CHECKING:
    from collections.abc import Callable

#: Celery's own: what it logs of a message that came stands under its name, whoever takes it.
received = get_logger("celery.worker.strategy")
logger = get_logger(__name__)


def batch_size() -> int:
    """Return the most messages of a batch; raise ``ValueError`` where the variable is no whole number of at least 1."""
    return settings.whole_number(os.environ, "CELERY_WORKER_BATCH", 1)


def batch_seconds() -> float:
    """Return how long a batch should take; raise ``ValueError`` where the variable is no number above 0."""
    return settings.seconds(os.environ, "CELERY_WORKER_BATCH_SECONDS", 0.05)


def strategy(task: Any, app: Any, consumer: Any, **options: Any) -> Callable[..., Any]:
    """Return the handler of messages of one task, as Celery's own strategy does (`celery.worker.strategy.default`)."""
    singly: Callable[..., Any] = default(task, app, consumer, **options)
    if batch_size() == 1 or against_worker(consumer):
        return singly
    gatherer = gatherer_of(consumer)
    # The channel is watched for the sake of the others, of which one may be taken into a batch.
    if against_task(task, consumer):
        return singly

    def handle(message: Any, body: Any, ack: Any, reject: Any, callbacks: Any) -> Any:
        if (
            body is not None
            or callbacks
            or against_message(message)
            # Remote control may have changed these since.
            or consumer.task_buckets[task.name] is not None
            or limited(task)
            or message.headers["id"] in state.revoked
            or signals.task_received.receivers
            or not gatherer.add(task, message)
        ):
            return singly(message, body, ack, reject, callbacks)
        if received.isEnabledFor(logging.INFO):
            log_received(task, message)
        return None

    return handle


def gatherer_of(consumer: Any) -> Gatherer:
    """Return the gatherer of a worker, which then watches the channel of its tasks."""
    gatherer: Gatherer | None = getattr(consumer, "gatherer", None)
    if gatherer is None:
        gatherer = consumer.gatherer = Gatherer(consumer, batch_size(), batch_seconds())
    gatherer.attach()
    return gatherer


def log_received(task: Any, message: Any) -> None:
    """Log that a message came, as Celery's own strategy does."""
    headers = message.headers
    context = {
        "id": headers["id"],
        "name": headers.get("shadow") or task.name,
        "args": headers.get("argsrepr", ""),
        "kwargs": headers.get("kwargsrepr", ""),
        "eta": None,
    }
    received.info(trace.LOG_RECEIVED, context, extra={"data": context})


def say_who_goes_how(sender: Any, **_: Any) -> None:
    """Log which tasks go in batches, and which singly and why; a receiver of the signal `worker_ready`."""
    most = batch_size()
    if most == 1:
        return
    reason = against_worker(sender)
    if reason:
        logger.warning("Tasks run singly, and not in batches, since %s.", reason)
        return
    ways: dict[str, list[str]] = {}
    for name, task in sorted(sender.app.tasks.items()):
        if not name.startswith("celery."):
            ways.setdefault(against_task(task, sender), []).append(name)
    for reason, names in sorted(ways.items()):
        if reason:
            # More than information: the worker was asked for batches.
            logger.warning("Tasks that run singly, since %s: %s", reason, ", ".join(names))
        else:
            logger.info("Tasks that run in batches of at most %d: %s", most, ", ".join(names))
