"""A Celery app whose tasks end in every way there is. Each execution adds a line to the file of :mod:`notes`."""

import os
import signal
import time

from celery import Celery, Task
from celery.exceptions import Ignore, Reject

from fibonacci.settings import from_environment
from notes import note, wait_for_note

app = Celery("odd")
app.add_defaults(from_environment)
app.conf.task_routes = {}
app.conf.result_backend_max_retries = int(os.environ.get("ODD_RETRIES", "30"))
app.loader.override_backends = {"cache": "taskmill_worker.memcached_backend:MemcachedBackend"}


@app.task  # type: ignore[untyped-decorator]  # Celery carries no types
def double(number: int, seconds: float = 0) -> int:
    """Return twice the number."""
    note(number)
    time.sleep(seconds)
    return 2 * number


@app.task  # type: ignore[untyped-decorator]  # Celery carries no types
def fail(number: int) -> None:
    """Raise."""
    raise ValueError(f"no {number}")


@app.task(bind=True)  # type: ignore[untyped-decorator]  # as above
def retry_once(self: Task, number: int) -> int:
    """Ask for another try, the first time."""
    if not self.request.retries:
        raise self.retry(countdown=0.1)
    return number


@app.task  # type: ignore[untyped-decorator]  # Celery carries no types
def reject(number: int) -> None:
    """Refuse the message."""
    raise Reject(f"no {number}", requeue=False)


@app.task  # type: ignore[untyped-decorator]  # Celery carries no types
def ignore(number: int) -> None:
    """Leave no result."""
    note(number)
    raise Ignore


@app.task  # type: ignore[untyped-decorator]  # Celery carries no types
def kill_once(number: int) -> int:
    """Kill its pool process, the first time."""
    if note(f"kill {number}").count(f"kill {number}") == 1:
        os.kill(os.getpid(), signal.SIGKILL)
    return number


@app.task  # type: ignore[untyped-decorator]  # Celery carries no types
def total(numbers: list[int]) -> int:
    """Return the sum."""
    return sum(numbers)


@app.task  # type: ignore[untyped-decorator]  # Celery carries no types
def wait_for(line: str, seconds: float = 60) -> None:
    """Run until the file has the line."""
    wait_for_note(line, seconds)


class WithStrategy(Task):  # type: ignore[misc]  # as above
    """The base of a task whose messages Celery's own strategy handles."""

    Strategy = "celery.worker.strategy:default"


@app.task(time_limit=600)  # type: ignore[untyped-decorator]  # as above
def wait_with_limit(line: str) -> None:
    """Run until the file has the line, or ten minutes."""
    wait_for_note(line)


@app.task(base=WithStrategy)  # type: ignore[untyped-decorator]  # as above
def wait_with_strategy(line: str) -> None:
    """Run until the file has the line."""
    wait_for_note(line)


@app.task(acks_late=False)  # type: ignore[untyped-decorator]  # as above
def wait_acknowledged(line: str) -> None:
    """Run until the file has the line, acknowledged before."""
    wait_for_note(line)
