"""Driving a run in its folder: published, collected, and concluded with its record, profile and report."""

from __future__ import annotations

import os
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from taskmill import report
from taskmill.cluster import queue_depths, workers
from taskmill.cluster.broker import Broker
from taskmill.model.errors import TaskmillError
from taskmill.publishing import processes
from taskmill.publishing.posted import Posted
from taskmill.results import acknowledged
from taskmill.results.acknowledged import Acknowledged
from taskmill.results.collector import Collector
from taskmill.results.store import ResultStore
from taskmill.samples import profile
from taskmill.session.build_record import build
from taskmill.session.live import Live
from taskmill.session.preflight import ask_afterwards
from taskmill.session.watch import Watch, watching

if TYPE_CHECKING:
    import threading
    from collections.abc import Iterator, Sequence
    from contextlib import AbstractContextManager
    from pathlib import Path

    from taskmill.model.plan import Plan
    from taskmill.model.record import RunRecord
    from taskmill.model.thresholds import Requirement
    from taskmill.progress import Reporter
    from taskmill.publishing.unfinished import Unfinished
    from taskmill.results.collected import Collected


@dataclass(frozen=True)
class Concluded:
    """What came of a run; ``collected`` is ``None`` where nothing was fetched."""

    record: RunRecord
    folder: Path
    posted: Posted
    collected: Collected | None


@dataclass(frozen=True)
class Session:
    """One run: its plan, its folder, the cluster, and who stops it and hears of it."""

    plan: Plan
    folder: Path
    #: ``None`` for a collecting that does without queue depths and workers' counts.
    broker: Broker | None
    results: ResultStore
    #: Asks for an orderly end.
    stop: threading.Event
    reporter: Reporter

    def publish(self, before: dict[str, Any], required: Sequence[Requirement] = ()) -> Posted:
        """Publish the plan's messages, with the queues sampled meanwhile; ``before`` is what preflight returned.

        Those of the thresholds that are over time are watched, and may stop it.
        """
        assert self.broker is not None
        watch = Watch(required, self.stop, self.reporter)
        with self._sampled() as waiting, self._watched(watch, waiting, before):
            posted = processes.publish(self.plan, self.folder, self.broker, watch.stop, self.reporter, before)
        if watch.guards:
            posted.watched = watch.plain(posted.started)
            posted.save(self.folder)
        return posted

    def resume(self, unfinished: Unfinished) -> Posted:
        """Publish what an earlier client left of the run, with the queues sampled meanwhile."""
        assert self.broker is not None
        with self._sampled():
            return processes.resume(self.plan, self.folder, self.broker, self.stop, self.reporter, unfinished)

    def collect(self) -> Collected:
        """Fetch and check every result, with the queues sampled meanwhile where there is a broker to ask."""
        with self._sampled(), self._profiled():
            collector = Collector(self.plan, self.folder, self.results, self.stop, self.reporter)
            return collector.run(
                self._acknowledged(len(collector.unstored)),
                partial(acknowledged.at_work, self.plan, self.broker, self.reporter),
            )

    def _acknowledged(self, tasks: int) -> Acknowledged | None:
        """Wait for so many tasks that store no result; ``None`` where the plan has none of that kind."""
        if not self.plan.unstored:
            return None
        if self.broker is None:
            raise TaskmillError(
                f"tasks of this run store no result ({', '.join(self.plan.unstored)}) and are counted by the queues "
                f"and the workers: that takes the broker. Once it is there: taskmill collect {self.folder}"
            )
        posted = Posted.load(self.folder)
        before = workers.from_plain(posted.before.get("workers") if posted else None)
        return acknowledged.await_acknowledgements(self.plan, self.broker, before, tasks, self.stop, self.reporter)

    def fetch(self, posted: Posted) -> tuple[Collected | None, dict[str, Any]]:
        """Collect what was published, then ask the cluster once more; nothing where publishing came to no good end."""
        if posted.error is not None or self.stop.is_set():
            return None, {}
        return self.collect(), self.ask_afterwards(posted)

    def ask_afterwards(self, posted: Posted) -> dict[str, Any]:
        """Return what workers, broker and result store say after the run."""
        return ask_afterwards(self.plan, posted, self.broker, self.results, self.reporter)

    def record(
        self,
        posted: Posted,
        collected: Collected | None,
        after: dict[str, Any],
        required: Sequence[Requirement] = (),
    ) -> RunRecord:
        """Write the record, and return it."""
        client = {"peak_memory_bytes": processes.peak_memory(), "cpu_seconds": round(processes.cpu_seconds(), 1)}
        record = build(self.plan, self.folder, posted, collected, after, client, required)
        record.save(self.folder)
        return record

    def conclude(
        self,
        posted: Posted,
        collected: Collected | None,
        after: dict[str, Any],
        required: Sequence[Requirement] = (),
    ) -> Concluded:
        """Write record, profile and report; return what came of the run."""
        record = self.record(posted, collected, after, required)
        profile.merge(
            (self.folder / "profile").glob("*.pstats"),
            self.folder,
            f"taskmill run {self.plan.name}: cProfile of the client, posting and collecting.",
        )
        render(self.folder, self.reporter)
        return Concluded(record, self.folder, posted, collected)

    @contextmanager
    def _sampled(self) -> Iterator[dict[str, int]]:
        """Sample the queues where there is a broker to ask; yield the messages in each, as they change."""
        if self.broker is None:
            yield {}
            return
        with queue_depths.sample(self.broker, self.plan.queues, self.folder / "queues.csv") as waiting:
            yield waiting

    def _watched(self, watch: Watch, waiting: dict[str, int], before: dict[str, Any]) -> AbstractContextManager[None]:
        """Watch thresholds while messages are published, where there are any to watch."""
        if not watch.guards:
            return nullcontext()
        asked = [guard.requirement for guard in watch.guards]
        processes = sum(worker.pool_size for worker in workers.from_plain(before.get("workers"))) or None
        live = Live(self.plan, self.folder, self.results, asked, waiting, before.get("clocks") or {}, processes)
        return watching(watch, live)

    @contextmanager
    def _profiled(self) -> Iterator[None]:
        """Profile this thread while it collects."""
        profiler = profile.Profiler(self.plan.profile)
        profiler.start()
        try:
            with profiler.thread():
                yield
        finally:
            profiler.stop()
            profiler.dump(self.folder / "profile" / "collect.pstats")


def render(folder: Path, reporter: Reporter) -> None:
    """Write the report where its needs are installed; without room for it, the run's verdict stands all the same."""
    if not report.available():
        return
    try:
        report.write(folder)
    except OSError as error:
        reporter.say(f"taskmill: no report of {folder}: {error.strerror or error}")


def broker_of(url: str | None) -> Broker:
    """Return the broker at a URL, or that of the environment; raise ``TaskmillError`` where that names none."""
    return Broker.from_environment() if url is None else Broker(url, ca=os.environ.get("CELERY_BROKER_CA", ""))


def broker_if_there(reporter: Reporter, url: str | None = None) -> Broker | None:
    """Return the broker for queue depths and workers' counts, which collecting can do without."""
    try:
        broker = broker_of(url)
        broker.check([])
    except TaskmillError as error:
        reporter.say(f"collecting without the broker: {error}")
        return None
    return broker
