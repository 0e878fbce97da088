"""Posting: threads of one or more processes, each with a connection of its own, every message confirmed.

A thread sends its messages in chunks, keeps at most a window of them unconfirmed, and writes their ids to its journal
before it sends them. When the broker goes away, the thread waits for it, connects again, and sends what was not
confirmed once more under the same ids: a message may then be in a queue twice, but none is missing.
"""

from __future__ import annotations

import multiprocessing
import os
import random
import resource
import signal
import ssl
import threading
import time
from collections import deque
from contextlib import suppress
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from amqp.exceptions import PreconditionFailed

from taskmill import broker as brokers
from taskmill import journal, message
from taskmill.broker import Broker
from taskmill.clock import Moment
from taskmill.errors import PostingError, TaskmillError
from taskmill.interrupt import SIGNALS, Interrupted
from taskmill.journal import ThreadIds
from taskmill.plan import Plan, read_json, write_json
from taskmill.profile import Profiler

if TYPE_CHECKING:
    from collections.abc import Callable
    from multiprocessing.connection import Connection as Pipe

    import amqp

    from taskmill.progress import Reporter

#: Messages per write to the journal and to the socket, at most; a window holds at least two chunks.
CHUNK = 250
#: Seconds that a thread reads or writes without looking at what else there is to do.
PATIENCE = 1.0
#: Seconds without a confirm, with messages outstanding and the broker not blocking, after which a connection is dead.
SILENCE = 60.0
#: Seconds that a thread waits for its last confirms after it was asked to stop.
LAST_CONFIRMS = 30.0
#: Seconds that a broker may block publishers (memory or disk alarm) before posting is given up.
BLOCKED = 1800.0
#: Seconds from now until the first task of a paced load is due: for threads to connect, and for processes to start.
LEAD = (0.5, 3.0)
#: Longest wait, in seconds, for a task to be due before confirms are looked for.
PACE = 0.02
#: First and longest wait between attempts to connect, in seconds.
BACKOFF = (0.2, 5.0)
TICK = 0.2


@dataclass
class Tally:
    """What one posting thread has done. Only that thread writes to it; times are of the monotonic clock."""

    name: str
    planned: int
    #: Messages sent at least once, and messages that the broker confirmed.
    posted: int = 0
    confirmed: int = 0
    #: Messages sent once more, after a lost connection or a refusal (``nacked``).
    republished: int = 0
    nacked: int = 0
    reconnects: int = 0
    blocked_seconds: float = 0.0
    #: Most seconds between when a message was due and when it was first sent.
    late: float = 0.0
    first: float | None = None
    last: float | None = None
    error: str | None = None

    def add(self, before: Tally) -> None:
        """Count in what the same thread of an earlier client went through."""
        for name in ("republished", "nacked", "reconnects", "blocked_seconds"):
            setattr(self, name, getattr(self, name) + getattr(before, name))


@dataclass(frozen=True)
class Pace:
    """When the messages of one thread are due: all threads together post ``rate`` per second, each in its turn."""

    #: On the monotonic clock, in seconds.
    first: float
    step: float

    @classmethod
    def of(cls, plan: Plan, thread: int, due_from: float) -> Pace | None:
        """Return the pace of that thread, counted over all processes; ``None`` for a load that is not paced."""
        if plan.rate is None:
            return None
        return cls(due_from + thread / plan.rate, len(plan.posters()) / plan.rate)

    def moment(self, place: int) -> float:
        """Return when the thread's message with this number, from 0, is due."""
        return self.first + place * self.step

    def due(self, now: float) -> int:
        """Return how many messages of the thread are due by now."""
        return max(0, int((now - self.first) / self.step) + 1) if now >= self.first else 0


@dataclass(frozen=True)
class Job:
    """What one process posts: ``spans`` are first message number and count of each of its threads."""

    plan: Plan
    folder: Path
    broker: Broker
    process: int
    spans: tuple[tuple[int, int], ...]
    #: When the first task of the run is due, on the monotonic clock.
    due_from: float
    #: What earlier clients left of the run, where it is taken up.
    left: Left | None = None

    def without_new(self) -> Job:
        """Return the same with no message that was not posted before."""
        threads = self.left.threads if self.left else {}
        names = [journal.stem(self.process, thread) for thread in range(len(self.spans))]
        counts = [len(threads[name].lines) if name in threads else 0 for name in names]
        return replace(self, spans=tuple((first, count) for (first, _), count in zip(self.spans, counts, strict=True)))


@dataclass(frozen=True)
class Left:
    """What earlier clients left of a run: the journals by their threads' names, and what is to be sent once more."""

    threads: dict[str, ThreadIds]
    #: By thread: place in the journal and id.
    again: dict[str, list[tuple[int, bytes]]]

    @classmethod
    def find(cls, folder: Path, wanted: Callable[[ThreadIds], list[tuple[int, bytes]]]) -> Left:
        """Read the journals; ``wanted`` says of each thread what is to be sent once more."""
        threads = {one.name: one for one in journal.read(folder / "ids")}
        return cls(threads, {name: wanted(one) for name, one in threads.items()})

    def posted(self) -> int:
        """Return how many ids are on disk."""
        return sum(len(one.lines) for one in self.threads.values())

    def total(self) -> int:
        """Return how many messages are to be sent once more."""
        return sum(map(len, self.again.values()))


class Poster:
    """One posting thread: its connection, its journal and the messages that are not confirmed yet."""

    def __init__(self, job: Job, thread: int, stop: threading.Event, say: Callable[[str], None]) -> None:
        """Make the journal; connect later, in :meth:`run`."""
        self._broker = job.broker
        self._plan = job.plan
        self._first_number, self._count = job.spans[thread]
        self._pace = Pace.of(job.plan, job.process * job.plan.threads + thread, job.due_from)
        self._stop = stop
        self._say = say
        self._chunk = max(1, min(CHUNK, job.plan.window // 2))
        name = journal.stem(job.process, thread)
        taken_up = job.left.threads.get(name) if job.left else None
        self._journal = journal.Journal(job.folder / "ids", job.process, thread, taken_up)
        self._suffixes = [f" {kind.queue}\n".encode() for kind in job.plan.kinds]
        self._sender = message.Sender.new()
        self._connection: amqp.Connection | None = None
        self._templates: list[list[bytes]] = []
        self._tag = 0
        self._next = len(taken_up.lines) if taken_up else 0
        #: As many lines of the journal were confirmed before.
        self._floor = taken_up.confirmed if taken_up else 0
        #: Delivery tag -> (place in the journal, id) of what is sent and not confirmed.
        self._outstanding: dict[int, tuple[int, bytes]] = {}
        #: What is to be sent once more.
        self._again: deque[tuple[int, bytes]] = deque(job.left.again.get(name, []) if job.left else [])
        #: Places of messages that no queue took, and the queue's name of the last of them.
        self._returned: set[int] = set()
        self._unroutable: str | None = None
        self._blocked_since: float | None = None
        self._trouble_since: float | None = None
        self._heard = time.monotonic()
        self.tally = Tally(name, self._count, posted=self._next, confirmed=self._next - len(self._again))

    def run(self) -> None:
        """Post everything, or until stopped; the tally and the journal say what came of it."""
        try:
            while not self._finished():
                try:
                    if self._connection is None:
                        self._connect()
                    self._step()
                except brokers.CONNECTION_ERRORS as error:
                    self._lost(error)
        except Interrupted:
            # What is unconfirmed stays so in the journal.
            pass
        except TaskmillError as error:
            self.tally.error = str(error)
        except Exception as error:  # noqa: BLE001  # a thread's error must reach the user, not only stderr
            self.tally.error = f"{type(error).__name__}: {error}"
        finally:
            self._disconnect()
            with suppress(PostingError):
                self._journal.confirm(self._safe())
            self._journal.close()

    def _finished(self) -> bool:
        if self._outstanding or self._again:
            return False
        return self._stop.is_set() or self._next == self._count

    def _safe(self) -> int:
        """Return how many lines of the journal, from its start, are surely confirmed."""
        places = [place for place, _ in self._outstanding.values()]
        places += [place for place, _ in self._again]
        return max(self._floor, min([*places, *self._returned], default=self._next))

    def _connect(self) -> None:
        self._blocked_since = None
        connection = self._broker.connect(
            f"post {self.tally.name}", on_blocked=self._blocked, on_unblocked=self._unblocked
        )
        self._connection = connection
        channel = connection.channel()
        channel.events["basic_ack"].add(self._acked)
        channel.events["basic_nack"].add(self._refused)
        channel.events["basic_return"].add(self._came_back)
        channel.confirm_select()
        # Set once and for all: py-amqp's own timeouts would change it twice for every confirm.
        connection.sock.settimeout(PATIENCE)
        self._templates = [
            message.template(
                kind, self._plan.args, self._sender, channel.channel_id, connection.frame_max, lean=self._plan.lean
            )
            for kind in self._plan.kinds
        ]
        self._again = deque(sorted([*self._outstanding.values(), *self._again]))
        self._outstanding.clear()
        self._tag = 0
        self._heard = time.monotonic()

    def _disconnect(self) -> None:
        if self._connection is not None:
            brokers.close(self._connection)
            self._connection = None

    def _step(self) -> None:
        """Send one chunk, then wait until the window has room for the next, or for all confirms after the last."""
        if self._again:
            entries = [self._again.popleft() for _ in range(min(self._chunk, len(self._again)))]
            self.tally.republished += len(entries)
            self._send(entries)
        elif self._next < self._count and not self._stop.is_set():
            due = min(self._chunk, self._count - self._next)
            if self._pace is not None:
                due = min(due, self._pace.due(time.monotonic()) - self._next)
                if not due:
                    self._await_due(self._pace)
                    return
                self.tally.late = max(self.tally.late, time.monotonic() - self._pace.moment(self._next))
            self._send(self._journaled(due))
        more = bool(self._again) or (self._next < self._count and not self._stop.is_set())
        self._await_confirms(self._plan.window - self._chunk if more else 0)
        self._journal.confirm(self._safe())
        if self._unroutable is not None:
            raise PostingError(
                f"the broker ({self._broker}) took no message for the queue {self._unroutable!r}: there is no "
                f"such queue any more. The role rabbitmq declares those in rabbitmq_queues; run site.yml"
            )

    def _journaled(self, count: int) -> list[tuple[int, bytes]]:
        """Make ids for the next messages and put them on disk."""
        ids = journal.new_ids(count)
        start = self._next
        suffixes, kinds, first = self._suffixes, len(self._suffixes), self._first_number + start
        lines = b"".join([id_ + suffixes[(first + i) % kinds] for i, id_ in enumerate(ids)])
        self._journal.write(lines, start + count, time.time())
        self._next += count
        return list(enumerate(ids, start))

    def _await_due(self, pace: Pace) -> None:
        """Wait until the next message is due, at most as long as confirms may wait."""
        assert self._connection is not None
        with suppress(TimeoutError):
            while self._outstanding:
                self._connection.drain_events(timeout=0)
        if self._outstanding:
            self._check_patience()
        self._journal.confirm(self._safe())
        wait = pace.moment(self._next) - time.monotonic()
        self._stop.wait(max(0.0, min(wait, PACE if self._outstanding else PATIENCE)))

    def _send(self, entries: list[tuple[int, bytes]]) -> None:
        first, templates, kinds = self._first_number, self._templates, len(self._templates)
        if self.tally.first is None:
            self.tally.first = time.monotonic()
        if not self._outstanding:
            self._heard = time.monotonic()
        # Known as outstanding before the first byte leaves: a connection that breaks here is no loss.
        self._outstanding.update(enumerate(entries, self._tag + 1))
        self._tag += len(entries)
        self._write(b"".join([id_.join(templates[(first + place) % kinds]) for place, id_ in entries]))
        self.tally.posted = self._next

    def _write(self, data: bytes) -> None:
        """Send bytes, and listen when the broker does not take them: it says so when it blocks publishers."""
        assert self._connection is not None
        sock = self._connection.sock
        view = memoryview(data)
        while view:
            try:
                view = view[sock.send(view) :]
            except (TimeoutError, ssl.SSLWantReadError, ssl.SSLWantWriteError):
                self._listen(wait=False)
                self._check_patience()

    def _await_confirms(self, limit: int) -> None:
        """Wait until no more than ``limit`` messages are unconfirmed."""
        asked_to_stop: float | None = None
        while len(self._outstanding) > limit and self._unroutable is None:
            self._listen()
            self._check_patience()
            if self._stop.is_set():
                asked_to_stop = asked_to_stop or time.monotonic()
                if time.monotonic() - asked_to_stop > LAST_CONFIRMS:
                    raise Interrupted

    def _listen(self, *, wait: bool = True) -> None:
        """Take in what the broker has to say, waiting for it at most ``PATIENCE``."""
        assert self._connection is not None
        with suppress(TimeoutError):
            self._connection.drain_events(timeout=None if wait else 0)

    def _check_patience(self) -> None:
        now = time.monotonic()
        if self._blocked_since is not None:
            if now - self._blocked_since > BLOCKED:
                raise PostingError(
                    f"the broker ({self._broker}) has blocked publishers for {BLOCKED:.0f} s. Look at its "
                    f"memory and disk alarms: rabbitmqctl status"
                )
        elif now - self._heard > SILENCE:
            raise TimeoutError(f"no confirm within {SILENCE:.0f} s")

    def _acked(self, tag: int, multiple: bool) -> None:
        done = self._settle(tag, multiple)
        self.tally.confirmed += len(done)
        self.tally.last = self._heard = time.monotonic()
        self._trouble_since = None

    def _refused(self, tag: int, multiple: bool) -> None:
        entries = self._settle(tag, multiple)
        self.tally.nacked += len(entries)
        self._again.extend(entries)
        self._heard = time.monotonic()
        self._give_up_after_deadline("refuses messages (basic.nack)")
        self._say(f"the broker ({self._broker}) refuses messages; sending them again")
        self._stop.wait(0.2)

    def _settle(self, tag: int, multiple: bool) -> list[tuple[int, bytes]]:
        """Take the message with the tag, or all up to it, off the outstanding ones, and return them."""
        outstanding = self._outstanding
        if not multiple:
            entry = outstanding.pop(tag, None)
            return [] if entry is None else [entry]
        tags = []
        for other in outstanding:  # in the order of sending
            if other > tag:
                break
            tags.append(other)
        return [outstanding.pop(other) for other in tags]

    def _came_back(self, _error: Exception, _exchange: str, queue: str, returned: Any) -> None:
        """Take note of a message that no queue took; its confirm, which follows, must not count."""
        identifier = str(returned.headers["id"]).encode()
        for tag, (place, other) in self._outstanding.items():
            if other == identifier:
                del self._outstanding[tag]
                self._returned.add(place)
                break
        self._unroutable = queue

    def _blocked(self, reason: str) -> None:
        self._blocked_since = time.monotonic()
        self._say(f"the broker ({self._broker}) blocks publishers ({reason}); waiting until it takes messages again")

    def _unblocked(self) -> None:
        if self._blocked_since is not None:
            self.tally.blocked_seconds += time.monotonic() - self._blocked_since
            self._blocked_since = None
            self._heard = time.monotonic()
            self._say(f"the broker ({self._broker}) takes messages again")

    def _lost(self, error: BaseException) -> None:
        """Wait a while after a failure to connect or a lost connection; raise ``PostingError`` past the deadline."""
        if isinstance(error, PreconditionFailed):
            raise PostingError(
                f"the broker ({self._broker}) refuses a message of this size ({brokers.reason(error)}). Hand the tasks "
                f"less, such as the name of a file; or raise rabbitmq_max_message_size and run site.yml"
            ) from error
        if self._connection is not None:
            self._disconnect()
            self.tally.reconnects += 1
        self._give_up_after_deadline(f"is gone ({brokers.reason(error)})")
        self._say(f"the broker ({self._broker}) is gone; waiting for it, up to {self._plan.broker_deadline:.0f} s")
        waited = time.monotonic() - (self._trouble_since or 0.0)
        low, high = BACKOFF
        self._stop.wait(min(high, max(low, waited / 2)) * random.uniform(0.8, 1.2))  # noqa: S311  # spreads the threads
        if self._stop.is_set():
            raise Interrupted

    def _give_up_after_deadline(self, what: str) -> None:
        now = time.monotonic()
        self._trouble_since = self._trouble_since or now
        if now - self._trouble_since > self._plan.broker_deadline:
            raise PostingError(f"the broker ({self._broker}) {what} for {self._plan.broker_deadline:.0f} s")


class Group:
    """The posting threads of this process."""

    def __init__(self, job: Job, stop: threading.Event, say: Callable[[str], None]) -> None:
        """Make the threads and their journals; :meth:`start` sets them off."""
        self._stop = stop
        self.profiler = Profiler(job.plan.profile)
        self.posters = [Poster(job, thread, stop, say) for thread in range(len(job.spans))]
        self._threads = [
            threading.Thread(target=self._run, args=(poster,), name=f"post-{poster.tally.name}", daemon=True)
            for poster in self.posters
        ]
        self._profile_path = job.folder / "profile" / f"post-{job.process:02d}.pstats"

    def start(self) -> None:
        """Set the threads off."""
        self.profiler.start()
        for thread in self._threads:
            thread.start()

    def _run(self, poster: Poster) -> None:
        with self.profiler.thread():
            poster.run()
        if poster.tally.error is not None:
            # One thread that gives up ends the posting; the others finish what they have sent.
            self._stop.set()

    @property
    def tallies(self) -> list[Tally]:
        """What the threads have done by now."""
        return [poster.tally for poster in self.posters]

    def running(self) -> bool:
        """Say whether any thread is at work."""
        return any(thread.is_alive() for thread in self._threads)

    def finish(self) -> None:
        """Wait for the threads and write their profile."""
        for thread in self._threads:
            thread.join()
        self.profiler.stop()
        self.profiler.dump(self._profile_path)


def child(job: Job, pipe: Pipe) -> None:
    """Post in a process of its own; tell the parent through the pipe how it goes, and stop when it says so or ends."""
    # Ctrl-C reaches the whole group; the parent decides, and the pipe says so when it is gone.
    for number in SIGNALS:
        signal.signal(number, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)
    stop = threading.Event()
    sending = threading.Lock()

    def tell(kind: str, content: Any) -> None:
        try:
            with sending:
                pipe.send((kind, content))
        except OSError:
            stop.set()

    group = Group(job, stop, lambda text: tell("say", text))
    group.start()
    while group.running():
        time.sleep(TICK)
        tell("tallies", [asdict(tally) for tally in group.tallies])
        if parent_stopped(pipe):
            stop.set()
    group.finish()
    tell("tallies", [asdict(tally) for tally in group.tallies])
    tell("done", peak_memory())


def parent_stopped(pipe: Pipe) -> bool:
    """Say whether the parent asked for the end, or is gone."""
    try:
        return pipe.poll() and pipe.recv() == "stop"
    except (EOFError, OSError):
        return True


class Child:
    """A posting process, seen from the parent."""

    def __init__(self, job: Job, say: Callable[[str], None]) -> None:
        """Start it; ``spawn`` gives it a clean start, with no lock or connection of this process."""
        context = multiprocessing.get_context("spawn")
        self._say = say
        self._pipe, theirs = context.Pipe()
        self._process = context.Process(
            target=child, args=(job, theirs), name=f"taskmill-post-{job.process}", daemon=True
        )
        # Held back while it starts, in it too, until it has said what to do with them.
        before = signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
        try:
            self._process.start()
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)
        theirs.close()
        self.tallies: list[Tally] = []
        self.peak_memory: int | None = None
        self._ended = False

    def stop(self) -> None:
        """Ask it to end in order."""
        try:
            self._pipe.send("stop")
        except OSError:
            self._ended = True

    def running(self) -> bool:
        """Take in its news; say whether it is at work."""
        try:
            while not self._ended and self._pipe.poll():
                kind, content = self._pipe.recv()
                if kind == "say":
                    self._say(content)
                elif kind == "tallies":
                    self.tallies = [Tally(**tally) for tally in content]
                else:
                    self.peak_memory = content
                    self._ended = True
        except (EOFError, OSError):
            self._ended = True
        return not self._ended

    def failed(self) -> bool:
        """Say whether it ended before its time, or one of its threads gave up."""
        return (self._ended and self.peak_memory is None) or any(tally.error for tally in self.tallies)

    def kill(self) -> None:
        """End it at once if it is still there; its files are true at any time."""
        if self._process.is_alive():
            self._process.kill()
            self._process.join()

    def finish(self) -> str | None:
        """Wait for its end; return what went wrong when it ended before its time."""
        self._process.join(10)
        self.kill()
        if self.peak_memory is None:
            return (
                f"the posting process {self._process.name} (pid {self._process.pid}) ended with code "
                f"{self._process.exitcode} before its work was done"
            )
        return None


@dataclass
class Posted:
    """What came of posting: ``post.json`` of the run folder. Times are in seconds, memory in bytes."""

    started: Moment
    ended: Moment | None = None
    #: When the first task was due, in Unix seconds; ``None`` for a load that is not paced.
    due_from: float | None = None
    #: Whether every planned message was posted and confirmed.
    finished: bool = False
    interrupted: bool = False
    error: str | None = None
    peak_memory_bytes: int = 0
    threads: list[Tally] = field(default_factory=list)
    #: What preflight found: the broker, its workers and memcached, before the first message.
    before: dict[str, Any] = field(default_factory=dict)

    def total(self, name: str) -> Any:
        """Return the sum of one number of the tallies over all threads."""
        return sum(getattr(tally, name) for tally in self.threads)

    def save(self, folder: Path) -> None:
        """Write ``post.json``."""
        write_json(folder / "post.json", asdict(self))

    @classmethod
    def load(cls, folder: Path) -> Posted | None:
        """Read ``post.json``; ``None`` when there is none, or none that can be read."""
        data = read_json(folder / "post.json")
        started = Moment.load(data.get("started")) if data else None
        if data is None or started is None:
            return None
        try:
            data["threads"] = [Tally(**tally) for tally in data["threads"]]
            return cls(**(data | {"started": started, "ended": Moment.load(data.get("ended"))}))
        except (KeyError, TypeError):
            return None


def post(
    plan: Plan, folder: Path, broker: Broker, stop: threading.Event, reporter: Reporter, before: dict[str, Any]
) -> Posted:
    """Post a plan into a run folder and return what came of it; also written to ``post.json``.

    ``stop`` asks for an orderly end. Nothing is raised for a broker that stays away: ``error`` of the result says it.
    """
    posted = Posted(Moment.now(), before=before)
    due_from = Moment.at(time.monotonic() + LEAD[plan.processes > 1])
    posted.due_from = due_from.wall if plan.rate is not None else None
    posted.save(folder)
    carry_out(split(plan, folder, broker, due_from.monotonic), stop, reporter, posted)
    firsts = [tally.first for tally in posted.threads if tally.first is not None]
    if firsts:
        posted.started = Moment.at(min(firsts))
    conclude(plan.tasks, posted, stop)
    posted.save(folder)
    return posted


def resume(plan: Plan, folder: Path, broker: Broker, stop: threading.Event, reporter: Reporter, left: Left) -> Posted:
    """Post what earlier clients left of a plan; as :func:`post`, with the beginning of the first of them."""
    posted = Posted.load(folder) or Posted(Moment.now())
    before = {tally.name: tally for tally in posted.threads}
    posted.error = None
    # In a paced load all that is overdue is sent at once.
    now = Moment.now()
    due_from = now.monotonic if posted.due_from is None else now.monotonic - (now.wall - posted.due_from)
    carry_out(split(plan, folder, broker, due_from, left), stop, reporter, posted)
    for tally in posted.threads:
        if tally.name in before:
            tally.add(before[tally.name])
    conclude(plan.tasks, posted, stop)
    posted.save(folder)
    return posted


def repost(plan: Plan, folder: Path, broker: Broker, stop: threading.Event, reporter: Reporter, left: Left) -> Posted:
    """Send messages of a run once more, under their ids; what ``post.json`` says of the run stays as it is."""
    posted = Posted(Moment.now())
    quiet = replace(plan, profile=False, rate=None)
    jobs = [job.without_new() for job in split(quiet, folder, broker, time.monotonic(), left)]
    carry_out(jobs, stop, reporter, posted)
    conclude(left.posted(), posted, stop)
    return posted


def carry_out(jobs: list[Job], stop: threading.Event, reporter: Reporter, posted: Posted) -> None:
    """Have the jobs done; note in ``posted`` what the threads did, and the first error."""
    if len(jobs) == 1:
        posted.threads = run_here(jobs[0], stop, reporter, posted)
    else:
        posted.threads = run_children(jobs, stop, reporter, posted)
    posted.error = posted.error or next((tally.error for tally in posted.threads if tally.error), None)


def conclude(tasks: int, posted: Posted, stop: threading.Event) -> None:
    """Note when posting ended, and whether that many tasks are posted and confirmed."""
    lasts = [tally.last for tally in posted.threads if tally.last is not None]
    posted.ended = Moment.at(max(lasts)) if lasts else posted.ended or posted.started
    posted.finished = posted.total("confirmed") == tasks and posted.error is None
    posted.interrupted = stop.is_set() and posted.error is None and not posted.finished


def split(plan: Plan, folder: Path, broker: Broker, due_from: float, left: Left | None = None) -> list[Job]:
    """Return one job per process that has something to post."""
    spans = plan.posters()
    return [
        Job(plan, folder, broker, process, tuple(spans[start : start + plan.threads]), due_from, left)
        for process, start in enumerate(range(0, len(spans), plan.threads))
    ]


def run_here(job: Job, stop: threading.Event, reporter: Reporter, posted: Posted) -> list[Tally]:
    """Post with threads of this process."""
    inner = threading.Event()
    group = Group(job, inner, reporter.say)
    with reporter.phase("posting", sum(count for _, count in job.spans)) as phase:
        group.start()
        while group.running():
            if stop.wait(TICK):
                announce_stop(inner, reporter)
                time.sleep(TICK)
            phase.update(sum(tally.confirmed for tally in group.tallies))
        group.finish()
        phase.update(sum(tally.confirmed for tally in group.tallies), last=True)
    posted.peak_memory_bytes = 0
    return group.tallies


def run_children(jobs: list[Job], stop: threading.Event, reporter: Reporter, posted: Posted) -> list[Tally]:
    """Post with processes of their own; they end with this function, whatever happens."""
    inner = threading.Event()
    children: list[Child] = []
    try:
        children += [Child(job, reporter.say) for job in jobs]
        with reporter.phase("posting", sum(count for job in jobs for _, count in job.spans)) as phase:
            # Every one of them is asked: each brings its news.
            while sum(one.running() for one in children):
                if stop.is_set():
                    announce_stop(inner, reporter)
                if inner.is_set() or any(one.failed() for one in children):
                    inner.set()
                    for one in children:
                        one.stop()
                phase.update(sum(tally.confirmed for one in children for tally in one.tallies))
                time.sleep(TICK)
            errors = [one.finish() for one in children]
            phase.update(sum(tally.confirmed for one in children for tally in one.tallies), last=True)
    finally:
        for one in children:
            one.kill()
    posted.error = next((error for error in errors if error), None)
    posted.peak_memory_bytes = sum(one.peak_memory or 0 for one in children)
    return [tally for one in children for tally in one.tallies]


def announce_stop(inner: threading.Event, reporter: Reporter) -> None:
    """Say once that the end was asked for, and pass it on to the threads."""
    if not inner.is_set():
        reporter.say("stopping: waiting for the confirms of what is sent")
        inner.set()


def peak_memory() -> int:
    """Return the most memory that this process has held at once, in bytes (Linux counts in KiB)."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def cpu_seconds() -> float:
    """Return the CPU time of this process and of its ended children."""
    own, children = os.times()[:2], os.times()[2:4]
    return sum(own) + sum(children)
