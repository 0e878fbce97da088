"""Counting tasks that store no result: messages leave the queues, and workers say how often they have executed what.

Which of the tasks were executed is not known by id, nor what came of them.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from taskmill.cluster import workers
from taskmill.model.clock import Moment
from taskmill.model.errors import TaskmillError
from taskmill.publishing import journal

if TYPE_CHECKING:
    import threading
    from collections.abc import Iterable

    from taskmill.cluster.broker import Broker
    from taskmill.cluster.workers import Worker
    from taskmill.model.plan import Plan
    from taskmill.progress import Reporter
    from taskmill.publishing.journal import ThreadIds

#: Seconds between two looks at queues and workers.
PAUSE = 1.0
#: How many looks in a row must find nothing left: a message on its way to a worker is in no queue and with no worker.
QUIET_LOOKS = 2


@dataclass(frozen=True)
class Look:
    """Messages that wait in the plan's queues, and that workers hold; executions since before the run, if known."""

    ready: int
    held: int
    executed: int | None
    #: Queues with more consumers than workers have answered: those that have not may hold messages, too.
    silent: tuple[str, ...] = ()

    @property
    def left(self) -> int:
        """How many messages are not acknowledged, as far as this tells."""
        return self.ready + self.held


@dataclass
class Acknowledged:
    """What came of waiting for the tasks that store nothing."""

    look: Look = field(default_factory=lambda: Look(0, 0, None))
    started: Moment = field(default_factory=Moment.now)
    #: When the last change was seen.
    ended: Moment = field(default_factory=Moment.now)
    #: Whether it came to its end: nothing is left, or nothing has changed for the plan's deadline.
    finished: bool = False

    @property
    def source(self) -> str:
        """Where it is known from that a task is done: ``workers`` or ``queues``."""
        return "queues" if self.look.executed is None else "workers"

    def split(self, tasks: int, doubtful: int, found: int) -> tuple[int, int, int]:
        """Return how many of so many tasks are done, lost, and were perhaps never sent.

        ``doubtful`` are those of them whose messages were never confirmed; ``found`` are further tasks, whose results
        are there.
        """
        done = max(0, tasks - self.look.left)
        # Where the workers' counts are not to be had, nothing tells whether a doubtful message was sent.
        done = min(done, tasks - doubtful if self.look.executed is None else max(0, self.look.executed - found))
        unsent = min(tasks - done, doubtful)
        return done, tasks - done - unsent, unsent


def ids_of(plan: Plan, threads: Iterable[ThreadIds]) -> set[bytes]:
    """Return the ids of those messages whose tasks store nothing."""
    storing = [plan.routes[place].task not in plan.unstored for place in plan.slots]
    if all(storing):
        return set()
    first = journal.first_numbers(plan)
    return {
        identifier
        for one in threads
        for place, (identifier, _) in enumerate(one.lines)
        if not storing[(first[one.name] + place) % len(storing)]
    }


def await_acknowledgements(
    plan: Plan, broker: Broker, before: list[Worker], tasks: int, stop: threading.Event, reporter: Reporter
) -> Acknowledged:
    """Wait until so many tasks that store nothing are done, nothing changes for the plan's deadline, or it is stopped.

    ``before`` are the workers as they answered before the run; empty where nobody asked them. Raises ``TaskmillError``
    when the broker stays away for as long, or a worker that may have messages does not answer.
    """
    outcome, quiet = Acknowledged(), 0
    changed = time.monotonic()
    with reporter.phase("executing", tasks) as phase:
        while not stop.is_set():
            late = time.monotonic() - changed > plan.result_timeout
            try:
                look = look_at(plan, broker, before, set(plan.unstored))
            except TaskmillError as error:
                if late:
                    raise
                reporter.say(f"{error}; waiting for it")
                stop.wait(PAUSE)
                continue
            if look != outcome.look:
                outcome.look, outcome.ended, changed, late = look, Moment.now(), time.monotonic(), False
            if late and look.silent:
                raise TaskmillError(
                    f"a consumer of {', '.join(look.silent)} does not answer, and may hold messages of tasks that "
                    f"store no result: it is not known how many are done. Once all workers answer, collect once more"
                )
            quiet = 0 if look.left or look.silent else quiet + 1
            phase.update(min(tasks, max(0, tasks - look.left)))
            counted = look.executed is not None and look.executed >= tasks
            if late or (counted and not look.left) or quiet >= QUIET_LOOKS:
                outcome.finished = True
                break
            stop.wait(PAUSE)
        phase.update(min(tasks, max(0, tasks - outcome.look.left)), last=True)
    return outcome


def look_at(plan: Plan, broker: Broker, before: list[Worker], tasks: set[str] | None) -> Look:
    """Ask the plan's queues and the workers once, those for messages and executions of these tasks, or of any."""
    said = broker.check(plan.queues)
    names = [worker.name for worker in before]
    answered = workers.ask(broker, names) if names else workers.find(broker, plan.queues)
    silent = silent_queues(said["consumers"], answered)
    if silent and names:
        # A worker of another name may have come since: then all are asked, whoever they are.
        answered = workers.find(broker, plan.queues)
        silent = silent_queues(said["consumers"], answered)
    return Look(
        sum(said["waiting"].values()),
        workers.held(broker, answered, tasks),
        None if tasks is None else workers.executed_between(before, answered, tasks),
        silent,
    )


def at_work(plan: Plan, broker: Broker | None, reporter: Reporter) -> str:
    """Return in words whether workers have messages; nothing where none has, or none can be asked.

    Those of any task count: a task of the plan may have sent them, and get its result from the last of them, as one
    that is replaced by a chord does.
    """
    if broker is None:
        return ""
    try:
        look = look_at(plan, broker, [], None)
    except TaskmillError as error:
        reporter.say(f"it is not known whether workers are at work: {error}")
        return ""
    if look.silent:
        return f"a consumer of {', '.join(look.silent)} does not answer, as one that is at work"
    messages = "message" if look.held == 1 else "messages"
    return f"workers have {look.held:,} {messages}" if look.held else ""


def silent_queues(consumers: dict[str, int], answered: list[Worker]) -> tuple[str, ...]:
    """Return the queues that have more consumers than workers have answered."""
    return tuple(queue for queue, number in consumers.items() if number > sum(queue in one.queues for one in answered))
