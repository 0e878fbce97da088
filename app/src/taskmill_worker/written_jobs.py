"""Keep the jobs that a pool process was given when a worker stops or its connection is lost, for any app, in prefork.

Celery then forgets what no pool process has accepted (``AsynPool.flush``), since the broker delivers it once more. What
stands in the pipe of a process already is among that for as long as its acceptance is on its way back, which is long
where the cores are busy. The process runs it all the same: a stopping worker does not acknowledge its message, the task
runs once more, and the process waits for 30 seconds at its end (seen with Celery 5.7 and billiard 4.3). With this, such
a job counts as accepted: it ends, and its message is acknowledged where its connection is still there.
"""

from __future__ import annotations

from typing import Any

from billiard.pool import CLOSE, RUN
from celery.concurrency.asynpool import AsynPool

#: Celery's own.
forget_jobs = AsynPool.flush


def flush(pool: Any) -> None:
    """Take the place of ``AsynPool.flush``: forget the jobs that no pool process was given."""
    for job in tuple(pool._cache.values()):  # where Celery looks
        process = getattr(job, "_write_to", None)
        if process is not None and process._is_alive():
            job._accepted = True
    closed = pool._state == CLOSE
    if closed:
        # What is half written is written to its end only in a pool that runs; it would block its process.
        pool._state = RUN
    try:
        forget_jobs(pool)
    finally:
        if closed and pool._state == RUN:
            pool._state = CLOSE


def install(_app: Any) -> None:
    """Have every pool of processes do so."""
    AsynPool.flush = flush
