"""A bare multiprocessing pool: no broker, no stored results, no safety. This is the most that the cores can do."""

from __future__ import annotations

import multiprocessing
import os
from typing import TYPE_CHECKING, Any

from fibonacci.recursion import fibonacci
from other_queues.subject import Deadline, Subject

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

#: Pieces that each process gets, so that none waits long for the last.
PIECES = 64


def publish(tasks: int, n: int) -> Sequence[Any]:
    """Return the arguments of the tasks; nothing is computed yet."""
    return [n] * tasks


def fetch(handles: Sequence[Any], _deadline: Deadline) -> Iterator[Any]:
    """Compute the results in one process per core."""
    cores = len(os.sched_getaffinity(0))
    with multiprocessing.Pool(cores) as pool:
        yield from pool.imap(fibonacci, handles, chunksize=max(1, len(handles) // (cores * PIECES)))
        pool.close()
        # The CPU of a process is counted once it was waited for.
        pool.join()


SUBJECT = Subject(publish=publish, fetch=fetch)
