"""Publishing a plan: threads of one or more processes, see :mod:`taskmill.publishing.threads`."""

from __future__ import annotations

import multiprocessing
import os
import resource
import signal
import threading
import time
from contextlib import suppress
from dataclasses import asdict, replace
from multiprocessing import resource_tracker
from typing import TYPE_CHECKING, Any

from taskmill.model.clock import Moment
from taskmill.publishing.channel import Tally
from taskmill.publishing.interrupt import SIGNALS
from taskmill.publishing.posted import Posted
from taskmill.publishing.threads import Job, ThreadGroup

if TYPE_CHECKING:
    from collections.abc import Callable
    from multiprocessing.connection import Connection as Pipe
    from pathlib import Path

    from taskmill.cluster.broker import Broker
    from taskmill.model.plan import Plan
    from taskmill.progress import Reporter
    from taskmill.publishing.unfinished import Unfinished

#: Seconds from now until the first task of a paced load is due: for threads to connect, and for processes to start.
LEAD = (0.5, 3.0)
TICK = 0.2


def child(job: Job, pipe: Pipe) -> None:
    """Post in a process of its own; tell the parent through the pipe how it goes, and stop when it says so or ends."""
    # Ctrl-C reaches the whole group; the parent decides, and the pipe says so when it is gone.
    for number in SIGNALS:
        signal.signal(number, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)
    stop = threading.Event()
    sending = threading.Lock()

    def send(kind: str, content: Any) -> None:
        try:
            with sending:
                pipe.send((kind, content))
        except OSError:
            stop.set()

    group = ThreadGroup(job, stop, lambda text: send("say", text))
    group.start()
    while group.running():
        time.sleep(TICK)
        send("tallies", [asdict(tally) for tally in group.tallies])
        if parent_stopped(pipe):
            stop.set()
    group.finish()
    send("tallies", [asdict(tally) for tally in group.tallies])
    send("done", peak_memory())


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
        # To start the tracker, as the first process does, ends what is held back.
        resource_tracker.ensure_running()
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
        # What has ended meanwhile has left its last news in the pipe.
        with suppress(OSError):
            self._pipe.send("stop")

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


def publish(
    plan: Plan, folder: Path, broker: Broker, stop: threading.Event, reporter: Reporter, before: dict[str, Any]
) -> Posted:
    """Post a plan into a run folder and return what came of it; also written to ``post.json``.

    ``stop`` asks for an orderly end. Nothing is raised for a broker that stays away: ``error`` of the result says it.
    """
    posted = Posted(Moment.now(), before=before)
    due_from = Moment.at(time.monotonic() + LEAD[plan.processes > 1])
    posted.due_from = due_from.wall if plan.paced else None
    posted.save(folder)
    carry_out(split(plan, folder, broker, due_from.monotonic), stop, reporter, posted)
    firsts = [tally.first for tally in posted.threads if tally.first is not None]
    if firsts:
        posted.started = Moment.at(min(firsts))
    conclude(plan.tasks, posted, stop)
    posted.save(folder)
    return posted


def resume(
    plan: Plan, folder: Path, broker: Broker, stop: threading.Event, reporter: Reporter, unfinished: Unfinished
) -> Posted:
    """Post what earlier clients left of a plan; as :func:`publish`, with the beginning of the first of them."""
    posted = Posted.load(folder) or Posted(Moment.now())
    before = {tally.name: tally for tally in posted.threads}
    posted.error = None
    # In a paced load all that is overdue is sent at once.
    now = Moment.now()
    due_from = now.monotonic if posted.due_from is None else now.monotonic - (now.wall - posted.due_from)
    carry_out(split(plan, folder, broker, due_from, unfinished), stop, reporter, posted)
    for tally in posted.threads:
        if tally.name in before:
            tally.add(before[tally.name])
    conclude(plan.tasks, posted, stop)
    posted.save(folder)
    return posted


def republish(
    plan: Plan, folder: Path, broker: Broker, stop: threading.Event, reporter: Reporter, unfinished: Unfinished
) -> Posted:
    """Send messages of a run once more, under their ids; what ``post.json`` says of the run stays as it is."""
    posted = Posted(Moment.now())
    quiet = replace(plan, profile=False, rate=None, stages=())
    jobs = [job.without_new() for job in split(quiet, folder, broker, time.monotonic(), unfinished)]
    carry_out(jobs, stop, reporter, posted)
    conclude(unfinished.posted(), posted, stop)
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


def split(plan: Plan, folder: Path, broker: Broker, due_from: float, unfinished: Unfinished | None = None) -> list[Job]:
    """Return one job per process that has something to post."""
    spans = plan.posters()
    return [
        Job(plan, folder, broker, process, tuple(spans[start : start + plan.threads]), due_from, unfinished)
        for process, start in enumerate(range(0, len(spans), plan.threads))
    ]


def run_here(job: Job, stop: threading.Event, reporter: Reporter, posted: Posted) -> list[Tally]:
    """Post with threads of this process."""
    inner = threading.Event()
    group = ThreadGroup(job, inner, reporter.say)
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
        failure = start_children(jobs, children, reporter)
        if failure is not None:
            # Those that run end in order: what they have sent is confirmed.
            inner.set()
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
    posted.error = failure or next((error for error in errors if error), None)
    posted.peak_memory_bytes = sum(one.peak_memory or 0 for one in children)
    return [tally for one in children for tally in one.tallies]


def start_children(jobs: list[Job], children: list[Child], reporter: Reporter) -> str | None:
    """Start a process for each job and add it to the children, until one does not start: return why."""
    for job in jobs:
        try:
            children.append(Child(job, reporter.say))
        except OSError as error:
            return (
                f"the publishing process {job.process + 1} of {len(jobs)} could not be started: "
                f"{error.strerror or error}. Ask for fewer with --processes, or raise this host's limits"
            )
    return None


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
