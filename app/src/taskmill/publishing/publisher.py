"""Publishing many signatures of a Celery app's tasks at once, every message confirmed."""

from __future__ import annotations

import itertools
import logging
import multiprocessing
import os
import signal
import sys
import threading
from collections import deque
from concurrent.futures import Executor, ProcessPoolExecutor, ThreadPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import closing, contextmanager
from dataclasses import dataclass
from multiprocessing.connection import wait
from multiprocessing.util import Finalize
from typing import TYPE_CHECKING, Any

from celery import Celery
from celery.app import app_or_default
from celery.app.utils import find_app
from celery.backends.rpc import RPCBackend
from celery.canvas import Signature

from taskmill.cluster import broker as brokers
from taskmill.cluster.broker import Broker
from taskmill.model.errors import PostingError, PublishError, TaskmillError
from taskmill.publishing.channel import ConfirmedChannel, Tally
from taskmill.publishing.interrupt import Interrupted
from taskmill.publishing.journal import new_ids
from taskmill.publishing.signature_source import CONFIRMED, UNKNOWN, Item, Outcome, SignatureSource
from taskmill.publishing.signatures import SignatureEncoder

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

log = logging.getLogger("taskmill")

#: Ids made at once.
IDS = 250
#: Signatures that a thread is given at once, where there are several.
BATCH = 2000
#: Batches that wait for each thread or process, at most.
AHEAD = 2
ENDED = "a publishing process ended before its work was done"
#: How what is one message is sent by itself: a signature, and one that is a plain dictionary.
PLAIN = (Signature.apply_async, None)
#: Options that say through what to send.
OWN = ("connection", "producer", "publisher")


@dataclass(frozen=True)
class Settings:
    """How to publish, see :func:`publish`."""

    reply_to: str
    threads: int
    window: int
    broker_deadline: float


class Publisher:
    """What publishes in this process: one or more threads, each with a channel and messages of its own."""

    def __init__(self, app: Celery, settings: Settings) -> None:
        """Connect later, in :meth:`publish`."""
        self._app = app
        self._settings = settings
        self._broker = Broker.of(app)
        self._stop = threading.Event()
        self._own = threading.local()
        self._channels: list[ConfirmedChannel] = []
        self._executor = ThreadPoolExecutor(settings.threads, "publish") if settings.threads > 1 else None

    def publish(self, items: Iterable[Item], progress: Callable[[int], None]) -> Outcome:
        """Publish the items, read as they are sent; by this thread, or by several in batches."""
        if self._executor is None:
            return self._deliver(items, progress)
        return spread(self._executor, self._deliver, items, self._settings.threads, BATCH, progress)

    def close(self) -> None:
        """Close the connections; what is under way stops."""
        self._stop.set()
        if self._executor is not None:
            self._executor.shutdown(cancel_futures=True)
        for channel in self._channels:
            channel.close()

    def _deliver(self, items: Iterable[Item], progress: Callable[[int], None] = lambda _: None) -> Outcome:
        own = self._own
        if not hasattr(own, "channel"):
            own.encoder = SignatureEncoder(self._app, self._settings.reply_to)
            own.channel = ConfirmedChannel(
                self._broker,
                Tally(f"{os.getpid()} {threading.current_thread().name}"),
                self._stop,
                log.warning,
                window=self._settings.window,
                deadline=self._settings.broker_deadline,
            )
            self._channels.append(own.channel)
        channel, source = own.channel, SignatureSource(own.encoder, items, progress)
        outcome = source.outcome
        try:
            channel.publish(source)
            if channel.returned:
                exchange, key = channel.unroutable
                raise PostingError(
                    f"the broker ({self._broker}) returned {len(channel.returned):,} messages: no queue takes the "
                    f"routing key {key!r} from the exchange {exchange!r}. Declare the queue, or mend its name"
                )
        except (PostingError, Interrupted) as error:
            outcome.fail(error)
        if outcome.error is not None:
            channel.close()
            del own.channel
        return outcome


def spread(
    executor: Executor,
    work: Callable[[list[Item]], Outcome],
    items: Iterable[Item],
    lanes: int,
    size: int,
    progress: Callable[[int], None],
) -> Outcome:
    """Have the items published in batches of a size, some of them waiting for each lane; stop at the first error."""
    total, confirmed = Outcome(), 0
    items = iter(items)
    waiting: deque[tuple[int, Any]] = deque()
    while True:
        while total.error is None and len(waiting) < AHEAD * lanes:
            batch = []
            try:
                for item in itertools.islice(items, size):
                    batch.append(item)  # noqa: PERF402  # what came before an error is published
            except Exception as error:  # noqa: BLE001  # of the caller's own code
                total.fail(error)
            if not batch:
                break
            try:
                waiting.append((len(batch), executor.submit(work, batch)))
            except BrokenProcessPool:
                total.error = ENDED
        if not waiting:
            return total
        count, future = waiting.popleft()
        try:
            outcome = future.result()
        except BrokenProcessPool:
            outcome = Outcome(error=ENDED)
        except Exception as error:  # noqa: BLE001  # what cannot be pickled raises anything
            outcome = Outcome()
            outcome.fail(error)
        confirmed += outcome.states.count(CONFIRMED)
        total.states += outcome.states.ljust(count, bytes([UNKNOWN]))
        total.error, total.cause = total.error or outcome.error, total.cause or outcome.cause
        progress(confirmed)


def publish(
    signatures: Iterable[Mapping[str, Any]],
    app: Celery | str | None = None,
    *,
    threads: int = 1,
    processes: int = 1,
    window: int = 1000,
    broker_deadline: float = 60.0,
    progress: Callable[[int], None] | None = None,
) -> list[str]:
    """Publish signatures, as ``apply_async`` of each would, and return their ids in the same order.

    When it returns, the broker has confirmed every message. One process posts several times as fast as a loop over
    ``apply_async`` that waits for confirms::

        from taskmill import publish

        ids = publish(add.s(n, n) for n in range(1_000_000))
        ids = publish([add.s(1, 2).set(queue="red"), mul.s(3, 4).set(countdown=60)], processes=2, app="tasks:app")

    ``signatures`` may be lazy; they are read as they are sent, and what is kept of each is its id. Messages are
    Celery's own (protocol 2): routes, options, links, stamps and signals have the same effect as with ``apply_async``,
    only that no result backend is told beforehand of tasks whose messages differ in arguments and ids alone.
    Groups, chords, chains, chunks and maps are more than a message, and are refused; they may be links of a signature.
    A ``task_id`` among the options is kept.

    ``app`` is the Celery app; its name, as ``celery --app`` takes it; or the URL of a broker, for tasks by name with
    Celery's defaults. Without it, it is the first signature's. Several processes (which start anew, so that a script
    needs its ``if __name__ == "__main__"``) each import it, and want its name. ``threads`` are those of each process.
    ``window`` is the most messages of a thread that are unconfirmed. A broker that goes away is waited for
    ``broker_deadline`` seconds; what it had not confirmed is then sent again under the same ids, so a task may run
    twice. ``progress`` is called now and then with how many are confirmed.

    Raises ``PublishError`` when not all are confirmed, whatever the reason: the broker stays away, refuses or returns a
    message, or a signature cannot be sent (not registered, wrong arguments). It lists the ids that are ``confirmed``
    and ``unconfirmed``, of the signatures that were read. ``TaskmillError`` when there is no broker to begin with, or
    the app is not one that can be published for, and ``TypeError`` or ``ValueError`` for arguments that make no sense.
    """
    check_arguments(signatures, threads, processes, window, broker_deadline)
    reading = iter(signatures)
    try:
        first = next(reading)
    except StopIteration:
        return []
    name = app if isinstance(app, str) else None
    if processes > 1 and name is None:
        raise ValueError(
            "processes import the app by themselves: hand over its name as app, as `celery --app` takes it, such as "
            "'package.module:app'"
        )
    used = load(app) if isinstance(app, str) else app or getattr(first, "app", None) or app_or_default()
    check(used, processes * threads)
    settings = Settings(used.thread_oid, threads, window, broker_deadline)
    ids: list[str] = []
    tasks = None if is_address(name) else used.tasks
    items = read(itertools.chain([first], reading), ids, tasks, None if app else used)
    outcome = deliver(items, used, name, settings, processes, progress or (lambda _: None))
    if outcome.error is not None:
        raise not_all(outcome, ids) from outcome.cause
    return ids


def deliver(
    items: Iterable[Item],
    app: Celery,
    name: str | None,
    settings: Settings,
    processes: int,
    progress: Callable[[int], None],
) -> Outcome:
    """Publish the items from this process, or from several that each import the app by its name."""
    if processes > 1:
        with children(processes, str(name), settings) as executor:
            return spread(executor, publish_here, items, processes, settings.threads * BATCH, progress)
    with closing(Publisher(app, settings)) as publisher:
        return publisher.publish(items, progress)


def check_arguments(signatures: Any, threads: int, processes: int, window: int, broker_deadline: float) -> None:
    """Raise ``ValueError`` or ``TypeError`` for arguments of :func:`publish` that make no sense."""
    if min(threads, processes, window) < 1 or broker_deadline <= 0:
        raise ValueError("threads, processes and window are at least 1, and broker_deadline is more than 0 seconds")
    if isinstance(signatures, dict):
        raise TypeError("publish takes many signatures: hand over a list of them, such as the tasks of a group")


def not_all(outcome: Outcome, ids: list[str]) -> PublishError:
    """Return the error that lists which of the messages the broker has."""
    states = outcome.states.ljust(len(ids), bytes([UNKNOWN]))
    lists: tuple[list[str], list[str]] = ([], [])
    for identifier, state in zip(ids, states, strict=True):
        lists[state != CONFIRMED].append(identifier)
    return PublishError(f"{outcome.error} ({len(lists[0]):,} of {len(ids):,} messages are confirmed)", *lists)


def is_address(name: str | None) -> bool:
    """Say whether a name of an app is in truth a broker's URL."""
    return name is not None and "://" in name


def load(name: str) -> Celery:
    """Return the app of that name with its tasks, or one for a broker's URL; raise ``TaskmillError`` without one."""
    if is_address(name):
        return Celery("taskmill", broker=name, set_as_current=False)
    try:
        app = find_app(name)
        app.loader.import_default_modules()
    except (AttributeError, ImportError) as error:
        raise TaskmillError(f"there is no Celery app {name!r} to be imported: {error}") from error
    app.finalize()
    return app


def check(app: Celery, lanes: int) -> None:
    """Raise ``TaskmillError`` for an app that cannot be published for, or a broker that is not there."""
    if app.conf.task_protocol != 2:
        raise TaskmillError(f"task_protocol of the app {app.main!r} is {app.conf.task_protocol}: taskmill speaks 2")
    if app.conf.task_always_eager:
        raise TaskmillError(f"task_always_eager of the app {app.main!r} keeps its tasks from every broker")
    if lanes > 1 and app.current_worker_task:
        raise TaskmillError("what a task publishes knows its parent in one thread only: threads=1, processes=1")
    if lanes > 1 and isinstance(app.backend, RPCBackend):
        raise TaskmillError("results of the backend rpc:// go to the thread that publishes: threads=1, processes=1")
    broker = Broker.of(app)
    try:
        brokers.close(broker.connect("post preflight"))
    except brokers.CONNECTION_ERRORS as error:
        raise TaskmillError(broker.explain(error)) from error


def read(
    signatures: Iterable[Mapping[str, Any]], ids: list[str], tasks: Mapping[str, Any] | None, app: Celery | None
) -> Iterator[Item]:
    """Yield each signature with its id, which goes to ``ids``; raise ``TaskmillError`` at one that is not to be sent.

    ``tasks`` are those that are registered; ``None`` where any may be sent by name. ``app`` is whose the signatures
    have to be; ``None`` where they may be of any.
    """
    fresh: list[bytes] = []
    for place, signature in enumerate(signatures):
        if not isinstance(signature, dict) or "task" not in signature:
            raise TaskmillError(
                f"number {place:,} is no signature, but {type(signature).__name__}: add.s(1, 2) makes one"
            )
        name, options = signature["task"], signature.get("options") or {}
        if signature.get("subtask_type") or getattr(type(signature), "apply_async", None) not in PLAIN:
            kind = signature.get("subtask_type") or type(signature).__name__
            raise TaskmillError(
                f"number {place:,} is a {kind}, which is more than one message: call its own apply_async, or publish "
                f"the signatures that it is made of"
            )
        if tasks is not None and name not in tasks:
            raise TaskmillError(
                f"number {place:,} is of the task {name!r}, which is not registered in the app: import its module, "
                f"or mend the name"
            )
        if app is not None and getattr(signature, "app", app) != app:
            raise TaskmillError(f"number {place:,} ({name}) is of another app than the first: publish them apart")
        if own := [option for option in OWN if option in options]:
            raise TaskmillError(f"number {place:,} has the option {own[0]!r}: publish has connections of its own")
        identifier = options.get("task_id")
        if not identifier:
            fresh = fresh or new_ids(IDS)
            identifier = fresh.pop().decode()
        ids.append(identifier)
        yield identifier, dict(signature)


#: What publishes in a process that :func:`publish` started.
_publisher: Publisher


@contextmanager
def children(processes: int, name: str, settings: Settings) -> Iterator[ProcessPoolExecutor]:
    """Yield processes that publish; ``spawn`` gives them a clean start, with no lock or connection of this process."""
    executor = ProcessPoolExecutor(processes, multiprocessing.get_context("spawn"), open_publisher, (name, settings))
    try:
        yield executor
    finally:
        if sys.version_info < (3, 11, 6):
            # Where a process has died, these wait for ever to write what nobody reads any more (CPython's gh-94777).
            executor._call_queue._reader.close()  # type: ignore[attr-defined]  # typeshed leaves it out
        executor.shutdown(cancel_futures=True)


def open_publisher(name: str, settings: Settings) -> None:
    """Get a process ready: it ends in order when its parent says so, and at once when that is gone."""
    global _publisher  # noqa: PLW0603  # one for a process, as its executor has it
    # Ctrl-C reaches the whole group; the parent decides.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    parent = multiprocessing.parent_process()
    assert parent is not None
    threading.Thread(target=end_with, args=(parent.sentinel,), daemon=True).start()
    _publisher = Publisher(load(name), settings)
    Finalize(None, _publisher.close, exitpriority=0)


def end_with(sentinel: int) -> None:
    """End this process when another has ended."""
    wait([sentinel])
    os._exit(1)


def publish_here(batch: list[Item]) -> Outcome:
    """Publish a batch in a process that is ready for it."""
    outcome = _publisher.publish(batch, lambda _: None)
    # An exception may be of any kind, and tells of this process.
    outcome.cause = None
    return outcome
