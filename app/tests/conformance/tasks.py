"""A task for every feature of Celery that the comparison looks at.

Each has the keyword ``label``: what it does and what is said of it, in events, in the log and in the notes, is put down
to that.
"""

from __future__ import annotations

import os
import signal
import threading
import time
from typing import Any

from celery import Task, current_task
from celery.exceptions import Ignore, Reject, SoftTimeLimitExceeded
from celery.utils.log import get_task_logger
from pydantic import BaseModel

from conformance.app import app, ran, seen, times_noted

logger = get_task_logger(__name__)


REQUEST_FIELDS = (
    *("retries", "is_eager", "called_directly", "origin", "expires", "eta", "shadow", "priority", "timelimit", "group"),
    *("group_index", "chord", "callbacks", "errbacks", "chain", "ignore_result", "headers", "stamps", "lang", "task"),
    *("stamped_headers", "args", "kwargs", "delivery_info", "argsrepr", "kwargsrepr", "x_header", "properties"),
    "replaced_task_nesting",
)


class OddError(Exception):
    """Cannot be pickled: it holds a lock, and its constructor wants more than its arguments."""

    def __init__(self, one: str, other: str) -> None:
        """Take two, and keep one."""
        super().__init__(one)
        self.other = other
        self.lock = threading.Lock()


@app.task
def add(x: Any, y: Any = 0, *, label: str) -> Any:
    """Return the sum."""
    ran(label)
    return x + y


@app.task
def total(numbers: list[Any], *, label: str) -> Any:
    """Return the sum of a chord's header."""
    ran(label)
    return sum(numbers)


@app.task
def give(kind: str, *, label: str) -> Any:
    """Return a value of a kind."""
    ran(label)
    return {
        "none": None,
        "large": "x" * 100_000,
        "over a megabyte": "x" * 1_200_000,
        "not JSON": threading,
        "a set": {1},
        "an exception": ValueError("returned"),
        "unicode": "žluťoučký \x00 😀",
        "nested": {"a": [1, {"b": None}], "c": 1.5},
    }[kind]


@app.task
def fail(kind: str, *, label: str) -> None:
    """Raise an exception of a kind."""
    ran(label)
    raise {
        "ValueError": ValueError("no good"),
        "KeyError": KeyError("missing"),
        "TypeError": TypeError("odd"),
        "ConnectionError": ConnectionError("gone"),
        "OSError": OSError(5, "broken"),
        "OddError": OddError("one", "other"),
        "nested": ValueError("outer", KeyError("inner"), {"a": 1}),
        "no text": ValueError(),
        "NotImplementedError": NotImplementedError("later"),
    }[kind]


@app.task(throws=(KeyError,))
def fail_as_expected(*, label: str) -> None:
    """Raise what the task says it raises."""
    ran(label)
    raise KeyError("expected")


@app.task
def log(*, label: str) -> str:
    """Log, print, and return."""
    ran(label)
    logger.info("a line of %s", label)
    print("printed by", label)
    return "logged"


class Point(BaseModel):
    """An argument with types."""

    x: int
    y: int = 2


@app.task(pydantic=True)
def move(point: Point, *, label: str) -> Point:
    """Take a model and return one."""
    ran(label)
    return Point(x=point.x + 1, y=point.y + 1)


@app.task(bind=True, max_retries=3)
def retry(self: Task, times: int, countdown: float, *, label: str) -> int:
    """Succeed after so many retries."""
    ran(label)
    if self.request.retries < times:
        raise self.retry(countdown=countdown)
    return int(self.request.retries)


@app.task(bind=True, max_retries=1, default_retry_delay=0)
def retry_in_vain(self: Task, *, label: str, error: bool = False) -> None:
    """Retry until it is not allowed any more."""
    ran(label)
    raise self.retry(exc=ValueError("in vain") if error else None)


@app.task(bind=True)
def retry_with_other_arguments(self: Task, x: int, *, label: str) -> int:
    """Retry once, with another argument, and go on after that was asked for."""
    ran(label)
    if self.request.retries:
        return x
    self.retry(args=(x + 1,), countdown=0.1, throw=False)
    raise Ignore


@app.task(bind=True)
def retry_seen(self: Task, *, label: str) -> bool:
    """Say whether the client has seen the state RETRY before the second try."""
    ran(label)
    if not self.request.retries:
        raise self.retry(countdown=3)
    return seen(label, 0)


@app.task(bind=True, autoretry_for=(ValueError,), default_retry_delay=0, max_retries=2)
def retry_by_itself(self: Task, times: int, *, label: str) -> int:
    """Fail so often."""
    ran(label)
    if self.request.retries < times:
        raise ValueError("again")
    return int(self.request.retries)


@app.task(bind=True, autoretry_for=(ValueError,), retry_backoff=1, retry_jitter=False, max_retries=2)
def retry_with_backoff(self: Task, *, label: str) -> int:
    """Fail once."""
    ran(label)
    if not self.request.retries:
        raise ValueError("again")
    return int(self.request.retries)


@app.task(track_started=True)
def started_seen(*, label: str) -> bool:
    """Say whether the client has seen the state STARTED."""
    ran(label)
    return seen(label)


@app.task(bind=True)
def progress_seen(self: Task, *, label: str) -> bool:
    """Say whether the client has seen the state PROGRESS."""
    ran(label)
    self.update_state(state="PROGRESS", meta={"done": 1})
    return seen(label)


@app.task
def success_seen(other: str, *, label: str) -> bool:
    """Run until the client has seen the result of another task, which came before."""
    ran(label)
    return seen(other)


@app.task(bind=True)
def progress_from_thread(self: Task, *, label: str) -> bool:
    """Say whether the client has seen the state that a thread of the task has set."""
    ran(label)
    backend, identifier = self.backend, self.request.id
    thread = threading.Thread(target=backend.store_result, args=(identifier, {"done": 1}, "PROGRESS"))
    thread.start()
    thread.join()
    return seen(label)


@app.task(bind=True)
def set_state_and_ignore(self: Task, state: str, *, label: str) -> None:
    """Set a final state by itself."""
    ran(label)
    self.update_state(state=state, meta={"exc_type": "ValueError", "exc_message": "set"} if state == "FAILURE" else 7)
    raise Ignore


@app.task(ignore_result=True)
def ignored(*, label: str) -> str:
    """Return what is not kept."""
    ran(label)
    return "not kept"


@app.task(ignore_result=True, store_errors_even_if_ignored=True)
def ignored_but_errors(good: bool, *, label: str) -> str:
    """Return what is not kept, or raise what is."""
    ran(label)
    if good:
        return "not kept"
    raise ValueError("kept")


@app.task(bind=True)
def request_fields(self: Task, *_arguments: Any, label: str, **_more: Any) -> dict[str, Any]:
    """Return what the task knows of its request."""
    ran(label)
    request = self.request
    fields = {name: getattr(request, name, "absent") for name in REQUEST_FIELDS}
    fields["ids"] = [request.id, request.root_id, request.parent_id, request.correlation_id]
    fields["hostname"] = request.hostname
    fields["reply_to"] = bool(request.reply_to)
    fields["current_task"] = current_task.name
    fields["as dict"] = sorted(key for key in request.as_execution_options() if key != "headers")
    return {name: repr(value) for name, value in fields.items()}


@app.task(soft_time_limit=1)
def soft_limit(*, label: str) -> str:
    """Run into the soft time limit."""
    ran(label)
    try:
        time.sleep(3)
    except SoftTimeLimitExceeded:
        return "limited"
    return "not limited"


@app.task
def hold(*, label: str) -> bool:
    """Run until the client gives its sign, for long."""
    ran(label)
    return seen(label, 60)


@app.task
def sleep(seconds: float, *, label: str) -> float:
    """Sleep, in small pieces."""
    ran(label)
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        time.sleep(0.02)
    return seconds


@app.task(time_limit=600)
def with_limit(seconds: float, *, label: str) -> float:
    """Sleep less long than the time limit."""
    ran(label)
    time.sleep(seconds)
    return seconds


@app.task(rate_limit="4/s")
def rated(*, label: str) -> str:
    """Run only so often."""
    ran(label)
    return "rated"


@app.task(acks_late=False)
def acknowledged_early(*, label: str) -> str:
    """Run after the acknowledgement."""
    ran(label)
    return "early"


@app.task(acks_on_failure_or_timeout=False)
def not_acknowledged_on_failure(*, label: str) -> None:
    """Fail without acknowledgement."""
    ran(label)
    raise ValueError("not acknowledged")


@app.task(bind=True)
def reject(self: Task, requeue: bool, *, label: str) -> bool:
    """Reject the message, the first time."""
    ran(label)
    if not self.request.delivery_info.get("redelivered"):
        raise Reject("rejected", requeue=requeue)
    return True


@app.task
def ignore(*, label: str) -> None:
    """Leave no result."""
    ran(label)
    raise Ignore("of no interest")


@app.task
def kill_process(times: int, *, label: str) -> str:
    """Kill the pool process, so many times."""
    ran(label)
    if times_noted(label, "ran") <= times:
        os.kill(os.getpid(), signal.SIGKILL)
    return "survived"


@app.task
def exit_once(*, label: str) -> str:
    """Raise SystemExit, the first time."""
    ran(label)
    if times_noted(label, "ran") == 1:
        raise SystemExit(3)
    return "done"


@app.task(bind=True)
def send_event(self: Task, *, label: str) -> str:
    """Send an event of its own."""
    ran(label)
    self.send_event("task-own", label=label)
    return "sent"
