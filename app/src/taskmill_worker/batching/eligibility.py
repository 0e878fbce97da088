"""Which messages and tasks may go in batches: those that ask for no more than to be run."""

from __future__ import annotations

from typing import Any

from celery.worker import state
from kombu.serialization import prepare_accept_content

JSON = "application/json"
#: Headers that say that a message asks for more than to be run.
SPECIAL = ("eta", "expires", "retries", "group", "stamped_headers", "ignore_result")
NO_LIMITS = (None, [None, None], (None, None))


def plain(message: Any) -> bool:
    """Say whether a message asks for no more than that its task be run."""
    headers = message.headers
    return (
        message.content_type == JSON
        and message.body[:1] in (b"[", "[")
        and not message.delivery_info.get("redelivered")
        and headers.get("timelimit") in NO_LIMITS
        and not any(headers.get(name) for name in SPECIAL)
        and "id" in headers
        and headers["id"] not in state.revoked
    )


def unlimited(task: Any, consumer: Any) -> bool:
    """Say whether tasks of this kind may run in batches in this worker."""
    worker = consumer.controller
    limits = [
        worker.time_limit,
        worker.soft_time_limit,
        worker.max_tasks_per_child,
        task.time_limit,
        task.soft_time_limit,
    ]
    return bool(task.acks_late) and not any(limits) and JSON in prepare_accept_content(consumer.app.conf.accept_content)
