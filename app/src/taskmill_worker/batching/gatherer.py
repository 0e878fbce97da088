"""Feeds the machine from Celery's consumer, pool and channel, and carries out what it says."""

from __future__ import annotations

import time
from collections import Counter
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any

from celery.exceptions import InvalidTaskError
from celery.utils.log import get_logger
from celery.worker import state
from kombu.exceptions import DecodeError

from taskmill_worker.batching.channel import ChannelWatch
from taskmill_worker.batching.machine import Acknowledge, GiveBack, Machine, Reserve, Revoke, Send
from taskmill_worker.batching.pool import ESCAPED, run
from taskmill_worker.batching.reserved import BROKEN, Reserved, list_as_reserved, unlist

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

    from taskmill_worker.batching.machine import Action, Batch

    #: Of a batch: number and seconds of the tasks by name; by place, what is no success (``None`` where the message
    #: could not be read) and, where events are on, result and seconds of what is.
    BatchOutcome = tuple[dict[str, tuple[int, float]], dict[int, Any], dict[int, tuple[Any, float]]]

logger = get_logger(__name__)


class Gatherer:
    """Of one worker, through all its connections."""

    def __init__(self, consumer: Any, most: int, seconds: float) -> None:
        """Take Celery's consumer, the most messages of a batch and the seconds that it should take."""
        self.consumer = consumer
        self.machine = Machine(most, seconds)
        self.connection: Any = None
        self.watch: ChannelWatch | None = None
        #: Whether messages came since they were handed out, and the moment for which a timer is set.
        self.scheduled = False
        self.timer_at: float | None = None
        #: The pool's jobs of the batches that it has.
        self.jobs: dict[Batch, Any] = {}
        self.flush_pool: Callable[[], None] = consumer.pool.flush
        consumer.pool.flush = self.flush

    def attach(self) -> None:
        """Watch the channel of the consumer's tasks; of a new connection, before anything is delivered."""
        channel = self.consumer.connection.default_channel
        if self.watch is not None and self.watch.channel is channel:
            return
        self.forget_connection()
        self.connection = self.consumer.connection
        self.timer_at = None
        self.watch = ChannelWatch(channel, self.machine.delivered, partial(self.settled, channel))
        self.consumer.hub.on_tick.add(self.tick)

    @property
    def closed(self) -> bool:
        """Whether the connection is gone: its delivery tags mean nothing any more."""
        return self.consumer.connection is not self.connection

    @property
    def events(self) -> bool:
        """Whether task events are on, which remote control may change."""
        dispatcher = self.consumer.event_dispatcher
        return bool(dispatcher and dispatcher.enabled)

    @property
    def prefetch_restored(self) -> bool:
        """Whether the prefetch count is no longer Celery's to set.

        After a connection was lost it is, until all that was at work then has ended.
        """
        return getattr(self.consumer, "_maximum_prefetch_restored", True)

    def forget_connection(self) -> None:
        """Have the machine know that the connection is gone."""
        unlist(self.machine.waiting)
        self.machine.lost()

    def flush(self) -> None:
        """Have the pool forget what no process was given, as Celery does when the worker stops or loses its connection.

        The pool says nothing of a batch that it has forgotten, and that would keep its place for ever.
        """
        self.flush_pool()
        kept = self.consumer.pool._pool._cache
        for batch, job in list(self.jobs.items()):
            if job._job not in kept:
                del self.jobs[batch]
                unlist(batch.entries)
                self.machine.dropped(batch)
        if stopping():
            # The event loop has ended: nobody else acknowledges what waits for that.
            self.perform(self.machine.stop(time.monotonic()))

    # Events.

    def add(self, task: Any, message: Any) -> bool:
        """Take a message for a batch; say whether it could be taken."""
        entry = Reserved(self, task, message)
        if not self.machine.take(entry):
            return False
        list_as_reserved(entry)
        if self.events:
            self.event("task-received", entry, **as_received(entry))
        self.scheduled = True
        return True

    def tick(self) -> None:
        """Hand out what has come in; called by the event loop before it waits for anything more.

        What is called soon may have to wait for the next event, and with a small prefetch there is none.
        """
        due = self.machine.due
        if due is not None:
            now = time.monotonic()
            if now < due:
                self.set_timer(now)
            else:
                self.perform(self.machine.passed(now))
                self.scheduled = True
        if self.scheduled:
            self.hand_out()
            # The pool looks for what it is to write at the same moment, before this or after it; where it was before,
            # a task would wait for whatever wakes the event loop next, up to ten seconds.
            look = getattr(getattr(self.consumer.pool, "_pool", None), "on_poll_start", None)
            if look is not None:
                look()

    def hand_out(self) -> None:
        """Hand out what may be handed out now."""
        self.scheduled = False
        if self.closed:
            self.forget_connection()
            return
        now = time.monotonic()
        if stopping():
            self.perform(self.machine.stop(now))
            return
        try:
            self.perform(self.machine.hand_out(now, self.consumer.pool.num_processes, is_revoked))
        finally:
            self.set_timer(now)

    def set_timer(self, now: float) -> None:
        """Have the event loop go around when the machine has something to do."""
        due = self.machine.due
        if due is None or (self.timer_at is not None and now < self.timer_at <= due):
            return
        self.timer_at = due
        self.consumer.timer.call_after(max(0.0, due - now), self.tick)

    def settled(self, channel: Any, tag: int, multiple: bool) -> None:
        """Take note of what anybody acknowledged or rejected on a channel."""
        if self.watch is not None and self.watch.channel is channel:
            self.perform(self.machine.settled(tag, multiple, time.monotonic()))

    def accepted(self, batch: Batch, pid: int, time_accepted: float) -> None:
        """Count the tasks of a batch as started."""
        started = time.time() - (time.monotonic() - time_accepted)
        entries = [entry for entry in batch.entries if not entry.settled]
        for entry in entries:
            entry.time_start, entry.worker_pid = started, pid
        # What `state.task_accepted` does for each.
        state.active_requests.update(entries)
        state.total_count.update(Counter(entry.name for entry in entries))
        state.all_total_count[0] += len(entries)
        events = self.events
        for entry in entries:
            if events:
                self.event("task-started", entry)
            entry.terminate_if_asked()

    def done(self, batch: Batch, outcome: BatchOutcome) -> None:
        """Settle every message of a batch by what came of it."""
        durations, outcomes, succeeded = outcome
        self.jobs.pop(batch, None)
        unlist(batch.entries)
        if self.closed:
            self.forget_connection()
        failures: list[BaseException] = []
        for place, entry in enumerate(batch.entries):
            if place not in outcomes:
                # As `state.task_ready`: what is on it is not cancelled when the connection is lost.
                state.successful_requests.add(entry.id)
        for entry, result in self.machine.ended(batch, outcomes):
            self.settle(entry, result, failures)
        if self.events:
            for place, (result, runtime) in succeeded.items():
                self.event("task-succeeded", batch.entries[place], result=result, runtime=runtime)
        now, processes = time.monotonic(), self.consumer.pool.num_processes
        self.perform(self.machine.stored(batch, outcomes, durations, now, processes))
        self.restore_prefetch()
        self.hand_out()
        if failures:
            # As Celery has it: the worker ends.
            raise failures[0]

    def failed(self, batch: Batch, error: Any) -> None:
        """Put every message back to its queue. The one that is to blame shows when they are run one by one."""
        self.jobs.pop(batch, None)
        unlist(batch.entries)
        logger.warning(
            "%d messages go back to their queues: %s", len(batch.entries), getattr(error, "exception", error)
        )
        if self.closed:
            self.forget_connection()
        self.perform(self.machine.died(batch, time.monotonic()))
        self.hand_out()

    # Actions.

    def perform(self, actions: Iterable[Action]) -> None:
        """Carry out actions; raise what a batch or a revocation raised first, when the others are carried out.

        The machine counts a batch as handed out: one that is dropped would keep its place in the pool for ever.
        """
        failures: list[BaseException] = []
        for action in actions:
            match action:
                case Send(batch):
                    with put_off(failures):
                        self.send(batch)
                case Acknowledge(tag, multiple):
                    self.on_channel("acknowledge", tag, multiple)
                case GiveBack(entry):
                    self.on_channel("reject", entry.tag, True)
                    if self.events:
                        # As Celery's own request does.
                        self.event("task-rejected", entry, requeue=True)
                case Revoke(entry):
                    unlist([entry])
                    with put_off(failures):
                        self.with_request(entry, entry.revoked)
                case Reserve(messages):
                    self.reserve(messages)
        if failures:
            raise failures[0]

    def send(self, batch: Batch) -> None:
        """Hand a batch to the pool."""
        hostname = self.consumer.hostname
        self.jobs[batch] = self.consumer.pool.apply_async(
            run,
            args=([call(entry, hostname) for entry in batch.entries], self.events),
            accept_callback=partial(self.accepted, batch),
            callback=partial(self.done, batch),
            error_callback=partial(self.failed, batch),
            correlation_id=batch.entries[0].id,
        )

    def on_channel(self, how: str, tag: int, option: bool) -> None:
        """Acknowledge or reject; at once, since what is called soon is called in any order."""
        if self.closed or self.watch is None:
            return
        try:
            getattr(self.watch, how)(tag, option)
        except self.consumer.connection_errors as error:
            # As a message's own `ack_log_error`.
            logger.critical("Couldn't %s %r, reason: %r", how, tag, error, exc_info=True)
            if isinstance(error, BrokenPipeError):
                raise

    def settle(self, entry: Reserved, outcome: Any, failures: list[BaseException]) -> None:
        """Let Celery's own request do with a message what its outcome asks for: ``None`` when it could not be read."""

        def by_outcome() -> None:
            if outcome is None:
                self.refuse(entry, InvalidTaskError("its arguments cannot be read"))
            elif outcome[0] == ESCAPED:
                entry.whole().on_failure(outcome[1])
            else:
                entry.whole().on_success(outcome)

        try:
            self.with_request(entry, by_outcome)
        except MemoryError as error:
            failures.append(error)
        except Exception:
            # What the task's own code raises here is no business of its neighbours. The machine gives the message back
            # if it is not settled, and then it takes Celery's own way.
            logger.exception("Task %s[%s] could not be settled", entry.name, entry.id)
        except BaseException as error:  # noqa: BLE001  # raised when its neighbours are settled
            failures.append(error)

    def with_request(self, entry: Reserved, use: Callable[[], Any]) -> None:
        """Do something with Celery's own request of a message; settle the message where there can be none."""
        try:
            entry.whole()
        except BROKEN as error:
            self.refuse(entry, error)
        else:
            use()

    def refuse(self, entry: Reserved, error: Exception) -> None:
        """Settle a message that cannot be read; one of a lost connection is delivered once more, and settled then."""
        if not entry.connected:
            return
        if isinstance(error, DecodeError):
            self.consumer.on_decode_error(entry.message, error)
        else:
            self.consumer.on_invalid_task(None, entry.message, error)

    def reserve(self, count: int) -> None:
        """Have the broker deliver so many messages on top of what the app's settings reserve, as far as it may."""
        machine, qos = self.machine, self.consumer.qos
        now = machine.prefetch
        if self.closed or not self.prefetch_restored:
            return
        before = qos.value
        if count > now:
            # `worker_eta_task_limit` may allow for less.
            qos.increment_eventually(count - now)
        else:
            qos.decrement_eventually(now - count)
        machine.reserved(now + qos.value - before)
        # With RabbitMQ 4 and with quorum queues the prefetch is each consumer's own, as it was when that began.
        if self.watch is not None and self.watch.qos_global is False and qos.value != before:
            self.consumer.call_soon(self.consume_anew)

    def consume_anew(self) -> None:
        """End the consumers of the worker's queues and begin others, with the prefetch of now."""
        if not self.closed and not stopping():
            self.consumer.qos.update()
            self.consumer.task_consumer.cancel()
            self.consumer.task_consumer.consume()

    def restore_prefetch(self) -> None:
        """Do what Celery does at every acknowledgement after a connection was lost."""
        if not self.prefetch_restored and not self.closed:
            self.consumer._restore_prefetch_count_after_connection_restart(None)  # Celery's own promise calls it

    def event(self, kind: str, entry: Reserved, **fields: Any) -> None:
        """Send an event about a task, where its kind sends any."""
        if entry.task.send_events:
            self.consumer.event_dispatcher.send(kind, uuid=entry.id, **fields)


@contextmanager
def put_off(failures: list[BaseException]) -> Iterator[None]:
    """Keep what is raised within, whatever it is."""
    try:
        yield
    except BaseException as error:  # noqa: BLE001  # raised when all else is done
        failures.append(error)


def stopping() -> bool:
    """Say whether the worker is to stop: it begins nothing any more."""
    # They hold an exit code, 0 among them, when it is.
    return any(code is not None and code is not False for code in (state.should_stop, state.should_terminate))


def is_revoked(entry: Reserved) -> bool:
    """Say whether a message's task was revoked by its id; what has stamps is in no batch."""
    return entry.id in state.revoked


def call(entry: Reserved, hostname: str) -> tuple[str, str, dict[str, Any], Any]:
    """Return name, id, request and body of a message, as `pool.run` takes them."""
    message = entry.message
    properties = message.properties
    request = {
        **message.headers,
        "properties": properties,
        "reply_to": properties.get("reply_to"),
        "correlation_id": properties.get("correlation_id"),
        "hostname": hostname,
        "delivery_info": {
            "exchange": message.delivery_info.get("exchange"),
            "routing_key": message.delivery_info.get("routing_key"),
            "priority": properties.get("priority"),
            "redelivered": False,
        },
    }
    return entry.kind, entry.id, request, message.body


def as_received(entry: Reserved) -> Mapping[str, Any]:
    """Return what Celery says of a task in the event ``task-received``."""
    headers = entry.message.headers
    return {
        "name": entry.name,
        "args": headers.get("argsrepr", ""),
        "kwargs": headers.get("kwargsrepr", ""),
        "root_id": headers.get("root_id"),
        "parent_id": headers.get("parent_id"),
        "retries": 0,
        "eta": None,
        "expires": None,
    }
