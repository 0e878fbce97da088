"""Collecting: every result by its id, in batches, each compared with the right value.

It works from the ids on disk alone, so it can be interrupted and begun anew. Each queue is asked from its head, since
that is the order in which workers take messages. A queue whose head is not done yet is left alone for a while, a little
longer each time. Ids that stay without a result while later ones have theirs are deferred before they fill the head,
and asked for seldom until the rest is done.
"""

from __future__ import annotations

import json
import time
from collections import Counter, deque
from typing import TYPE_CHECKING, Any, TextIO

from taskmill.model.clock import Moment
from taskmill.model.errors import TaskmillError
from taskmill.model.record import Queue
from taskmill.model.run_folder import read_faults
from taskmill.publishing import journal
from taskmill.results.acknowledged import Acknowledged, ids_of
from taskmill.results.collected import Collected
from taskmill.results.columns import columns
from taskmill.results.kinds import Kinds, posted_by_kind
from taskmill.results.pending_queue import PendingQueue, common_tail
from taskmill.results.store import ResultReader
from taskmill.results.verdict import is_parked, judge_by
from taskmill.samples import task_timings as timings

if TYPE_CHECKING:
    import threading
    from collections.abc import Callable, Collection
    from pathlib import Path

    import numpy.typing as npt

    from taskmill.model.plan import Plan
    from taskmill.progress import Phase, Reporter

#: Shortest and longest pause, in seconds, before a queue whose next results are not there yet is asked again.
PAUSE = (0.05, 1.0)
#: Seconds between two looks at deferred ids.
DEFER_SECONDS = 5.0
#: How many deadlines a result has while workers are at work.
PATIENCE = 10


class Collector:
    """Collects the results of one run folder."""

    def __init__(
        self,
        plan: Plan,
        folder: Path,
        results: ResultReader,
        stop: threading.Event,
        reporter: Reporter,
        only: Collection[bytes] | None = None,
    ) -> None:
        """Read the ids; raise ``TaskmillError`` when there are none.

        With ``only`` these alone are collected, and what ``faults.jsonl`` says of the others stays in it.
        """
        self._only = only
        self._plan = plan
        self._folder = folder
        self._results = results
        self._batch = results.batch
        self._stop = stop
        self._reporter = reporter
        # Written as they are found: a million of them must not need memory. Renamed when whole.
        self._faults_path = folder / ".faults.jsonl"
        self._faults: TextIO | None = None
        self.outcome = Collected()
        self._rows = timings.TaskTimingsWriter()
        #: The number of each message, in the order of :attr:`_messages`.
        self._numbers: dict[bytes, int] = {}
        self._messages: dict[str, npt.NDArray[Any]] = {}
        self._queues: list[str] = []
        self._kinds: Kinds
        self._doubtful: set[bytes] = set()
        #: Ids of tasks that store no result.
        self.unstored: set[bytes] = set()
        self._pending_queues = self._read()
        self._last_new = time.monotonic()
        #: How many deadlines have passed since then.
        self._waited_on = 0

    def _read(self) -> list[PendingQueue]:
        threads = list(journal.read(self._folder / "ids"))
        if not any(thread.lines for thread in threads):
            raise TaskmillError(f"there are no ids in {self._folder / 'ids'}: nothing was posted in this run")
        outcome = self.outcome
        self._kinds = Kinds(self._plan, threads)
        outcome.by_kind = posted_by_kind(self._plan, self._kinds.places)
        self._number(threads)
        self.unstored = ids_of(self._plan, threads)
        parts: dict[bytes, list[list[bytes]]] = {}
        for thread in threads:
            mine: dict[bytes, list[bytes]] = {}
            for identifier, queue in thread.lines:
                if self._only is not None and identifier not in self._only:
                    continue
                mine.setdefault(queue, []).append(identifier)
            for queue, ids in mine.items():
                parts.setdefault(queue, []).append(ids)
            outcome.confirmed += thread.confirmed
            self._doubtful.update(identifier for identifier, _ in thread.lines[thread.confirmed :])
            thread.lines.clear()
        pending = [PendingQueue(queue.decode(), deque(journal.interleave(ids))) for queue, ids in parts.items()]
        outcome.posted = sum(len(queue.ids) for queue in pending)
        outcome.distinct = len(self._numbers)
        outcome.by_queue = {queue.name: Queue(posted=len(queue.ids)) for queue in pending}
        return pending

    def _number(self, threads: list[journal.ThreadIds]) -> None:
        """Number the messages, and note for each its queue, when it was posted and when it was due."""
        self._numbers = {
            identifier: number for number, (identifier, _) in enumerate(line for one in threads for line in one.lines)
        }
        self._messages, self._queues = columns(self._plan, self._folder, threads, self._kinds)

    def run(self, acknowledged: Acknowledged | None = None, at_work: Callable[[], str] = lambda: "") -> Collected:
        """Collect until every id has its result, the deadline passes without a new one, or it is stopped.

        ``acknowledged`` is what came of waiting for the tasks that store no result, where the plan has some.
        ``at_work`` says in words who still has messages, or nothing: then each result has ``PATIENCE``
        deadlines, since a task may take longer than one. Writes
        ``faults.jsonl``, complete or up to the interruption. Raises ``TaskmillError`` when the store is away at the
        deadline: then nothing is known to be lost.
        """
        outcome = self.outcome
        outcome.started = outcome.ended = Moment.now()
        self._last_new = time.monotonic()
        faults = self._folder / "faults.jsonl"
        with self._faults_path.open("w", encoding="utf-8") as self._faults:
            if self._only is not None:
                self._keep_others(faults)
            self._collect(acknowledged, at_work)
        if self._only is None:
            self._faults_path.replace(faults)
            self._rows.save(self._folder, self._messages, self._queues, self._kinds.names)
        elif outcome.finished:
            self._faults_path.replace(faults)
        return outcome

    def _keep_others(self, faults: Path) -> None:
        """Copy the faults of those that are not collected."""
        assert self._faults is not None
        assert self._only is not None
        for fault in read_faults(faults, None):
            if str(fault.get("id")).encode() not in self._only:
                self._faults.write(json.dumps(fault, ensure_ascii=False) + "\n")

    def _collect(self, acknowledged: Acknowledged | None, at_work: Callable[[], str]) -> None:
        if acknowledged is not None and not (acknowledged.finished and self._count_unstored(acknowledged)):
            return
        with self._reporter.phase("collecting", self.outcome.distinct) as phase:
            while self._pending() and not self._stop.is_set():
                self._round(phase)
                if self._late() and not self._goes_on(phase, at_work):
                    break
            phase.update(self.outcome.retrieved, last=True)
        if not self._stop.is_set() or not self._pending():
            self._count_missing()
            self.outcome.finished = True

    def _late(self) -> bool:
        """Say whether a deadline has passed without a new result."""
        return time.monotonic() - self._last_new > (self._waited_on + 1) * self._plan.result_timeout

    def _goes_on(self, phase: Phase, at_work: Callable[[], str]) -> bool:
        """Say whether what is missing has another deadline: a last look finds something, or somebody is at work."""
        self._waited_on += 1
        # Asked before the last look, which finds what they finish meanwhile.
        busy = at_work() if self._waited_on < PATIENCE else ""
        if self._last_look(phase):
            return True
        if busy:
            self._reporter.say(
                f"no new result for {self._waited_on * self._plan.result_timeout:g} s, but {busy}: waiting longer"
            )
        return bool(busy)

    def _pending(self) -> int:
        return sum(queue.pending for queue in self._pending_queues)

    def _round(self, phase: Phase) -> None:
        """Ask every queue that is due, or wait for the first that will be."""
        now = time.monotonic()
        asked = False
        for queue in self._pending_queues:
            if self._stop.is_set():
                return
            if not queue.ids:
                queue.ids, queue.deferred = queue.deferred, queue.ids
            if queue.deferred and now >= queue.deferred_due:
                asked = True
                self._look_at_deferred(queue)
            if queue.ids and now >= queue.due:
                asked = True
                self._look(queue)
            phase.update(self.outcome.retrieved)
        if not asked:
            due = [queue.due for queue in self._pending_queues if queue.ids] + [
                queue.deferred_due for queue in self._pending_queues if queue.deferred
            ]
            self._stop.wait(max(0.01, min(due) - time.monotonic()))

    def _look(self, queue: PendingQueue) -> None:
        """Ask for the next results of a queue and settle how soon to ask again."""
        asked = fetched = overtaken = 0
        left: list[bytes] = []
        for _ in range(queue.width):
            batch = [queue.ids.popleft() for _ in range(min(self._batch, len(queue.ids)))]
            if not batch or self._stop.is_set():
                left += batch
                break
            missing = self._ask(queue, batch)
            asked += len(batch)
            fetched += len(batch) - len(missing)
            left += missing
            if len(missing) < len(batch):
                overtaken = len(left) - common_tail(missing, batch)
        if overtaken * 2 > self._batch:
            # Later tasks are done and these are not: they may never be, and say nothing about the pace.
            if not queue.deferred:
                queue.deferred_due = time.monotonic() + DEFER_SECONDS
            queue.deferred.extend(left[:overtaken])
            left = left[overtaken:]
            asked -= overtaken
        queue.ids.extendleft(reversed(left))
        now = time.monotonic()
        low, high = PAUSE
        if fetched * 2 >= asked:
            queue.pause, queue.width = 0.0, 1
        elif fetched:
            # So long that, at the rate of now, half of the next batch will be there.
            rate = fetched / max(now - queue.looked, low)
            queue.pause, queue.width = min(high, max(low, min(self._batch, len(queue.ids)) / 2 / rate)), 1
        else:
            queue.pause = min(high, max(low, queue.pause * 2))
            queue.width = min(queue.width * 2, 1 + len(queue.ids) // self._batch)
            self._check_reachable()
        queue.looked, queue.due = now, now + queue.pause

    def _look_at_deferred(self, queue: PendingQueue) -> None:
        """Ask for some of deferred ids."""
        batch = [queue.deferred.popleft() for _ in range(min(self._batch, len(queue.deferred)))]
        missing = self._ask(queue, batch)
        queue.deferred.extend(missing)
        # All of them within about DEFER_SECONDS seconds, and never without a pause.
        queue.deferred_due = time.monotonic() + max(
            PAUSE[0], DEFER_SECONDS * self._batch / max(self._batch, len(queue.deferred))
        )

    def _last_look(self, phase: Phase) -> bool:
        """Ask for everything once more before it counts as missing; say whether anything new came."""
        before = self.outcome.retrieved
        for queue in self._pending_queues:
            ids = [*queue.ids, *queue.deferred]
            queue.ids.clear()
            queue.deferred.clear()
            for start in range(0, len(ids), self._batch):
                queue.ids.extend(self._ask(queue, ids[start : start + self._batch]))
                phase.update(self.outcome.retrieved)
        self._raise_if_away(self._pending())
        return self.outcome.retrieved > before

    def _raise_if_away(self, number: int) -> None:
        """Raise ``TaskmillError`` where so many results were not found and the store does not answer."""
        away = self._results.unreachable() if number else []
        if away:
            raise TaskmillError(
                f"{self._results.kind} at {', '.join(away)} cannot be reached: {number:,} results are not "
                f"fetched yet, and not counted as lost. Once it runs: taskmill collect {self._folder}"
            )

    def _check_reachable(self) -> None:
        away = self._results.unreachable()
        if away:
            self._reporter.say(f"{self._results.kind} at {', '.join(away)} cannot be reached; waiting for it")

    def _ask(self, queue: PendingQueue, ids: list[bytes]) -> list[bytes]:
        """Fetch and check; return the ids that have no final result, in their order."""
        values = self._results.get(ids)
        if not values:
            return ids
        missing = [id_ for id_ in ids if id_ not in values or not self._check(queue, id_, values[id_])]
        if len(missing) < len(ids):
            self._last_new, self._waited_on = time.monotonic(), 0
            self.outcome.ended = Moment.now()
        return missing

    def _check(self, queue: PendingQueue, identifier: bytes, value: Any) -> bool:
        """Judge one stored value; say whether it is final."""
        outcome = self.outcome
        place = self._numbers[identifier]
        verdict, detail, meta = judge_by(identifier, value, self._kinds.right(place))
        if verdict == "pending":
            return False
        self._rows.add(place, timings.OUTCOMES.index(verdict), meta)
        outcome.retrieved += 1
        self._count(queue, place, verdict)
        if verdict == "correct":
            outcome.correct += 1
            return True
        if verdict == "wrong":
            outcome.wrong += 1
        else:
            outcome.failed += 1
            if is_parked(meta):
                outcome.parked += 1
                verdict = "parked"
        self._fault(identifier, queue, verdict, detail)
        return True

    def _count(self, queue: PendingQueue, place: int, verdict: str) -> None:
        """Count the result of the message at a place with its queue, and with its kind where it has one."""
        outcome = self.outcome
        outcome.by_queue[queue.name].count(verdict)
        if outcome.by_kind:
            outcome.by_kind[self._kinds.names[self._kinds.places[place]]].count(verdict)

    def _fault(self, identifier: bytes, queue: PendingQueue, outcome: str, detail: str) -> None:
        assert self._faults is not None
        kind = self._kinds.name(self._numbers[identifier])
        fault = {
            "id": identifier.decode(),
            "queue": queue.name,
            **({} if kind is None else {"kind": kind}),
            "outcome": outcome,
            "detail": detail,
        }
        self._faults.write(json.dumps(fault, ensure_ascii=False) + "\n")

    def _count_unstored(self, acknowledged: Acknowledged) -> bool:
        """Count the tasks that store no result, but for those that stored one all the same, such as a failure.

        Says whether it came to its end: where it is stopped, nothing is counted. Raises ``TaskmillError`` when the
        store is away: then it is not known which of them failed.
        """
        outcome = self.outcome
        outcome.started, outcome.ended = acknowledged.started, acknowledged.ended
        left: dict[str, int] = {}
        kinds: Counter[str] = Counter()
        doubtful = 0
        for queue in self._pending_queues:
            asked = [identifier for identifier in queue.ids if identifier in self.unstored]
            queue.ids = deque(identifier for identifier in queue.ids if identifier not in self.unstored)
            missing: list[bytes] = []
            for start in range(0, len(asked), self._batch):
                if self._stop.is_set():
                    return False
                missing += self._ask(queue, asked[start : start + self._batch])
            left[queue.name] = len(missing)
            kinds.update(kind for one in missing if (kind := self._kinds.name(self._numbers[one])) is not None)
            doubtful += sum(identifier in self._doubtful for identifier in missing)
        rest = sum(left.values())
        self._raise_if_away(rest)
        done, lost, unsent = acknowledged.split(rest, doubtful, len(self.unstored) - rest)
        outcome.acknowledged, outcome.acknowledged_from = done, acknowledged.source
        outcome.lost += lost
        outcome.unsent += unsent
        if done == rest:
            # Of which queue those are that are missing is not known.
            for name, number in left.items():
                outcome.by_queue[name].acknowledged = number
            for kind, number in kinds.items():
                outcome.by_kind[kind].acknowledged = number
        return True

    def _count_missing(self) -> None:
        """Count and list what has no result."""
        outcome = self.outcome
        for queue in self._pending_queues:
            for identifier in (*queue.ids, *queue.deferred):
                if identifier in self._doubtful:
                    outcome.unsent += 1
                    self._fault(
                        identifier, queue, "unsent", "its message was never confirmed, and may not have been sent"
                    )
                else:
                    outcome.lost += 1
                    self._count(queue, self._numbers[identifier], "lost")
                    self._fault(
                        identifier,
                        queue,
                        "lost",
                        f"confirmed by the broker, but no result came within {self._plan.result_timeout:g} s of the "
                        f"last one",
                    )
        found_anyway = len(self._doubtful) - outcome.unsent
        # What was never confirmed counts as posted only where a result proves it.
        outcome.posted -= outcome.unsent
        outcome.confirmed = min(outcome.posted, outcome.confirmed)
        if found_anyway and self._doubtful:
            self._reporter.say(f"{found_anyway:,} unconfirmed messages were delivered all the same")
