"""A run driven from Python, or by the command line: started in a new folder, or collected from an old one."""

from __future__ import annotations

import threading
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from taskmill.model import run_folder, thresholds
from taskmill.model.clock import Moment
from taskmill.model.errors import TaskmillError
from taskmill.model.plan import Plan
from taskmill.progress import Quiet
from taskmill.publishing import interrupt
from taskmill.publishing.posted import Posted
from taskmill.results import store
from taskmill.results.store import ResultStore
from taskmill.session import watch
from taskmill.session.drive import Concluded, Session, broker_if_there, broker_of
from taskmill.session.preflight import Conditions, preflight
from taskmill.session.probe import try_tasks
from taskmill.workload import files

if TYPE_CHECKING:
    from collections.abc import Sequence
    from contextlib import AbstractContextManager

    from taskmill.cluster.broker import Broker
    from taskmill.model.record import RunRecord
    from taskmill.model.thresholds import Requirement
    from taskmill.progress import Reporter


def run(
    plan: Plan,
    runs: Path | str = "runs",
    *,
    broker: str | None = None,
    results: str | None = None,
    required: Sequence[str] = (),
    no_workers: bool = False,
    allow_waiting: bool = False,
    no_probe: bool = False,
    reporter: Reporter | None = None,
) -> RunRecord:
    """Publish a plan's tasks, fetch and check every result, and return the record, whose ``folder`` is the run's.

    ``runs`` is the directory in which the run makes its folder. ``broker`` (``amqp://``) and ``results``
    (``cache+memcached://``, ``redis://`` or another of Celery's) are URLs; without them ``CELERY_BROKER_URL`` and
    ``CELERY_RESULT_BACKEND`` in the environment say where the cluster is. ``required`` are thresholds such as
    ``"completed_per_s>=500"``: the record's ``requirements`` say whether they are met. One that is over time, such as
    ``"waiting>9000 for 30s, stop as failed"``, may end the publishing. ``no_workers`` publishes even if no worker is
    there, ``allow_waiting`` even if other messages wait in the queues. Before the run one of each task is run and
    looked at (:mod:`taskmill.session.probe`), which ``no_probe`` leaves out. A plan with several processes starts them
    anew, so that a script needs its ``if __name__ == "__main__"``.

    What is lost, wrong or failed raises nothing: the record's ``counts``, ``problems`` and ``state`` say it. Ctrl-C
    ends the run in order, with the state ``interrupted``. Raises ``TaskmillError`` when the run cannot start or go on,
    with what stands in the way; ``ValueError`` for a threshold that is none.
    """
    parsed = [thresholds.Requirement.parse(text) for text in required]
    broker_, results_ = broker_of(broker), _results(results)
    conditions = Conditions(no_workers, allow_waiting, probe=not no_probe)
    with _watch() as stop:
        done = start(plan, Path(runs), broker_, results_, stop, reporter or Quiet(), conditions, parsed)
    if done is None:
        raise TaskmillError("stopped before the first message")
    return done.record


def collect(
    folder: Path | str,
    *,
    broker: str | None = None,
    results: str | None = None,
    deadline: float | None = None,
    required: Sequence[str] = (),
    reporter: Reporter | None = None,
) -> RunRecord:
    """Fetch the results of a run by the ids in its folder: begin, go on, or do it again; return the record.

    ``deadline`` are the seconds without any new result after which missing ones count as lost; that of the run's plan
    by default. Without a broker the record lacks queue depths and the workers' counts. ``required`` are, by default,
    the thresholds of before. Raises as :func:`run` does.
    """
    parsed = [thresholds.Requirement.parse(text) for text in required]
    plan, say = Plan.load(Path(folder)), reporter or Quiet()
    if deadline is not None:
        plan = replace(plan, deadline=deadline)
    results_ = _results(results)
    results_.figures()
    broker_ = broker_if_there(say, broker)
    with _watch() as stop:
        return collect_again(Session(plan, Path(folder), broker_, results_, stop, say), parsed).record


def start(
    plan: Plan,
    runs: Path,
    broker: Broker,
    results: ResultStore,
    stop: threading.Event,
    reporter: Reporter,
    conditions: Conditions,
    required: Sequence[Requirement] = (),
    *,
    collect_too: bool = True,
) -> Concluded | None:
    """Begin a run in a new folder and drive it to its end; ``None`` when it was stopped before the first message."""
    required = [*required, *map(thresholds.Requirement.parse, plan.thresholds)]
    begun = begin(plan, runs, broker, results, stop, reporter, conditions, required)
    if begun is None:
        return None
    session, before = begun
    reporter.say(f"run folder {session.folder}")
    with run_folder.claimed(session.folder):
        posted = session.publish(before, required)
        collected, after = session.fetch(posted) if collect_too else (None, {})
        return session.conclude(posted, collected, after, required)


def begin(
    plan: Plan,
    runs: Path,
    broker: Broker,
    results: ResultStore,
    stop: threading.Event,
    reporter: Reporter,
    conditions: Conditions,
    required: Sequence[Requirement] = (),
) -> tuple[Session, dict[str, Any]] | None:
    """Make the folder of a run that nothing stands in the way of, with its plan.

    Returns the run, and what was found before it; ``None`` when it was stopped meanwhile. Raises as :func:`preflight`,
    :func:`try_tasks`, and :func:`taskmill.session.watch.check` of what is ``required``.
    """
    before = preflight(plan, broker, results, reporter, conditions)
    if stop.is_set():
        return None
    plan = replace(plan, unstored=tuple(before["unstored"]))
    watch.check(plan, required)
    if plan.unstored:
        reporter.say(
            f"{', '.join(plan.unstored)}: no result is stored, so these tasks are counted by their acknowledgement "
            f"and their values are not compared"
        )
    if plan.faults:
        faults = ", ".join(map(str, plan.faults))
        reporter.say(f"run-load.yml injects the faults of the scenario, and taskmill itself does not: {faults}")
    plan, before = try_tasks(plan, before, broker, results, stop, reporter, conditions)
    if stop.is_set():
        return None
    folder = run_folder.new_folder(runs, plan.name)
    plan = files.keep(plan, folder)
    return Session(plan, folder, broker, results, stop, reporter), before


def collect_again(session: Session, required: Sequence[Requirement] = ()) -> Concluded:
    """Collect a run that was published before; what was required of it still is, unless something else is named."""
    with run_folder.claimed(session.folder):
        posted = Posted.load(session.folder) or Posted(Moment.now())
        collected = session.collect()
        after = session.ask_afterwards(posted)
        return session.conclude(posted, collected, after, required or thresholds.of_run(session.folder))


def _results(url: str | None) -> ResultStore:
    return store.of_environment() if url is None else store.of_url(url)


def _watch() -> AbstractContextManager[threading.Event]:
    """Watch for Ctrl-C where signals can be watched for: in the main thread."""
    if threading.current_thread() is threading.main_thread():
        return interrupt.watch()
    return nullcontext(threading.Event())
