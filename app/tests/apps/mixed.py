"""An ordinary Celery app: tasks that a batch takes, and tasks that go singly. One that stores no result is noted."""

import os
from pathlib import Path

from celery import Celery, Task

from fibonacci.settings import from_environment

app = Celery("mixed", set_as_current=False)
app.add_defaults(from_environment)
app.conf.task_routes = {}
app.loader.override_backends = {"cache": "taskmill_worker.memcached_backend:MemcachedBackend"}


@app.task(shared=False)  # type: ignore[untyped-decorator]  # Celery carries no types
def plain(number: int) -> int:
    """Return twice the number."""
    return 2 * number


# The pool's timer keeps an entry of each such task until its limit, whenever the task ends.
@app.task(shared=False, time_limit=30)  # type: ignore[untyped-decorator]  # as above
def limited(number: int) -> int:
    """Return twice the number; its time limit has it go singly."""
    return 2 * number


@app.task(shared=False, bind=True)  # type: ignore[untyped-decorator]  # as above
def progress(self: Task, number: int) -> int:
    """Say that it is under way, and return twice the number."""
    self.update_state(state="PROGRESS", meta={"done": number})
    return 2 * number


@app.task(shared=False, bind=True)  # type: ignore[untyped-decorator]  # as above
def retried(self: Task, number: int) -> int:
    """Ask for another try, the first time; return twice the number."""
    if not self.request.retries:
        raise self.retry(countdown=0)
    return 2 * number


@app.task(shared=False)  # type: ignore[untyped-decorator]  # as above
def failing(number: int) -> None:
    """Raise."""
    raise ValueError(f"no {number}")


@app.task(shared=False)  # type: ignore[untyped-decorator]  # as above
def large(number: int) -> str:
    """Return ten kilobytes."""
    return f"{number}".ljust(10_000)


@app.task(shared=False, ignore_result=True)  # type: ignore[untyped-decorator]  # as above
def unstored(number: int) -> None:
    """Note the number; a line of so few bytes is written in one piece."""
    with Path(os.environ["TASK_NOTES"]).open("a") as log:
        log.write(f"{number}\n")
