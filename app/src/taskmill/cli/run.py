"""``taskmill run``, ``publish`` and ``collect``."""

from __future__ import annotations

import sys
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import click

from taskmill.cli.options import DEADLINE, REQUIRE, RUN, make_conditions, make_plan, plan_options
from taskmill.cli.preview import preview
from taskmill.cli.smoke import outcomes, smoke_plan
from taskmill.cli.verdict import tell_run
from taskmill.cluster.broker import Broker
from taskmill.model import errors
from taskmill.model.plan import Plan
from taskmill.model.thresholds import Requirement
from taskmill.progress import Reporter
from taskmill.publishing import interrupt
from taskmill.results import store
from taskmill.session import api
from taskmill.session.drive import Concluded, Session, broker_if_there

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path


@click.command("run")
@plan_options
@REQUIRE
@click.option(
    "--dry",
    is_flag=True,
    help="Show the stages, the first five messages of each kind and what is right for them, and publish nothing.",
)
@click.option(
    "--smoke", is_flag=True, help="Run the first message of each kind of a scenario alone, and say what came of each."
)
def run_command(required: tuple[Requirement, ...], dry: bool, smoke: bool, **options: Any) -> None:
    """Publish, collect, record and report."""
    if smoke and (dry or options["scenario"] is None or options["tasks"] is not None or required):
        raise click.UsageError("--smoke takes a --scenario, and neither --dry nor --tasks nor --require")
    if dry:
        # Unless it is given, the stages alone say how many there are.
        click.echo(preview(make_plan({**options, "tasks": options["tasks"] or sys.maxsize})))
        return
    if smoke:
        plan = make_plan({**options, "tasks": options["tasks"] or 1})
        # It is one of each task itself.
        alone = {**options, "probe": False}
        raise SystemExit(start(smoke_plan(plan), alone, collect_too=True, tell=tell_smoke))
    raise SystemExit(start(make_plan(options), options, collect_too=True, required=required))


def tell_smoke(run: Concluded) -> int:
    """Say what came of each kind's message, and return the exit code."""
    plan = Plan.load(run.folder)
    click.echo("\n".join(outcomes(plan, run.record, run.folder)))
    return tell_run(run)


@click.command("publish")
@plan_options
def publish_command(**options: Any) -> None:
    """Only publish; `taskmill collect RUN` fetches the results later."""
    raise SystemExit(start(make_plan(options), options, collect_too=False))


def start(
    plan: Plan,
    options: dict[str, Any],
    collect_too: bool,
    required: Sequence[Requirement] = (),
    tell: Callable[[Concluded], int] = tell_run,
) -> int:
    """Begin a run and say what came of it; return the exit code."""
    reporter = Reporter()
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
        code = tell(run)
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
