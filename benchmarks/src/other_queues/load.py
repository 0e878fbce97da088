"""Post to a peer, fetch every result and check it."""

from __future__ import annotations

import resource
import sys
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from peers.peer import Deadline

if TYPE_CHECKING:
    from peers.peer import Peer


@dataclass(frozen=True)
class Outcome:
    """What came of it: numbers of tasks, seconds from the first post, CPU seconds of this process and its children."""

    tasks: int
    correct: int
    wrong: int
    lost: int
    post_s: float
    total_s: float
    cpu_s: float


def cpu() -> float:
    """Return the CPU seconds of this process and of those that it waited for."""
    return sum(
        used.ru_utime + used.ru_stime
        for used in map(resource.getrusage, (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    )


def run(peer: Peer, tasks: int, n: int, expect: int, deadline: float) -> Outcome:
    """Post so many tasks and compare each result with ``expect``. What failed is lost; the first failure is said.

    Where nothing is fetched, what was posted counts as right.
    """
    before, start = cpu(), time.perf_counter()
    handles = peer.post(tasks, n)
    posted = time.perf_counter()
    patience = Deadline(deadline)
    correct, wrong = len(handles) if peer.fetch is None else 0, 0
    failure: Exception | None = None
    for value in peer.fetch(handles, patience) if peer.fetch else ():
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
