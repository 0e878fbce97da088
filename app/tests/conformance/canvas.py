"""Tasks that begin others, are replaced by others, or are told of others' failures."""

from __future__ import annotations

from typing import Any

from celery import Task, chain, chord, group
from celery.result import allow_join_result

from conformance.app import app, note, ran
from conformance.tasks import add, total


@app.task
def errback(_request: Any, error: Any, traceback: Any, *, label: str) -> str:
    """Take note of another task's failure; Celery calls it as it is, where it fails."""
    note(label, "errback", error=repr(error), traceback=bool(traceback))
    return "seen"


@app.task
def old_errback(identifier: str, *, label: str) -> str:
    """Take note of another task's failure, as a task of its own."""
    note(label, "old errback", about=identifier)
    return "seen"


@app.task
def begin(what: str, *, label: str) -> str:
    """Begin other tasks and do not wait for them."""
    ran(label)
    one, two = (add.s(number, 1, label=f"{label}+{number}") for number in (1, 2))
    body = total.s(label=f"{label}+body")
    {
        "one": lambda: one.delay(),
        "chain": lambda: chain(one, add.s(10, label=f"{label}+next")).delay(),
        "group": lambda: group(one, two).delay(),
        "chord": lambda: chord([one, two])(body),
        "countdown": lambda: one.apply_async(countdown=0.3),
    }[what]()
    return what


@app.task
def wait_for_another(*, label: str) -> Any:
    """Begin another task and wait for it."""
    ran(label)
    with allow_join_result():
        return add.delay(1, 2, label=f"{label}+other").get(timeout=8, interval=0.05)


@app.task
def apply_another(*, label: str) -> Any:
    """Run another task within this one, in both ways there are."""
    ran(label)
    return [add.apply((1, 2), {"label": f"{label}+applied"}).get(), add(3, 4, label=f"{label}+called")]


@app.task(bind=True)
def replace(self: Task, times: int, *, label: str, done: int = 0) -> Any:
    """Be replaced by itself so many times, then by a sum."""
    ran(label)
    if done < times:
        return self.replace(replace.s(times, label=label, done=done + 1))
    return self.replace(add.s(1, 2, label=f"{label}+sum"))


@app.task(bind=True)
def replace_by(self: Task, what: str, *, label: str) -> Any:
    """Be replaced by a canvas."""
    ran(label)
    sums = [add.s(number, 1, label=f"{label}+{number}") for number in (1, 2)]
    canvas = {
        "chain": lambda: chain(sums[0], add.s(10, label=f"{label}+next")),
        "group": lambda: group(sums),
        "chord": lambda: chord(sums, total.s(label=f"{label}+body")),
    }[what]()
    return self.replace(canvas)


@app.task(bind=True)
def add_to_chord(self: Task, *, label: str) -> int:
    """Add a task to the chord that this one is in."""
    ran(label)
    self.add_to_chord(add.s(5, 5, label=f"{label}+added"))
    return 10


@app.task
def plain_sum(numbers: list[int]) -> int:
    """Return a sum; it is called without a message of its own."""
    return sum(numbers)


@app.task
def plain_sum_of_two(x: int, y: int) -> int:
    """Return a sum; it is called without a message of its own."""
    return x + y


@app.task
def begin_and_return(x: int, *, label: str) -> int:
    """Begin a chord and return at once."""
    ran(label)
    chord([add.s(x, 1, label=f"{label}+a"), add.s(x, 2, label=f"{label}+b")])(total.s(label=f"{label}+body"))
    return x
