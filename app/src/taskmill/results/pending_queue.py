"""What collecting knows of one queue: the ids without a result, and when to ask for them again."""

from __future__ import annotations

import time
from collections import deque
from dataclasses import dataclass, field
from itertools import takewhile
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence


@dataclass
class PendingQueue:
    """The ids of one queue that have no result yet, in the order of posting."""

    name: str
    ids: deque[bytes]
    deferred: deque[bytes] = field(default_factory=deque)
    #: How many batches a look takes in: more when the head is stuck.
    width: int = 1
    pause: float = 0.0
    due: float = 0.0
    looked: float = field(default_factory=time.monotonic)
    deferred_due: float = 0.0

    @property
    def pending(self) -> int:
        """How many have no result."""
        return len(self.ids) + len(self.deferred)


def common_tail(one: Sequence[bytes], other: Sequence[bytes]) -> int:
    """Return how many ids at the end of both are the same."""
    return sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(reversed(one), reversed(other), strict=False)))
