"""Celery settings, read from the environment when they are first needed, never at import time.

| variable | meaning |
|---|---|
| ``CELERY_BROKER_URL`` | ``amqp://USER:PASSWORD@HOST:5672/VHOST``; required |
| ``CELERY_RESULT_BACKEND`` | ``cache+memcached://HOST:11211/``, several hosts parted by ``;``; required |
| ``CELERY_RESULT_EXPIRES`` | seconds a result is kept; default 86400 |
"""

from __future__ import absolute_import

import os
import re

import celery
from celery.exceptions import ImproperlyConfigured
from kombu import Queue

from fibonacci.celery31 import old_names

MYPY = False
if MYPY:  # for the types in comments; Python 2.7 has neither of them
    from collections.abc import Mapping  # noqa: F401
    from typing import Any  # noqa: F401

#: One task per queue; the broker declares queues of these names.
QUEUES = ("red", "green", "blue")


def required(environ, name):
    # type: (Mapping[str, str], str) -> str
    """Return the variable ``name``; raise ``ImproperlyConfigured`` with the place that sets it when it is missing."""
    value = environ.get(name, "")
    if not value:
        raise ImproperlyConfigured(
            "{} is not set. A worker's systemd unit reads it from /etc/celery/WORKER.env; "
            "by hand: set -a; . /etc/celery/WORKER.env; set +a".format(name)
        )
    return value


def positive(environ, name, default):
    # type: (Mapping[str, str], str, int) -> int
    """Return the variable ``name`` as a whole number of at least 1, or ``default`` when it is not set."""
    text = environ.get(name, "") or str(default)
    if not re.match("0*[1-9][0-9]*$", text):
        raise ImproperlyConfigured("{} must be a whole number of at least 1, not {!r}".format(name, text))
    return int(text)


def from_environment(environ=None):
    # type: (Mapping[str, str] | None) -> dict[str, Any]
    """Return the settings under the names of the Celery that runs; raise ``ImproperlyConfigured`` on bad input."""
    environ = os.environ if environ is None else environ
    settings = {
        "broker_url": required(environ, "CELERY_BROKER_URL"),
        "broker_connection_retry_on_startup": True,
        "result_backend": required(environ, "CELERY_RESULT_BACKEND"),
        "result_expires": positive(environ, "CELERY_RESULT_EXPIRES", 86400),
        "task_serializer": "json",
        "result_serializer": "json",
        "accept_content": ["json"],
        "result_accept_content": ["json"],
        "task_acks_late": True,
        "task_reject_on_worker_lost": True,
        # The broker's role declares the queues (durable, classic, no arguments, bound to the default exchange by
        # their name). Workers and clients use them and may not create or change them, so a mistyped name is an error.
        # (Celery 3.1 has no such option: it declares them anew, just as they are.)
        "task_queues": [Queue(name, routing_key=name, durable=True, no_declare=True) for name in QUEUES],
        "task_create_missing_queues": False,
        "task_default_queue": QUEUES[0],
        "task_default_exchange": "",
        "task_routes": {"fibonacci.tasks." + name: {"queue": name} for name in QUEUES},
        "worker_send_task_events": False,
        # A worker that lost its connection without the broker's knowing takes its control queue again: an exclusive one
        # would be locked for it until the broker notices, up to a minute, and Celery's worker ends over that.
        "control_queue_exclusive": False,
        "control_queue_durable": True,
    }
    return settings if celery.VERSION.major > 3 else old_names(settings)
