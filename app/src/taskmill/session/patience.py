"""What follows from how long the tasks take: when a result counts as lost, and what the broker does not wait for."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from taskmill.model.plan import RESULT_TIMEOUT

if TYPE_CHECKING:
    from collections.abc import Iterable

    from taskmill.cluster.workers import Worker
    from taskmill.model.plan import Plan
    from taskmill.model.record import Probed

#: How many times as long as the longest of its tasks a run waits without any new result.
TIMES = 3


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
