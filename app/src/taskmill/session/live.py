"""What is known of a run while its messages are published: the metrics of ``thresholds.LIVE``.

The journals say what was sent, the result store what came of a share of it, and the queues' samples what waits.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Any

from taskmill.model.plan import Right
from taskmill.publishing import journal
from taskmill.publishing.pace import Pace
from taskmill.publishing.posted import Posted
from taskmill.publishing.tail import Tail
from taskmill.results.kinds import as_carried
from taskmill.session.followed import WINDOW, Followed, Result, value
from taskmill.workload.calls import Calls

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from taskmill.model.plan import Plan
    from taskmill.model.thresholds import Requirement
    from taskmill.results.store import ResultReader


class Live:
    """What is known of one run. Times are Unix seconds of the client's clock."""

    def __init__(
        self,
        plan: Plan,
        folder: Path,
        results: ResultReader,
        asked: Sequence[Requirement],
        waiting: Mapping[str, int],
        clocks: Mapping[str, Any],
        processes: int | None = None,
    ) -> None:
        """Know what is ``asked`` for, and no more: results are fetched, and compared, only for what needs it.

        ``waiting`` has the queues' messages as they change, ``clocks`` what workers' clocks said before the run, and
        ``processes`` are all pool processes, as far as workers told. Raises ``TaskmillError`` as ``Calls`` does.
        """
        self._plan = plan
        self._folder = folder
        self._waiting = waiting
        self._store = results
        self._processes = processes
        self._first_numbers = journal.first_numbers(plan)
        self._tails = [Tail(folder / "ids", name) for name in self._first_numbers]
        self._paces: list[Pace | None] = []
        #: When the first message was sent.
        self._begun: float | None = None
        #: Of each thread's looks within the window: when, how many messages were sent, and the most that one was late.
        self._sent: deque[tuple[float, int, float]] = deque()
        offsets = {worker: clock["offset_s"] for worker, clock in clocks.items()}
        compared = any(one.keys[0] == "share" for one in asked)
        calls = Calls(plan) if compared else None
        kinds = {one.kind for one in asked if one.of_results}
        #: By the places of their kinds in ``plan.routes``; and their results within the window.
        self._followed = {
            place: Followed(results, lambda number: as_carried(calls.right(number)) if calls else Right(), offsets)
            for place, route in enumerate(plan.routes)
            if route.task not in plan.unstored and kinds & {"", route.name}
        }
        self._results: dict[int, list[Result]] = {}

    def look(self, now: float) -> None:
        """Take in what has happened by now."""
        if not self._paces:
            posted = Posted.load(self._folder)
            if posted is None:
                return
            due_from = posted.due_from or posted.started.wall
            self._paces = [Pace.of(self._plan, place, due_from) for place in range(len(self._tails))]
        for tail, pace in zip(self._tails, self._paces, strict=True):
            self._read(tail, pace, now)
        while self._sent[0][0] <= now - WINDOW:
            self._sent.popleft()
        self._results = {place: followed.look(now) for place, followed in self._followed.items()}

    def value(self, asked: Requirement, now: float) -> float | None:
        """Return the metric of a threshold over time, as of the last look; ``None`` where it is not known."""
        match asked.keys:
            case ("waiting",):
                return sum(self._waiting.values()) if len(self._waiting) == len(self._plan.queues) else None
            case ("posted_per_s",):
                if self._begun is None or now <= self._begun:
                    return None
                return sum(count for _, count, _ in self._sent) / min(WINDOW, now - self._begun)
            case ("late_s",):
                return max((late for _, _, late in self._sent), default=None)
        of = [place for place in self._results if asked.kind in {"", self._plan.routes[place].name}]
        results = [one for place in of for one in self._results[place]]
        if results or not asked.must_not_grow or self._store.unreachable():
            return value(asked.keys, results)
        # Workers that stand still tell no times; what waits for them does.
        return value(asked.keys, [one for place in of for one in self._followed[place].ages(now, self._processes)])

    def _read(self, tail: Tail, pace: Pace | None, now: float) -> None:
        """Take in what a thread has sent."""
        first, slots, routes = tail.count, self._plan.slots, self._plan.routes
        ids, moments = tail.read()
        due = moments if pace is None else pace.moments[first : tail.count]
        late = max(0.0, float((moments - due).max())) if ids else 0.0
        if pace is not None and tail.count < len(pace.moments):
            late = max(late, now - pace.moment(tail.count))
        if ids and self._begun is None:
            self._begun = float(moments[0])
        self._sent.append((now, len(ids), late))
        by_kind: dict[int, list[tuple[bytes, int, float]]] = {}
        begin = self._first_numbers[tail.name] + first
        for number, (identifier, when) in enumerate(zip(ids, due.tolist(), strict=True), begin):
            place = slots[number % len(slots)]
            by_kind.setdefault(place, []).append((identifier, number, when + routes[place].countdown))
        for place, sent in by_kind.items():
            if place in self._followed:
                self._followed[place].add(sent)
