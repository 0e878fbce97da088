"""Which kind each message of a run is of, and what is right for its result."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from taskmill.model.record import Kind
from taskmill.publishing import journal
from taskmill.results.values import carried
from taskmill.workload.calls import Calls

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy.typing as npt

    from taskmill.model.plan import Plan, Right
    from taskmill.publishing.journal import ThreadIds


class Kinds:
    """The kinds of the messages of a run, by their places: those of all threads in a row."""

    def __init__(self, plan: Plan, threads: Sequence[ThreadIds]) -> None:
        """Read what the scenario names; raise ``TaskmillError`` where that cannot be."""
        self.names = plan.kinds
        self._calls = Calls(plan)
        self._numbers = numbers(plan, threads) if self.names else np.zeros(0, dtype=np.int64)
        #: Of each message, the place of its kind in ``names``; empty for a plan without a scenario.
        self.places = places(plan, self._numbers)
        #: Of each kind, the seconds between when its messages are sent and due.
        self.countdowns = np.array([route.countdown for route in plan.routes])
        # All messages of a plan without a scenario have the same.
        self._only = None if self.names else as_carried(self._calls.right(0))

    def right(self, place: int) -> Right:
        """Return what is right for a message, as it comes back from a worker; raise ``TaskmillError`` as ``Calls``."""
        if self._only is not None:
            return self._only
        return as_carried(self._calls.right(int(self._numbers[place])))

    def name(self, place: int) -> str | None:
        """Return the name of a message's kind; ``None`` for a plan without a scenario."""
        return self.names[self.places[place]] if self.names else None


def numbers(plan: Plan, threads: Sequence[ThreadIds]) -> npt.NDArray[np.int64]:
    """Return the number in the run of each message that threads have in their journals."""
    first = journal.first_numbers(plan)
    return np.concatenate([first[one.name] + np.arange(len(one.lines), dtype=np.int64) for one in threads])


def places(plan: Plan, of: npt.NDArray[np.int64]) -> npt.NDArray[np.uint16]:
    """Return the places in ``plan.routes`` of the kinds of messages, by their numbers in the run."""
    return np.array(plan.slots, dtype=np.uint16)[of % len(plan.slots)]


def posted_by_kind(plan: Plan, of: npt.NDArray[np.uint16]) -> dict[str, Kind]:
    """Return the kinds with how many messages are of each, by :func:`places`; empty for a plan without a scenario.

    Nothing is counted yet of what came of them.
    """
    if not plan.kinds:
        return {}
    counted = np.bincount(of, minlength=len(plan.kinds)).tolist()
    return {route.name: Kind(posted, task=route.task) for route, posted in zip(plan.routes, counted, strict=True)}


def as_carried(right: Right) -> Right:
    """Return the same with a value as it comes back from a worker."""
    return replace(right, value=carried(right.value)) if right.how == "value" else right
