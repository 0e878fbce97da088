"""When the messages of a paced load are due."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from taskmill.model.plan import Plan


@dataclass(frozen=True)
class Pace:
    """When the messages of one thread are due: all threads together post ``rate`` per second, each in its turn."""

    #: On the monotonic clock, in seconds.
    first: float
    step: float

    @classmethod
    def of(cls, plan: Plan, thread: int, due_from: float) -> Pace | None:
        """Return the pace of that thread, counted over all processes; ``None`` for a load that is not paced."""
        if plan.rate is None:
            return None
        return cls(due_from + thread / plan.rate, len(plan.posters()) / plan.rate)

    def moment(self, place: int) -> float:
        """Return when the thread's message with this number, from 0, is due."""
        return self.first + place * self.step

    def due(self, now: float) -> int:
        """Return how many messages of the thread are due by now."""
        return max(0, int((now - self.first) / self.step) + 1) if now >= self.first else 0
