"""What is asked of broker, result store and workers: before the first message of a run, and after its last result."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from taskmill.cluster import workers
from taskmill.model.errors import TaskmillError
from taskmill.results.store import ResultStore
from taskmill.workload.calls import largest_value

if TYPE_CHECKING:
    from taskmill.cluster.broker import Broker
    from taskmill.model.plan import Plan
    from taskmill.progress import Reporter
    from taskmill.publishing.posted import Posted

#: Seconds to wait, after the last result, for the workers' counts to stand still.
SETTLE = 10.0
#: RabbitMQ's own consumer_timeout, in seconds.
CONSUMER_TIMEOUT = 1800.0


@dataclass(frozen=True)
class Conditions:
    """What may be otherwise than a run wants it. ``result_bytes`` is what one result takes in the store, if known.

    ``probe`` has one of each task run first, where there are workers. ``consumer_timeout`` are the seconds after which
    the broker takes back what a worker has not acknowledged.
    """

    no_workers: bool = False
    allow_waiting: bool = False
    result_bytes: int | None = None
    probe: bool = True
    consumer_timeout: float = CONSUMER_TIMEOUT


def preflight(
    plan: Plan, broker: Broker, results: ResultStore, reporter: Reporter, conditions: Conditions
) -> dict[str, Any]:
    """Look at broker, result store and workers; return what they said, or raise ``TaskmillError``."""
    server = broker.check(plan.queues)
    if server["waiting"] and not conditions.allow_waiting:
        waiting = ", ".join(f"{count:,} in {queue}" for queue, count in server["waiting"].items())
        raise TaskmillError(
            f"other messages wait on the broker ({broker}): {waiting}. The workers would take them first, and the "
            f"run's figures would be theirs too. Wait until they are worked off, drop them with "
            f"`rabbitmqctl purge_queue` on the broker, or post beside them with --allow-waiting"
        )
    answered = [] if conditions.no_workers else workers.find(broker, plan.queues)
    known = workers.registered(broker, answered)
    workers.check_registered(known, answered, plan.routes)
    plan = knowing_unstored(plan, known, results)
    figures = results.preflight(plan.storing, conditions.result_bytes, largest_value(plan))
    if not conditions.no_workers:
        workers.check(broker, answered, plan.queues)
        pools = sum(worker.pool_size for worker in answered)
        reporter.say(
            f"{len(answered)} worker{'s' if len(answered) > 1 else ''} with {pools} pool processes: "
            + ", ".join(worker.name for worker in answered)
        )
    return {
        "broker": server,
        "result_store": {"kind": results.kind, **figures},
        "workers": workers.plain(answered),
        "unstored": list(plan.unstored),
        "clocks": workers.clocks(broker, [worker.name for worker in answered]),
    }


def knowing_unstored(plan: Plan, known: dict[str, dict[str, bool]], results: ResultStore) -> Plan:
    """Return the plan with its tasks that store no result: all where there is no store, else what workers say."""
    tasks = [route.task for route in plan.routes]
    unstored = dict.fromkeys(tasks) if results.kind == "none" else workers.unstored(known, tasks)
    return replace(plan, unstored=tuple(unstored))


def check_again(plan: Plan, broker: Broker, results: ResultStore, *, no_workers: bool) -> dict[str, int]:
    """Look at what a run that is taken up needs; return the messages that wait, or raise ``TaskmillError``."""
    waiting: dict[str, int] = broker.check(plan.queues)["waiting"]
    results.figures()
    if not no_workers:
        workers.check(broker, workers.find(broker, plan.queues), plan.queues)
    return waiting


def ask_afterwards(
    plan: Plan, posted: Posted, broker: Broker | None, results: ResultStore, reporter: Reporter
) -> dict[str, Any]:
    """Ask workers, broker and result store once more; what cannot be had is left out, since the results are in hand."""
    after: dict[str, Any] = {}
    try:
        after["result_store"] = {"kind": results.kind, **results.figures()}
        if broker is not None:
            after["waiting"] = broker.check(plan.queues)["waiting"]
        names = [worker.name for worker in workers.from_plain(posted.before.get("workers"))]
        if broker is not None and names:
            tasks = {route.task for route in plan.routes}
            after["workers"] = workers.plain(workers.settled(broker, names, tasks, SETTLE))
            after["clocks"] = workers.clocks(broker, [worker["name"] for worker in after["workers"]])
    except TaskmillError as error:
        reporter.say(f"not in the record: {error}")
    return after
