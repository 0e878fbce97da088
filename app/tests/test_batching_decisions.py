"""Single decisions of the machine: what goes into a batch, how much is reserved, when it is acknowledged."""

from __future__ import annotations

import sys
from typing import Any

import pytest

from taskmill_worker.batching.machine import (
    BATCH_BYTES,
    FORGET,
    HELD,
    LINGER,
    RESERVED_BYTES,
    Acknowledge,
    Action,
    Batch,
    Entry,
    Machine,
    Reserve,
    Send,
)

MOST = 100
SECONDS = 0.05


class Worker:
    """A machine with a pool of one process, to which the broker delivers whatever it is told to."""

    def __init__(self) -> None:
        """Begin with nothing delivered."""
        self.machine = Machine(MOST, SECONDS)
        self.now = 0.0
        self.tag = 0
        self.sent: list[Batch] = []
        self.acknowledged: list[Acknowledge] = []

    def perform(self, actions: list[Action]) -> None:
        """Take note of what the machine wants."""
        for action in actions:
            match action:
                case Send(batch):
                    self.sent.append(batch)
                case Reserve(messages):
                    self.machine.reserved(messages)
                case Acknowledge():
                    self.acknowledged.append(action)

    def turn(self) -> None:
        """Go around the event loop."""
        if self.machine.due is not None and self.now >= self.machine.due:
            self.perform(self.machine.passed(self.now))
        self.perform(self.machine.hand_out(self.now, 1, lambda _: False))

    def deliver(self, number: int, kind: str = "short", size: int = 300) -> None:
        """Deliver messages for batches, and go around the loop."""
        for _ in range(number):
            self.tag += 1
            self.machine.delivered(self.tag, size)
            self.machine.take(Entry(self.tag, kind))
        self.turn()

    def deliver_single(self) -> int:
        """Deliver a message that Celery runs by itself, and return its tag."""
        self.tag += 1
        self.machine.delivered(self.tag, 300)
        return self.tag

    def end(self, each: float) -> None:
        """End the first batch that was sent, every task of which took so many seconds."""
        batch = self.sent.pop(0)
        kinds = [entry.kind for entry in batch.entries]
        durations = {kind: (kinds.count(kind), each * kinds.count(kind)) for kind in kinds}
        self.perform(self.machine.stored(batch, {}, durations, self.now, 1))
        self.turn()

    def end_all(self, each: float) -> None:
        """End what was sent, and what is sent meanwhile."""
        while self.sent:
            self.end(each)

    def sizes(self) -> list[int]:
        """Return how many messages each batch has that was sent."""
        return [len(batch.entries) for batch in self.sent]


@pytest.fixture
def worker() -> Worker:
    """Return a worker that knows that a short task takes a tenth of a millisecond."""
    one = Worker()
    one.deliver(1)
    one.end_all(0.0001)
    one.acknowledged.clear()
    return one


def test_large_messages_are_not_piped_at_once(worker: Worker) -> None:
    """A hundred of 300 kB are batches of three; one of more than a batch may have goes by itself."""
    worker.deliver(100, size=300_000)
    assert worker.sizes() == [3, 3]
    worker = Worker()
    worker.deliver(2, size=BATCH_BYTES + 1)
    assert worker.sizes() == [1, 1]


def test_large_messages_are_not_reserved(worker: Worker) -> None:
    """While the worker holds too many bytes, nothing is reserved on top of what the app's settings say."""
    assert worker.machine.prefetch == 4 * MOST
    worker.deliver(RESERVED_BYTES // 1_000_000 + 5, size=1_000_000)
    assert worker.machine.prefetch == 0
    worker.end_all(0.0001)
    # Of such messages about so many fit.
    assert 0 < worker.machine.prefetch <= 1.25 * RESERVED_BYTES / 1_000_000


def test_one_slow_task_does_not_decide_how_much_is_reserved(worker: Worker) -> None:
    """It is forgotten as short ones arrive; tasks that are slow one and all have nothing reserved."""
    worker.deliver(1, kind="slow")
    worker.end_all(1.0)
    assert worker.machine.prefetch == 0
    for _ in range(8):
        worker.deliver(MOST)
        worker.end_all(0.0001)
    assert worker.machine.prefetch > MOST
    for _ in range(20):
        worker.deliver(1, kind="slow")
        worker.end_all(1.0)
    assert worker.machine.prefetch == 0


def test_a_worker_without_tasks_reserves_no_more_than_the_settings_say(worker: Worker) -> None:
    """After some seconds, and not before."""
    worker.now += FORGET - 1
    worker.turn()
    assert worker.machine.prefetch == 4 * MOST
    worker.now += 1
    worker.turn()
    assert worker.machine.prefetch == 0
    assert worker.machine.due is None


def test_messages_gather_while_every_process_is_at_work(worker: Worker) -> None:
    """The first goes at once; what comes while that runs goes together, when it ends or after a few milliseconds."""
    worker.deliver(1)
    assert worker.sizes() == [1]
    worker.deliver(1)
    worker.deliver(1)
    assert worker.sizes() == [1]
    worker.end(0.0001)
    assert worker.sizes() == [2]
    worker.deliver(1)
    worker.now += LINGER
    worker.turn()
    assert worker.sizes() == [2, 1]


def test_a_full_batch_does_not_gather(worker: Worker) -> None:
    """A process that is at work has the next one at hand."""
    worker.deliver(1)
    worker.deliver(MOST)
    assert worker.sizes() == [1, MOST]


def test_slow_tasks_do_not_gather() -> None:
    """One that fills a batch by itself is handed out at once, as far as a process may have one more at hand."""
    worker = Worker()
    worker.deliver(1, kind="slow")
    worker.end_all(1.0)
    worker.deliver(1, kind="slow")
    worker.deliver(1, kind="slow")
    assert worker.sizes() == [1, 1]


def test_a_batch_may_take_as_long_as_one_likes() -> None:
    """Its messages are counted all the same, where its seconds are more than any number of them could take."""
    worker = Worker()
    worker.machine.seconds = sys.float_info.max
    worker.deliver(1)
    worker.end(0.0001)
    assert worker.machine.prefetch == 4 * MOST


def test_what_celery_runs_by_itself_is_never_covered(worker: Worker) -> None:
    """What comes behind it waits a while for one acknowledgement of all, and is then acknowledged one by one."""
    single = worker.deliver_single()
    worker.deliver(3)
    worker.deliver(3)
    worker.end(0.0001)
    assert worker.acknowledged == []
    worker.now += HELD
    worker.turn()
    assert worker.acknowledged == [Acknowledge(tag, False) for tag in range(single + 1, single + 4)]
    worker.perform(worker.machine.settled(single, False, worker.now))
    worker.end_all(0.0001)
    assert worker.acknowledged[3:] == [Acknowledge(single + 6, True)]


def test_what_goes_celerys_own_way_is_forgotten_when_it_is_settled(worker: Worker) -> None:
    """A worker without any batch remembers nothing but what is open."""
    for _ in range(1000):
        worker.perform(worker.machine.settled(worker.deliver_single(), False, worker.now))
    machine: Any = worker.machine
    assert (machine.open, machine.held, machine.bytes) == ({}, [], 0)


def test_a_lost_connections_batch_settles_nothing_of_the_next(worker: Worker) -> None:
    """Its tags are other messages' by then."""
    worker.deliver(3)
    worker.machine.lost()
    worker.tag = 0
    worker.deliver(1)
    before = dict(worker.machine.open)
    worker.end(0.0001)
    assert worker.machine.open == before
    assert worker.acknowledged == []
