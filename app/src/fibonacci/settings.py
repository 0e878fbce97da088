"""Celery settings, read from the environment when they are first needed, never at import time.

| variable | meaning |
|---|---|
| ``CELERY_BROKER_URL`` | ``amqp://USER:PASSWORD@HOST:5672/VHOST``; required |
| ``CELERY_RESULT_BACKEND`` | ``cache+memcached://HOST:11211/``, several hosts parted by ``;``; required |
| ``CELERY_RESULT_EXPIRES`` | seconds a result is kept; default 86400 |
"""

import os
from collections.abc import Mapping
from typing import Any

from celery.exceptions import ImproperlyConfigured
from kombu import Queue

#: One task per queue; the broker declares queues of these names.
QUEUES = ("red", "green", "blue")


def required(environ: Mapping[str, str], name: str) -> str:
    """Return the variable ``name``; raise ``ImproperlyConfigured`` with the place that sets it when it is missing."""
    value = environ.get(name, "")
    if not value:
        raise ImproperlyConfigured(
            f"{name} is not set. A worker's systemd unit reads it from /etc/celery/WORKER.env; "
            f"by hand: set -a; . /etc/celery/WORKER.env; set +a"
        )
    return value


def positive(environ: Mapping[str, str], name: str, default: int) -> int:
    """Return the variable ``name`` as a whole number of at least 1, or ``default`` when it is not set."""
    text = environ.get(name, "") or str(default)
    if not text.isdecimal() or int(text) < 1:
        raise ImproperlyConfigured(f"{name} must be a whole number of at least 1, not {text!r}")
    return int(text)


def from_environment(environ: Mapping[str, str] | None = None) -> dict[str, Any]:
    """Return Celery's settings as a dict of its lower-case names; raise ``ImproperlyConfigured`` on bad input."""
    environ = os.environ if environ is None else environ
    return {
        "broker_url": required(environ, "CELERY_BROKER_URL"),
        "broker_connection_retry_on_startup": True,
        "result_backend": required(environ, "CELERY_RESULT_BACKEND"),
        "result_expires": positive(environ, "CELERY_RESULT_EXPIRES", 86400),
        # A result that memcached does not take is tried again, not dropped: see results.py.
        "result_backend_always_retry": True,
        "result_backend_max_retries": 30,
        "task_serializer": "json",
        "result_serializer": "json",
        "accept_content": ["json"],
        "result_accept_content": ["json"],
        "task_acks_late": True,
        "task_reject_on_worker_lost": True,
        # The broker's role declares the queues (durable, classic, no arguments, bound to the default exchange by
        # their name). Workers and clients use them and may not create or change them, so a mistyped name is an error.
        "task_queues": [Queue(name, routing_key=name, durable=True, no_declare=True) for name in QUEUES],
        "task_create_missing_queues": False,
        "task_default_queue": QUEUES[0],
        "task_routes": {f"fibonacci.tasks.{name}": {"queue": name} for name in QUEUES},
        "worker_send_task_events": False,
    }
