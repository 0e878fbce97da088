"""Have a worker with gevent or eventlet take messages as they come, for any app.

From Celery 5.7 on, the loop of such a worker (``celery.worker.loops.synloop``) also reads what the broker sends on the
connection of its events, after each message, and waits a tenth of a second for that. So it takes ten messages a second,
whatever the tasks do. With this it reads what is there, and does not wait.
"""

from __future__ import annotations

from typing import Any

from celery import signals
from celery.worker import loops

#: Celery's own, which the loop of pools of processes calls once.
drain = loops._quick_drain


def drain_what_is_there(connection: Any) -> None:
    """Take the place of ``celery.worker.loops._quick_drain``: handle what a connection has received already."""
    drain(connection, timeout=0)


def use_in_green_pools(instance: Any, **_: Any) -> None:
    """Have a worker do so whose pool runs tasks in greenlets."""
    if instance.pool_cls.is_green:
        loops._quick_drain = drain_what_is_there


def install(_app: Any) -> None:
    """Look at the pool when the worker knows it."""
    signals.celeryd_after_setup.connect(use_in_green_pools, weak=False)
