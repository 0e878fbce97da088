"""Reject what no worker can run, so that the broker keeps it as a dead letter; park a task that kills its process.

For any app. The queues need a dead-letter exchange (a policy of the broker will do): without one, the broker drops what
is rejected.

What is rejected, without requeueing: a message that cannot be decoded or whose content type is refused (Celery
acknowledges it, and it is gone), one that is no task message or a broken one (some of these end Celery's worker), and
one of a task that is not known here. Each is one line in the log: why, id, task, exchange, routing key, content type
and size, and nothing of its content. Where there is an id, the task's result says so too, and nobody waits for it in
vain. Wrong arguments are the task's own failure (TypeError), as ever.

What is parked, and when, says :mod:`taskmill_worker.parking`.

| environment variable | meaning |
|---|---|
| `CELERY_WORKER_REDELIVERIES` | how often the process of a redelivered task may be lost; default 3 |

Runs with Celery 3.1 to 5 on Python 2.7 and 3.
"""

import functools
import os
import sys
import traceback

from celery import current_app, signals, states
from celery.app.task import Context
from celery.exceptions import NotRegistered
from celery.utils.log import get_logger
from celery.worker.consumer import Consumer

from taskmill_worker import parking
from taskmill_worker.settings import whole_number

logger = get_logger(__name__)
#: Most characters of a value from a message that a log line quotes.
QUOTE = 100
#: What a message that is not as Celery expects it makes Celery's own code raise.
BROKEN = (LookupError, TypeError, ValueError, AttributeError)


class Refused(Exception):  # noqa: N818  # its name is what a client reads of it
    """The message is none that a worker can run."""


def most_redeliveries(environ):
    """Return how often the process of a redelivered task may be lost; raise ``ValueError`` with the variable's name."""
    return whole_number(environ, "CELERY_WORKER_REDELIVERIES", 3)


def identity(message):
    """Return id and task of a message, each ``None`` where it does not say."""
    fields = message.headers
    if not isinstance(fields, dict) or "task" not in fields:
        # Protocol 1 has them in its body.
        try:
            fields = message.payload
        except Exception:  # noqa: BLE001  # that it cannot be decoded is known already
            fields = None
    if not isinstance(fields, dict):
        return None, None
    return fields.get("id"), fields.get("task")


def quote(value):
    """Return a value of a message for a line of the log."""
    text = repr(value)
    return text if len(text) <= QUOTE else text[:QUOTE] + "..."


def reject(consumer, message, why, outcome):
    """Make a message a dead letter: keep `outcome` as the result of its task, and say why in one line."""
    task_id, task = identity(message)
    delivery = message.delivery_info or {}
    logger.error(
        "A message is rejected: %s. id=%s task=%s exchange=%s routing_key=%s content_type=%s bytes=%d",
        why,
        quote(task_id),
        quote(task),
        quote(delivery.get("exchange")),
        quote(delivery.get("routing_key")),
        quote(message.content_type),
        len(message.body or b""),
    )
    message.reject_log_error(logger, consumer.connection_errors)
    if not task_id:
        return
    if consumer.event_dispatcher:
        # Not its own repr: that of NotRegistered is a sentence, and Celery has name and arguments here.
        exception = "{}({})".format(type(outcome).__name__, ", ".join(map(repr, outcome.args)))
        consumer.event_dispatcher.send("task-failed", uuid=task_id, exception=exception)
    properties = message.properties or {}
    # By a pool process: the worker's main process, where this is, has a broker to answer.
    consumer.pool.apply_async(
        keep,
        args=(task_id, outcome, properties.get("reply_to"), properties.get("correlation_id")),
        # Pools without processes call it, asked for or not.
        callback=nothing,
    )


def nothing(_):
    """Do nothing with the outcome of a call."""


def keep(task_id, outcome, reply_to, correlation_id):
    """Store a failure as the result of a task; a result backend that is away does not matter."""
    backend = current_app.backend
    request = Context(id=task_id, reply_to=reply_to, correlation_id=correlation_id)
    try:
        if hasattr(backend, "_store_result"):
            # Not `store_result`: where that tries again, the pool process would be kept from its tasks.
            encoded = backend.encode_result(outcome, states.FAILURE)
            backend._store_result(task_id, encoded, states.FAILURE, request=request)
        else:
            # RPC sends the result to who waits for it, and without a backend there is none.
            backend.store_result(task_id, outcome, states.FAILURE, request=request)
    except Exception as error:  # noqa: BLE001  # of whatever kind the backend raises
        logger.warning("The result of task %s cannot be stored: %s", quote(task_id), type(error).__name__)


def tell(signal, consumer, message, **fields):
    """Send a signal that this Celery has."""
    if hasattr(signals, signal):
        getattr(signals, signal).send(sender=consumer, message=message, **fields)


def on_decode_error(self, message, exc):
    """Take the place of Celery's method, which acknowledges the message."""
    why = "its body cannot be decoded ({})".format(type(exc).__name__)
    reject(self, message, why, Refused("its message could not be decoded"))


def on_unknown_message(self, _body, message):
    """Take the place of Celery's method, which logs the body."""
    reject(self, message, "it is no task message", Refused("its message was none of a task"))
    tell("task_rejected", self, message, exc=None)


def on_unknown_task(self, _body, message, exc):
    """Take the place of Celery's method, which logs the body, and stores no result before Celery 4."""
    task_id, task = identity(message)
    reject(self, message, "no such task is registered in this worker", NotRegistered(task))
    tell("task_unknown", self, message, exc=exc, name=task, id=task_id)


def on_invalid_task(self, _body, message, exc):
    """Take the place of Celery's method, which logs the body, and stores no result."""
    why = "its task message is not valid ({})".format(type(exc).__name__)
    reject(self, message, why, Refused("its message was not valid"))
    tell("task_rejected", self, message, exc=exc)


def limits_are_broken(message):
    """Say whether a message has time limits that would end the worker later, when they are looked at."""
    limits = message.headers.get("timelimit") if isinstance(message.headers, dict) else None
    if limits is None:
        return False
    return not (
        isinstance(limits, (list, tuple))
        and len(limits) == 2
        and all(limit is None or isinstance(limit, (int, float)) for limit in limits)
    )


def is_begun(stack):
    """Say whether an error comes out of a task, which a pool without processes or threads runs here and now."""
    return any(frame[2] == "execute_using_pool" for frame in traceback.extract_tb(stack))


def guarded(create_task_handler):
    """Return the consumer's method that makes the handler of messages, with what must not reach it taken out first."""

    @functools.wraps(create_task_handler)
    def create(self, *args, **kwargs):
        handle = create_task_handler(self, *args, **kwargs)

        def on_task_received(*received):
            # Celery 3.1 hands over the decoded body too, before the message.
            message = received[-1]
            try:
                if limits_are_broken(message):
                    raise ValueError("time limits")
                return handle(*received)
            except self.connection_errors:
                raise
            except BROKEN as error:
                if message.acknowledged or is_begun(sys.exc_info()[2]):
                    raise
                return self.on_invalid_task(None, message, error)

        return on_task_received

    return create


def install(app):
    """Have every consumer of this process reject what it cannot run, and have tasks parked."""
    parking.install(app, most_redeliveries(os.environ))
    for method in (on_decode_error, on_unknown_message, on_unknown_task, on_invalid_task):
        setattr(Consumer, method.__name__, method)
    Consumer.create_task_handler = guarded(Consumer.create_task_handler)
