"""Which messages and tasks may go in batches, and why the others may not."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from amqp import Channel
from celery import signals
from celery.concurrency.prefork import TaskPool
from kombu.serialization import prepare_accept_content

if TYPE_CHECKING:
    from collections.abc import Iterator

JSON = "application/json"
#: What says in a task's `Strategy` that its messages come here.
STRATEGY = "taskmill_worker.batching.strategy:strategy"
#: Where Celery's own request is, in a task's `Request`.
REQUEST = "celery.worker.request:Request"
NO_LIMITS = (None, [None, None], (None, None))


def against_message(message: Any) -> str:
    """Return why a message goes singly; empty where it asks for no more than that its task be run."""
    headers = message.headers
    if message.content_type != JSON or message.body[:1] not in (b"[", "["):
        return "it is not in JSON of protocol 2"
    if message.delivery_info.get("redelivered"):
        return "it was redelivered"
    if headers.get("timelimit") not in NO_LIMITS:
        return "it has a time limit"
    get = headers.get
    if get("eta") or get("expires") or get("retries") or get("group") or get("stamped_headers"):
        return "it has an ETA, an expiry, retries, a group or stamps"
    return "" if "id" in headers else "it has no id"


def limited(task: Any) -> bool:
    """Say whether a task has a time limit, which remote control may have given it."""
    return bool(task.time_limit or task.soft_time_limit)


def against_task(task: Any, consumer: Any) -> str:
    """Return why all messages of a task go singly in this worker, as what follows "since"; empty where they do not."""
    return next(_against_task(task, consumer), "")


def _against_task(task: Any, consumer: Any) -> Iterator[str]:
    if task.Strategy != STRATEGY:
        yield "they have a Strategy of their own"
    if task.Request != REQUEST:
        yield "they have a Request of their own"
    if not task.acks_late:
        yield "they are acknowledged before they run (acks_late is off)"
    # What stands in a batch with one that kills its process runs once more.
    if not task.reject_on_worker_lost:
        yield "they are not to run once more when their process is lost (reject_on_worker_lost is off)"
    if getattr(task, "retry_on_worker_lost", False):
        yield "they are retried when their process is lost (retry_on_worker_lost)"
    if limited(task):
        yield "they have a time limit"
    if consumer.task_buckets[task.name] is not None:
        yield "they have a rate limit"


def against_worker(consumer: Any) -> str:
    """Return why no task of this worker goes in a batch, as what follows "since"; empty where some may."""
    return next(_against_worker(consumer), "")


def _against_worker(consumer: Any) -> Iterator[str]:
    app, worker = consumer.app, consumer.controller
    if not isinstance(consumer.pool, TaskPool):
        yield f"only the prefork pool takes batches, and this one is {type(consumer.pool).__module__.split('.')[-1]}"
    elif consumer.hub is None:
        yield "the prefork pool has no event loop here"
    elif not isinstance(consumer.connection.default_channel, Channel):
        yield f"only RabbitMQ takes acknowledgements in batches, and the broker is {consumer.connection.transport_cls}"
    if worker.time_limit or worker.soft_time_limit:
        yield "the worker has a time limit for each task"
    if worker.max_tasks_per_child:
        yield "the worker replaces its processes after a number of tasks (max_tasks_per_child)"
    if signals.task_received.receivers:
        yield "receivers of task_received want Celery's own request of each"
    if JSON not in prepare_accept_content(app.conf.accept_content):
        yield "the app does not accept JSON"
