"""A Celery app whose tasks store more than their result, or have hooks. Each execution is noted (:mod:`notes`)."""

from typing import Any

from celery import Celery, Task

from fibonacci.settings import from_environment
from notes import note, wait_for_note

app = Celery("stored", set_as_current=False)
app.add_defaults(from_environment)
app.conf.task_routes = {}
app.loader.override_backends = {"cache": "taskmill_worker.memcached_backend:MemcachedBackend"}


class Hooked(app.Task):  # type: ignore[misc,name-defined]  # Celery carries no types
    """Raises after its success what its argument says."""

    def on_success(self, _: Any, __: str, args: Any, ___: Any) -> None:
        """Raise."""
        raise {"KeyError": KeyError, "ConnectionError": ConnectionError, "SystemExit": SystemExit}[args[0]](args[0])


@app.task  # type: ignore[untyped-decorator]  # as above
def double(number: int) -> int:
    """Return twice the number."""
    note(number)
    return 2 * number


@app.task(bind=True)  # type: ignore[untyped-decorator]  # as above
def progress(self: Task, line: str) -> int:
    """Say how far it is, and wait for the line."""
    self.update_state(state="PROGRESS", meta={"done": 1})
    wait_for_note(line)
    return 7


@app.task(bind=True)  # type: ignore[untyped-decorator]  # as above
def retry_later(self: Task, seconds: float) -> int:
    """Ask for another try, the first time."""
    if not self.request.retries:
        raise self.retry(countdown=seconds)
    return 7


@app.task(base=Hooked)  # type: ignore[untyped-decorator]  # as above
def hooked(error: str) -> str:
    """Succeed."""
    note(error)
    return error


@app.task  # type: ignore[untyped-decorator]  # as above
def large(size: int) -> str:
    """Return a text of so many bytes."""
    note(f"large {size}")
    return "x" * size
