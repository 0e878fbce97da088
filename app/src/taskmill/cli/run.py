"""``taskmill run``, ``publish`` and ``collect``."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import click

from taskmill.cli.options import DEADLINE, REQUIRE, RUN, make_plan, plan_options
from taskmill.cli.verdict import tell_run
from taskmill.cluster.broker import Broker
from taskmill.model import errors, run_folder, thresholds
from taskmill.model.clock import Moment
from taskmill.model.plan import Plan
from taskmill.model.thresholds import Requirement
from taskmill.progress import Reporter
from taskmill.publishing import interrupt
from taskmill.publishing.posted import Posted
from taskmill.results.memcached import Results
from taskmill.session.drive import Session, broker_if_there
from taskmill.session.preflight import Conditions, preflight

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from taskmill.results.collector import Collected


@click.command("run")
@plan_options
@REQUIRE
def run_command(required: tuple[Requirement, ...], **options: Any) -> None:
    """Publish, collect, record and report."""
    raise SystemExit(start(options, collect_too=True, required=required))


@click.command("publish")
@plan_options
def publish_command(**options: Any) -> None:
    """Only publish; `taskmill collect RUN` fetches the results later."""
    raise SystemExit(start(options, collect_too=False))


def start(options: dict[str, Any], collect_too: bool, required: Sequence[Requirement] = ()) -> int:
    """Begin a run; return the exit code."""
    plan, reporter = make_plan(options), Reporter()
    broker, results = Broker.from_environment(), Results.from_environment()
    with interrupt.watch() as stop:
        before = preflight(plan, broker, results, reporter, conditions(options))
        if stop.is_set():
            return errors.INTERRUPTED
        folder = run_folder.new_folder(options["runs_directory"], plan.name)
        plan.save(folder)
        reporter.say(f"run folder {folder}")
        session = Session(plan, folder, broker, results, stop, reporter)
        posted = session.publish(before)
        collected: Collected | None = None
        after: dict[str, Any] = {}
        if collect_too:
            collected, after = session.fetch(posted)
        code = tell_run(session.conclude(posted, collected, after, required), folder, posted, collected)
        if not collect_too and posted.finished:
            return errors.OK
        return code


def conditions(options: dict[str, Any]) -> Conditions:
    """Return what the options allow a run to do without."""
    return Conditions(options["no_workers"], options["allow_waiting"], options["result_bytes"])


@click.command("collect")
@RUN
@DEADLINE
@click.option(
    "--profile/--no-profile", default=None, help="Profile the client by cProfile; default is that of the run."
)
@REQUIRE
def collect_command(run: Path, deadline: float | None, profile: bool | None, required: tuple[Requirement, ...]) -> None:
    """Fetch the results of RUN by the ids on its disk; begin, go on, or do it again."""
    plan = Plan.load(run)
    if deadline is not None:
        plan = replace(plan, deadline=deadline)
    if profile is not None:
        plan = replace(plan, profile=profile)
    reporter, results = Reporter(), Results.from_environment()
    posted = Posted.load(run) or Posted(Moment.now())
    results.stats()
    broker = broker_if_there(reporter)
    with interrupt.watch() as stop:
        session = Session(plan, run, broker, results, stop, reporter)
        collected = session.collect()
        after = session.ask_afterwards(posted)
        # What was required when the run began still is, unless something else is named now.
        required = required or thresholds.of_run(run)
        raise SystemExit(tell_run(session.conclude(posted, collected, after, required), run, posted, collected))
