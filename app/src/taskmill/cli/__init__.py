"""The command ``taskmill``."""

from __future__ import annotations

import json
import sys
import time
from contextlib import contextmanager
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from click.core import ParameterSource

from taskmill import __version__, record, report
from taskmill.capacity import measure
from taskmill.capacity import text as capacity_text
from taskmill.cluster import dead_letter_queue as letters
from taskmill.cluster import queue_depths as queues
from taskmill.cluster import workers
from taskmill.cluster.broker import Broker
from taskmill.model import errors
from taskmill.model import plan as plans
from taskmill.model import thresholds as requirements
from taskmill.model.clock import Moment
from taskmill.model.errors import PostingError, TaskmillError
from taskmill.model.plan import Kind, Plan
from taskmill.model.thresholds import Requirement
from taskmill.progress import Quiet, Reporter
from taskmill.publishing import interrupt, journal
from taskmill.publishing import processes as posting
from taskmill.publishing.channel import LAST_CONFIRMS
from taskmill.recover import repair
from taskmill.report.text import count
from taskmill.results import faults
from taskmill.results import memcached as backend
from taskmill.results.collector import Collected, Collector
from taskmill.results.memcached import Results
from taskmill.samples import profile
from taskmill.samples import profile_cost as cost
from taskmill.tuning import grid as tune

if TYPE_CHECKING:
    import threading
    from collections.abc import Callable, Iterator, Sequence

#: What the options of `taskmill run` that say how much are to each load of a search.
LOADS: dict[str, Any] = {"tasks": 1, "rate": None, "profile": False, "no_workers": False, "allow_waiting": False}
SETTINGS = measure.Settings()
POSITIVE = click.IntRange(min=1)
SECONDS = click.FloatRange(min=0, min_open=True)
RUN = click.argument("run", type=click.Path(exists=True, file_okay=False, path_type=Path))
#: Seconds to wait, after the last result, for the workers' counts to stand still.
SETTLE = 10.0


class KindType(click.ParamType[Kind]):
    """``TASK=QUEUE``."""

    name = "TASK=QUEUE"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Kind:
        """Read one."""
        try:
            return value if isinstance(value, Kind) else Kind.parse(value)
        except ValueError as error:
            self.fail(str(error), param, ctx)


class JsonType(click.ParamType[list[Any]]):
    """A JSON value, given as ``[value]`` so that ``null`` differs from an option that is not given."""

    name = "JSON"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> list[Any]:
        """Read one."""
        if isinstance(value, list):
            return value
        try:
            return [json.loads(value)]
        except ValueError:
            self.fail(f"{value!r} is not JSON", param, ctx)


class RequirementType(click.ParamType[Requirement]):
    """``METRIC OPERATOR NUMBER``."""

    name = "'METRIC>=NUMBER'"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Requirement:
        """Read one."""
        try:
            return value if isinstance(value, Requirement) else Requirement.parse(value)
        except ValueError as error:
            self.fail(str(error), param, ctx)


class NameType(click.ParamType[str]):
    """The name of a run, fit for a folder's name."""

    name = "NAME"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """Read one."""
        if not plans.NAME.fullmatch(value) or len(value) > 100:
            self.fail(
                f"{value!r} must be made of letters, digits, '.', '_' and '-', begin with a letter or a digit, and "
                f"have no more than 100 of them",
                param,
                ctx,
            )
        return str(value)


REQUIRE = click.option(
    "--require",
    "required",
    type=RequirementType(),
    multiple=True,
    help=f"What the run has to reach, or exit code 5; repeat it for more. Metrics: {', '.join(requirements.METRICS)}.",
)


def plan_options(command: Callable[..., None]) -> Callable[..., None]:
    """Add the options that make a plan."""
    options = [
        click.option("--tasks", type=POSITIVE, required=True, help="How many tasks to post."),
        click.option(
            "--rate",
            type=click.FloatRange(min=0, min_open=True),
            help="Tasks per second to post, over all threads and processes; as fast as possible when not given.",
        ),
        click.option("--profile/--no-profile", default=True, show_default=True, help="Profile the client by cProfile."),
        click.option(
            "--no-workers", is_flag=True, help="Do not ask for workers first; post even if no worker is there."
        ),
        click.option(
            "--allow-waiting",
            is_flag=True,
            help="Post even if other messages wait in the queues; duplicates are then not counted by the workers.",
        ),
    ]
    for option in reversed(options):
        command = option(command)
    return workload_options(command)


def workload_options(command: Callable[..., None]) -> Callable[..., None]:
    """Add the options that say what is posted and how, but not how much of it."""
    options = [
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
            "kinds",
            type=KindType(),
            multiple=True,
            help="Task and the queue it goes to; repeat it to spread the tasks evenly, or one of them more often than "
            "others.",
        ),
        click.option("--n", type=POSITIVE, help="The tasks' only argument, a whole number of at least 1."),
        click.option(
            "--args", "arguments", type=JsonType(), help="The tasks' arguments, a JSON list; in place of --n."
        ),
        click.option(
            "--expect", type=JsonType(), help="The right result, as JSON; without it values are not compared."
        ),
        click.option(
            "--threads",
            type=click.IntRange(1, 1000),
            default=10,
            show_default=True,
            help="Posting threads of each process.",
        ),
        click.option(
            "--processes", type=click.IntRange(1, 64), default=1, show_default=True, help="Posting processes."
        ),
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
            default=120.0,
            show_default=True,
            help="Seconds without any new result after which missing ones count as lost.",
        ),
        click.option(
            "--broker-deadline",
            type=SECONDS,
            default=120.0,
            show_default=True,
            help="Seconds to wait for a broker that went away while posting.",
        ),
        click.option(
            "--persistent/--transient",
            default=True,
            show_default=True,
            help="Messages that a broker keeps over its end, or that go with it: to see what that costs, and loses.",
        ),
        click.option(
            "--lean/--full",
            default=True,
            show_default=True,
            help="Leave out of the messages what no worker needs, or send all that apply_async does.",
        ),
        click.option(
            "--function-seconds", type=SECONDS, help="Seconds that the bare function takes on a worker's core."
        ),
        click.option("--worker-cores", type=POSITIVE, help="Cores of all workers together."),
        click.option(
            "--result-bytes",
            type=POSITIVE,
            help="What one result takes in memcached; worked out from --expect when not given.",
        ),
        click.option(
            "--stack", default="modern", show_default=True, help="Name of the software stack, for the record."
        ),
        click.option(
            "--environment",
            type=click.Path(exists=True, dir_okay=False, path_type=Path),
            help="File with a JSON object to merge into the record's environment.",
        ),
    ]
    for option in reversed(options):
        command = option(command)
    return command


def make_plan(options: dict[str, Any]) -> Plan:
    """Turn the options into a plan; raise ``click.UsageError`` where they do not fit together."""
    n, arguments, expect = options["n"], options["arguments"], options["expect"]
    if not options["kinds"]:
        raise click.MissingParameter(param_hint="'--task'", param_type="option")
    if (n is None) == (arguments is None):
        raise click.UsageError("give the tasks' arguments by one of --n and --args")
    args = [n] if arguments is None else arguments[0]
    if not isinstance(args, list):
        raise click.BadParameter("the tasks' arguments must be a JSON list, such as [20]", param_hint="--args")
    extra: dict[str, Any] | None = {}
    if options["environment"] is not None:
        extra = plans.read_json(options["environment"])
        if extra is None:
            raise click.BadParameter(
                f"{options['environment']} does not hold a JSON object", param_hint="--environment"
            )
    return Plan(
        name=options["name"],
        kinds=options["kinds"],
        tasks=options["tasks"],
        args=tuple(args),
        n=args[0] if len(args) == 1 and type(args[0]) is int else None,
        check=expect is not None,
        expect=expect[0] if expect is not None else None,
        threads=options["threads"],
        processes=options["processes"],
        window=options["window"],
        rate=options["rate"],
        deadline=options["deadline"],
        broker_deadline=options["broker_deadline"],
        profile=options["profile"],
        lean=options["lean"],
        persistent=options["persistent"],
        stack=options["stack"],
        function_seconds=options["function_seconds"],
        worker_cores=options["worker_cores"],
        environment=extra or {},
    )


def preflight(
    plan: Plan, broker: Broker, results: Results, options: dict[str, Any], reporter: Reporter
) -> dict[str, Any]:
    """Look at broker, memcached and workers; return what was found, or raise ``TaskmillError``."""
    server = broker.check(plan.queues)
    if server["waiting"] and not options["allow_waiting"]:
        waiting = ", ".join(f"{count:,} in {queue}" for queue, count in server["waiting"].items())
        raise TaskmillError(
            f"other messages wait on the broker ({broker}): {waiting}. The workers would take them first, and the "
            f"run's figures would be theirs too. Wait until they are worked off, drop them with "
            f"`rabbitmqctl purge_queue` on the broker, or post beside them with --allow-waiting"
        )
    stats = backend.check_room(results, plan.tasks, options["result_bytes"], plan.expect)
    found: list[workers.Worker] = []
    if not options["no_workers"]:
        found = workers.find(broker, plan.queues)
        workers.check(broker, found, plan.queues)
        pools = sum(worker.pool_size for worker in found)
        reporter.say(
            f"{len(found)} worker{'s' if len(found) > 1 else ''} with {pools} pool processes: "
            + ", ".join(worker.name for worker in found)
        )
    return {
        "broker": server,
        "memcached": asdict(stats),
        "workers": workers.plain(found),
        "clocks": workers.clocks(broker, [worker.name for worker in found]),
    }


def afterwards(
    plan: Plan, posted: posting.Posted, broker: Broker | None, results: Results, reporter: Reporter
) -> dict[str, Any]:
    """Ask workers, broker and memcached once more; what cannot be had is left out, since the results are in hand."""
    after: dict[str, Any] = {}
    try:
        after["memcached"] = asdict(results.stats())
        if broker is not None:
            after["waiting"] = broker.check(plan.queues)["waiting"]
        names = [worker.name for worker in workers.from_plain(posted.before.get("workers"))]
        if broker is not None and names:
            tasks = {kind.task for kind in plan.kinds}
            after["workers"] = workers.plain(workers.settled(broker, names, tasks, SETTLE))
            after["clocks"] = workers.clocks(broker, [worker["name"] for worker in after["workers"]])
    except TaskmillError as error:
        reporter.say(f"not in the record: {error}")
    return after


@contextmanager
def profiled(plan: Plan, folder: Path) -> Iterator[None]:
    """Profile this thread while it collects."""
    profiler = profile.Profiler(plan.profile)
    profiler.start()
    try:
        with profiler.thread():
            yield
    finally:
        profiler.stop()
        profiler.dump(folder / "profile" / "collect.pstats")


def do_post(
    plan: Plan, folder: Path, broker: Broker, before: dict[str, Any], stop: threading.Event, reporter: Reporter
) -> posting.Posted:
    """Post, with the queues sampled meanwhile."""
    with queues.sample(broker, plan.queues, folder / "queues.csv"):
        return posting.post(plan, folder, broker, stop, reporter, before)


def check_again(plan: Plan, broker: Broker, results: Results, *, no_workers: bool) -> dict[str, int]:
    """Look at what a run that is taken up needs; return the messages that wait, or raise ``TaskmillError``."""
    waiting: dict[str, int] = broker.check(plan.queues)["waiting"]
    results.stats()
    if not no_workers:
        workers.check(broker, workers.find(broker, plan.queues), plan.queues)
    return waiting


def do_collect(
    plan: Plan, folder: Path, broker: Broker | None, results: Results, stop: threading.Event, reporter: Reporter
) -> Collected:
    """Collect, with the queues sampled meanwhile where there is a broker to ask."""
    collector = Collector(plan, folder, results, stop, reporter)
    if broker is None:
        with profiled(plan, folder):
            return collector.run()
    with queues.sample(broker, plan.queues, folder / "queues.csv"), profiled(plan, folder):
        return collector.run()


def conclude(
    plan: Plan,
    folder: Path,
    posted: posting.Posted,
    collected: Collected | None,
    after: dict[str, Any],
    required: Sequence[Requirement] = (),
) -> int:
    """Write record, profile and report, say how it went, and return the exit code."""
    data = keep(plan, folder, posted, collected, after, required)
    profile.merge(
        (folder / "profile").glob("*.pstats"),
        folder,
        f"taskmill run {plan.name}: cProfile of the client, posting and collecting.",
    )
    render(folder)
    click.echo(record.summary(data, folder))
    if collected is None:
        return errors.PostingError.exit_code if posted.error is not None else errors.INTERRUPTED
    if collected.faults:
        return errors.FAULTS
    if not collected.finished:
        return errors.INTERRUPTED
    return tell(data["requirements"])


def keep(
    plan: Plan,
    folder: Path,
    posted: posting.Posted,
    collected: Collected | None,
    after: dict[str, Any],
    required: Sequence[Requirement] = (),
) -> dict[str, Any]:
    """Write the record, and return it."""
    client = {"peak_memory_bytes": posting.peak_memory(), "cpu_seconds": round(posting.cpu_seconds(), 1)}
    data = record.build(plan, folder, posted, collected, after, client, required)
    record.save(folder, data)
    return data


def tell(judged: list[dict[str, Any]]) -> int:
    """Say what is not met, and return the exit code."""
    for sentence in requirements.unmet(judged):
        click.echo(f"taskmill: {sentence}", err=True)
    return errors.OK if all(one["met"] for one in judged) else errors.UNMET


def render(folder: Path) -> None:
    """Write the report where its needs are installed; without room for it, the run's verdict stands all the same."""
    if not report.available():
        return
    try:
        report.write(folder)
    except OSError as error:
        click.echo(f"taskmill: no report of {folder}: {error.strerror or error}", err=True)


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(__version__, prog_name="taskmill")
def cli() -> None:
    """Post tasks to a Celery cluster, fetch every result, and write down what happened.

    CELERY_BROKER_URL and CELERY_RESULT_BACKEND in the environment say where the cluster is.

    Exit codes: 0 all well; 1 something lost, wrong or failed; 2 wrong usage; 3 cannot start or go on; 4 posting was
    given up; 5 something required is not met; 130 interrupted.
    """


@cli.command("run")
@plan_options
@REQUIRE
def run_command(required: tuple[Requirement, ...], **options: Any) -> None:
    """Post, collect, record and report."""
    raise SystemExit(start(options, collect_too=True, required=required))


@cli.command("post")
@plan_options
def post_command(**options: Any) -> None:
    """Only post; `taskmill collect RUN` fetches the results later."""
    raise SystemExit(start(options, collect_too=False))


def start(options: dict[str, Any], collect_too: bool, required: Sequence[Requirement] = ()) -> int:
    """Begin a run; return the exit code."""
    plan, reporter = make_plan(options), Reporter()
    broker, results = Broker.from_environment(), Results.from_environment()
    with interrupt.watch() as stop:
        before = preflight(plan, broker, results, options, reporter)
        if stop.is_set():
            return errors.INTERRUPTED
        folder = plans.new_folder(options["runs_directory"], plan.name)
        plan.save(folder)
        reporter.say(f"run folder {folder}")
        posted = do_post(plan, folder, broker, before, stop, reporter)
        collected: Collected | None = None
        after: dict[str, Any] = {}
        if collect_too:
            collected, after = fetch(plan, folder, posted, broker, results, stop, reporter)
        code = conclude(plan, folder, posted, collected, after, required)
        if not collect_too and posted.finished:
            return errors.OK
        return code


def fetch(
    plan: Plan,
    folder: Path,
    posted: posting.Posted,
    broker: Broker,
    results: Results,
    stop: threading.Event,
    reporter: Reporter,
) -> tuple[Collected | None, dict[str, Any]]:
    """Collect what was posted, and ask once more who is asked afterwards; nothing where posting came to no good end."""
    if posted.error is not None or stop.is_set():
        return None, {}
    collected = do_collect(plan, folder, broker, results, stop, reporter)
    return collected, afterwards(plan, posted, broker, results, reporter)


@cli.command("collect")
@RUN
@click.option(
    "--deadline",
    type=SECONDS,
    help="Seconds without any new result after which missing ones count as lost; default is that of the run.",
)
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
    posted = posting.Posted.load(run) or posting.Posted(Moment.now())
    results.stats()
    broker = broker_if_there(reporter)
    with interrupt.watch() as stop:
        collected = do_collect(plan, run, broker, results, stop, reporter)
        after = afterwards(plan, posted, broker, results, reporter)
        # What was required when the run began still is, unless something else is named now.
        required = required or required_before(run)
        raise SystemExit(conclude(plan, run, posted, collected, after, required))


NO_WORKERS = click.option("--no-workers", is_flag=True, help="Do not ask for workers first.")


@cli.command("resume")
@RUN
@NO_WORKERS
def resume_command(run: Path, no_workers: bool) -> None:
    """Take RUN up where its client was killed or stopped: post the rest, collect, record and report.

    What was sent and not confirmed, and has no result, is sent once more under the same ids: at most one window of each
    thread. Such a task may run twice; the record's duplicates count it.
    """
    plan, reporter = Plan.load(run), Reporter()
    reporter.say(f"run folder {run.resolve()}")
    broker, results = Broker.from_environment(), Results.from_environment()
    with interrupt.watch() as stop:
        # Posting processes outlive a client that is killed, by a moment.
        journal.await_writers(run / "ids", 2 * LAST_CONFIRMS, stop)
        check_again(plan, broker, results, no_workers=no_workers)
        left = repair.unconfirmed(run, results)
        there, again = left.posted(), left.total()
        reporter.say(f"{there:,} of {plan.tasks:,} ids are on disk, {again:,} of them are sent once more")
        with queues.sample(broker, plan.queues, run / "queues.csv"):
            posted = posting.resume(plan, run, broker, stop, reporter, left)
        collected, after = fetch(plan, run, posted, broker, results, stop, reporter)
        raise SystemExit(conclude(plan, run, posted, collected, after, required_before(run)))


@cli.command("repair")
@RUN
@NO_WORKERS
@click.option("--allow-waiting", is_flag=True, help="Repair even if messages wait in the queues, which may be its own.")
@click.option(
    "--deadline",
    type=SECONDS,
    help="Seconds without any new result after which missing ones count as lost; default is that of the run.",
)
def repair_command(run: Path, no_workers: bool, allow_waiting: bool, deadline: float | None) -> None:
    """Make up for results that RUN misses: post these tasks once more under their ids, collect, and count anew."""
    plan, reporter = Plan.load(run), Reporter()
    if deadline is not None:
        plan = replace(plan, deadline=deadline)
    reporter.say(f"run folder {run.resolve()}")
    broker, results = Broker.from_environment(), Results.from_environment()
    with interrupt.watch() as stop:
        journal.await_writers(run / "ids", 2 * LAST_CONFIRMS, stop)
        waiting = check_again(plan, broker, results, no_workers=no_workers)
        if waiting and not allow_waiting:
            raise TaskmillError(
                f"{sum(waiting.values()):,} messages wait in {', '.join(waiting)}, and what is missing may be among "
                f"them: it would run twice. Once the queues are empty, `taskmill collect {run}` finds what they made; "
                f"or say --allow-waiting"
            )
        done = repair.repair(plan, run, broker, results, stop, reporter)
    if done.error is not None:
        raise PostingError(f"nothing was repaired: {done.error}")
    if not done.finished:
        raise SystemExit(errors.INTERRUPTED)
    render(run)
    click.echo(record.summary(done.record, run))
    if any(done.record["counts"][name] for name in ("lost", "wrong", "failed")):
        raise SystemExit(errors.FAULTS)
    raise SystemExit(tell(done.record["requirements"]))


@cli.command("letters")
@click.option("--put-back", "action", flag_value="put-back", help="Send them to the queues that they came from.")
@click.option("--drop", "action", flag_value="drop", help="Delete them.")
@click.option("--id", "ids", multiple=True, help="Only the letter of this task; repeat it for more.")
@click.option("--queue", default="dead-letters", show_default=True, help="The queue of the dead letters.")
def letters_command(action: str | None, ids: tuple[str, ...], queue: str) -> None:
    """Show the dead letters, which workers could not run or gave up, one line each and without their content."""
    broker, results = Broker.from_environment(), Results.from_environment()
    number = 0
    for letter, done in letters.settle(broker, results, queue, action or "show", ids):
        number += 1
        click.echo(letter.line() + ("" if done == "show" else f"  {done}"))
    click.echo(count(number, "dead letter"))


def required_before(run: Path) -> tuple[Requirement, ...]:
    """Return what was required when the run began."""
    before = (record.load(run) or {}).get("requirements") or []
    return tuple(Requirement.parse(one["text"]) for one in before)


def broker_if_there(reporter: Reporter) -> Broker | None:
    """Return the broker for queue depths and workers' counts, which collecting can do without."""
    try:
        broker = Broker.from_environment()
        broker.check([])
    except TaskmillError as error:
        reporter.say(f"collecting without the broker: {error}")
        return None
    return broker


@cli.command("check")
@RUN
@REQUIRE
def check_command(run: Path, required: tuple[Requirement, ...]) -> None:
    """Look whether RUN, which has been recorded, reaches what is required."""
    data = record.load(run)
    if data is None:
        raise TaskmillError(f"{run} has no run.json that can be read: give the folder of a run that was recorded")
    if not required:
        raise click.UsageError("name what is required by --require")
    judged = requirements.judge(required, data)
    for one in judged:
        if one["met"]:
            click.echo(f"met: {one['text']} ({one['metric']} is {one['value']:.6g})")
    raise SystemExit(tell(judged))


@cli.command("report")
@RUN
def report_command(run: Path) -> None:
    """Write the report of RUN, of a load or of a search for capacity, anew from the files in it."""
    if (run / measure.NAME).exists():
        click.echo(capacity_text.summary(measure.conclude_again(run), run))
    else:
        click.echo(report.write(run))


@cli.command("capacity", context_settings={"default_map": {"name": "capacity"}})
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
    reporter, broker, results = Quiet(), Broker.from_environment(), Results.from_environment()
    with interrupt.watch() as stop:
        if resume is not None:
            search = measure.Search.resume(resume, options["budget"] if is_given(context, "budget") else None)
            await_empty(broker, search.plan, stop, reporter)
        else:
            preflight(plan, broker, results, options | LOADS, reporter)
            search = measure.Search(plans.dated_folder(options["runs_directory"], plan.name), plan, settings)
            plan.save(search.folder)
        reporter.say(f"run folder {search.folder}")
        options |= LOADS

        def drive(plan: Plan, directory: Path) -> Path | None:
            before = preflight(plan, broker, results, options, reporter)
            if stop.is_set():
                return None
            folder = plans.new_folder(directory, plan.name)
            plan.save(folder)
            posted = do_post(plan, folder, broker, before, stop, reporter)
            keep(plan, folder, posted, *fetch(plan, folder, posted, broker, results, stop, reporter))
            return None if stop.is_set() else folder

        code = search.run(drive, stop, reporter)
    click.echo(capacity_text.summary(search.data, search.folder))
    raise SystemExit(code)


def is_given(context: click.Context, name: str) -> bool:
    """Say whether a parameter stands on the command line."""
    return context.get_parameter_source(name) is ParameterSource.COMMANDLINE


def await_empty(broker: Broker, plan: Plan, stop: threading.Event, reporter: Reporter) -> None:
    """Wait until the workers have worked off what a load that was interrupted left, as long as a result may take."""
    end = time.monotonic() + plan.deadline
    while broker.check(plan.queues)["waiting"] and time.monotonic() < end and not stop.wait(1.0):
        reporter.say("waiting until the queues are empty")


@cli.group("tune")
def tune_group() -> None:
    """Say which settings of the workers playbooks/tune.yml is to measure next, and which to take."""


@tune_group.command("next")
@RUN
def tune_next_command(run: Path) -> None:
    """Print what is to be measured in the round of RUN that is not over, as JSON."""
    click.echo(json.dumps(tune.next_points(run)))


@tune_group.command("report")
@RUN
def tune_report_command(run: Path) -> None:
    """Write RUN's table and recommendation, and print them."""
    tune.conclude(run)
    click.echo((run / "tune.md").read_text(encoding="utf-8"), nl=False)


@cli.group("fault")
def fault_group() -> None:
    """Say what a fault did to a run that playbooks/break-things.yml drove."""


class FigureType(click.ParamType[tuple[str, float]]):
    """``NAME=NUMBER``."""

    name = "NAME=NUMBER"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[str, float]:
        """Read one."""
        name, _, figure = str(value).partition("=")
        try:
            return name, float(figure)
        except ValueError:
            self.fail(f"{value!r} does not have the form {self.name}", param, ctx)


@fault_group.command("judge")
@click.argument("run", type=click.Path(file_okay=False, path_type=Path))
@click.option("--fault", required=True, help="The fault's name.")
@click.option("--title", required=True, help="What was done, for people.")
@click.option("--began", type=float, default=0.0, help="When it began, in Unix seconds of the client's clock.")
@click.option("--over", type=float, default=0.0, help="When it was over.")
@click.option("--control", is_flag=True, help="A safeguard was off.")
@click.option("--bound", "bounds", multiple=True, help="What must hold, as 'lost<=0'; repeat it for more.")
@click.option("--figure", "counted", type=FigureType(), multiple=True, help="What was counted on the hosts.")
@click.option("--failed", help="Why there is no run to judge.")
def fault_judge_command(
    run: Path,
    bounds: tuple[str, ...],
    counted: tuple[tuple[str, float], ...],
    failed: str | None,
    **fault: Any,
) -> None:
    """Write RUN's fault.json and print the verdict; exit code 5 where a bound does not hold."""
    about = faults.Fault(fault.pop("fault"), **fault)
    if failed is not None:
        found = faults.failed(run, about, failed)
    else:
        try:
            found = faults.conclude(run, about, bounds, dict(counted))
        except ValueError as error:
            raise click.BadParameter(str(error), param_hint="--bound") from error
    click.echo(faults.text(found))
    raise SystemExit(errors.OK if found["held"] else errors.UNMET)


@fault_group.command("table")
@RUN
def fault_table_command(run: Path) -> None:
    """Write the table of all faults in RUN, the folder of their runs, and print it."""
    click.echo(faults.table(run), nl=False)


@cli.command("profile-cost")
@RUN
@click.argument("without", type=click.Path(exists=True, file_okay=False, path_type=Path))
def profile_cost_command(run: Path, without: Path) -> None:
    """Keep in RUN what cProfile cost it, by WITHOUT, a run of the same load that had none."""
    click.echo(cost.text(cost.measure(run, without)))


@cli.command("compare")
@click.argument("runs", type=click.Path(exists=True, file_okay=False, path_type=Path), nargs=-1, required=True)
@click.option(
    "--page",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Where to write the page with the charts; compare.html in the last run's folder when not given.",
)
def compare_command(runs: tuple[Path, ...], page: Path | None) -> None:
    """Compare RUNS with the first of them: a table with ratios, and a page with their curves over each other."""
    if len(runs) < 2:
        raise click.UsageError("name at least two runs")
    report.require()
    from taskmill.report import comparison as compare  # noqa: PLC0415  # plotly is not everywhere

    comparison = compare.compare(runs)
    click.echo(compare.text(comparison))
    click.echo(compare.write(comparison, page or runs[-1] / "compare.html"))


def main() -> None:
    """Run the command; errors that a user can mend are one line, without a traceback."""
    try:
        code = cli.main(prog_name="taskmill", standalone_mode=False)
    except TaskmillError as error:
        click.echo(f"taskmill: {error}", err=True)
        code = error.exit_code
    except OSError as error:
        # A full disk, or a run folder that went away.
        click.echo(f"taskmill: {error.strerror or error}: {error.filename or 'while writing'}", err=True)
        code = TaskmillError.exit_code
    except click.ClickException as error:
        error.show()
        code = error.exit_code
    except (KeyboardInterrupt, click.Abort):
        click.echo("taskmill: stopped at once; what was posted is in ids/ of the run folder", err=True)
        code = errors.INTERRUPTED
    sys.exit(code)
