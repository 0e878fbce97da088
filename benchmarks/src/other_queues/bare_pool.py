"""A bare multiprocessing pool: no broker, no stored results, no safety; what the cores can do at most."""

from __future__ import annotations

import multiprocessing
import os
from typing import TYPE_CHECKING, Any

from fibonacci.recursion import fibonacci
from peers.peer import Deadline, Peer

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

#: Pieces that each process gets, so that none waits long for the last.
PIECES = 64


def post(tasks: int, n: int) -> Sequence[Any]:
    """Hand nothing out yet."""
    return [n] * tasks


def fetch(handles: Sequence[Any], _deadline: Deadline) -> Iterator[Any]:
    """Compute, in a process per core."""
    cores = len(os.sched_getaffinity(0))
    with multiprocessing.Pool(cores) as pool:
        yield from pool.imap(fibonacci, handles, chunksize=max(1, len(handles) // (cores * PIECES)))
        pool.close()
        # Waited for, so that what they used is counted.
        pool.join()


PEER = Peer(post=post, fetch=fetch)
