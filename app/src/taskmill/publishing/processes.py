"""Posting: threads of one or more processes, each with a connection of its own, every message confirmed.

A thread writes the ids of its messages to its journal before its courier sends them.
"""

from __future__ import annotations

import multiprocessing
import os
import resource
import signal
import threading
import time
from contextlib import suppress
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from taskmill.model.clock import Moment
from taskmill.model.errors import PostingError, TaskmillError
from taskmill.model.plan import Plan
from taskmill.model.run_folder import read_json, write_json
from taskmill.publishing import journal, message
from taskmill.publishing.channel import Courier, Entry, Tally
from taskmill.publishing.interrupt import SIGNALS, Interrupted
from taskmill.publishing.journal import ThreadIds
from taskmill.samples.profile import Profiler

if TYPE_CHECKING:
    from collections.abc import Callable
    from multiprocessing.connection import Connection as Pipe

    import amqp

    from taskmill.cluster.broker import Broker
    from taskmill.progress import Reporter

#: Seconds from now until the first task of a paced load is due: for threads to connect, and for processes to start.
LEAD = (0.5, 3.0)
TICK = 0.2


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
    """One posting thread: its journal, and its courier."""

    def __init__(self, job: Job, thread: int, stop: threading.Event, say: Callable[[str], None]) -> None:
        """Make the journal; connect later, in :meth:`run`."""
        self._plan = job.plan
        self._broker = job.broker
        self._first_number, self._count = job.spans[thread]
        self._pace = Pace.of(job.plan, job.process * job.plan.threads + thread, job.due_from)
        name = journal.stem(job.process, thread)
        taken_up = job.left.threads.get(name) if job.left else None
        self._journal = journal.Journal(job.folder / "ids", job.process, thread, taken_up)
        self._suffixes = [f" {kind.queue}\n".encode() for kind in job.plan.kinds]
        self._sender = message.Sender.new()
        self._templates: list[list[bytes]] = []
        self._next = len(taken_up.lines) if taken_up else 0
        #: As many lines of the journal were confirmed before.
        self._floor = taken_up.confirmed if taken_up else 0
        #: Place in the journal and id of what is to be sent once more.
        self._again: list[Entry] = list(job.left.again.get(name, []) if job.left else [])
        self.tally = Tally(name, self._count, posted=self._next, confirmed=self._next - len(self._again))
        self._courier = Courier(
            job.broker, self.tally, stop, say, window=job.plan.window, deadline=job.plan.broker_deadline
        )

    def run(self) -> None:
        """Post everything, or until stopped; the tally and the journal say what came of it."""
        try:
            self._courier.deliver(self, self._again)
            if self._courier.returned:
                raise PostingError(
                    f"the broker ({self._broker}) took no message for the queue {self._courier.unroutable[1]!r}: there "
                    f"is no such queue any more. The role rabbitmq declares those in rabbitmq_queues; run site.yml"
                )
        except Interrupted:
            # What is unconfirmed stays so in the journal.
            pass
        except TaskmillError as error:
            self.tally.error = str(error)
        except Exception as error:  # noqa: BLE001  # a thread's error must reach the user, not only stderr
            self.tally.error = f"{type(error).__name__}: {error}"
        finally:
            self._courier.close()
            with suppress(PostingError):
                self.stepped()
            self._journal.close()

    def more(self) -> bool:
        """Say whether any message was never sent."""
        return self._next < self._count

    def take(self, limit: int) -> list[Entry]:
        """Make ids for the next messages that are due, and put them on disk."""
        start = self._next
        count = min(limit, self._count - start)
        if self._pace is not None:
            now = time.monotonic()
            count = min(count, self._pace.due(now) - start)
            if not count:
                return []
            self.tally.late = max(self.tally.late, now - self._pace.moment(start))
        ids = journal.new_ids(count)
        suffixes, kinds, first = self._suffixes, len(self._suffixes), self._first_number + start
        lines = b"".join([id_ + suffixes[(first + i) % kinds] for i, id_ in enumerate(ids)])
        self._journal.write(lines, start + count, time.time())
        self._next += count
        return list(enumerate(ids, start))

    def wait(self) -> float:
        """Return the seconds until the next message is due."""
        return self._pace.moment(self._next) - time.monotonic() if self._pace is not None else 0.0

    def connected(self, connection: amqp.Connection, channel: amqp.Channel) -> None:
        """Make the messages for the connection, without their ids."""
        self._templates = [
            message.template(
                kind,
                self._plan.args,
                self._sender,
                channel.channel_id,
                connection.frame_max,
                lean=self._plan.lean,
                persistent=self._plan.persistent,
            )
            for kind in self._plan.kinds
        ]

    def frames(self, entries: list[Entry]) -> bytes:
        """Return the messages with these places and ids."""
        first, templates, kinds = self._first_number, self._templates, len(self._templates)
        return b"".join([id_.join(templates[(first + place) % kinds]) for place, id_ in entries])

    def confirmed(self, entries: list[Entry]) -> None:
        """Leave it to the tally, and to the next :meth:`stepped`."""

    def stepped(self) -> None:
        """Say in the journal how many of its lines, from its start, are surely confirmed."""
        places = [place for place, _ in self._courier.unsettled()]
        self._journal.confirm(max(self._floor, min(places, default=self._next)))


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
