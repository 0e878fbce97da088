"""Post every feature to one worker, and write down as JSON all that can be seen of it from outside.

A program of its own, since the app of the comparison reads its addresses when it is imported. It is called with the
path of a :class:`Job` as JSON, and with the environment of :mod:`conformance.app`.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from celery.backends.base import BaseKeyValueStoreBackend, DisabledBackend
from celery.backends.database import DatabaseBackend
from celery.backends.rpc import RPCBackend
from celery.result import AsyncResult
from celery.states import PENDING, READY_STATES

from conformance.app import DEAD, FOLDER, PATIENCE, QUEUE, app, sign
from conformance.every import FEATURES
from conformance.posting import Poster
from services import OURS, Worker, end

#: How often each feature is posted; one that is alone, once.
COPIES = 3
#: Seconds that everything may take to settle, and those without an event after which it never will; what is not settled
#: then is put down as such.
SETTLE, STUCK = 400.0, 60.0
#: Seconds that all of it may take to settle, one after the other; and what the rest of the program needs beside that.
ALL, BESIDE = 600.0, 120.0
#: Seconds without an event after which everything has settled: what sleeps or has a countdown takes less. More
#: where there are tasks without a result: they may have none ever, or a process may be slow to start.
SILENCE, LONG_SILENCE = 4.5, 12.0
#: How often a worker that has ended is started again.
LIVES = 2
#: Of the worker; others may be in the same virtual host.
NAME = "conformance"


@dataclass
class Job:
    """What one run of this program does, and where it puts what it saw."""

    output: str
    pool: str
    which: str
    features: list[str]
    environment: dict[str, str] = field(default_factory=dict)


@dataclass
class Seen:
    """All that was seen of one worker; what belongs to which task, the labels say."""

    events: list[dict[str, Any]] = field(default_factory=list)
    notes: list[dict[str, Any]] = field(default_factory=list)
    log: str = ""
    #: What the backend has, by label.
    results: dict[str, dict[str, Any]] = field(default_factory=dict)
    #: Labels by id.
    labels: dict[str, str] = field(default_factory=dict)
    not_posted: dict[str, str] = field(default_factory=dict)
    #: Ids of dead letters, in no order.
    dead: list[str] = field(default_factory=list)
    #: Messages in the queue at the end: waiting, and unacknowledged.
    left: list[int] = field(default_factory=list)
    #: Exit codes of workers that ended before they were told to, and of the one that was told to.
    deaths: list[int] = field(default_factory=list)
    exit_code: int | None = None
    seconds: float = 0.0


class Listener:
    """Collects task events."""

    def __init__(self) -> None:
        """Begin to collect."""
        self.events: list[dict[str, Any]] = []
        self.last = time.monotonic()
        self.stopping = threading.Event()
        listening = threading.Event()
        self.thread = threading.Thread(target=self._collect, args=(listening,), daemon=True)
        self.thread.start()
        if not listening.wait(20):
            raise TimeoutError("no events are received")

    def _collect(self, listening: threading.Event) -> None:
        with app.connection_for_read() as connection:
            receiver = app.events.Receiver(connection, handlers={"*": self._keep})
            with receiver.consumer_context() as (own, _, _):
                listening.set()
                while not self.stopping.is_set():
                    with contextlib.suppress(TimeoutError):
                        own.drain_events(timeout=0.2)

    def _keep(self, event: dict[str, Any]) -> None:
        if event["type"].startswith("task-") and event["hostname"].startswith((f"{NAME}@", "gen")):
            self.events.append(event)
            self.last = time.monotonic()

    def stop(self) -> None:
        """Collect no more."""
        self.stopping.set()
        self.thread.join(10)


class Replies:
    """The results that a client of RPC is sent.

    Celery looks for them in the reply queue, until a group is posted. From then on they go to a consumer, which takes
    what is there only while somebody waits for a result, and forgets all states but final ones.
    """

    def __init__(self, backend: RPCBackend) -> None:
        """Begin to consume."""
        #: The latest, as the backend decodes them, by id.
        self.latest: dict[str, dict[str, Any]] = {}
        self.backend = backend
        self.consumer = backend.result_consumer
        self.consumer.on_message = self._keep
        self.consumer.start(None)

    def _keep(self, meta: dict[str, Any]) -> None:
        self.latest[meta["task_id"]] = self.backend.meta_from_decoded(dict(meta))

    def take(self) -> None:
        """Take what has come."""
        with contextlib.suppress(TimeoutError):
            while True:
                self.consumer.drain_events(timeout=0.01)


class Driver:
    """One worker, and what is posted to it."""

    def __init__(self, job: Job) -> None:
        """Start nothing yet."""
        self.job = job
        self.seen = Seen()
        self.channel = app.connection_for_write().default_channel
        self.results: dict[str, AsyncResult] = {}
        #: Those of what was posted since everything had settled.
        self.posted: list[AsyncResult] = []
        self.watched: dict[str, tuple[str, str]] = {}
        self.deadline = time.monotonic() + ALL
        self.has_results = not isinstance(app.backend, DisabledBackend)
        self.replies = Replies(app.backend) if isinstance(app.backend, RPCBackend) else None
        ours = job.which == OURS
        batches = {"CELERY_WORKER_BATCH": "20", "CELERY_WORKER_BATCH_SECONDS": "5"} if ours else {}
        include = [f"--include={OURS}"] if ours else []
        self.worker = Worker(
            NAME,
            batches | job.environment,
            FOLDER / "worker.log",
            app="conformance.app",
            queues=[QUEUE],
            options=["--pool", job.pool, "--without-gossip", "--without-mingle", *include],
            directory=Path(__file__).parents[1],
        )

    def log(self) -> str:
        """Return what the worker has logged."""
        return self.worker.log.read_text(errors="replace") if self.worker.log.exists() else ""

    def alive(self) -> bool:
        """Say whether the worker runs."""
        return self.worker.process is not None and self.worker.process.poll() is None

    def start(self) -> None:
        """Start the worker and wait until it consumes, or has ended."""
        before = self.log().count(" ready.")
        self.worker.start()
        wait(lambda: self.log().count(" ready.") > before or not self.alive(), 60)

    def revive(self) -> None:
        """Start the worker again where it has ended by itself."""
        if not self.alive() and len(self.seen.deaths) < LIVES:
            assert self.worker.process is not None
            end(self.worker.process)
            self.seen.deaths.append(self.worker.process.returncode)
            self.start()

    def post(self, name: str, copy: int) -> None:
        """Post a feature once."""
        poster = Poster(f"{name}/{copy}")
        try:
            FEATURES[name].post(poster)
        except Exception as error:  # noqa: BLE001  # without a result backend a chord is not even posted
            self.seen.not_posted[f"{name}/{copy}/"] = f"{type(error).__name__}: {error}"[:200]
        self.results.update(poster.results)
        self.posted += poster.results.values()
        self.seen.labels.update(poster.ids)
        if self.has_results:
            self.watched.update(poster.watched)
        else:  # nobody will see anything
            for _, signed in poster.watched.values():
                sign(signed).touch()

    def meta(self, result: AsyncResult) -> dict[str, Any]:
        """Return all that the client knows of a task's result; raise what it raises that cannot be read."""
        if self.replies is not None:
            return self.replies.latest.get(result.id, {"status": PENDING, "result": None})
        return dict(result._get_task_meta())  # all of it, where the public properties have a part each

    def ready(self, result: AsyncResult) -> bool:
        """Say whether a task has its final result."""
        try:
            return self.meta(result)["status"] in READY_STATES
        except Exception:  # noqa: BLE001  # what cannot be read will be put down as such
            return True

    def look(self) -> None:
        """Look for the states that tasks wait to be seen, and say so."""
        if self.replies is not None:
            self.replies.take()
        for label, (state, signed) in list(self.watched.items()):
            if self.meta(self.results[label])["status"] == state:
                sign(signed).touch()
                del self.watched[label]

    def waiting(self) -> int:
        """Return how many messages wait in the queue."""
        return int(self.channel.queue_declare(QUEUE, passive=True).message_count)

    def settle(self, listener: Listener) -> None:
        """Wait until no message waits and nothing happens any more, or until it is too late."""

        def settled() -> bool:
            self.revive()
            self.look()
            silence = time.monotonic() - listener.last
            if silence < SILENCE:
                return False
            enough = SILENCE if self.has_results and all(map(self.ready, self.posted)) else LONG_SILENCE
            enough = PATIENCE + SILENCE if self.watched else enough
            return silence > STUCK or (silence > enough and not self.waiting())

        listener.last = time.monotonic()
        wait(settled, min(SETTLE, self.deadline - time.monotonic()))
        self.watched.clear()
        self.posted.clear()

    def run(self) -> Seen:
        """Post everything, and return what was seen."""
        begin = time.monotonic()
        listener = Listener()
        together = [name for name in self.job.features if not FEATURES[name].alone]
        for queue in app.amqp.queues.values():
            queue(self.channel).declare()
        self.channel.queue_declare(DEAD, durable=True, auto_delete=False)
        for name in (QUEUE, DEAD):  # what another pool or backend has left
            self.channel.queue_purge(name)
        # All of it is there when the worker begins: it comes at once, and mixed.
        for copy in range(COPIES):
            for name in together:
                self.post(name, copy)
        self.start()
        self.settle(listener)
        for name in (name for name in self.job.features if FEATURES[name].alone):
            self.post(name, 0)
            self.settle(listener)
        self.collect(listener)
        waiting = self.waiting()
        if self.alive():
            assert self.worker.process is not None
            self.worker.process.terminate()
            wait(lambda: not self.alive(), 60)
            self.seen.exit_code = self.worker.process.poll()
        self.worker.stop()
        self.seen.left = [waiting, self.waiting() - waiting]
        listener.stop()
        self.seen.seconds = time.monotonic() - begin
        return self.seen

    def collect(self, listener: Listener) -> None:
        """Take down what is there when all has settled."""
        seen = self.seen
        seen.events = list(listener.events)
        notes = FOLDER / "notes"
        seen.notes = [json.loads(line) for line in notes.read_text().splitlines()] if notes.exists() else []
        while (message := self.channel.basic_get(DEAD, no_ack=True)) is not None:
            seen.dead.append(str(message.headers.get("id")))
        seen.labels |= labels(seen, self.results)
        seen.log = self.log()
        if isinstance(app.backend, (BaseKeyValueStoreBackend, DatabaseBackend)):
            everything = {label: AsyncResult(identifier, app=app) for identifier, label in seen.labels.items()}
        else:  # only whom a result is sent to has it
            everything = self.results
        if self.has_results:
            seen.results = {label: self.stored(result) for label, result in everything.items()}

    def stored(self, result: AsyncResult) -> dict[str, Any]:
        """Return what the client knows of a task's result, as text."""
        try:
            meta = self.meta(result)
        except Exception as error:  # noqa: BLE001  # that it cannot be read is what was seen
            return {"unreadable": f"{type(error).__name__}: {error}"}
        fields = {key: repr(meta.get(key)) for key in ("status", "result", "children")}
        trace = (meta.get("traceback") or "").strip().splitlines()
        return {**fields, "traceback": trace[-1:] and trace[-1], "keys": sorted(meta)}


def wait(condition: Callable[[], bool], seconds: float, step: float = 0.05) -> bool:
    """Wait for a condition so long, and say whether it came."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(step)
    return True


def labels(seen: Seen, results: dict[str, AsyncResult]) -> dict[str, str]:
    """Return the labels of all tasks by their ids: from what was posted, noted and received."""
    found = {note["id"]: note["label"] for note in seen.notes if note.get("id")}
    for event in seen.events:
        _, _, rest = str(event.get("kwargs", "")).partition("'label': '")
        if rest and event["uuid"] not in found:
            found[event["uuid"]] = rest.partition("'")[0]
    return found | {result.id: label for label, result in results.items()}


def main() -> None:
    """Do the job, or end its worker on the way where it is interrupted."""
    # Whoever runs the tests in the background has had them ignore it.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    job = Job(**json.loads(Path(sys.argv[1]).read_text()))
    driver = Driver(job)
    try:
        Path(job.output).write_text(json.dumps(asdict(driver.run())))
    except BaseException:
        traceback.print_exc()
        raise
    finally:
        driver.worker.stop()
        with contextlib.suppress(Exception):
            app.close()
        sys.stdout.flush()
    os._exit(0)  # threads of a result backend may wait for a broker that is gone


if __name__ == "__main__":
    main()
