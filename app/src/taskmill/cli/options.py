"""Options that several commands have, and the plan that they make."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from taskmill.cli.renamed import renamed_option
from taskmill.cli.values import FOLDER, POSITIVE, SECONDS, JsonType, NameType, RequirementType, RouteType
from taskmill.model.plan import Plan
from taskmill.model.run_folder import read_json
from taskmill.model.thresholds import ACTION, LIVE, METRICS
from taskmill.session.preflight import CONSUMER_TIMEOUT, Conditions
from taskmill.workload.calls import Calls

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

RUN = click.argument("run", type=FOLDER)
NO_WORKERS = click.option("--no-workers", is_flag=True, help="Do not ask for workers first.")
DEADLINE = click.option(
    "--deadline",
    type=SECONDS,
    help="Seconds without any new result after which missing ones count as lost, ten times as many while workers "
    "have messages; default is that of the run.",
)
REQUIRE = click.option(
    "--require",
    "required",
    type=RequirementType(),
    multiple=True,
    help=f"What the run has to reach, or exit code 5; repeat it for more. Metrics: {', '.join(METRICS)}. Or what ends "
    f"the run when it lasts, as in 'waiting>10000 for 30s, {ACTION}'. Metrics of these: {', '.join(LIVE)}.",
)


#: What is published and how, but not how much of it.
WORKLOAD_OPTIONS = (
    click.option(
        "--runs-directory",
        type=click.Path(file_okay=False, path_type=Path),
        default=Path("runs"),
        show_default=True,
        help="Directory of run folders; the run makes its own there.",
    ),
    click.option("--name", type=NameType(), default="run", show_default=True, help="Name of the run."),
    click.option(
        "--task",
        "routes",
        type=RouteType(),
        multiple=True,
        help="Task and the queue it goes to; repeat it to spread the tasks evenly, or one of them more often than "
        "others.",
    ),
    click.option(
        "--scenario",
        type=click.Path(exists=True, dir_okay=False, path_type=Path),
        help="YAML file that says which kinds of tasks are published, with which arguments, and what is right for "
        "each; in place of --task, --n, --args and --expect.",
    ),
    click.option("--n", type=POSITIVE, help="The tasks' only argument, a whole number of at least 1."),
    click.option("--args", "arguments", type=JsonType(), help="The tasks' arguments, a JSON list; in place of --n."),
    click.option("--expect", type=JsonType(), help="The right result, as JSON; without it values are not compared."),
    click.option(
        "--threads",
        type=click.IntRange(1, 1000),
        default=10,
        show_default=True,
        help="Publishing threads of each process.",
    ),
    click.option("--processes", type=click.IntRange(1, 64), default=1, show_default=True, help="Publishing processes."),
    click.option(
        "--window",
        type=click.IntRange(1, 10000),
        default=1000,
        show_default=True,
        help="Most messages that a thread leaves unconfirmed.",
    ),
    click.option(
        "--deadline",
        type=SECONDS,
        help="Seconds without any new result after which missing ones count as lost; ten times as many while workers "
        "have messages. By default three times as long as the longest of the tasks that are tried first, and at "
        "least 120.",
    ),
    click.option(
        "--broker-deadline",
        type=SECONDS,
        default=120.0,
        show_default=True,
        help="Seconds to wait for a broker that went away while publishing.",
    ),
    click.option(
        "--persistent/--transient",
        default=True,
        show_default=True,
        help="Messages that a broker keeps over its end, or that go with it: to see what that costs, and loses.",
    ),
    click.option(
        "--lean/--full",
        "minimal_headers",
        default=False,
        show_default=True,
        help="Leave out of the messages' headers what Celery's own worker does without, or send all that apply_async "
        "does.",
    ),
    click.option("--function-seconds", type=SECONDS, help="Seconds that the bare function takes on a worker's core."),
    click.option("--worker-cores", type=POSITIVE, help="Cores of all workers together."),
    click.option(
        "--result-bytes",
        type=POSITIVE,
        help="What one result takes in memcached; worked out from --expect when not given.",
    ),
    click.option(
        "--release",
        "stack",
        default="celery5",
        show_default=True,
        help="Name of the release of Celery and what goes with it, for the record.",
    ),
    renamed_option("--stack", "--release", takes_value=True),
    click.option(
        "--environment",
        type=click.Path(exists=True, dir_okay=False, path_type=Path),
        help="File with a JSON object to merge into the record's environment.",
    ),
)
#: What comes before it.
PROBE_OPTIONS = (
    click.option(
        "--probe/--no-probe",
        default=True,
        show_default=True,
        help="First run one of each task, compare its result, and look at its size and duration; not for tasks that "
        "must not run once more.",
    ),
    click.option(
        "--consumer-timeout",
        type=SECONDS,
        default=CONSUMER_TIMEOUT,
        show_default=True,
        help="Seconds after which the broker takes back what a worker has not acknowledged (its consumer_timeout).",
    ),
)
#: How much of it.
AMOUNT_OPTIONS = (
    click.option("--tasks", type=POSITIVE, help="How many tasks to publish; at most, where a scenario has stages."),
    click.option(
        "--rate",
        type=click.FloatRange(min=0, min_open=True),
        help="Tasks per second to publish, over all threads and processes; as fast as possible when not given.",
    ),
    click.option("--profile/--no-profile", default=True, show_default=True, help="Profile the client by cProfile."),
    click.option(
        "--no-workers", is_flag=True, help="Do not ask for workers first; publish even if no worker is there."
    ),
    click.option(
        "--allow-waiting",
        is_flag=True,
        help="Publish even if other messages wait in the queues; duplicates are then not counted by the workers.",
    ),
)


def plan_options(command: Callable[..., None]) -> Callable[..., None]:
    """Add the options that make a plan."""
    return with_options(command, AMOUNT_OPTIONS + WORKLOAD_OPTIONS + PROBE_OPTIONS)


def workload_options(command: Callable[..., None]) -> Callable[..., None]:
    """Add the options that say what is published and how, but not how much of it."""
    return with_options(command, WORKLOAD_OPTIONS + PROBE_OPTIONS)


def with_options(command: Callable[..., None], options: Sequence[Any]) -> Callable[..., None]:
    """Add options to a command, in this order."""
    for option in reversed(options):
        command = option(command)
    return command


def make_conditions(options: dict[str, Any]) -> Conditions:
    """Turn the options into what may be otherwise than a run wants it."""
    return Conditions(
        no_workers=options.get("no_workers", False),
        allow_waiting=options.get("allow_waiting", False),
        result_bytes=options["result_bytes"],
        probe=options["probe"],
        consumer_timeout=options["consumer_timeout"],
    )


def make_plan(options: dict[str, Any]) -> Plan:
    """Turn the options into a plan; raise ``click.UsageError`` where they do not fit together.

    Raises ``TaskmillError`` where a scenario's functions fail.
    """
    what = uniform_load(options) if options["scenario"] is None else scenario_load(options)
    due = sum(stage.tasks for stage in what.get("stages", ()))
    if options["tasks"] is None and not due:
        raise click.MissingParameter(param_hint="'--tasks'", param_type="option")
    if options["rate"] is not None and due:
        raise click.UsageError("the scenario's stages say when tasks are due: --rate cannot stand beside them")
    extra: dict[str, Any] | None = {}
    if options["environment"] is not None:
        extra = read_json(options["environment"])
        if extra is None:
            raise click.BadParameter(
                f"{options['environment']} does not hold a JSON object", param_hint="--environment"
            )
    plan = Plan(
        name=options["name"],
        tasks=min(filter(None, (options["tasks"], due))),
        threads=options["threads"],
        processes=options["processes"],
        window=options["window"],
        rate=options["rate"],
        deadline=options["deadline"],
        broker_deadline=options["broker_deadline"],
        profile=options["profile"],
        minimal_headers=options["minimal_headers"],
        persistent=options["persistent"],
        stack=options["stack"],
        function_seconds=options["function_seconds"],
        worker_cores=options["worker_cores"],
        environment=extra or {},
        **what,
    )
    if plan.scenario:
        Calls(plan).check()
    return plan


def uniform_load(options: dict[str, Any]) -> dict[str, Any]:
    """Return what a plan says of a load whose tasks have the same arguments; raise as :func:`make_plan`."""
    n, arguments, expect = options["n"], options["arguments"], options["expect"]
    if not options["routes"]:
        raise click.MissingParameter(param_hint="'--task' or '--scenario'", param_type="option")
    if (n is None) == (arguments is None):
        raise click.UsageError("give the tasks' arguments by one of --n and --args")
    args = [n] if arguments is None else arguments[0]
    if not isinstance(args, list):
        raise click.BadParameter("the tasks' arguments must be a JSON list, such as [20]", param_hint="--args")
    return {
        "routes": options["routes"],
        "args": tuple(args),
        "n": args[0] if len(args) == 1 and type(args[0]) is int else None,
        "check": expect is not None,
        "expect": expect[0] if expect is not None else None,
    }


def scenario_load(options: dict[str, Any]) -> dict[str, Any]:
    """Return what a plan says of a load that a scenario describes; raise as :func:`make_plan`."""
    from taskmill.workload import scenario  # noqa: PLC0415  # PyYAML is for who has a scenario

    path: Path = options["scenario"]
    others = {
        "--task": options["routes"],
        "--n": options["n"],
        "--args": options["arguments"],
        "--expect": options["expect"],
    }
    if beside := [name for name, value in others.items() if value not in (None, ())]:
        raise click.UsageError(f"the scenario says what is published: {', '.join(beside)} cannot stand beside it")
    try:
        found = scenario.read(path)
    except ValueError as error:
        raise click.BadParameter(str(error), param_hint="--scenario") from error
    return {
        "routes": found.routes,
        "args": (),
        "seed": found.seed,
        "stages": found.due,
        "thresholds": tuple(found.thresholds),
        "faults": found.moments,
        "scenario": path.name,
        "directory": str(path.parent.resolve()),
    }
