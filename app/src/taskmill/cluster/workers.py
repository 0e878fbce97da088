"""The workers, asked through Celery's remote control: who they are, what they consume, what they have executed."""

from __future__ import annotations

import time
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from kombu.exceptions import OperationalError

from taskmill.cluster import broker as brokers
from taskmill.model.errors import TaskmillError
from taskmill.model.nearest import nearest

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Iterator

    from taskmill.cluster.broker import Broker
    from taskmill.model.plan import Route

#: Seconds to wait for workers to make themselves known, the second time longer; for known ones to answer; and
#: between two answers that are compared.
HELLO = (1.0, 3.0)
ANSWER = 10.0
STEP = 0.5
#: How often a worker is asked for its time.
EXCHANGES = 8
#: Most tasks of a worker that an error lists.
SHOWN = 10


@dataclass(frozen=True)
class Worker:
    """One worker node. ``executed`` counts its executions of each task since it started (pid and uptime say when)."""

    name: str
    pid: int
    pool: str
    pool_size: int
    prefetch: int
    uptime: int
    software: str
    queues: tuple[str, ...]
    executed: dict[str, int]
    #: The address of its result backend, as far as it tells: ``disabled`` for none.
    results: str = ""


@contextmanager
def asking(broker: Broker) -> Iterator[Any]:
    """Yield a Celery app for remote control; raise ``TaskmillError`` when the broker cannot be reached meanwhile."""
    app = broker.control()
    try:
        yield app
    except (*brokers.CONNECTION_ERRORS, OperationalError) as error:
        raise TaskmillError(broker.explain(error.__cause__ or error)) from error
    finally:
        app.close()


def find(broker: Broker, queues: Iterable[str] = ()) -> list[Worker]:
    """Return the workers that answer, by name; ask a second time, with more patience, when a queue has none.

    Raises ``TaskmillError`` when the broker cannot be reached.
    """
    answered: list[Worker] = []
    for patience in HELLO:
        answered = _ask(broker, None, patience)
        if answered and not orphans(answered, queues):
            break
    return answered


def ask(broker: Broker, names: list[str]) -> list[Worker]:
    """Return those of the workers with these names that answer; it does not wait longer than they take.

    Raises ``TaskmillError`` when the broker cannot be reached.
    """
    return _ask(broker, names, ANSWER) if names else []


def _ask(broker: Broker, names: list[str] | None, patience: float) -> list[Worker]:
    with asking(broker) as app:
        there = sorted(app.control.inspect(destination=names, timeout=patience).ping() or {})
        if not there:
            return []
        inspect = app.control.inspect(destination=there, timeout=ANSWER)
        stats, queues, reports = inspect.stats() or {}, inspect.active_queues() or {}, inspect.report() or {}
    return [
        worker(name, stats[name], queues.get(name) or [], reports.get(name) or {}) for name in there if name in stats
    ]


def registered(broker: Broker, workers: list[Worker]) -> dict[str, dict[str, bool]]:
    """Return by worker the tasks that it knows, and whether it stores what they return; nothing of a silent worker.

    Raises ``TaskmillError`` when the broker cannot be reached.
    """
    backends = {worker.name: worker.results.partition(":")[0] for worker in workers}
    with _inspecting(broker, workers) as ask:
        answers = ask("registered", "ignore_result")
    known: dict[str, dict[str, bool]] = {}
    for name, entries in answers.items():
        stores = backends.get(name) != "disabled"
        # Such as: a.b [ignore_result=True]
        tasks = (str(entry).partition(" [") for entry in entries)
        known[name] = {task: stores and "ignore_result=True" not in said for task, _, said in tasks}
    return known


def unstored(known: dict[str, dict[str, bool]], tasks: Iterable[str]) -> list[str]:
    """Return those of the tasks that store no result: all workers that know the task say so, or have no backend."""

    def stored(task: str) -> set[bool]:
        return {stores[task] for stores in known.values() if task in stores}

    return [task for task in dict.fromkeys(tasks) if stored(task) == {False}]


def check_registered(known: dict[str, dict[str, bool]], workers: list[Worker], routes: Iterable[Route]) -> None:
    """Raise ``TaskmillError`` where a worker would get messages of a task that it does not know."""
    for route in routes:
        for worker in workers:
            tasks = known.get(worker.name)
            if tasks is None or route.queue not in worker.queues or route.task in tasks:
                continue
            # Celery's own tasks are in no worker's answer.
            if not route.task.startswith("celery."):
                raise unregistered(worker, route, sorted(tasks))


def unregistered(worker: Worker, route: Route, tasks: list[str]) -> TaskmillError:
    """Return the error that says which tasks the worker has in place of a route's."""
    near = nearest(route.task, tasks)
    meant = f" ({near})" if near else ""
    more = f" and {len(tasks) - SHOWN:,} more" if len(tasks) > SHOWN else ""
    return TaskmillError(
        f"{worker.name} takes the messages of the queue {route.queue} and has no task {route.task}{meant}: it would "
        f"run none of them. It has {', '.join(tasks[:SHOWN]) or 'no task at all'}{more}. Mend the name of the task, or "
        f"have the workers' app import the module that the task is in"
    )


def held(broker: Broker, workers: list[Worker], tasks: Collection[str] | None = None) -> int:
    """Return how many messages of the tasks, or of any, the workers have taken from the queues and not finished.

    One that goes on meanwhile may be counted twice, and is not missed. Raises ``TaskmillError`` when the broker cannot
    be reached.
    """
    return sum(tasks is None or request.get("name") in tasks for _, request in taken(broker, workers))


def taken(broker: Broker, workers: list[Worker]) -> list[tuple[str, dict[str, Any]]]:
    """Return the messages that the workers have taken from the queues and not finished, each with the worker's name.

    Raises ``TaskmillError`` when the broker cannot be reached.
    """
    with _inspecting(broker, workers) as ask:
        # In the order in which a worker has a message go through them.
        answers = [ask(question) for question in ("scheduled", "reserved", "active")]
    # What waits for its time has the request inside.
    return [
        (name, one.get("request", one)) for by_worker in answers for name, taken in by_worker.items() for one in taken
    ]


@contextmanager
def _inspecting(broker: Broker, workers: list[Worker]) -> Iterator[Callable[..., dict[str, list[Any]]]]:
    """Yield what asks the workers a question and returns their answers, by name; nothing of those that do not answer.

    Raises ``TaskmillError`` when the broker cannot be reached meanwhile.
    """
    with asking(broker) as app:
        inspect = app.control.inspect(destination=[worker.name for worker in workers], timeout=ANSWER)

        def ask(question: str, *arguments: Any) -> dict[str, list[Any]]:
            answers: dict[str, list[Any]] = getattr(inspect, question)(*arguments) if workers else {}
            return answers or {}

        yield ask


def clocks(broker: Broker, names: Iterable[str]) -> dict[str, dict[str, float]]:
    """Return, by worker, its clock less this host's (``offset_s``) and the most that can be off (``error_s``).

    Each worker is asked :data:`EXCHANGES` times; the answer with the shortest round trip counts, its time taken as that
    of the middle of the round trip (Cristian 1989). Workers that do not know the command, of
    ``taskmill_worker.task_times``, are left out. Raises ``TaskmillError`` when the broker cannot be reached.
    """
    with asking(broker) as app:
        asked = {name: _clock(app, name) for name in names}
    return {name: clock for name, clock in asked.items() if clock is not None}


def _clock(app: Any, name: str) -> dict[str, float] | None:
    best: tuple[float, float] | None = None
    for _ in range(EXCHANGES):
        sent, begin = time.time(), time.perf_counter()
        answers = app.control.broadcast("taskmill_clock", destination=[name], reply=True, limit=1, timeout=ANSWER)
        trip = time.perf_counter() - begin
        answer = dict(answers[0]).get(name) if answers else None
        if not isinstance(answer, dict) or "time" not in answer:
            return None
        if best is None or trip < best[0]:
            best = trip, float(answer["time"]) - (sent + trip / 2)
    assert best is not None
    return {"offset_s": round(best[1], 6), "error_s": round(best[0] / 2, 6)}


def worker(name: str, stats: dict[str, Any], queues: list[dict[str, Any]], report: dict[str, Any]) -> Worker:
    """Put together one worker's answers."""
    pool = stats.get("pool") or {}
    return Worker(
        name=name,
        pid=int(stats.get("pid") or 0),
        # Such as celery.concurrency.prefork:TaskPool.
        pool=str(pool.get("implementation") or "").partition(":")[0].rpartition(".")[2],
        pool_size=int(pool.get("max-concurrency") or 0),
        prefetch=int(stats.get("prefetch_count") or 0),
        uptime=int(stats.get("uptime") or 0),
        software=software(str(report.get("ok") or "")),
        queues=tuple(sorted(str(queue["name"]) for queue in queues)),
        executed={str(task): int(count) for task, count in (stats.get("total") or {}).items()},
        results=results(str(report.get("ok") or "")),
    )


def software(report: str) -> str:
    """Return the versions in a worker's report, such as ``celery:5.7.0 (..) kombu:5.7.0 py:3.11.2``."""
    for line in report.splitlines():
        name, arrow, rest = line.partition("->")
        if arrow and name.strip() == "software":
            return " ".join(rest.split())
    return ""


def results(report: str) -> str:
    """Return the result backend in a worker's report, such as ``disabled``."""
    return next((word.removeprefix("results:") for word in report.split() if word.startswith("results:")), "")


def orphans(workers: list[Worker], queues: Iterable[str]) -> list[str]:
    """Return those of the queues that no worker consumes."""
    consumed = {queue for worker in workers for queue in worker.queues}
    return [queue for queue in queues if queue not in consumed]


def check(broker: Broker, workers: list[Worker], queues: Iterable[str]) -> None:
    """Raise ``TaskmillError`` when one of the queues has no worker that consumes it."""
    missing = orphans(workers, queues)
    if not missing:
        return
    if not workers:
        raise TaskmillError(
            f"no worker answers at the broker ({broker}). Look at `systemctl status 'celery-worker@*'` on the worker "
            f"hosts, or post without workers by --no-workers"
        )
    seen = "; ".join(f"{worker.name}: {', '.join(worker.queues) or 'none'}" for worker in workers)
    raise TaskmillError(
        f"no worker consumes the queue{'s' if len(missing) > 1 else ''} {', '.join(missing)}. Workers and their queues "
        f"are {seen}. Add the queue to a worker in celery_worker_nodes and run site.yml, or post without workers by "
        f"--no-workers"
    )


def settled(broker: Broker, names: list[str], tasks: set[str], seconds: float) -> list[Worker]:
    """Ask the workers until two answers agree on the executions of the tasks, for at most so many seconds."""
    end = time.monotonic() + seconds
    last = ask(broker, names)
    while time.monotonic() < end:
        time.sleep(STEP)
        now = ask(broker, names)
        if [executions(one, tasks) for one in now] == [executions(one, tasks) for one in last]:
            return now
        last = now
    return last


def executions(worker: Worker, tasks: set[str]) -> int:
    """Return how often a worker has executed the tasks."""
    return sum(count for task, count in worker.executed.items() if task in tasks)


def executed_between(before: list[Worker], after: list[Worker], tasks: set[str]) -> int | None:
    """Return the executions of the tasks between two answers; ``None`` when a worker came, went or started anew."""
    known = {(worker.name, worker.pid): worker for worker in before}
    if not before or {(worker.name, worker.pid) for worker in after} != set(known):
        return None
    if any(worker.uptime < known[worker.name, worker.pid].uptime for worker in after):
        return None
    return sum(executions(worker, tasks) - executions(known[worker.name, worker.pid], tasks) for worker in after)


def plain(workers: list[Worker]) -> list[dict[str, Any]]:
    """Return the workers as plain data for JSON."""
    return [asdict(worker) for worker in workers]


def from_plain(data: Any) -> list[Worker]:
    """Read what :func:`plain` made; an empty list for anything else."""
    try:
        return [Worker(**(one | {"queues": tuple(one["queues"])})) for one in data]
    except (KeyError, TypeError):
        return []
