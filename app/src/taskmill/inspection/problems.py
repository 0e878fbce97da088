"""What will hurt when an app runs in a cluster, each with what mends it. One rule, one function."""

from __future__ import annotations

from typing import TYPE_CHECKING

from msgspec import Struct
from packaging.version import Version

from taskmill.inspection.environment import takes
from taskmill.inspection.inventory import by_name_alone
from taskmill.inspection.locks import PYTHONS

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from taskmill.inspection.probed import Task
    from taskmill.inspection.subject import Subject

#: Seconds that a stopping worker's tasks have, `celery_worker_stop_timeout`.
STOP_TIMEOUT = 300
#: Seconds that a message may be unacknowledged, RabbitMQ's `consumer_timeout`.
CONSUMER_TIMEOUT = 1800
#: The releases of Celery that the workers' own parts were tried with.
OLDEST, NEWEST = Version("5.3"), Version("5.8")
#: What to add where results go.
STORED_BY = {"memcached": "python-memcached", "redis": "celery[redis]"}
#: Pools that run each task in a greenlet of its own. The threads of the pool `threads` stay, with their connections.
GREENLETS = ("gevent", "eventlet")
PICKLES = frozenset({"pickle", "application/x-python-serialize"})


class Problem(Struct):
    """What will hurt, where it was found, and what mends it."""

    what: str
    source: str
    mend: str


def problems(subject: Subject) -> list[Problem]:
    """Return all of them."""
    return [problem for rule in RULES for problem in rule(subject)]


def some(names: Iterable[str]) -> str:
    """Return names, at most five of them."""
    every = list(names)
    return ", ".join(every[:5]) + (f" and {len(every) - 5} more" if len(every) > 5 else "")


def results(subject: Subject) -> Iterator[Problem]:
    """Results that nothing keeps."""
    app = subject.app
    if app.backend == "DisabledBackend":
        where = subject.setting_place("result_backend")
        yield Problem("no result backend: no result is kept", where, "leave result_backend to CELERY_RESULT_BACKEND")
    elif not app.backend_heeded:
        where = subject.place(*(subject.code.lines_of({"backend", "result_backend"}) or ("", 0)))
        mend = "leave it to CELERY_RESULT_BACKEND, which each worker gets"
        yield Problem("results go to an address of the app's own", where, mend)
    # Without Celery's own client of memcached the workers have taskmill's; see below.
    if app.backend_error and "memcache" not in app.backend_error.lower():
        yield Problem(
            f"the result backend cannot be made: {app.backend_error}", "", "add what it names to the requirements"
        )
    ignored = [task for task in subject.tasks if task.ignore_result]
    if ignored:
        where = subject.place(ignored[0].file, ignored[0].line)
        what = f"ignore_result: of {some(task.name for task in ignored)} no result is kept"
        yield Problem(what, where, "they are counted, and their values are not compared")


def store(subject: Subject) -> Iterator[Problem]:
    """Results in a store need a client of it.

    By Celery 5.7's own backend for memcached all processes of a worker use one connection (docs/compatibility.md).
    """
    needs = subject.requirements
    if needs is not None and subject.lacks_client_of_store and needs.any_hashed:
        what = f"nothing that is installed stores results in {subject.result_store}, where results go to on the hosts"
        if subject.result_store == "memcached" and subject.celerys_client:
            what = f"results go to memcached by {subject.celerys_client}, and pool processes share its connection"
        yield Problem(what, subject.place(needs.source), f"add {STORED_BY[subject.result_store]} to the requirements")


def words_of(pools: str) -> list[str]:
    """Return the words of the names of pools, which may be those of classes."""
    return pools.replace(".", " ").replace(":", " ").split()


def pool(subject: Subject) -> Iterator[Problem]:
    """A pool of greenlets that a setting alone names: Celery patches blocking calls where the command line names it.

    (``celery.maybe_patch_concurrency``.)
    """
    own = subject.app.settings.get("worker_pool")
    if own is not None and not own.default and not set(GREENLETS).isdisjoint(words_of(str(own.value))):
        yield Problem(
            f"worker_pool is {own.value}: by a setting alone, what waits in a task holds up all others",
            subject.setting_place("worker_pool"),
            "give its workers pool: gevent, and a concurrency, in celery_worker_nodes of the inventory",
        )


def greenlets(subject: Subject) -> Iterator[Problem]:
    """Celery has a result backend for each thread, which is each task's greenlet there, and closes none of them.

    One that all share has as many connections as redis-py allows (100 unless it is told, in release 8).
    """
    app, needs = subject.app, subject.requirements
    shared = app.setting("result_backend_thread_safe")
    if subject.result_store != "redis" or (shared and app.setting("redis_max_connections")):
        return
    own = app.settings.get("worker_pool")
    if own is not None and not own.default:
        pools, where, given = str(own.value), subject.setting_place("worker_pool"), "with the pool"
    elif needs is not None:
        pools, where, given = " ".join(needs.names), subject.place(needs.source), "where a worker has the pool"
    else:
        return
    for pool in GREENLETS:
        if pool not in words_of(pools):
            continue
        if shared:
            yield Problem(
                f"{given} {pool}, tasks share 100 connections to Redis: one that gets none stores no result, and its "
                f"message stays with the worker",
                where,
                "set redis_max_connections to more than the concurrency of a worker",
            )
        else:
            yield Problem(
                f"{given} {pool}, each task makes a result backend of its own, whose connections to Redis stay open",
                where,
                "set result_backend_thread_safe to True, and all tasks of a worker share one",
            )


def undeclared(subject: Subject) -> Iterator[Problem]:
    """Hosts have what a file says, and an environment that is there may have more."""
    if subject.requirements is None and subject.environment is not None:
        what = "no file says what the app needs: the hosts get Celery, python-memcached and redis alone"
        yield Problem(what, "", "write a requirements.txt beside the app, or give --requirements FILE")


def broker(subject: Subject) -> Iterator[Problem]:
    """A broker that the environment cannot name."""
    if not subject.app.broker_heeded:
        names = {"broker_read_url", "broker_write_url", "broker_url", "broker"}
        where = subject.place(*(subject.code.lines_of(names | {name.upper() for name in names}) or ("", 0)))
        yield Problem(
            "the broker is fixed in the source", where, "leave it to CELERY_BROKER_URL, which each worker gets"
        )


def pickle(subject: Subject) -> Iterator[Problem]:
    """Whoever can publish a pickle runs code in the workers."""
    app = subject.app
    names = [
        name
        for name in ("task_serializer", "result_serializer", "accept_content", "result_accept_content")
        if PICKLES & set(value if isinstance(value := app.setting(name), list) else [value])
    ]
    tasks = [
        task for task in subject.tasks if task.serializer in PICKLES and app.setting("task_serializer") not in PICKLES
    ]
    where = subject.setting_place(names[0]) if names else subject.place(tasks[0].file, tasks[0].line) if tasks else ""
    if names or tasks:
        which = some([*names, *(task.name for task in tasks)])
        what = f"pickle ({which}): who can write to broker or result store runs code"
        yield Problem(what, where, "JSON carries dates, UUIDs, Decimals and bytes, too; the load is published as JSON")


def acknowledgement(subject: Subject) -> Iterator[Problem]:
    """Acknowledged before it is done is lost with its worker."""
    early = [task.name for task in subject.tasks if not task.acks_late]
    if early:
        which = "every task" if len(early) == len(subject.tasks) else some(early)
        what = f"acknowledged before it runs, and lost with its worker: {which}"
        mend = "set task_acks_late and task_reject_on_worker_lost to True"
        yield Problem(what, subject.setting_place("task_acks_late"), mend)


def limits(subject: Subject) -> Iterator[Problem]:
    """Tasks that outlive what stops them."""
    app = subject.app
    alike: dict[float, list[Task]] = {}
    for task in subject.tasks:
        alike.setdefault(max(task.soft_time_limit or 0, task.time_limit or 0), []).append(task)
    for seconds, tasks in alike.items():
        which, place = some(task.name for task in tasks), subject.place(tasks[0].file, tasks[0].line)
        if seconds > STOP_TIMEOUT:
            what = f"a stopping worker is killed after {STOP_TIMEOUT} s, and these may take {seconds:g} s: {which}"
            yield Problem(what, place, f"celery_worker_stop_timeout: {seconds:g} in the inventory")
        if seconds > CONSUMER_TIMEOUT and any(task.acks_late for task in tasks):
            what = f"RabbitMQ's consumer_timeout is {CONSUMER_TIMEOUT} s, and these may take {seconds:g} s: {which}"
            yield Problem(what, place, "shorter tasks, or a longer consumer_timeout")
    options = app.setting("broker_transport_options") or {}
    visibility = options.get("visibility_timeout") if isinstance(options, dict) else None
    if visibility and visibility > CONSUMER_TIMEOUT:
        what = f"visibility_timeout is {visibility:g} s: RabbitMQ gives a message to another after {CONSUMER_TIMEOUT} s"
        yield Problem(what, subject.setting_place("broker_transport_options"), "a longer consumer_timeout")


def delays(subject: Subject) -> Iterator[Problem]:
    """A message with an ETA stays unacknowledged in a worker until then."""
    after = f"of RabbitMQ's consumer_timeout ({CONSUMER_TIMEOUT} s) it comes again"
    for file, line, seconds in subject.code.long_delays(CONSUMER_TIMEOUT):
        what = f"a task waits {seconds:g} s in a worker, unacknowledged: at the end {after}"
        yield Problem(what, subject.place(file, line), "beat, or a longer consumer_timeout")
    for task in subject.tasks:
        longest = max(task.retry_delay if isinstance(task.retry_delay, int | float) else 0, task.backoff)
        if longest > CONSUMER_TIMEOUT:
            what = f"a retry of {task.name} may wait {longest:g} s in a worker, unacknowledged: at the end {after}"
            yield Problem(what, subject.place(task.file, task.line), "shorter delays, or a longer consumer_timeout")


def queues(subject: Subject) -> Iterator[Problem]:
    """Messages that come to no worker."""
    for task in subject.tasks:
        if task.route_error:
            what = f"the route of {task.name} is not known without a message: {task.route_error}"
            yield Problem(what, subject.setting_place("task_routes"), "say its queue in app_tasks")
        elif not task.queue:
            to = f"exchange '{task.exchange}' with routing key '{task.routing_key}'"
            what = f"{task.name} goes to {to}, and from there to no queue"
            yield Problem(what, subject.setting_place("task_routes"), "bind a queue of task_queues to it")
    used = {task.queue for task in subject.tasks}
    idle = [queue.name for queue in subject.app.queues if queue.name not in used and queue.name != "celery"]
    if idle:
        what = f"no task's route leads to {some(idle)}: the workers of the new inventory do not serve it"
        yield Problem(
            what, subject.setting_place("task_queues"), "add it to app_queues where something else publishes to it"
        )
    known = {task.name for task in subject.app.tasks}
    for one in subject.app.beat:
        if one.task not in known and not one.task.startswith("celery."):
            yield Problem(f"beat sends {one.task}, which is not registered", f"entry {one.name}", "correct its name")


def by_name(subject: Subject) -> Iterator[Problem]:
    """Tasks that no load can call."""
    alone = [task for task in subject.tasks if by_name_alone(task)]
    if alone:
        which = some(task.name for task in alone)
        what = f"the load gives arguments by their place, and leaves out what takes some by name alone: {which}"
        where = subject.place(alone[0].file, alone[0].line)
        yield Problem(what, where, "a default for these arguments, where the task is to be measured")


def django(subject: Subject) -> Iterator[Problem]:
    """Django in debug mode keeps every query."""
    if subject.app.django is not None and subject.app.django.debug:
        found = subject.code.lines_of({"DEBUG"})
        where = subject.place(*found) if found else subject.app.django.settings
        yield Problem(
            "DEBUG is on: Django keeps every query in the worker's memory", where, "DEBUG = False on the hosts"
        )


def variables(subject: Subject) -> Iterator[Problem]:
    """Variables that every worker has to have."""
    names = [name for name in subject.needed_variables if name not in subject.addresses]
    if names:
        first = next(one for one in subject.app.environment if one.name == names[0])
        what = f"the import needs {some(names)} in the environment"
        yield Problem(
            what, subject.place(first.file, first.line), "app_environment in the inventory gives it to every worker"
        )


def versions(subject: Subject) -> Iterator[Problem]:
    """Releases that the hosts or the workers' own parts do not have."""
    celery = Version(subject.app.celery)
    if not OLDEST <= celery < NEWEST:
        what = f"Celery {celery}: what workers load beside the app was tried with {OLDEST} to 5.7"
        yield Problem(
            what, subject.place(subject.requirements.source) if subject.requirements else "", "celery>=5.3,<5.8"
        )
    python = subject.python
    if python is not None and not any(takes(python.versions, one) for one in PYTHONS):
        what = f"no host has Python {python.versions}: Debian 12 has 3.11, Debian 13 has 3.13"
        yield Problem(what, subject.place(python.source, python.line), "hosts with that Python, or another version")


def local(subject: Subject) -> Iterator[Problem]:
    """Requirements that are on this machine alone."""
    needs = subject.requirements
    if needs is not None and needs.local:
        what = f"a requirement is a path of this machine: {some(needs.local)}"
        yield Problem(
            what, subject.place(needs.source), "give a wheel, a git address or an index; the app itself is copied"
        )


RULES = (
    broker,
    results,
    store,
    pool,
    greenlets,
    undeclared,
    variables,
    queues,
    by_name,
    limits,
    delays,
    acknowledgement,
    pickle,
    django,
    versions,
    local,
)
