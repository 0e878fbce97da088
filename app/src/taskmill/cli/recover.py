"""``taskmill resume`` and ``repair``."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import click

from taskmill.cli.options import DEADLINE, NO_WORKERS, RUN
from taskmill.cli.verdict import tell_run, tell_whole
from taskmill.cluster.broker import Broker
from taskmill.model import errors, thresholds
from taskmill.model.errors import PostingError, TaskmillError
from taskmill.model.plan import Plan
from taskmill.model.run_folder import claimed
from taskmill.model.summary import summary
from taskmill.progress import Reporter
from taskmill.publishing import interrupt
from taskmill.recover import repair, resume
from taskmill.results import store
from taskmill.session.drive import Session, render
from taskmill.session.preflight import check_again

if TYPE_CHECKING:
    from pathlib import Path


@click.command("resume")
@RUN
@NO_WORKERS
def resume_command(run: Path, no_workers: bool) -> None:
    """Take RUN up where its client was killed or stopped: publish the rest, collect, record and report.

    What was sent and not confirmed, and has no result, is sent once more under the same ids: at most one window of each
    thread. Such a task may run twice; the record's duplicates count it.
    """
    plan, reporter = Plan.load(run), Reporter()
    reporter.say(f"run folder {run.resolve()}")
    broker, results = Broker.from_environment(), store.of_environment()
    with claimed(run), interrupt.watch() as stop:
        session = Session(plan, run, broker, results, stop, reporter)
        done = resume.resume(session, no_workers=no_workers)
        if done is None:
            raise SystemExit(tell_untouched(run))
        raise SystemExit(tell_run(session.conclude(*done, thresholds.of_run(run))))


@click.command("repair")
@RUN
@NO_WORKERS
@click.option("--allow-waiting", is_flag=True, help="Repair even if messages wait in the queues, which may be its own.")
@DEADLINE
def repair_command(run: Path, no_workers: bool, allow_waiting: bool, deadline: float | None) -> None:
    """Make up for results that RUN misses: publish these tasks once more under their ids, collect, and count anew."""
    plan, reporter = Plan.load(run), Reporter()
    if deadline is not None:
        plan = replace(plan, deadline=deadline)
    reporter.say(f"run folder {run.resolve()}")
    broker, results = Broker.from_environment(), store.of_environment()
    with claimed(run), interrupt.watch() as stop:
        resume.await_writers(Session(plan, run, broker, results, stop, reporter))
        waiting = check_again(plan, broker, results, no_workers=no_workers)
        if waiting and not allow_waiting:
            raise TaskmillError(
                f"{sum(waiting.values()):,} messages wait in {', '.join(waiting)}, and what is missing may be among "
                f"them: it would run twice. Once the queues are empty, `taskmill collect {run}` finds what they made; "
                f"or say --allow-waiting"
            )
        if stop.is_set():
            raise SystemExit(tell_untouched(run))
        done = repair.repair(plan, run, broker, results, stop, reporter)
        if done.error is not None:
            raise PostingError(f"nothing was repaired: {done.error}")
        if not done.finished:
            click.echo(
                f"Interrupted: some tasks may have been published again, and the record is as it was. Once the queues "
                f"are empty: taskmill repair {run}"
            )
            raise SystemExit(errors.INTERRUPTED)
        render(run, reporter)
    click.echo(summary(done.record, run))
    if any(getattr(done.record.counts, name) for name in ("lost", "wrong", "failed")):
        raise SystemExit(errors.FAULTS)
    raise SystemExit(tell_whole(done.record))


def tell_untouched(run: Path) -> int:
    """Say that a command was stopped before it did anything, and return the exit code."""
    click.echo(f"Interrupted before anything was sent: {run} is as it was.")
    return errors.INTERRUPTED
