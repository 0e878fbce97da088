"""Publish tasks to a subject, fetch every result and check it."""

from __future__ import annotations

import resource
import sys
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from other_queues.subject import Deadline

if TYPE_CHECKING:
    from other_queues.subject import Subject


@dataclass(frozen=True)
class Outcome:
    """The outcome of a load: counts of tasks, seconds since the first message, CPU seconds of its processes."""

    tasks: int
    correct: int
    wrong: int
    lost: int
    post_s: float
    total_s: float
    cpu_s: float


def cpu() -> float:
    """Return the CPU seconds of this process and of the children that it waited for."""
    return sum(
        used.ru_utime + used.ru_stime
        for used in map(resource.getrusage, (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    )


def run(subject: Subject, tasks: int, n: int, expect: int, deadline: float) -> Outcome:
    """Publish ``tasks`` tasks and compare each result with ``expect``; ``deadline`` is in seconds without a new result.

    A task that failed counts as lost, and the first failure is written to standard error. Where the subject has no
    results, every task that was published counts as correct.
    """
    before, start = cpu(), time.perf_counter()
    handles = subject.publish(tasks, n)
    posted = time.perf_counter()
    patience = Deadline(deadline)
    correct, wrong = len(handles) if subject.fetch is None else 0, 0
    failure: Exception | None = None
    for value in subject.fetch(handles, patience) if subject.fetch else ():
        if isinstance(value, Exception):
            failure = failure or value
            continue
        patience.renew()
        if value == expect:
            correct += 1
        else:
            wrong += 1
    end = time.perf_counter()
    if failure:
        print(f"{tasks - correct - wrong} without a result: {failure!r}", file=sys.stderr)
    return Outcome(tasks, correct, wrong, tasks - correct - wrong, posted - start, end - start, cpu() - before)
