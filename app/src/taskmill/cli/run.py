"""``taskmill run``, ``publish`` and ``collect``."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import click

from taskmill.cli.options import DEADLINE, REQUIRE, RUN, make_conditions, make_plan, plan_options
from taskmill.cli.verdict import tell_run
from taskmill.cluster.broker import Broker
from taskmill.model import errors
from taskmill.model.plan import Plan
from taskmill.model.thresholds import Requirement
from taskmill.progress import Reporter
from taskmill.publishing import interrupt
from taskmill.results import store
from taskmill.session import api
from taskmill.session.drive import Session, broker_if_there

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path


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
    broker, results = Broker.from_environment(), store.of_environment()
    conditions = make_conditions(options)
    with interrupt.watch() as stop:
        run = api.start(
            plan,
            options["runs_directory"],
            broker,
            results,
            stop,
            reporter,
            conditions,
            required,
            collect_too=collect_too,
        )
        if run is None:
            click.echo("Interrupted before the first message of the run: nothing of it was published.")
            return errors.INTERRUPTED
        code = tell_run(run)
        return errors.OK if not collect_too and run.posted.finished else code


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
    reporter, results = Reporter(), store.of_environment()
    results.figures()
    broker = broker_if_there(reporter)
    with interrupt.watch() as stop:
        raise SystemExit(tell_run(api.collect_again(Session(plan, run, broker, results, stop, reporter), required)))
