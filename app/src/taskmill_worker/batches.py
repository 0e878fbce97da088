"""Hand tasks to pool processes in batches, store their results in one go and acknowledge them together.

Loaded by `celery worker --include=batches`, with the prefork pool, where an app asks for batches. Celery hands every
message to a pool process by itself, stores every result by itself and acknowledges every message by itself; for tasks
of a millisecond that costs more than the tasks. Here a pool process gets what has arrived, up to a number of messages
and to a time that they are expected to take, so heavy tasks still go one by one.

| environment variable | meaning |
|---|---|
| `CELERY_WORKER_BATCH` | most messages of a batch; 1, the default, leaves all to Celery |
| `CELERY_WORKER_BATCH_SECONDS` | how long a batch should take; default 0.05 |

Late acknowledgement holds: a message is acknowledged when its result is stored. When a pool process dies, or results
cannot be stored, every message of the batch goes back to its queue, and whatever is delivered once more takes Celery's
own way, one by one. So does every message that asks for more than to be run: with an ETA, an expiry, time limits,
retries, as part of a group, of a task with a rate limit or early acknowledgement, and of any protocol but 2 in JSON.
With time limits or `max-tasks-per-child` of the whole worker, everything does.

The tasks of a batch run in Celery's own tracer: signals, failures, retries, callbacks and chains are as ever. What is
different: a chain goes on before its predecessor's result is stored (by a batch at most), and a task that is in a batch
already can no longer be revoked, nor terminated.
"""

from __future__ import annotations

import functools
import os
import struct
import sys
import time
from collections import Counter, deque
from pathlib import Path
from typing import TYPE_CHECKING, Any

from celery import current_app, signals
from celery.app.task import Context
from celery.app.trace import LOG_RECEIVED, fast_trace_task
from celery.backends.base import KeyValueStoreBackend
from celery.exceptions import InvalidTaskError
from celery.states import PENDING, SUCCESS
from celery.utils.log import get_logger
from celery.worker import control, state
from celery.worker.control import inspect_command
from celery.worker.request import Request
from celery.worker.strategy import default
from kombu.exceptions import ContentDisallowed, DecodeError
from kombu.serialization import prepare_accept_content
from kombu.utils.json import loads as decode_json

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    #: Of a batch: number and seconds of the tasks by name; by place, what is no success (``None`` where the message
    #: could not be read) and, where events are on, result and seconds of what is.
    Outcome = tuple[dict[str, tuple[int, float]], dict[int, Any], dict[int, tuple[Any, float]]]

logger = get_logger(__name__)

#: Batches handed out for each pool process: one at work, and one that waits, so that it never idles.
AHEAD = 2
#: Most messages that a worker reserves for its batches. The broker takes 65,535 at most.
MOST_RESERVED = 20_000
#: What a batch's measured seconds count against what was known of the task before.
WEIGHT = 0.3
#: What a message whose body is not as it should be raises when Celery makes a request of it.
BROKEN = (InvalidTaskError, ContentDisallowed, LookupError, TypeError, ValueError, AttributeError)
JSON = "application/json"
#: Headers that say that a message asks for more than to be run.
SPECIAL = ("eta", "expires", "retries", "group", "stamped_headers", "ignore_result")
#: Headers that a task's context has fields for, or that say how its message is to be read.
OWN_HEADERS = frozenset((*vars(Context), "lang", "task", "argsrepr", "kwargsrepr", "compression"))
#: Bytes of the block of the interpreter's stack that a batch has, and of a place in it; what is unused takes no memory.
BLOCK = 1 << 19
SLOT = struct.calcsize("P")
NO_LIMITS = (None, [None, None], (None, None))


def number(name: str, default: str) -> float:
    """Return an environment variable as a number above 0; raise ``ValueError`` with its name."""
    text = os.environ.get(name) or default
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not value > 0:
        raise ValueError(f"{name} must be a number above 0, not {text!r}")
    return value


class Batch:
    """Messages that one pool process gets at once, with the task of each."""

    def __init__(self, gatherer: Gatherer, entries: list[tuple[Any, Any]]) -> None:
        """Take ``(task, message)`` of each, in the order of delivery."""
        self.gatherer = gatherer
        self.entries = entries
        #: When a pool process took it, in Unix seconds, and which.
        self.begun: float | None = None
        self.pid: int | None = None

    def send(self) -> None:
        """Hand the batch to the pool."""
        hostname = self.gatherer.consumer.hostname
        calls = [
            (
                task.name,
                message.headers["id"],
                {
                    **message.headers,
                    "reply_to": message.properties.get("reply_to"),
                    "correlation_id": message.properties.get("correlation_id"),
                    "delivery_info": {
                        "exchange": message.delivery_info.get("exchange"),
                        "routing_key": message.delivery_info.get("routing_key"),
                        "priority": message.properties.get("priority"),
                        "redelivered": False,
                    },
                    "hostname": hostname,
                },
                message.body,
            )
            for task, message in self.entries
        ]
        self.gatherer.consumer.pool.apply_async(
            run,
            args=(calls, self.gatherer.events),
            accept_callback=self.accepted,
            callback=self.done,
            error_callback=self.failed,
            correlation_id=calls[0][1],
        )

    def accepted(self, pid: int, time_accepted: float) -> None:
        """Count the tasks as begun."""
        self.begun, self.pid = time.time() - (time.monotonic() - time_accepted), pid
        names = Counter(task.name for task, _ in self.entries)
        state.total_count.update(names)
        state.all_total_count[0] += len(self.entries)
        if self.gatherer.events:
            for task, message in self.entries:
                self.gatherer.event("task-started", task, message)

    def done(self, outcome: Outcome) -> None:
        """Settle every message by what came of it."""
        took, odd, succeeded = outcome
        gatherer = self.gatherer
        gatherer.in_flight.discard(self)
        gatherer.learn(took)
        fine = []
        for place, (task, message) in enumerate(self.entries):
            if place in odd:
                gatherer.settle_singly(task, message, odd[place])
                continue
            fine.append(message)
            if place in succeeded:
                result, runtime = succeeded[place]
                gatherer.event("task-succeeded", task, message, result=result, runtime=runtime)
        gatherer.finish(fine)

    def failed(self, error: Any) -> None:
        """Put every message back to its queue: none is acknowledged, and which of them did it is found one by one."""
        self.gatherer.in_flight.discard(self)
        logger.warning("%d messages go back to their queues: %s", len(self.entries), getattr(error, "exception", error))
        self.gatherer.give_back([message for _, message in self.entries])

    def info(self) -> list[dict[str, Any]]:
        """Return what `celery inspect active` shows of each task."""
        return [
            {
                "id": message.headers["id"],
                "name": task.name,
                "args": message.headers.get("argsrepr", ""),
                "kwargs": message.headers.get("kwargsrepr", ""),
                "type": task.name,
                "hostname": self.gatherer.consumer.hostname,
                "time_start": self.begun,
                "acknowledged": False,
                "delivery_info": {"routing_key": message.delivery_info.get("routing_key"), "redelivered": False},
                "worker_pid": self.pid,
            }
            for task, message in self.entries
        ]


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

    def learn(self, took: dict[str, tuple[int, float]]) -> None:
        """Take in how long the tasks of a batch took: number and seconds by name; reserve messages accordingly."""
        for name, (count, seconds) in took.items():
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


def plain(message: Any) -> bool:
    """Say whether a message asks for no more than that its task be run."""
    headers = message.headers
    return (
        message.content_type == JSON
        and message.body[:1] in (b"[", "[")
        and not message.delivery_info.get("redelivered")
        and headers.get("timelimit") in NO_LIMITS
        and not any(headers.get(name) for name in SPECIAL)
        and "id" in headers
        and headers["id"] not in state.revoked
    )


def unlimited(task: Any, consumer: Any) -> bool:
    """Say whether tasks of this kind may run in batches in this worker."""
    worker = consumer.controller
    limits = [
        worker.time_limit,
        worker.soft_time_limit,
        worker.max_tasks_per_child,
        task.time_limit,
        task.soft_time_limit,
    ]
    return bool(task.acks_late) and not any(limits) and JSON in prepare_accept_content(consumer.app.conf.accept_content)


def strategy(task: Any, app: Any, consumer: Any, **options: Any) -> Callable[..., Any]:
    """Return the handler of messages of one task, as Celery's own strategy does (`celery.worker.strategy.default`)."""
    singly: Callable[..., Any] = default(task, app, consumer, **options)
    most = int(number("CELERY_WORKER_BATCH", "1"))
    # Only the prefork pool has an event loop and processes.
    if most == 1 or consumer.hub is None or not unlimited(task, consumer):
        return singly
    gatherer = getattr(consumer, "gatherer", None)
    if gatherer is None or gatherer.closed:
        gatherer = consumer.gatherer = Gatherer(consumer, most, number("CELERY_WORKER_BATCH_SECONDS", "0.05"))

    def handle(message: Any, body: Any, ack: Any, reject: Any, callbacks: Any) -> Any:
        if (
            body is None
            and not callbacks
            and plain(message)
            and consumer.task_buckets[task.name] is None
            and not signals.task_received.receivers
        ):
            logger.info(LOG_RECEIVED, {"id": message.headers["id"], "name": task.name})
            return gatherer.add(task, message)
        gatherer.hold(message)
        return singly(message, body, ack, reject, callbacks)

    return handle


class Deferred:
    """While it is entered, results go into a dictionary instead of into the backend; left, they are stored together."""

    def __init__(self, backend: Any, ids: Iterable[str]) -> None:
        """Take the backend of the results and the tasks that they may be of."""
        self.backend = backend
        self.ids = frozenset(ids)
        self.results: dict[Any, tuple[Any, str]] = {}
        self.extended = bool(current_app.conf.result_extended)

    def __enter__(self) -> None:
        """Divert what is stored."""
        backend = self.backend
        store, look_up = backend.store_result, backend._get_task_meta_for  # what the backend asks before it stores
        #: All are stored at the end of the batch.
        date = backend.app.now().isoformat()

        def store_plainly(
            task_id: str, result: Any, state: str, traceback: Any = None, request: Any = None, **options: Any
        ) -> Any:
            if state != SUCCESS or self.extended or task_id not in self.ids or not ends_alone(request):
                return store(task_id, result, state, traceback=traceback, request=request, **options)
            # What the backend would make of it, step by step, for every one of them anew.
            record = {
                "status": state,
                "result": backend.prepare_value(result),
                "traceback": None,
                "children": [],
                "date_done": date,
                "task_id": task_id,
            }
            self.results[backend.get_key_for_task(task_id)] = (backend.encode(record), state)
            return result

        def look_up_unless_new(task_id: str) -> Any:
            # Delivered for the first time: there is no result that must not be overwritten.
            return {"status": PENDING, "result": None} if task_id in self.ids else look_up(task_id)

        def keep(key: Any, value: Any, status: str) -> None:
            self.results[key] = (value, status)

        backend.store_result = store_plainly
        backend._get_task_meta_for = look_up_unless_new  # as above
        backend._set_with_state = keep  # as above

    def __exit__(self, *_: object) -> None:
        """Let everything be stored as usual again."""
        del self.backend.store_result, self.backend._get_task_meta_for, self.backend._set_with_state

    def store(self) -> None:
        """Store the results; raise what the backend raises when it does not take them."""
        store_many = getattr(self.backend, "set_many", None)
        if store_many is not None and all(status == SUCCESS for _, status in self.results.values()):
            store_many({key: value for key, (value, _) in self.results.items()})
            return
        for key, (value, status) in self.results.items():
            self.backend._set_with_state(key, value, status)  # as above


def ends_alone(request: Any) -> bool:
    """Say whether nothing of a request but its id belongs into its task's result."""
    return request is not None and not (request.group or request.parent_id or request.children)


def with_block_of_its_own(function: Callable[..., Any]) -> Callable[..., Any]:
    """Return a function that runs in a block of the interpreter's stack that has room for what it calls.

    CPython keeps the frames of a thread in blocks of 16 KiB, and gets one from the system, and gives it back, whenever
    a call crosses the end of the last (``_PyThreadState_PushFrame`` in Python/pystate.c, since 3.11). A recursion that
    happens to stand across an end pays that at every turn, and takes up to forty times as long (docs/performance.md).
    A frame that asks for more than half of a large block gets that block, and the rest of it is for what comes after.
    """
    if sys.implementation.name == "cpython" and sys.version_info >= (3, 11):
        code = function.__code__
        function.__code__ = code.replace(co_stacksize=code.co_stacksize + BLOCK // 2 // SLOT)
    return function


@with_block_of_its_own
def run(
    calls: list[tuple[Any, ...]], with_results: bool
) -> tuple[dict[str, tuple[int, float]], dict[int, Any], dict[int, Any]]:  # called by the pool
    """Run a batch in a pool process; return what it took by task, and the odd outcomes and results by place.

    What it took is without the time in which the process had no core.

    Raises what the result backend raises when it does not take the results.
    """
    backend = current_app.backend
    took: dict[str, tuple[int, float]] = {}
    odd: dict[int, Any] = {}
    succeeded: dict[int, Any] = {}
    deferred = Deferred(backend, [identifier for _, identifier, *_ in calls])
    waited = without_core()
    with deferred:
        for place, (name, identifier, request, body) in enumerate(calls):
            begin = time.perf_counter()
            try:
                failed, result, runtime = outcome = fast_trace_task(
                    name, identifier, request, decoded(body), None, None
                )
            except (DecodeError, *BROKEN):
                odd[place] = None
                continue
            if failed:
                odd[place] = outcome
            elif with_results:
                succeeded[place] = (result, runtime)
            count, seconds = took.get(name, (0, 0.0))
            took[name] = (count + 1, seconds + time.perf_counter() - begin)
    waited = without_core() - waited
    all_seconds = sum(seconds for _, seconds in took.values())
    # A host that is short of cores must not make batches small, which would cost it more of them.
    share = max(0.0, 1 - waited / all_seconds) if all_seconds else 1.0
    deferred.store()
    return {name: (count, seconds * share) for name, (count, seconds) in took.items()}, odd, succeeded


def decoded(body: Any) -> Any:
    """Return what a message's JSON holds; raise ``DecodeError``. Whether JSON is accepted was looked at before."""
    try:
        return decode_json(body)
    except Exception as error:
        raise DecodeError(str(error)) from error


def custom_headers(_: Context, *fields: Any, **more: Any) -> dict[str, Any] | None:
    """Do what ``Context._get_custom_headers`` does, without listing a context's own fields anew for each task."""
    return {name: value for name, value in dict(*fields, **more).items() if name not in OWN_HEADERS} or None


def without_core() -> float:
    """Return how many seconds this process could have run so far and had no core; 0 where Linux does not say."""
    try:
        return int(Path("/proc/self/schedstat").read_bytes().split()[1]) / 1e9
    except (OSError, IndexError, ValueError):
        return 0.0


@inspect_command(alias="dump_active", signature="[safe]", args=[("safe", bool)])  # type: ignore[untyped-decorator]  # Celery carries no types
def active(state: Any, safe: bool = False, **options: Any) -> list[dict[str, Any]]:
    """Answer `celery inspect active`: the tasks that Celery runs by itself, and those of the batches at work."""
    gatherer = getattr(state.consumer, "gatherer", None)
    batches = [batch for batch in gatherer.in_flight if batch.begun] if gatherer else []
    alone: list[dict[str, Any]] = control.active(state, safe=safe, **options)
    return alone + [one for batch in batches for one in batch.info()]


def install(app: Any) -> None:
    """Have every task of `app` take part; say so where its result backend cannot."""
    if not isinstance(app.backend, KeyValueStoreBackend):
        logger.warning("Tasks run one by one: the result backend %s has no keys.", type(app.backend).__name__)
        return
    app.Task.Strategy = f"{__name__}:strategy"
    Context._get_custom_headers = custom_headers


install(current_app)
