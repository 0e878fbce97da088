"""What one connection of the consumer has delivered and is not settled yet: batches made of it, acknowledgements."""

from __future__ import annotations

import functools
from collections import deque
from typing import TYPE_CHECKING, Any

from celery.exceptions import InvalidTaskError
from celery.utils.log import get_logger
from celery.worker import state
from celery.worker.request import Request
from kombu.exceptions import DecodeError

from taskmill_worker.batching.batch import Batch
from taskmill_worker.batching.pool import BROKEN

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

logger = get_logger(__name__)

#: Batches handed out for each pool process: one at work, and one that waits, so that it never idles.
AHEAD = 2
#: Most messages that a worker reserves for its batches. The broker takes 65,535 at most.
MOST_RESERVED = 20_000
#: What a batch's measured seconds count against what was known of the task before.
WEIGHT = 0.3


class Gatherer:
    """What one connection of the consumer has delivered and is not settled yet."""

    def __init__(self, consumer: Any, most: int, seconds: float) -> None:
        """Begin with what is known of no task."""
        self.consumer = consumer
        self.connection = consumer.connection
        self.most = most
        self.seconds = seconds
        self.waiting: deque[tuple[Any, Any]] = deque()
        self.in_flight: set[Batch] = set()
        self.scheduled = False
        consumer.hub.on_tick.add(self.tick)
        #: Delivery tags that are neither acknowledged nor given back, in the order of delivery; with the message where
        #: it goes Celery's own way and knows itself when it is settled.
        self.open: dict[int, Any] = {}
        #: Messages whose results are stored, and whose acknowledgement waits for earlier ones.
        self.stored: list[Any] = []
        #: Seconds that a task of the name takes.
        self.expected: dict[str, float] = {}
        self.prefetch = 0

    @property
    def closed(self) -> bool:
        """Whether the connection is gone: its delivery tags mean nothing any more."""
        return self.consumer.connection is not self.connection

    @property
    def stopping(self) -> bool:
        """Whether the worker is to stop: it begins nothing any more."""
        # They hold an exit code, 0 among them, when it is.
        return any(code is not None and code is not False for code in (state.should_stop, state.should_terminate))

    @property
    def events(self) -> bool:
        """Whether task events are on, which remote control may change."""
        dispatcher = self.consumer.event_dispatcher
        return bool(dispatcher and dispatcher.enabled)

    def add(self, task: Any, message: Any) -> None:
        """Take a message in."""
        self.open[message.delivery_tag] = None
        self.waiting.append((task, message))
        if self.events:
            self.event("task-received", task, message, **received(message))
        self.scheduled = True

    def tick(self) -> None:
        """Hand out what has come in; called by the event loop before it waits for anything more.

        What is called soon may have to wait for the next event, and with a small prefetch there is none.
        """
        if self.scheduled:
            self.hand_out()
        if self.closed:
            self.consumer.hub.on_tick.discard(self.tick)

    def hold(self, message: Any) -> None:
        """Take note of a message that goes Celery's own way."""
        self.open[message.delivery_tag] = message

    def hand_out(self) -> None:
        """Make batches while there are messages and pool processes for them."""
        self.scheduled = False
        if self.closed or self.stopping:
            # What waits here was not begun; the broker gives it to someone else.
            self.waiting.clear()
            return
        slots = AHEAD * self.consumer.pool.num_processes
        while self.waiting and len(self.in_flight) < slots:
            # What is there is shared by the processes that are free, so that none gets all and the others none.
            share = -(-len(self.waiting) // (slots - len(self.in_flight)))
            entries = self.take(min(self.most, share))
            if entries:
                batch = Batch(self, entries)
                self.in_flight.add(batch)
                batch.send()

    def take(self, most: int) -> list[tuple[Any, Any]]:
        """Return the next messages, at most so many, that should take no longer than a batch; revoked ones are none."""
        entries: list[tuple[Any, Any]] = []
        left = self.seconds
        while self.waiting and len(entries) < most:
            if self.waiting[0][1].headers["id"] in state.revoked:
                request = self.request(*self.waiting.popleft())
                if request:
                    request.revoked()
                continue
            # A task that was never seen is tried alone.
            left -= self.expected.get(self.waiting[0][0].name, self.seconds)
            if entries and left < 0:
                break
            entries.append(self.waiting.popleft())
        return entries

    def learn(self, durations: dict[str, tuple[int, float]]) -> None:
        """Take in how long the tasks of a batch ran: number and seconds by name; reserve messages accordingly."""
        for name, (count, seconds) in durations.items():
            each = seconds / count
            known = self.expected.get(name)
            self.expected[name] = each if known is None else known + WEIGHT * (each - known)
        slowest = max(self.expected.values(), default=self.seconds)
        size = max(1, min(self.most, int(self.seconds / slowest) if slowest else self.most))
        # On top of what the app's settings reserve: as many as are handed out, and as many again that wait for that.
        # Tasks that fill a batch each need none.
        wanted = min(MOST_RESERVED, 2 * AHEAD * self.consumer.pool.num_processes * size) if size > 1 else 0
        if not self.closed and not self.prefetch / 2 <= wanted <= self.prefetch * 1.25:
            self.reserve(wanted)

    def reserve(self, wanted: int) -> None:
        """Have the broker deliver so many messages on top of what the app's settings reserve."""
        qos = self.consumer.qos
        change = qos.increment_eventually if wanted > self.prefetch else qos.decrement_eventually
        change(abs(wanted - self.prefetch))
        self.prefetch = wanted
        # With RabbitMQ 4 and with quorum queues the prefetch is each consumer's own, as it was when that began.
        if not self.consumer.qos_global:
            self.consumer.call_soon(self.consume_anew)

    def consume_anew(self) -> None:
        """End the consumers of the worker's queues and begin others, with the prefetch of now."""
        if not self.closed and not self.stopping:
            self.consumer.qos.update()
            self.consumer.task_consumer.cancel()
            self.consumer.task_consumer.consume()

    def finish(self, messages: Iterable[Any]) -> None:
        """Acknowledge messages whose results are stored: all together up to the first that is still open."""
        if self.closed:
            return
        for message in messages:
            del self.open[message.delivery_tag]
            self.stored.append(message)
        first = self.first_open()
        later = []
        last = None
        for message in self.stored:
            if first is not None and message.delivery_tag > first:
                later.append(message)
            elif last is None or message.delivery_tag > last.delivery_tag:
                last = message
        if last is not None:
            self.acknowledge(last, multiple=True)
        # What goes Celery's own way, or lags behind, may take its time: it must not keep the others.
        if first is not None and (self.open[first] is not None or len(later) > self.prefetch // 4):
            for message in later:
                self.acknowledge(message, multiple=False)
            later = []
        self.stored = later
        self.hand_out()

    def first_open(self) -> int | None:
        """Return the first delivery tag that is not settled."""
        while self.open:
            tag, message = next(iter(self.open.items()))
            if message is None or not message.acknowledged:
                return tag
            del self.open[tag]
        return None

    def acknowledge(self, message: Any, *, multiple: bool) -> None:
        """Acknowledge one message, or all up to it; at once, since what is called soon is called in any order."""
        message.ack_log_error(logger, self.consumer.connection_errors, multiple=multiple)

    def give_back(self, messages: Iterable[Any]) -> None:
        """Put the messages of a batch back to their queues."""
        if not self.closed:
            for message in messages:
                del self.open[message.delivery_tag]
                message.reject_log_error(logger, self.consumer.connection_errors, requeue=True)
        self.finish([])

    def request(self, task: Any, message: Any) -> Request | None:
        """Return Celery's own request of a message; ``None`` when it could not be read, and is settled so."""
        self.hold(message)

        def settle(how: Callable[..., None], *arguments: Any) -> None:
            if not self.closed:
                how(*arguments)

        try:
            return Request(
                message,
                on_ack=functools.partial(settle, message.ack_log_error),
                on_reject=functools.partial(settle, message.reject_log_error),
                app=self.consumer.app,
                hostname=self.consumer.hostname,
                eventer=self.consumer.event_dispatcher,
                task=task,
                connection_errors=self.consumer.connection_errors,
            )
        except DecodeError as error:
            self.consumer.on_decode_error(message, error)
        except BROKEN as error:
            self.consumer.on_invalid_task(None, message, error)
        return None

    def settle_singly(self, task: Any, message: Any, outcome: Any) -> None:
        """Let Celery's own request do with a message what its outcome asks for: ``None`` when it could not be read."""
        request = self.request(task, message)
        if request is None:
            return
        if outcome is None:
            self.consumer.on_invalid_task(None, message, InvalidTaskError("its arguments cannot be read"))
        else:
            request.on_success(outcome)

    def event(self, kind: str, task: Any, message: Any, **fields: Any) -> None:
        """Send an event about a task, where events are on."""
        if self.events and task.send_events:
            self.consumer.event_dispatcher.send(kind, uuid=message.headers["id"], **fields)


def received(message: Any) -> dict[str, Any]:
    """Return what Celery says of a task in the event ``task-received``."""
    headers = message.headers
    return {
        "name": headers["task"],
        "args": headers.get("argsrepr", ""),
        "kwargs": headers.get("kwargsrepr", ""),
        "root_id": headers.get("root_id"),
        "parent_id": headers.get("parent_id"),
        "retries": 0,
        "eta": None,
        "expires": None,
    }
