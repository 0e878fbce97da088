"""Watching thresholds over time while messages are published, and stopping that as failed.

What is published stays to be collected, so that the record has all of it.
"""

from __future__ import annotations

import threading
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from taskmill.model.clock import Moment
from taskmill.model.errors import TaskmillError
from taskmill.publishing.interrupt import Stop
from taskmill.session.followed import WINDOW

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from taskmill.model.plan import Plan
    from taskmill.model.thresholds import Requirement
    from taskmill.progress import Reporter
    from taskmill.session.live import Live

#: Seconds between two looks.
INTERVAL = 1.0
#: Seconds that the last look may take once publishing has ended.
LAST_LOOK = 30.0


def check(plan: Plan, required: Sequence[Requirement]) -> None:
    """Raise ``TaskmillError`` for a threshold of a kind that the plan lacks, or of results that nobody stores."""
    stored = {route.name for route in plan.routes if route.task not in plan.unstored}
    for one in required:
        try:
            one.check_kind(plan.kinds)
        except ValueError as error:
            raise TaskmillError(f"{one}: {error}") from None
        if one.of_results and not (one.kind in stored if one.kind else stored):
            raise TaskmillError(
                f"{one}: its tasks store no result, so {one.metric} is not known while messages are published. Ask for "
                f"waiting, posted_per_s or late_s, or have the tasks store their results"
            )


class Guard:
    """A threshold over time, and for how long its condition has held. Times are monotonic."""

    def __init__(self, requirement: Requirement) -> None:
        """Begin without a value."""
        assert requirement.seconds is not None
        self.requirement = requirement
        self.seconds = requirement.seconds
        #: The last that was known.
        self.value: float | None = None
        #: When and why it asked for the end.
        self.stopped: Moment | None = None
        self._last = 0.0
        #: The looks at which the condition has held without a break, and the values.
        self._held: list[tuple[float, float]] = []

    def look(self, at: Moment, value: float | None) -> bool:
        """Take the value of a moment, ``None`` where it is not known; say whether the condition held for long enough.

        What is not known is a break, and so are more than :data:`WINDOW` seconds without a look.
        """
        now = at.monotonic
        if now - self._last > WINDOW or value is None or not self.requirement.holds(value):
            self._held = []
        self._last = now
        if value is None:
            return False
        self.value = value
        if self.requirement.holds(value):
            self._held.append((now, value))
        if self._held and now - self._held[0][0] >= self.seconds:
            self.stopped = at
        return self.stopped is not None

    def plain(self, started: Moment, watched: float) -> dict[str, Any]:
        """Return it as ``record.Watched``: the first message went at ``started``, and it was watched for so long."""
        found = {"value": self.value, "seconds": round(watched, 3)}
        if self.stopped is None:
            return found
        values = [value for _, value in self._held]
        return found | {
            "stopped_at": self.stopped.iso,
            "after_s": round(started.until(self.stopped), 3),
            "least": min(values),
            "most": max(values),
        }


class Watch:
    """The thresholds over time of a publishing, which ``stop`` asks to end."""

    def __init__(self, required: Sequence[Requirement], user: threading.Event, reporter: Reporter) -> None:
        """Choose those that are over time; ``user`` asks for the end of the publishing, too."""
        self.guards = [Guard(one) for one in required if one.seconds is not None]
        self.stop = Stop(user)
        self._reporter = reporter
        self._began = self._last = Moment.now()
        self._failed = False

    def run(self, live: Live, ended: threading.Event) -> None:
        """Look each second until publishing has ended, a guard stops it, or looking fails."""
        due = self._began.monotonic
        while not self.stop.is_set():
            try:
                self.look(live, Moment.now())
            except Exception as error:  # noqa: BLE001  # a thread's error must reach the user; a scenario's, too
                self._failed = True
                self._reporter.say(f"thresholds over time are not watched any more: {type(error).__name__}: {error}")
                return
            due = max(due + INTERVAL, time.monotonic())
            if ended.wait(due - time.monotonic()):
                return

    def look(self, live: Live, at: Moment) -> None:
        """Look once, and ask for the end where a condition has held for long enough."""
        live.look(at.wall)
        self._last = at
        # Each of them has to see every look.
        for guard in [one for one in self.guards if one.look(at, live.value(one.requirement, at.wall))]:
            self._reporter.say(f"stopping as failed: {guard.requirement.condition} for {guard.seconds:g} s")
            self.stop.set()

    def plain(self, started: Moment) -> dict[str, dict[str, Any]]:
        """Return what was seen, as ``post.json`` has it; nothing where looking failed."""
        watched = self._began.until(self._last)
        return {} if self._failed else {str(one.requirement): one.plain(started, watched) for one in self.guards}


@contextmanager
def watching(watch: Watch, live: Live) -> Iterator[None]:
    """Watch while the ``with`` block publishes."""
    ended = threading.Event()
    thread = threading.Thread(target=watch.run, args=(live, ended), name="watch", daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join(LAST_LOOK)
