"""A share of a kind's messages, followed to their results while others are published."""

from __future__ import annotations

import math
import random
from collections import deque
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from taskmill.model.record import QUANTILES
from taskmill.results.verdict import judge_by
from taskmill.samples.task_timings import of_result

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from taskmill.model.plan import Right
    from taskmill.results.store import ResultReader

#: Seconds of results that a value is of.
WINDOW = 10.0
#: Messages of a kind that are followed at once.
MOST = 500
#: Which are followed is the same again for the same messages.
SEED = 0


class Sent(NamedTuple):
    """A message that is followed: its id, its number in the run, and when it was due, in Unix seconds."""

    identifier: bytes
    number: int
    due: float
    #: How many messages it stands for.
    weight: int


class Result(NamedTuple):
    """What came of one: when it was seen, the verdict, and the seconds of ``METRICS``; NaN where not known."""

    seen: float
    verdict: str
    queue: float
    execution: float
    latency: float
    weight: int


class Followed:
    """The messages of one kind, each followed with the same chance.

    Where more than :data:`MOST` wait for their results, half of them are forgotten, at random, and half as many of
    those to come are followed; each then stands for twice as many.
    """

    def __init__(self, store: ResultReader, right: Callable[[int], Right], offsets: Mapping[str, float]) -> None:
        """``right`` is what is right by number; ``offsets`` are by how much workers' clocks are ahead of this one."""
        self._store = store
        self._right = right
        self._offsets = offsets
        self._dice = random.Random(SEED)  # noqa: S311  # chooses fairly, and is no secret
        self._every = 1
        self._pending: list[Sent] = []
        self._results: deque[Result] = deque()

    def add(self, sent: Iterable[tuple[bytes, int, float]]) -> None:
        """Follow a fair share of messages that were sent, given as id, number and when they were due."""
        for message in sent:
            if self._dice.random() * self._every < 1:
                self._pending.append(Sent(*message, self._every))
                if len(self._pending) > MOST:
                    self._every *= 2
                    self._pending = [
                        one._replace(weight=2 * one.weight) for one in self._pending if self._dice.random() < 0.5
                    ]

    def look(self, now: float) -> list[Result]:
        """Fetch what has a result by now; return the results that were seen within the last :data:`WINDOW` seconds."""
        values: dict[bytes, Any] = {}
        for start in range(0, len(self._pending), self._store.batch):
            values |= self._store.get([one.identifier for one in self._pending[start : start + self._store.batch]])
        left = []
        for one in self._pending:
            result = self._result(one, values[one.identifier], now) if one.identifier in values else None
            if result is None:
                left.append(one)
            else:
                self._results.append(result)
        self._pending = left
        if self._every > 1 and len(left) < MOST // 8:
            self._every //= 2
        while self._results and self._results[0].seen <= now - WINDOW:
            self._results.popleft()
        return list(self._results)

    def ages(self, now: float, processes: int | None) -> list[Result]:
        """Return the messages without a result by how long they are due: the least that their times will be.

        As many of the oldest as there are pool processes may have begun, so that theirs in the queue are not known;
        without that number none is.
        """
        due = sorted((one for one in self._pending if one.due < now), key=lambda one: one.due)
        found, begun = [], 0
        for one in due:
            age = now - one.due
            waits = processes is not None and begun >= processes
            found.append(Result(now, "pending", age if waits else math.nan, math.nan, age, one.weight))
            begun += one.weight
        return found

    def _result(self, sent: Sent, value: Any, now: float) -> Result | None:
        verdict, _, meta = judge_by(sent.identifier, value, self._right(sent.number))
        if verdict == "pending":
            return None
        start, run, _, done, worker = of_result(meta)
        ahead = sent.due + self._offsets.get(worker, 0.0)
        return Result(now, verdict, start - ahead, run, done - ahead, sent.weight)


def value(keys: tuple[str, ...], results: list[Result]) -> float | None:
    """Return the metric with these keys of ``thresholds.LIVE_OF_KIND`` over results; ``None`` where none has it."""
    how, what = keys[:2]
    if how == "share":
        weights = sum(one.weight for one in results)
        return sum(one.weight for one in results if one.verdict == what) / weights if weights else None
    known = [(getattr(one, what), one.weight) for one in results if np.isfinite(getattr(one, what))]
    if not known:
        return None
    values, counts = np.array(known).T
    if keys[2] == "mean":
        return float(np.average(values, weights=counts))
    return float(np.quantile(values, QUANTILES[keys[2]], weights=counts, method="inverted_cdf"))
