"""What came of collecting the results of a run."""

from __future__ import annotations

from dataclasses import dataclass, field

from taskmill.model.clock import Moment
from taskmill.model.record import Kind, Queue


@dataclass
class Collected:
    """What came of collecting. ``lost`` is meaningful once ``finished``."""

    posted: int = 0
    confirmed: int = 0
    distinct: int = 0
    retrieved: int = 0
    correct: int = 0
    wrong: int = 0
    failed: int = 0
    #: Of the failed ones, those whose task was lost with its process too often.
    parked: int = 0
    lost: int = 0
    #: Tasks that store no result and are done; ``None`` where there are none of that kind.
    acknowledged: int | None = None
    #: Where that is known from: ``workers`` or ``queues``.
    acknowledged_from: str = ""
    #: Ids whose messages were never confirmed and that have no result: perhaps never sent (only after a kill).
    unsent: int = 0
    by_queue: dict[str, Queue] = field(default_factory=dict)
    #: By the name of the kind; empty for a plan without a scenario.
    by_kind: dict[str, Kind] = field(default_factory=dict)
    started: Moment = field(default_factory=Moment.now)
    #: When the last result was checked.
    ended: Moment = field(default_factory=Moment.now)
    finished: bool = False

    @property
    def faults(self) -> int:
        """How many are wrong, failed or lost."""
        return self.wrong + self.failed + self.lost
