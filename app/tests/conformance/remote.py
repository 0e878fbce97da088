"""Features that ask a worker something by remote control while it has tasks that run and tasks that wait."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator

from conformance import tasks
from conformance.app import app, note, sign, times_noted
from conformance.posting import PROCESSES, SHARING, Poster, Visitor, feature
from services import wait_until

#: Seconds that a worker has to begin a task, to get what is posted, and to answer.
BEGIN, ARRIVE, ANSWER = 30.0, 1.0, 10.0


def wait_for(*labels: str) -> None:
    """Wait until all of the tasks have begun; raise ``TimeoutError`` when they do not."""
    wait_until(lambda: all(times_noted(label, "ran") for label in labels), BEGIN, f"the beginning of {labels}")


@contextlib.contextmanager
def occupied(post: Poster) -> Iterator[None]:
    """Have both pool processes at work meanwhile."""
    labels = [post.label(f"hold {number}") for number in (1, 2)]
    for number in (1, 2):
        post(tasks.hold, step=f"hold {number}")
    try:
        wait_for(*labels)
        yield
    finally:
        for label in labels:
            sign(label).touch()


@feature(PROCESSES, alone=True)
def revoke(post: Poster) -> None:
    with occupied(post):
        waiting = [post(tasks.add, number, step=f"waits {number}") for number in range(4)]
        time.sleep(ARRIVE)
        for result in waiting[1::2]:
            app.control.revoke(result.id, reply=True, timeout=ANSWER, limit=1)


@feature(PROCESSES, alone=True)
def revoke_by_stamped_headers(post: Poster) -> None:
    with occupied(post):
        post(tasks.add, 1, step="not stamped")
        stamped = post.add("stamped", 2)
        stamped.stamp(Visitor())
        post.keep(post.label("stamped"), stamped.apply_async())
        time.sleep(ARRIVE)
        app.control.revoke_by_stamped_headers({"color": ["red"]}, reply=True, timeout=ANSWER, limit=1)


@feature(PROCESSES, alone=True, without=SHARING)
def terminate(post: Poster) -> None:
    running = post(tasks.hold, step="runs")
    wait_for(post.label("runs"))
    app.control.revoke(running.id, terminate=True, signal="SIGKILL", reply=True, timeout=ANSWER, limit=1)


@feature(PROCESSES, alone=True)
def inspect(post: Poster) -> None:
    with occupied(post):
        waiting = [post(tasks.add, number, step=f"waits {number}") for number in range(2)]
        # It is still to come when the last question is answered.
        post(tasks.add, 5, step="scheduled", countdown=8)
        time.sleep(ARRIVE)
        ask = app.control.inspect(timeout=ANSWER, limit=1)
        for command in ("active", "reserved", "scheduled"):
            told = [task for answer in (getattr(ask, command)() or {}).values() for task in answer]
            for task in told:
                request = task.get("request", task)
                fields = {key: str(request.get(key)) for key in ("name", "args", "kwargs", "type", "acknowledged")}
                note(post.label(command), command, keys=sorted(request), task=request["id"], **fields)
        for result in waiting:
            answers = (ask.query_task(result.id) or {}).values()
            note(post.label("query_task"), "query_task", where=[where for one in answers for where, _ in one.values()])
