"""What Celery asks, by ``Task.Strategy``, for the handler of a task's messages."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from celery import signals
from celery.app.trace import LOG_RECEIVED
from celery.utils.log import get_logger
from celery.worker.strategy import default

from taskmill_worker.batching.eligibility import plain, unlimited
from taskmill_worker.batching.gatherer import Gatherer

if TYPE_CHECKING:
    from collections.abc import Callable

logger = get_logger(__name__)


def number(name: str, default: str) -> float:
    """Return an environment variable as a number above 0; raise ``ValueError`` with its name."""
    text = os.environ.get(name) or default
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not value > 0:
        raise ValueError(f"{name} must be a number above 0, not {text!r}")
    return value


def strategy(task: Any, app: Any, consumer: Any, **options: Any) -> Callable[..., Any]:
    """Return the handler of messages of one task, as Celery's own strategy does (`celery.worker.strategy.default`)."""
    singly: Callable[..., Any] = default(task, app, consumer, **options)
    most = int(number("CELERY_WORKER_BATCH", "1"))
    # Only the prefork pool has an event loop and processes.
    if most == 1 or consumer.hub is None or not unlimited(task, consumer):
        return singly
    gatherer = getattr(consumer, "gatherer", None)
    if gatherer is None or gatherer.closed:
        gatherer = consumer.gatherer = Gatherer(consumer, most, number("CELERY_WORKER_BATCH_SECONDS", "0.05"))

    def handle(message: Any, body: Any, ack: Any, reject: Any, callbacks: Any) -> Any:
        if (
            body is None
            and not callbacks
            and plain(message)
            and consumer.task_buckets[task.name] is None
            and not signals.task_received.receivers
        ):
            logger.info(LOG_RECEIVED, {"id": message.headers["id"], "name": task.name})
            return gatherer.add(task, message)
        gatherer.hold(message)
        return singly(message, body, ack, reject, callbacks)

    return handle
