"""What follows from how long the tasks take: when a result is lost, what the broker does not wait for, when it ends."""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from typing import TYPE_CHECKING

from taskmill.model.plan import RESULT_TIMEOUT

if TYPE_CHECKING:
    from collections.abc import Iterable

    from taskmill.cluster.workers import Worker
    from taskmill.model.plan import Plan
    from taskmill.model.record import Probed

#: How many times as long as the longest of its tasks a run waits without any new result.
TIMES = 3
#: Seconds from which on a task's first call tells about the others: a shorter one may have loaded what these find.
TELLING = 1.0


def result_timeout(plan: Plan, probed: Iterable[Probed]) -> float:
    """Return the seconds without any new result after which a run takes what is missing for lost.

    The plan's own ``deadline`` holds where it has one. Else it is :data:`TIMES` (3) times the longest of the tasks that
    were tried, in whole seconds, and at least 120: workers that all began a long task at the same time give no result
    for as long, and no two calls take the same time. The longest countdown of a scenario, in which no result can come,
    is added. While workers are at work, collecting waits ten times as long.
    """
    if plan.deadline is not None:
        return plan.deadline
    longest = max((one.seconds for one in probed), default=0.0)
    countdown = max(route.countdown for route in plan.routes)
    return max(RESULT_TIMEOUT, float(math.ceil(TIMES * longest))) + math.ceil(countdown)


def countdown_warnings(plan: Plan, timeout: float) -> list[str]:
    """Return a line for each kind of a scenario whose countdown is longer than the broker waits, in seconds."""
    return [
        f"warning: kinds.{route.name} has a countdown of {route.countdown:,.0f} s, for which a worker keeps its "
        f"message unacknowledged. After {timeout:,.0f} s (consumer_timeout) RabbitMQ gives it to another worker, and "
        f"so on: the task runs twice, or its connection is closed. Give less, or set rabbitmq_consumer_timeout to "
        f"more than {math.ceil(route.countdown):,}, and run site.yml"
        for route in plan.routes
        if route.countdown > timeout
    ]


def consumer_timeout_warnings(
    plan: Plan, probed: Iterable[Probed], before: Iterable[Worker], timeout: float
) -> list[str]:
    """Return a line for each task whose messages a worker keeps unacknowledged for longer than the broker allows.

    A worker takes ``prefetch`` messages for its pool processes, and acknowledges the last of them when a process has
    done all that it was given: after so many times the task's seconds.
    """
    found = {}
    for worker in before:
        processes = max(1, worker.pool_size)
        # Without a limit it takes whatever is there.
        ahead = math.ceil((worker.prefetch or plan.tasks) / processes)
        for one in probed:
            if one.queue in worker.queues and one.seconds * ahead > timeout and one.task not in found:
                held = one.seconds * ahead
                found[one.task] = (
                    f"warning: {one.task} takes {one.seconds:,.0f} s, and {worker.name} takes {ahead:,} messages ahead "
                    f"for each pool process: with late acknowledgement the last is unacknowledged for {held:,.0f} s. "
                    f"After {timeout:,.0f} s (consumer_timeout) RabbitMQ gives it to another worker, and the task runs "
                    f"twice. Lower prefetch_multiplier in celery_worker_nodes, or set rabbitmq_consumer_timeout to "
                    f"more than {math.ceil(held):,}, and run site.yml"
                )
    return list(found.values())


def messages(plan: Plan) -> Counter[tuple[str, str, str]]:
    """Return how many messages the run has by kind, task and queue."""
    found: Counter[tuple[str, str, str]] = Counter()
    for place, number in plan.counts().items():
        route = plan.routes[place]
        found[route.name, route.task, route.queue] += number
    return found


def least_seconds(plan: Plan, probed: Iterable[Probed], before: Iterable[Worker]) -> float:
    """Return the seconds that a run takes at least, by its tasks of a second or more (:data:`TELLING`).

    All pool processes share the work of all queues, and those that serve a queue do all of its work: the longest of
    these holds.
    """
    number, there = messages(plan), list(before)
    work: defaultdict[str, float] = defaultdict(float)
    for one in probed:
        if one.seconds >= TELLING:
            work[one.queue] += number[one.kind, one.task, one.queue] * one.seconds

    def shared(queues: set[str]) -> float:
        processes = sum(max(1, worker.pool_size) for worker in there if queues & set(worker.queues))
        return sum(work[queue] for queue in queues) / max(1, processes)

    return max(map(shared, [set(work), *({queue} for queue in work)]), default=0.0)


def duration_line(seconds: float) -> str:
    """Return the line that says how long a run takes; empty for less than a minute."""
    if seconds < 60:
        return ""
    words = f"{seconds / 60:,.0f} min" if seconds < 7200 else f"{seconds / 3600:,.1f} h"
    return f"the run takes {words} or more, as long as these tasks are; for a shorter one: fewer --tasks (TASKS=)"
