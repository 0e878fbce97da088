"""One message of each route before the first of a run: does each task work, how long does it take, how large is it?

The messages are those that the run will publish, but for a countdown, by the same channels, with ids of their own. None
of them counts in the run: the workers' own counts are taken anew afterwards.
"""

from __future__ import annotations

import math
import tempfile
import threading
import time
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kombu.utils import json as celery_json
from msgspec import to_builtins

from taskmill.cluster import workers
from taskmill.model.errors import TaskmillError
from taskmill.model.plan import RESULT_TIMEOUT
from taskmill.model.quoting import quote
from taskmill.model.record import Probed
from taskmill.publishing import journal, message
from taskmill.publishing.threads import Job, ThreadGroup
from taskmill.results.acknowledged import QUIET_LOOKS, silent_queues
from taskmill.results.collector import PATIENCE
from taskmill.results.kinds import as_carried
from taskmill.results.store import away
from taskmill.results.verdict import is_parked, judge_by
from taskmill.samples.task_timings import KEY
from taskmill.session.patience import (
    consumer_timeout_warnings,
    countdown_warnings,
    duration_line,
    least_seconds,
    messages,
    result_timeout,
)
from taskmill.session.preflight import SETTLE
from taskmill.workload.calls import Calls, largest_value

if TYPE_CHECKING:
    from collections.abc import Iterable

    from taskmill.cluster.broker import Broker
    from taskmill.cluster.workers import Worker
    from taskmill.model.plan import Plan, Route
    from taskmill.progress import Reporter
    from taskmill.results.store import ResultStore
    from taskmill.session.preflight import Conditions

#: Most messages, all of them sent at the same time.
MOST = 20
#: Seconds between two looks at the store, first and at most; at queues and workers; and between two lines of waiting.
PAUSE = (0.02, 0.5)
LOOK = 1.0
LINE = 10.0
#: Seconds that the others have to be done once one of them has failed.
GRACE = 5.0
SKIP = "To publish without it: --no-probe (load_probe: false)"


@dataclass
class Sample:
    """One message: its number in the plan, its route, and what has become of it."""

    number: int
    route: Route
    identifier: bytes = b""
    sent: float = 0.0
    #: When somebody was last seen to have it.
    seen: float = 0.0
    #: How often in a row nobody had it.
    absent: int = 0
    probed: Probed | None = None
    #: When that was known, and what is wrong with it, in words.
    found: float = 0.0
    fault: str = ""

    @property
    def label(self) -> str:
        """What the task is called in messages: its kind in a scenario comes first."""
        return f"{self.route.name} ({self.route.task})" if self.route.name else self.route.task

    @property
    def key(self) -> str:
        """The id as remote control has it."""
        return self.identifier.decode()


def samples(plan: Plan, waiting: Iterable[str] = ()) -> list[Sample]:
    """Return the first message of each route, at most :data:`MOST`; none for a queue in which others wait."""
    first: dict[Route, int] = {}
    for number, place in enumerate(plan.slots[: plan.tasks]):
        first.setdefault(plan.routes[place], number)
    busy = set(waiting)
    return [Sample(number, route) for route, number in first.items() if route.queue not in busy][:MOST]


def unfinished(asked: Iterable[Sample]) -> list[Sample]:
    """Return those of which nothing is known yet."""
    return [sample for sample in asked if sample.probed is None]


@dataclass
class Probe:
    """Asks for one of each task. ``before`` are the workers as preflight found them."""

    plan: Plan
    broker: Broker
    results: ResultStore
    before: list[Worker]
    stop: threading.Event
    reporter: Reporter

    @cached_property
    def calls(self) -> Calls:
        """What each message of the plan calls, and what is right for it."""
        return Calls(self.plan)

    def message_bytes(self, sample: Sample) -> int:
        """Return the size of the body of a message."""
        call, minimal = self.calls.call(sample.number), self.plan.minimal_headers
        sender = message.Sender.new()
        built = message.build(sample.route, call.args, "", sender, minimal_headers=minimal, kwargs=call.kwargs)
        return len(built.body)

    def arguments(self, sample: Sample) -> str:
        """Return what a task is called with, in words."""
        call = self.calls.call(sample.number)
        return quote(str(call), plain=True) if call.kwargs else quote(list(call.args))

    def run(self, waiting: Iterable[str] = ()) -> list[Probed]:
        """Have one message of each route done; return what was measured, nothing when it was stopped.

        Queues in which messages of others wait are left out, since the answer would come after these. A task that
        stores no result is done when neither its queue nor a worker has its message. Raises ``TaskmillError`` with the
        task, its arguments, what came and what was expected: for a wrong value, for an exception, and where no result
        comes within :attr:`Plan.result_timeout` of the last time that somebody had the message, or ten times as long
        after it was sent.
        """
        asked = samples(self.plan, waiting)
        if left_out := [queue for queue in self.plan.queues if queue in set(waiting)]:
            self.reporter.say(f"messages of others wait in {', '.join(left_out)}: these tasks are not tried first")
        if not asked:
            return []
        names = list(dict.fromkeys(sample.label for sample in asked))
        more = len(set(self.plan.routes)) - len(asked)
        shown = ", ".join(names) + (f" (and not for {more:,} more)" if more and not left_out else "")
        self.reporter.say(f"asking for one of each task: {shown}")
        with tempfile.TemporaryDirectory(prefix="taskmill-") as folder:
            self._send(asked, Path(folder))
        self._await(asked)
        if self.stop.is_set():
            self.reporter.say("stopped while one of each task was asked for: these may run yet")
            return []
        for sample in asked:
            if sample.probed is not None:
                self.reporter.say(f"  {line(sample, sample.probed)}")
        self._refuse(asked)
        return [sample.probed for sample in asked if sample.probed is not None]

    def _send(self, asked: list[Sample], folder: Path) -> None:
        """Publish the messages, each by a channel of its own, and note their ids."""
        (folder / "ids").mkdir()
        # None of them waits for a countdown, which says nothing of how long the task takes.
        routes = tuple(replace(route, countdown=0.0) for route in self.plan.routes)
        plan = replace(self.plan, routes=routes, rate=None, stages=(), profile=False)
        spans = tuple((sample.number, 1) for sample in asked)
        # Set by a channel that gives up, which is not the user's wish.
        inner = threading.Event()
        group = ThreadGroup(Job(plan, folder, self.broker, 0, spans, time.monotonic()), inner, self.reporter.say)
        group.start()
        while group.running():
            if self.stop.wait(PAUSE[0]):
                inner.set()
        group.finish()
        if error := next((tally.error for tally in group.tallies if tally.error), None):
            raise TaskmillError(f"no task could be tried: {error}")
        ids = {one.name: one.lines[0][0] for one in journal.read(folder / "ids") if one.lines}
        for sample, tally in zip(asked, group.tallies, strict=True):
            sample.identifier = ids.get(tally.name, b"")
            sample.sent = sample.seen = tally.first or time.monotonic()

    def _await(self, asked: list[Sample]) -> None:
        """Wait for each of them to be done, as long as it is to be hoped for."""
        pause, looked, told = PAUSE[0], time.monotonic(), time.monotonic()
        while not self.stop.is_set():
            now, states = time.monotonic(), {}
            if now - looked >= LOOK:
                looked, states = now, self._look(unfinished(asked))
            # After the look, which may have waited for a worker that was at work.
            self._fetch(unfinished(asked))
            pending = unfinished(asked)
            if not pending or any(now - sample.found > GRACE for sample in asked if sample.fault):
                return
            if states and now - told >= LINE:
                told = now
                for sample in pending:
                    self.reporter.say(f"  {sample.label}: {now - sample.sent:,.0f} s, {states[sample.key]}")
            if states:
                self._give_up(pending, states, now)
            self.stop.wait(pause)
            pause = min(PAUSE[1], pause * 1.5)

    def _fetch(self, pending: list[Sample]) -> None:
        """Take the results that are there."""
        values = self.results.get([sample.identifier for sample in pending])
        now = time.monotonic()
        for sample in pending:
            if sample.identifier not in values:
                continue
            value = values[sample.identifier]
            right = as_carried(self.calls.right(sample.number))
            verdict, detail, meta = judge_by(sample.identifier, value, right)
            if verdict == "pending":
                continue
            sample.fault = "" if verdict == "correct" else fault(verdict, detail, meta)
            self._done(sample, now, meta, stored_bytes(value))

    def _done(self, sample: Sample, now: float, meta: dict[str, Any], stored: int | None) -> None:
        run, worker = measured(meta)
        sample.found = now
        sample.probed = Probed(
            task=sample.route.task,
            queue=sample.route.queue,
            worker=worker,
            seconds=round(now - sample.sent if run is None else run, 6),
            measured="round trip" if run is None else "worker",
            message_bytes=self.message_bytes(sample),
            result_bytes=stored,
            kind=sample.route.name,
        )

    def _look(self, pending: list[Sample]) -> dict[str, str]:
        """Ask queues and workers where the messages are; return it in words, by id, and note those that are done.

        Raises ``TaskmillError`` when broker or result store do not answer.
        """
        if missing := self.results.unreachable():
            raise away(self.results.kind, missing)
        queues = list(dict.fromkeys(sample.route.queue for sample in pending))
        said = self.broker.check(queues)
        answered = workers.ask(self.broker, [worker.name for worker in self.before])
        taken = workers.taken(self.broker, answered)
        holders = {request.get("id"): name for name, request in taken}
        # A task may have sent them, and get its result from the last of them, as one that is replaced by a chord does.
        others = len(holders.keys() - {sample.key for sample in pending})
        silent = silent_queues(said["consumers"], answered)
        now, states = time.monotonic(), {}
        for sample in pending:
            queue = sample.route.queue
            if sample.key in holders:
                states[sample.key] = f"{holders[sample.key]} has its message"
            elif queue in silent:
                states[sample.key] = f"a consumer of {queue} does not answer, as one that is at work"
            elif queue in said["waiting"]:
                states[sample.key] = f"messages wait in {queue} ({said['waiting'][queue]:,})"
            else:
                states[sample.key] = f"workers have messages that are not its own ({others:,})" if others else ""
                sample.absent, sample.seen = sample.absent + 1, now if others else sample.seen
                continue
            sample.absent, sample.seen = 0, now
        self._acknowledge(pending, answered, now)
        return {key: state or "and no worker has its message" for key, state in states.items()}

    def _acknowledge(self, pending: list[Sample], answered: list[Worker], now: float) -> None:
        """Note as done what stores no result and nobody has any more, unless no worker has executed it."""
        for sample in pending:
            if sample.route.task not in self.plan.unstored or sample.absent < QUIET_LOOKS:
                continue
            if workers.executed_between(self.before, answered, {sample.route.task}) == 0:
                sample.fault = "its message has left the queue, and no worker has executed it"
            self._done(sample, now, {}, None)

    def _give_up(self, pending: list[Sample], states: dict[str, str], now: float) -> None:
        """Raise ``TaskmillError`` for a message that is waited for in vain."""
        timeout = self.plan.result_timeout
        for sample in pending:
            what = f"{sample.label}, called with {self.arguments(sample)},"
            if now - sample.sent > PATIENCE * timeout:
                raise TaskmillError(
                    f"{what} is not done after {PATIENCE * timeout:,.0f} s: {states[sample.key]}. Nothing of the run "
                    f"was published. If it takes that long, give more than a tenth of it as --deadline "
                    f"(load_result_timeout). {SKIP}"
                )
            if now - sample.seen > timeout:
                raise TaskmillError(
                    f"{what} has left no result within {timeout:g} s, and no worker has its message any more. Nothing "
                    f"of the run was published. Look at the workers' logs, at their result backend and at the dead "
                    f"letters. {SKIP}"
                )

    def _refuse(self, asked: list[Sample]) -> None:
        """Raise ``TaskmillError`` for the first that came to no good end."""
        bad = [sample for sample in asked if sample.fault]
        if not bad:
            return
        sample, others = bad[0], len(bad) - 1
        assert sample.probed is not None
        at = f" on {sample.probed.worker}" if sample.probed.worker else ""
        too = f" (and so did {others:,} more of these tasks)" if others else ""
        called = self.arguments(sample)
        mend = (
            "Mend the task, or what the scenario says of its kind"
            if self.plan.kinds
            else "Mend the task, its arguments (--args, app_arguments) or the expected value (--expect, app_expected)"
        )
        raise TaskmillError(
            f"one of each task was run first, and {sample.label}, called with {called}{at}, came to no good end"
            f"{too}: {sample.fault}. Nothing of the run was published. {mend}. {SKIP}"
        )


def fault(verdict: str, detail: str, meta: dict[str, Any]) -> str:
    """Return what is wrong with a result, in words, with the setting that mends it where there is one."""
    if is_parked(meta):
        return f"its process was lost each time, and its message is a dead letter now ({detail})"
    result = meta.get("result")
    if verdict == "failed" and isinstance(result, dict) and result.get("exc_type") == "ResultTooLargeError":
        return f"{detail}. In this landscape memcached's own limit is memcached_item_mb"
    return detail


def measured(meta: dict[str, Any]) -> tuple[float | None, str]:
    """Return the seconds that a task's function ran, and on which worker, where its stored result says so."""
    match meta.get(KEY):
        case [_, int(microseconds), _, str(worker)]:
            return microseconds / 1e6, worker
    return None, ""


def stored_bytes(value: Any) -> int | None:
    """Return the size of a stored result; ``None`` where it cannot be read."""
    if isinstance(value, dict):
        return len(celery_json.dumps(value).encode())
    # Redis has bytes.
    return len(value.encode() if isinstance(value, str) else value) if isinstance(value, (str, bytes)) else None


def line(sample: Sample, probed: Probed) -> str:
    """Return what came of one message, for the console."""
    took = "took" if probed.measured == "worker" else "came back after"
    where = f" on {probed.worker}" if probed.worker else ""
    result = "no result is stored" if probed.result_bytes is None else f"result {probed.result_bytes:,} bytes"
    sizes = f"message {probed.message_bytes:,} bytes, {result}"
    well = ", not as it should be" if sample.fault else ""
    return f"{sample.label}: {took} {probed.seconds:,.4g} s{where}, {sizes}{well}"


def mean_room(plan: Plan, probed: Iterable[Probed], results: ResultStore) -> int | None:
    """Return what a result of the run takes in the store on average, in bytes; ``None`` where none was stored.

    A kind counts as often as the run has messages of it.
    """
    number_of = messages(plan)
    sizes = [
        (number_of[one.kind, one.task, one.queue], results.takes(one.result_bytes))
        for one in probed
        if one.result_bytes is not None
    ]
    number = sum(number for number, _ in sizes)
    return math.ceil(sum(number * size for number, size in sizes) / number) if number else None


def try_tasks(
    plan: Plan,
    before: dict[str, Any],
    broker: Broker,
    results: ResultStore,
    stop: threading.Event,
    reporter: Reporter,
    conditions: Conditions,
) -> tuple[Plan, dict[str, Any]]:
    """Have one of each task run where that is wanted; return the plan with its deadline, and what was found before.

    ``before`` is what preflight returned. To it comes what was measured, ``probed``, and the workers' counts are those
    after it. Raises ``TaskmillError`` as :meth:`Probe.run`, and where the store has no room for results of that size.
    """
    there = workers.from_plain(before["workers"])
    for warning in countdown_warnings(plan, conditions.consumer_timeout):
        reporter.say(warning)
    if not conditions.probe or not there:
        return replace(plan, deadline=result_timeout(plan, ())), before
    probed = Probe(plan, broker, results, there, stop, reporter).run(before["broker"]["waiting"])
    timeout, given = result_timeout(plan, probed), plan.deadline
    plan = replace(plan, deadline=timeout)
    if not probed or stop.is_set():
        return plan, before
    each = mean_room(plan, probed, results)
    if each is not None and conditions.result_bytes is None:
        results.preflight(plan.storing, each, largest_value(plan))
    if given is None and timeout > RESULT_TIMEOUT:
        reporter.say(f"a result counts as lost when none has come for {timeout:,.0f} s (--deadline)")
    if duration := duration_line(least_seconds(plan, probed, there)):
        reporter.say(duration)
    for warning in consumer_timeout_warnings(plan, probed, there, conditions.consumer_timeout):
        reporter.say(warning)
    tasks = {route.task for route in plan.routes}
    settled = workers.settled(broker, [worker.name for worker in there], tasks, SETTLE)
    return plan, before | {"probed": to_builtins(probed), "workers": workers.plain(settled)}
