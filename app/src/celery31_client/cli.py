"""The command: ``run`` posts and collects, ``collect`` fetches the results of an earlier run by the ids on disk."""

from __future__ import print_function

import argparse
import json
import os
import re
import signal
import sys
import threading
import time
from contextlib import contextmanager

from kombu.five import monotonic

from celery31_client import __version__, files, record, services
from celery31_client.collect import Collector
from celery31_client.profiles import Profiles
from celery31_client.progress import count, say
from celery31_client.publish import make_app, on_this_clock, publish

OK, FAULTS, USAGE, CANNOT_START, GAVE_UP, INTERRUPTED = 0, 1, 2, 3, 4, 130
EPILOG = """\
CELERY_BROKER_URL and CELERY_RESULT_BACKEND in the environment say where the cluster is.

Exit codes: 0 all well; 1 something lost, wrong or failed; 2 wrong usage; 3 cannot start or go on; 4 posting was
given up; 130 interrupted.
"""
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}$")


class Problem(Exception):  # noqa: N818  # a sentence for the user
    """Something outside stands in the way; exit code 3."""


def positive(kind, what):
    """Return a type for argparse: a number greater than 0."""

    def read(text):
        try:
            value = kind(text)
        except ValueError:
            value = 0
        if not 0 < value < float("inf"):
            raise argparse.ArgumentTypeError("%r is no %s greater than 0" % (text, what))
        return value

    return read


WHOLE = positive(int, "whole number")
SECONDS = positive(float, "number of seconds")


def kind(text):
    """Read ``TASK=QUEUE``."""
    task, separator, queue = text.partition("=")
    if not (task and separator and queue) or queue.split() != [queue]:
        raise argparse.ArgumentTypeError("%r does not have the form TASK=QUEUE, such as fibonacci.tasks.red=red" % text)
    return [task, queue]


def renamed(new):
    """Return a reader of an option that has a new name: it refuses any value."""

    def refuse(_text):
        raise argparse.ArgumentTypeError("it is called %s now" % new)

    return refuse


def run_name(text):
    """Read the name of a run, fit for a folder's name."""
    if not NAME.match(text):
        raise argparse.ArgumentTypeError("%r must be made of letters, digits, '.', '_' and '-'" % text)
    return text


def from_json(text):
    """Read a JSON value."""
    try:
        return json.loads(text)
    except ValueError:
        raise argparse.ArgumentTypeError("%r is not JSON" % text)


def json_list(text):
    """Read a JSON list."""
    value = from_json(text)
    if not isinstance(value, list):
        raise argparse.ArgumentTypeError("the tasks' arguments must be a JSON list, such as [20], not %s" % text)
    return value


def json_file(path):
    """Read a JSON object from a file."""
    try:
        value = files.read_json(path)
    except (OSError, IOError, ValueError) as error:
        raise argparse.ArgumentTypeError("%s cannot be read as JSON: %s" % (path, error))
    if not isinstance(value, dict):
        raise argparse.ArgumentTypeError("%s does not hold a JSON object" % path)
    return value


def make_parser():
    """Return the parser of the command line."""
    parser = argparse.ArgumentParser(
        prog="taskmill",
        description="The article's own client, on celery 3.1: threads that call apply_async, results fetched by id.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version="taskmill celery31_client, version " + __version__)
    commands = parser.add_subparsers(dest="command", metavar="COMMAND")
    commands.required = True
    add_run(commands.add_parser("run", help="post, collect and record", epilog=EPILOG))
    collect = commands.add_parser("collect", help="fetch the results of RUN by the ids on its disk", epilog=EPILOG)
    collect.set_defaults(command=collect_command)
    collect.add_argument("run", help="folder of the run")
    collect.add_argument("--deadline", type=SECONDS, help="as for run; default is that of the run")
    return parser


def add_run(run):
    """Add what a run takes to its parser: the options of taskmill's, too, that have no meaning here."""
    run.set_defaults(command=run_command)
    add = run.add_argument
    add("--runs-directory", default="runs", metavar="DIR", help="directory of run folders (runs)")
    add("--name", type=run_name, default="run", help="name of the run (run)")
    add(
        "--task",
        dest="kinds",
        type=kind,
        action="append",
        required=True,
        metavar="TASK=QUEUE",
        help="repeat it to spread",
    )
    add("--tasks", type=WHOLE, required=True, help="how many tasks to post")
    what = run.add_mutually_exclusive_group(required=True)
    what.add_argument("--n", type=WHOLE, help="the tasks' only argument, a whole number of at least 1")
    what.add_argument(
        "--args", type=json_list, metavar="JSON", help="the tasks' arguments, a JSON list; in place of --n"
    )
    add("--expect", type=from_json, default=run_command, metavar="JSON", help="the right result; else none is compared")
    add("--threads", type=WHOLE, default=10, help="posting threads (10)")
    add("--processes", type=WHOLE, default=1, help="there is one, as in the article: anything else is refused")
    add("--window", type=WHOLE, help="has no meaning here: this Celery asks for no confirms")
    add("--rate", help="refused: as in the article, it posts as fast as it can")
    add("--require", help="refused: `taskmill check` judges a finished run")
    add("--batch", type=WHOLE, default=0, metavar="N", help="fetch so many results at a time; else one by one")
    add("--deadline", type=SECONDS, default=120.0, help="seconds without a new result until one is lost (120)")
    add("--broker-deadline", type=SECONDS, default=120.0, help="seconds to wait for a broker that takes nothing (120)")
    add("--profile", dest="profile", action="store_true", default=True, help="profile the client by cProfile (it does)")
    add("--no-profile", dest="profile", action="store_false", help="do not")
    add("--function-seconds", type=SECONDS, help="seconds that the bare function takes on a worker's core")
    add("--worker-cores", type=WHOLE, help="cores of all workers together")
    add(
        "--release",
        dest="stack",
        metavar="RELEASE",
        default="celery31",
        help="name of the release, for the record (celery31)",
    )
    add("--stack", dest="old_stack", type=renamed("--release"), help=argparse.SUPPRESS)
    add("--environment", type=json_file, default={}, metavar="FILE", help="JSON object for the record's environment")
    add("--no-workers", action="store_true", help="post even if a queue has no consumer")
    add("--allow-waiting", action="store_true", help="post even if other messages wait in the queues")
    add("--no-probe", action="store_true", help="has no meaning here: no task is tried before the run")
    add("--consumer-timeout", type=SECONDS, help="has no meaning here, for the same reason")


def make_plan(options):
    """Return the plan: what is written to ``plan.json`` before the first message."""
    check = options.expect is not run_command
    return {
        "schema": record.SCHEMA,
        "name": options.name,
        "started_at": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "kinds": options.kinds,
        "tasks": options.tasks,
        "args": [options.n] if options.args is None else options.args,
        "check": check,
        "expect": options.expect if check else None,
        "threads": options.threads,
        "batch": options.batch,
        "deadline": options.deadline,
        "broker_deadline": options.broker_deadline,
        "profile": options.profile,
        "stack": options.stack,
        "function_seconds": options.function_seconds,
        "worker_cores": options.worker_cores,
        "environment": options.environment,
    }


def setting(name):
    """Return an environment variable; raise :class:`Problem` when it is missing."""
    value = os.environ.get(name, "")
    if not value:
        raise Problem("%s is not set. On a client host it stands in /etc/taskmill/taskmill.env" % name)
    return value


@contextmanager
def connection_to_broker(app):
    """Yield a connection; raise :class:`Problem`, without the password, when there is none to be had."""
    connection = app.connection()
    try:
        connection.ensure_connection(max_retries=1)
        yield connection
    except connection.connection_errors + connection.channel_errors as error:
        raise Problem("the broker (%s) refuses or cannot be reached: %s" % (connection.as_uri(), error))
    finally:
        connection.release()


def preflight(app, backend, plan, options):
    """Look at broker, workers and memcached; return what was found, or raise :class:`Problem`."""
    names = record.queues(plan)
    with connection_to_broker(app) as connection:
        broker, found = services.broker_version(connection), services.look_at_queues(connection, names)
    waiting = dict((name, ready) for name, (ready, _) in found.items() if ready)
    if waiting and not options.allow_waiting:
        raise Problem(
            "other messages wait on the broker: %s. Wait until they are worked off, drop them with `rabbitmqctl "
            "purge_queue` on the broker, or post beside them with --allow-waiting"
            % ", ".join("%s in %s" % (count(ready), name) for name, ready in sorted(waiting.items()))
        )
    idle = [name for name in names if not found[name][1]]
    if idle and not options.no_workers:
        raise Problem(
            "no worker consumes %s. Look at `systemctl status 'celery-worker@*'` on the worker hosts, or post without "
            "workers by --no-workers" % ", ".join(idle)
        )
    memcached = services.look_at_memcached(backend)
    if memcached is None:
        raise Problem("memcached (%s) does not answer. Look at whether it runs there" % backend)
    workers = [] if options.no_workers else services.look_at_workers(app)
    pools = sum(worker["pool_size"] for worker in workers)
    names = ", ".join(worker["name"] for worker in workers)
    say("%d worker%s with %d pool processes: %s" % (len(workers), "" if len(workers) == 1 else "s", pools, names))
    return {"broker": broker, "waiting": waiting, "workers": workers, "memcached": memcached}


def afterwards(app, backend, plan, before):
    """Ask broker, workers and memcached once more; what cannot be had is left out, since the results are in hand."""
    after = {"memcached": services.look_at_memcached(backend)}
    try:
        with connection_to_broker(app) as connection:
            found = services.look_at_queues(connection, record.queues(plan))
        after["waiting"] = dict((name, ready) for name, (ready, _) in found.items() if ready)
        names = [worker["name"] for worker in before["workers"]]
        after["workers"] = services.look_at_workers(app, names) if names else []
    except Problem as problem:
        say("not in the record: %s" % problem)
    return after


@contextmanager
def signals():
    """Yield an event that the first SIGINT or SIGTERM sets; the next one raises ``KeyboardInterrupt``."""
    stop = threading.Event()

    def handle(_number, _frame):
        if stop.is_set():
            raise KeyboardInterrupt
        stop.set()

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, handle)
        # What is under way on a socket goes on, so that no library takes its server for dead.
        signal.siginterrupt(number, False)
    yield stop


def run_command(parser, options):
    """Post, collect and record; return the exit code."""
    if options.processes != 1:
        parser.error("--processes %d: the article's client posts from one process" % options.processes)
    for name in ("rate", "require"):
        if getattr(options, name) is not None:
            parser.error("--%s %s: the article's client does not know that" % (name, getattr(options, name)))
    if len(set(task for task, _ in options.kinds)) < len(options.kinds):
        parser.error("--task: a task is named twice; as in the article, configuration routes each task to one queue")
    plan = make_plan(options)
    broker, backend = setting("CELERY_BROKER_URL"), setting("CELERY_RESULT_BACKEND")
    app = make_app(broker, backend, plan["kinds"])
    with signals() as stop:
        before = preflight(app, backend, plan, options)
        try:
            folder = files.new_folder(options.runs_directory, plan["name"])
        except OSError as error:
            raise Problem("cannot make a run folder in %s: %s" % (options.runs_directory, error))
        files.write_json(os.path.join(folder, "plan.json"), plan)
        say("run folder %s" % folder)
        profiles = Profiles(plan["profile"])
        with services.sampled_queues(app, record.queues(plan), os.path.join(folder, "queues.csv")):
            posted = publish(app, plan, folder, stop, profiles)
            posted["finished"] = posted["posted"] == plan["tasks"] and posted["error"] is None
            files.write_json(os.path.join(folder, "post.json"), dict(posted, before=before))
            collector = collect(app, plan, folder, stop, profiles) if posted["finished"] else None
        return conclude(app, backend, plan, folder, posted, collector, before, profiles)


def collect(app, plan, folder, stop, profiles):
    """Collect the results of the ids on disk; return the collector."""
    collector = Collector(app, plan, folder, files.read_ids(folder), stop)
    collector.started = monotonic()
    with profiles.thread():
        collector.run()
    return collector


def conclude(app, backend, plan, folder, posted, collector, before, profiles):
    """Write record and profile, say how it went, and return the exit code."""
    after = afterwards(app, backend, plan, before)
    data = record.build(plan, posted, collector, before, after)
    files.write_json(os.path.join(folder, "run.json"), data)
    profiles.write(folder, "celery31_client run %s: cProfile of the client, posting and collecting." % plan["name"])
    print(record.summary(data, folder))
    if collector is None:
        return GAVE_UP if posted["error"] else INTERRUPTED
    if any(data["counts"][name] for name in ("wrong", "failed", "lost")):
        return FAULTS
    return OK if collector.finished else INTERRUPTED


def collect_command(_parser, options):
    """Fetch the results of an earlier run by the ids on its disk; return the exit code."""
    try:
        plan = files.read_json(os.path.join(options.run, "plan.json"))
        posted = on_this_clock(files.read_json(os.path.join(options.run, "post.json")))
    except (OSError, IOError, ValueError) as error:
        raise Problem("%s is no folder of a run that was posted: %s" % (options.run, error))
    plan["deadline"] = options.deadline or plan["deadline"]
    backend = setting("CELERY_RESULT_BACKEND")
    app = make_app(setting("CELERY_BROKER_URL"), backend, plan["kinds"])
    if services.look_at_memcached(backend) is None:
        raise Problem("memcached (%s) does not answer. Look at whether it runs there" % backend)
    profiles = Profiles(plan["profile"])
    with signals() as stop:
        collector = collect(app, plan, options.run, stop, profiles)
        return conclude(app, backend, plan, options.run, posted, collector, posted["before"], profiles)


def main(argv):
    """Run the command and return the exit code; what a user can mend is one line, without a traceback."""
    parser = make_parser()
    options = parser.parse_args(argv)
    try:
        return options.command(parser, options)
    except Problem as problem:
        print("taskmill: %s" % problem, file=sys.stderr)
        return CANNOT_START
    except (OSError, IOError) as error:
        print("taskmill: %s" % error, file=sys.stderr)
        return CANNOT_START
    except KeyboardInterrupt:
        print("taskmill: stopped at once; what was posted is in ids/ of the run folder", file=sys.stderr)
        return INTERRUPTED
