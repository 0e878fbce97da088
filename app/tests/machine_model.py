"""A broker, a result store and pool processes of a few lines, in histories that a batching machine lives through.

A history is bytes: each event takes one for its kind, and more for its choices, until there are none left. So
hypothesis and a plain random generator make them alike, and the shortest bytes that fail say what happened. The world
is one class, and this module longer than others, since nearly every event touches broker, store and worker at once.
"""

from __future__ import annotations

from collections import Counter, deque
from dataclasses import dataclass, field
from typing import Any

from taskmill_worker.batching.machine import (
    AHEAD,
    BATCH_BYTES,
    HELD,
    RESERVED_BYTES,
    Acknowledge,
    Batch,
    Entry,
    GiveBack,
    Machine,
    Reserve,
    Revoke,
    Send,
    Settle,
)

MOST = 4
SECONDS = 0.05
#: Bytes that a message may have: of two of the third kind no batch is made, and a few of the last are too many.
SIZES = (100, 100, 600_000, 30 << 20)
#: Seconds that a task of a kind takes.
KINDS = {"short": 0.001, "long": 1.0}
#: Messages that the app's settings reserve.
PREFETCH = 6


@dataclass
class Message:
    """One message of the broker, with what became of it."""

    number: int
    size: int
    kind: str
    #: Whether it may go in batches.
    plain: bool
    redelivered: bool = False
    deliveries: int = 0
    runs: int = 0
    #: What the result store has of it.
    result: str = ""


class MessageEntry(Entry):
    """An entry that knows its message of the model, and the connection that it came on."""

    __slots__ = ("connection", "message")

    connection: int
    message: Message


@dataclass(eq=False)
class Job:
    """A batch that a pool process has, and the connection that its messages came on."""

    batch: Batch
    connection: int


@dataclass
class World:
    """Everything around one machine."""

    choices: bytes
    machine_class: type[Machine] = Machine
    place: int = 0
    now: float = 100.0
    processes: int = 1
    connection: int = 0
    extra: int = 0
    #: Most messages that the broker lets anybody reserve on top.
    allowed: int = 10_000
    last_tag: int = 0
    queue: deque[Message] = field(default_factory=deque)
    unacknowledged: dict[int, Message] = field(default_factory=dict)
    #: Of this connection, the tags that Celery runs by itself, and those that a pool process got.
    singly: list[int] = field(default_factory=list)
    handed_out: set[int] = field(default_factory=set)
    jobs: list[Job] = field(default_factory=list)
    messages: list[Message] = field(default_factory=list)
    revoked: set[int] = field(default_factory=set)
    #: Tags that may go back to their queue: their process died, or nobody could settle them.
    may_go_back: set[int] = field(default_factory=set)
    #: Whether the worker is to stop; number and delivery of what was settled by an outcome of its own.
    stopping: bool = False
    by_outcome: set[tuple[int, int]] = field(default_factory=set)
    seen: Counter[str] = field(default_factory=Counter)

    def __post_init__(self) -> None:
        """Start the worker."""
        self.machine = self.machine_class(MOST, SECONDS)

    # Choices.

    def choose(self, number: int) -> int:
        """Return a number below another; the first when the history has no more."""
        self.place += 1
        return self.choices[self.place - 1] % number if self.place <= len(self.choices) else 0

    def play(self) -> None:
        """Live through the history, and then until all is settled."""
        ordinary = [
            self.publish,
            self.deliver,
            self.deliver,
            self.end_job,
            self.end_job,
            self.end_single,
            self.pass_time,
        ]
        seldom = [self.revoke, self.lose_process, self.lose_connection, self.terminate, self.resize, self.limit]
        events = [*ordinary, *ordinary, *ordinary, *seldom, self.restart, self.acknowledge_all]
        while self.place < len(self.choices):
            event = events[self.choose(len(events))]
            event()
            self.seen[event.__name__] += 1
            self.turn()
        self.settle_all()

    def turn(self) -> None:
        """Go around the worker's event loop, and look at what it holds."""
        if self.machine.due is not None and self.now >= self.machine.due:
            self.perform(self.machine.passed(self.now))
        self.perform(self.machine.hand_out(self.now, self.processes, self.is_revoked))
        machine = self.machine
        remembered = [*machine.open, *machine.held]
        assert sorted(remembered) == sorted(self.unacknowledged), "what is remembered is not what is open"
        assert machine.bytes == sum(self.unacknowledged[tag].size for tag in machine.open), "bytes are miscounted"
        assert not (machine.bytes > RESERVED_BYTES and self.extra), "more is reserved than may be held"
        assert self.stopping or not machine.waiting or len(machine.in_flight) >= self.processes, "a process idles"
        lingered = machine.waiting_since is not None and self.now >= machine.waiting_since + machine.linger
        assert not lingered or len(machine.in_flight) >= AHEAD * self.processes, "messages gather too long"
        assert not (machine.held and self.stopping), "an acknowledgement waits while the worker stops"
        assert machine.held_since is None or self.now < machine.held_since + HELD, "an acknowledgement waits too long"
        assert machine.due is None or machine.due > self.now, "the machine wakes the loop without end"

    def is_revoked(self, entry: MessageEntry) -> bool:
        """Say whether a task was revoked."""
        return entry.message.number in self.revoked

    def is_here(self, entry: MessageEntry) -> bool:
        """Say whether an entry came on this connection, and is not settled."""
        return entry.connection == self.connection and entry.tag in self.unacknowledged

    # The broker's side.

    def publish(self) -> None:
        """Post a few messages of a kind."""
        size = SIZES[self.choose(len(SIZES))]
        kind = "long" if self.choose(8) == 0 else "short"
        plain = self.choose(6) > 0
        for _ in range(1 + self.choose(2 * MOST)):
            self.messages.append(Message(len(self.messages), size, kind, plain))
            self.queue.append(self.messages[-1])

    def deliver(self) -> None:
        """Deliver what may be delivered, or a part of it."""
        for _ in range(1 + self.choose(2 * MOST)):
            if not self.deliver_one():
                break

    def deliver_one(self) -> bool:
        """Deliver a message to the worker's channel; say whether there was one, and room."""
        if not self.queue or len(self.unacknowledged) >= PREFETCH + self.extra:
            return False
        message = self.queue.popleft()
        message.deliveries += 1
        self.last_tag += 1
        tag = self.last_tag
        self.unacknowledged[tag] = message
        self.machine.delivered(tag, message.size)
        if message.plain and not message.redelivered:
            entry = MessageEntry(tag, message.kind)
            entry.message, entry.connection = message, self.connection
            if self.machine.take(entry):
                return True
            assert self.stopping, "a message was not taken"
        # Celery runs it by itself.
        self.singly.append(tag)
        return True

    def on_channel(self, tag: int, back: bool = False) -> None:
        """Settle a message on the channel, as Celery's own request does, which the machine hears of."""
        self.settle_at_broker(tag, back)
        self.perform(self.machine.settled(tag, False, self.now))

    def settle_at_broker(self, tag: int, back: bool) -> None:
        """Take an acknowledgement or rejection of one message; an unknown tag would end the worker."""
        assert tag in self.unacknowledged, f"406 PRECONDITION_FAILED - unknown delivery tag {tag}"
        message = self.unacknowledged.pop(tag)
        if back:
            message.redelivered = True
            self.queue.appendleft(message)

    # The worker's side.

    def perform(self, actions: Any) -> None:
        """Carry out what the machine says, where it may say so."""
        for action in actions:
            self.seen[type(action).__name__] += 1
            match action:
                case Send(batch):
                    self.send(batch)
                case Acknowledge(tag, multiple):
                    self.acknowledge(tag, multiple)
                case GiveBack(entry):
                    assert entry.tag in self.may_go_back, "a message goes back that nobody failed to settle"
                    self.settle_at_broker(entry.tag, back=True)
                case Settle(entry, outcome):
                    self.settle(entry, outcome)
                case Revoke(entry):
                    assert entry.message.number in self.revoked, "a task is revoked that was not"
                    entry.message.result = "REVOKED"
                    self.on_channel(entry.tag)
                case Reserve(count):
                    self.extra = min(count, self.allowed)
                    self.machine.reserved(self.extra)

    def send(self, batch: Batch) -> None:
        """Take a batch to the pool."""
        assert not self.stopping, "a batch is begun while the worker stops"
        assert 0 < len(batch.entries) <= MOST, "a batch has too many messages"
        size = sum(entry.message.size for entry in batch.entries)
        assert size <= BATCH_BYTES or len(batch.entries) == 1, "a batch has too many bytes"
        assert len(self.machine.in_flight) <= AHEAD * self.processes or self.seen["resize"], "too many batches are out"
        for entry in batch.entries:
            assert self.is_here(entry), "a message is handed out that is not here"
            assert entry.tag not in self.handed_out, "a message is handed out twice"
            assert entry.message.number not in self.revoked, "a revoked task is handed out"
            self.handed_out.add(entry.tag)
        self.jobs.append(Job(batch, self.connection))

    def acknowledge(self, tag: int, multiple: bool) -> None:
        """Take an acknowledgement of the machine's own: only of what is settled."""
        assert tag in self.unacknowledged, f"406 PRECONDITION_FAILED - unknown delivery tag {tag}"
        for one in [known for known in self.unacknowledged if known <= tag] if multiple else [tag]:
            assert one not in self.singly, "an acknowledgement covers a message that Celery runs by itself"
            assert self.unacknowledged[one].result, "an acknowledgement covers a message that is not settled"
            self.settle_at_broker(one, back=False)

    def settle(self, entry: MessageEntry, outcome: Any) -> None:
        """Do by Celery's own request what an outcome asks for."""
        how, number = outcome
        message = entry.message
        assert number == message.number, "the result of one task is another's"
        assert (number, message.deliveries) not in self.by_outcome, "a task is settled twice"
        self.by_outcome.add((number, message.deliveries))
        here = self.is_here(entry)
        if how == "raises":
            if here:
                self.may_go_back.add(entry.tag)
            return
        if how == "requeue":
            if here:
                self.on_channel(entry.tag, back=True)
            return
        message.result = "FAILURE"
        if here:
            self.on_channel(entry.tag)

    # Events of the worker.

    def end_job(self) -> None:
        """Have a pool process end a batch: each task by itself, as the history says."""
        if self.jobs:
            self.end(self.jobs.pop(self.choose(len(self.jobs))), self.choose(2) == 0)

    def end(self, job: Job, odd: bool) -> None:
        """End a batch, with odd outcomes or without."""
        outcomes: dict[int, Any] = {}
        durations: dict[str, tuple[int, float]] = {}
        for place, entry in enumerate(job.batch.entries):
            message = entry.message
            message.runs += 1
            assert message.runs <= message.deliveries, "a task runs twice without a redelivery"
            how = ("", "", "fails", "raises", "requeue")[self.choose(5) if odd else 0]
            if how:
                outcomes[place] = (how, message.number)
            else:
                message.result = "SUCCESS"
            count, seconds = durations.get(message.kind, (0, 0.0))
            durations[message.kind] = count + 1, seconds + KINDS[message.kind]
        self.perform(self.machine.ended(job.batch, outcomes))
        self.perform(self.machine.stored(job.batch, outcomes, durations, self.now, self.processes))

    def lose_process(self) -> None:
        """Have a pool process die within a batch, or not be able to store its results; some are stored."""
        if not self.jobs:
            return
        job = self.jobs.pop(self.choose(len(self.jobs)))
        for entry in job.batch.entries[: self.choose(MOST)]:
            entry.message.runs += 1
            entry.message.result = "SUCCESS"
        self.lose(job)

    def lose(self, job: Job) -> None:
        """Tell the machine that nobody says what became of a batch."""
        if job.connection == self.connection:
            self.may_go_back.update(entry.tag for entry in job.batch.entries)
        self.perform(self.machine.died(job.batch, self.now))

    def terminate(self) -> None:
        """Revoke a task that is in a batch, and end its process."""
        if not self.jobs:
            return
        job = self.jobs.pop(self.choose(len(self.jobs)))
        entry = job.batch.entries[self.choose(len(job.batch.entries))]
        if self.is_here(entry):
            entry.message.result = "REVOKED"
            self.on_channel(entry.tag)
        self.lose(job)

    def drop_jobs(self) -> None:
        """Have the pool forget some of what no process was given, as it does before a connection or the worker ends."""
        for job in self.jobs[:]:
            if self.choose(3) == 1:
                self.jobs.remove(job)
                self.machine.dropped(job.batch)

    def end_single(self) -> None:
        """Have Celery end a task that it runs by itself."""
        if self.singly:
            self.singly_ends(self.singly[self.choose(len(self.singly))])

    def acknowledge_all(self) -> None:
        """Have code of the app's acknowledge all up to a message."""
        if not self.unacknowledged:
            return
        tag = list(self.unacknowledged)[self.choose(len(self.unacknowledged))]
        for one in [known for known in self.unacknowledged if known <= tag]:
            self.unacknowledged.pop(one).result = "ACKNOWLEDGED BY THE APP"
            if one in self.singly:
                self.singly.remove(one)
        self.perform(self.machine.settled(tag, True, self.now))

    def revoke(self) -> None:
        """Revoke a task, wherever it is."""
        if self.messages:
            self.revoked.add(self.choose(len(self.messages)))

    def pass_time(self) -> None:
        """Let time pass."""
        self.now += (0.001, 0.01, 1.0, 20.0)[self.choose(4)]

    def resize(self) -> None:
        """Have the pool grow or shrink."""
        self.processes = 1 + self.choose(3)

    def limit(self) -> None:
        """Have the app's settings allow for fewer messages."""
        self.allowed = (10_000, 5, 0)[self.choose(3)]

    def lose_connection(self) -> None:
        """Lose the connection: the broker delivers once more what it has seen no end of."""
        self.drop_jobs()
        for message in reversed(self.unacknowledged.values()):
            message.redelivered = True
            self.queue.appendleft(message)
        self.unacknowledged.clear()
        self.singly.clear()
        self.handed_out.clear()
        self.may_go_back.clear()
        self.connection += 1
        self.last_tag = self.extra = 0
        self.machine.lost()

    def restart(self) -> None:
        """Stop the worker, warmly: what was begun ends; then start another."""
        self.stopping = True
        self.drop_jobs()
        self.perform(self.machine.stop(self.now))
        self.turn()
        while self.jobs:
            self.end(self.jobs.pop(0), odd=False)
            self.turn()
        while self.singly:
            self.singly_ends(self.singly[0])
        self.lose_connection()
        self.stopping = False
        self.machine = self.machine_class(MOST, SECONDS)

    def singly_ends(self, tag: int) -> None:
        """End a task that Celery runs by itself."""
        self.singly.remove(tag)
        self.unacknowledged[tag].result = "SUCCESS"
        self.on_channel(tag)

    def settle_all(self) -> None:
        """Have no more faults, and see everything settled."""
        for _ in range(10 * len(self.messages) + 10):
            while self.deliver_one():
                pass
            self.now += 0.01
            self.turn()
            if self.jobs:
                self.end(self.jobs.pop(0), odd=False)
            elif self.singly:
                self.singly_ends(self.singly[0])
            elif not self.queue and not self.unacknowledged:
                break
            self.turn()
        machine = self.machine
        assert not self.queue, "messages are left in the queue"
        assert not self.unacknowledged, "messages are left unacknowledged"
        remembered = [machine.open, machine.held, machine.waiting, machine.in_flight]
        assert not any(remembered), "something is remembered"
        assert all(message.result for message in self.messages), "a task has no result"


def live_through(history: bytes, machine_class: type[Machine] = Machine) -> World:
    """Live through a history; raise ``AssertionError`` with what was wrong."""
    world = World(history, machine_class)
    world.play()
    return world
