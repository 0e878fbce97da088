"""``taskmill capacity``, and ``taskmill tune``, which playbooks/tune.yml calls."""

from __future__ import annotations

import json
import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from click.core import ParameterSource

from taskmill.capacity import measure
from taskmill.capacity import text as capacity_text
from taskmill.cli.options import RUN, make_conditions, make_plan, workload_options
from taskmill.cli.values import POSITIVE, SECONDS
from taskmill.cluster.broker import Broker
from taskmill.model import errors, run_folder
from taskmill.model.errors import TaskmillError
from taskmill.progress import Quiet, Reporter
from taskmill.publishing import interrupt
from taskmill.results import store
from taskmill.session.api import begin
from taskmill.session.preflight import preflight
from taskmill.session.probe import try_tasks
from taskmill.tuning import grid
from taskmill.workload import files

if TYPE_CHECKING:
    import threading

    from taskmill.model.plan import Plan

#: What the options of `taskmill run` that say how much are to each load of a search.
LOADS: dict[str, Any] = {"tasks": 1, "rate": None, "profile": False}
SETTINGS = measure.Settings()


@click.command("capacity", context_settings={"default_map": {"name": "capacity"}})
@click.option(
    "--seconds",
    type=SECONDS,
    default=SETTINGS.seconds,
    show_default=True,
    help="How long each load is posted; ten times as long as a task takes, or longer.",
)
@click.option(
    "--tolerance",
    type=click.FloatRange(0.005, 0.5),
    default=SETTINGS.tolerance,
    show_default=True,
    help="How far apart a steady rate and one that is not may lie at the end of a round, as a share.",
)
@click.option(
    "--rounds",
    type=click.IntRange(min=0),
    default=SETTINGS.rounds,
    show_default=True,
    help="How often to search; the spread is that between the rounds. 0 ends after the load without a pace.",
)
@click.option(
    "--budget", type=SECONDS, default=SETTINGS.budget, show_default=True, help="Seconds after which no load is begun."
)
@click.option(
    "--worker-hosts",
    type=POSITIVE,
    multiple=True,
    default=SETTINGS.hosts,
    show_default=True,
    help="Number of worker hosts to extrapolate to; repeat it for more.",
)
@click.option(
    "--resume",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    help="Go on with the search in this folder, as it was begun; only --budget may stand beside it.",
)
@workload_options
@click.pass_context
def capacity_command(context: click.Context, /, resume: Path | None, **options: Any) -> None:
    """Search for the highest rate at which the backlog does not grow: how many tasks per second the cluster does.

    First tasks without a pace, then paced loads, one after the other, each with every result fetched and checked.
    Ctrl-C loses nothing but the load under way.
    """
    if resume is None:
        settings = measure.Settings(
            options["seconds"], options["tolerance"], options["rounds"], options["budget"], options["worker_hosts"]
        )
        plan = make_plan(options | LOADS)
    else:
        others = [one for one in context.command.params if one.name not in {"resume", "budget"}]
        given = [one.opts[0] for one in others if is_given(context, one.name or "")]
        if given:
            raise click.UsageError(f"--resume goes on with what was begun: {', '.join(given)} cannot stand beside it")
    allowed = make_conditions(options)
    each = replace(allowed, probe=False)
    reporter, broker, results = Quiet(), Broker.from_environment(), store.of_environment()
    with interrupt.watch() as stop:
        if resume is not None:
            search = measure.Search.resume(resume, options["budget"] if is_given(context, "budget") else None)
            await_empty(broker, search.plan, stop, reporter)
        else:
            before = preflight(plan, broker, results, reporter, allowed)
            if before["unstored"]:
                raise TaskmillError(
                    f"{', '.join(before['unstored'])}: no result is stored, and the search goes by when results came. "
                    f"Give these tasks a result backend, and take ignore_result off, for the search"
                )
            each_kind = replace(plan, tasks=len(plan.slots))
            tried, _ = try_tasks(each_kind, before, broker, results, stop, reporter, allowed)
            plan = replace(plan, deadline=tried.deadline)
            if stop.is_set():
                click.echo("Interrupted before the first load: nothing of it was published.")
                raise SystemExit(errors.INTERRUPTED)
            search = measure.Search(run_folder.dated_folder(options["runs_directory"], plan.name), plan, settings)
            files.keep(plan, search.folder)
        reporter.say(f"run folder {search.folder}")

        def drive(plan: Plan, directory: Path) -> Path | None:
            begun = begin(plan, directory, broker, results, stop, reporter, each)
            if begun is None:
                return None
            session, before = begun
            with run_folder.claimed(session.folder):
                posted = session.publish(before)
                session.record(posted, *session.fetch(posted))
            return None if stop.is_set() else session.folder

        code = search.run(drive, stop, reporter)
    click.echo(capacity_text.summary(search.data, search.folder))
    raise SystemExit(code)


def is_given(context: click.Context, name: str) -> bool:
    """Say whether a parameter stands on the command line."""
    return context.get_parameter_source(name) is ParameterSource.COMMANDLINE


def await_empty(broker: Broker, plan: Plan, stop: threading.Event, reporter: Reporter) -> None:
    """Wait until the workers have worked off what a load that was interrupted left, as long as a result may take."""
    end = time.monotonic() + plan.result_timeout
    while broker.check(plan.queues)["waiting"] and time.monotonic() < end and not stop.wait(1.0):
        reporter.say("waiting until the queues are empty")


@click.group("tune", hidden=True)
def tune_group() -> None:
    """Say which settings of the workers playbooks/tune.yml is to measure next, and which to take."""


@tune_group.command("next")
@RUN
def tune_next_command(run: Path) -> None:
    """Print what is to be measured in the round of RUN that is not over, as JSON."""
    click.echo(json.dumps(grid.next_points(run)))


@tune_group.command("report")
@RUN
def tune_report_command(run: Path) -> None:
    """Write RUN's table and recommendation, and print them."""
    grid.conclude(run)
    click.echo((run / "tune.md").read_text(encoding="utf-8"), nl=False)
