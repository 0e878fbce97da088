"""When the messages of a paced load are due."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from taskmill.model import stages

if TYPE_CHECKING:
    import numpy.typing as npt

    from taskmill.model.plan import Plan


def turns(plan: Plan, thread: int) -> npt.NDArray[np.int64]:
    """Return as which of the run's messages, from 0, those of a thread are due: all threads take turns."""
    spans = plan.posters()
    return thread + len(spans) * np.arange(spans[thread][1], dtype=np.int64)


@dataclass(frozen=True)
class Pace:
    """When the messages of one thread are due."""

    #: Of each message, in ascending order; on the clock of ``due_from``, in seconds.
    moments: npt.NDArray[np.float64]

    @classmethod
    def of(cls, plan: Plan, thread: int, due_from: float) -> Pace | None:
        """Return the pace of that thread, counted over all processes; ``None`` for a load that is not paced."""
        if not plan.paced:
            return None
        numbers = turns(plan, thread)
        return cls(due_from + (stages.moments(plan.stages, numbers) if plan.rate is None else numbers / plan.rate))

    def moment(self, place: int) -> float:
        """Return when the thread's message with this number, from 0, is due."""
        return float(self.moments[place])

    def due(self, now: float) -> int:
        """Return how many messages of the thread are due by now."""
        return int(np.searchsorted(self.moments, now, side="right"))
