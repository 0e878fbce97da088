"""The facts of an app, each with where it comes from."""

from __future__ import annotations

from typing import TYPE_CHECKING

from msgspec import Struct

if TYPE_CHECKING:
    from collections.abc import Iterator

    from taskmill.inspection.probed import Queue, Task
    from taskmill.inspection.source_code import Candidate
    from taskmill.inspection.subject import Subject


class Fact(Struct):
    """One line: what it is about, what holds, and where that was found."""

    about: str
    value: str
    source: str


def facts(subject: Subject) -> list[Fact]:
    """Return all of them, in the order in which they are shown."""
    return [
        *installation(subject),
        *(Fact("task", called(task), subject.place(task.file, task.line)) for task in subject.tasks),
        *(Fact("queue", described(queue), place_of(queue, subject)) for queue in subject.queues),
        *settings(subject),
        *(Fact("beat", f"{one.task}: {one.schedule}", f"entry {one.name}") for one in subject.app.beat),
        *environment(subject),
    ]


def installation(subject: Subject) -> Iterator[Fact]:
    """Yield what is installed, and for which Python."""
    app, seen, python = subject.app, subject.candidate, subject.python
    yield Fact("app", app.name, subject.place(seen.file, seen.line) if seen is not None else "--app")
    if seen is not None and (made := seen.imports) is not None:
        alone = "which registers no task by itself"
        yield Fact("its Celery object", f"{made.names[-1]}, {alone}", subject.place(made.file, made.line))
    for name, one in list(other_apps(subject).items())[:3]:
        yield Fact("another app", name, f"{subject.place(one.file, one.line)}; --app takes it")
    where = "an environment of its own" if subject.environment is None else f"--python {subject.environment}"
    yield Fact("Celery", f"{app.celery}, imported with Python {app.python}", where)
    if python is not None:
        yield Fact("Python", python.versions, subject.place(python.source, python.line))
    needs = subject.requirements
    if needs is None:
        yield Fact(
            "requirements", "Celery, python-memcached and redis", "no file of the app's says any; taskmill's own"
        )
    else:
        kind = "every one with hashes" if needs.hashed else "without hashes, so that versions may differ"
        yield Fact("requirements", f"{len(needs.names)} packages, {kind}", subject.place(needs.source, needs.line))
    for name, wants in subject.system.items():
        yield Fact("system packages", " ".join(wants.packages), f"{name}: {wants.why}")


def other_apps(subject: Subject) -> dict[str, Candidate]:
    """Return the other Celery objects of the source, each once, by the shortest name that is no other's."""
    seen, taken = subject.candidate, {subject.app.name}
    others: dict[str, Candidate] = {}
    for one in subject.code.candidates:
        whole = one.names[-1]
        if seen is not None and one in (seen, seen.imports):
            taken |= set(one.names)
        elif whole == subject.app.name or (seen is None and subject.app.name in one.names):
            # What --app names is the first that has this name.
            seen = one
            taken |= set(one.names)
        elif whole not in taken:
            others[next(name for name in one.names if name not in taken)] = one
            taken |= set(one.names)
    return others


def called(task: Task) -> str:
    """Return a task with its parameters and its queue."""
    parameters = "..." if task.parameters is None else ", ".join(one.name for one in task.parameters)
    to = task.queue or "no queue that is known"
    priority = "" if task.priority is None else f", priority {task.priority}"
    return f"{task.name}({parameters}) to {to}{priority}"


def described(queue: Queue) -> str:
    """Return a queue with its arguments, and the exchange that is not of its name."""
    words = [queue.name, *(f"{name}={value}" for name, value in sorted(queue.arguments.items()))]
    if queue.exchange not in {"", queue.name}:
        words.append(f"at exchange {queue.exchange}")
    return " ".join(words) + ("" if queue.declared else ", not declared by its workers")


def place_of(queue: Queue, subject: Subject) -> str:
    """Return where a queue comes from: the app's list of them, its default, its routes, or its tasks' own options."""
    named = [name for name in ("task_queues", "task_routes") if subject.app.setting(name)]
    if queue.name == subject.app.setting("task_default_queue") and "task_queues" not in named:
        named = ["task_default_queue"]
    return subject.setting_place(named[0]) if named else "option queue of a task"


def settings(subject: Subject) -> Iterator[Fact]:
    """Yield what Celery's settings say."""
    app = subject.app
    if app.setting("task_routes"):
        yield Fact("routes", str(app.setting("task_routes")), subject.setting_place("task_routes"))
    names = ("task_serializer", "result_serializer")
    for name in names:
        yield Fact(name.replace("_", " "), str(app.setting(name)), subject.setting_place(name))
    if app.broker:
        found = subject.code.lines_of({"broker", "broker_url", "BROKER_URL", "CELERY_BROKER_URL"})
        where = subject.place(*found) if found else "setting broker_url"
        yield Fact("broker", f"{app.broker}; on the hosts, CELERY_BROKER_URL", where)
    backend = subject.code.lines_of({"result_backend", "backend", "CELERY_RESULT_BACKEND", "RESULT_BACKEND"})
    where = subject.place(*backend) if backend and app.own_backend else "setting result_backend"
    yield Fact("result backend", f"{app.own_backend or 'none'}; on the hosts, CELERY_RESULT_BACKEND", where)
    late = [task.name for task in subject.tasks if task.acks_late]
    how = (
        "late"
        if len(late) == len(subject.tasks)
        else f"late for {len(late)} of {len(subject.tasks)}"
        if late
        else "early"
    )
    others = [task for task in subject.tasks if bool(task.acks_late) != bool(app.setting("task_acks_late"))]
    where = subject.place(others[0].file, others[0].line) if others else subject.setting_place("task_acks_late")
    yield Fact("acknowledgement", how, where)
    for name in ("task_soft_time_limit", "task_time_limit"):
        if app.setting(name) is not None:
            yield Fact(
                name.removeprefix("task_").replace("_", " "), f"{app.setting(name):g} s", subject.setting_place(name)
            )
    for task in subject.tasks:
        for name in ("soft_time_limit", "time_limit"):
            seconds = getattr(task, name)
            if seconds is not None and seconds != app.setting(f"task_{name}"):
                yield Fact(
                    name.replace("_", " "), f"{seconds:g} s for {task.name}", subject.place(task.file, task.line)
                )
    for name in ("worker_pool", "worker_concurrency", "worker_prefetch_multiplier", "worker_max_tasks_per_child"):
        if name in app.settings and not app.settings[name].default:
            yield Fact(
                name.removeprefix("worker_").replace("_", " "), str(app.setting(name)), subject.setting_place(name)
            )


def environment(subject: Subject) -> Iterator[Fact]:
    """Yield which variables of the environment the app's code reads."""
    needed = set(subject.needed_variables)
    for one in subject.app.environment:
        how = "needed" if one.name in needed else "read, and done without"
        if one.name in subject.addresses:
            how = f"needed; the inventory gives it the cluster's own ({subject.addresses[one.name]})"
        yield Fact("environment", f"{one.name}: {how}", subject.place(one.file, one.line))
