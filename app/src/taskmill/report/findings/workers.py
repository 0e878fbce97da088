"""Findings about the workers: pool processes, prefetch, and how queues and tasks are spread over workers."""

from __future__ import annotations

from typing import TYPE_CHECKING

from taskmill.report.findings.finding import Finding
from taskmill.report.text import count, percent, seconds

if TYPE_CHECKING:
    from taskmill.report.metrics import Metrics


def spare_cores(metrics: Metrics) -> Finding | None:
    """Messages waited although the workers' cores were free."""
    if metrics.worker_busy is None or metrics.worker_busy > 0.6 or not metrics.backlog_peak:
        return None
    if not metrics.pool_processes or metrics.backlog_peak < max(100, 0.1 * metrics.tasks):
        return None
    if metrics.publish_seconds > 0.8 * metrics.seconds:
        return None
    waits = metrics.task_duration and metrics.function_cpu and metrics.task_duration > 3 * metrics.function_cpu
    reason = (
        f" A task took {seconds(metrics.task_duration)} but used only {seconds(metrics.function_cpu)} of CPU: it waits "
        "for something else."
        if waits
        else ""
    )
    return Finding(
        "limit",
        "Messages waited while the workers' cores were free.",
        f"Up to {metrics.backlog_peak:,.0f} tasks were open, with {percent(metrics.worker_busy)} of "
        f"{metrics.worker_cores} worker cores busy and "
        f"{count(metrics.pool_processes, 'pool process', 'pool processes')}.{reason}",
        "Raise the concurrency of the workers"
        + (", or use threads or gevent for tasks that wait." if waits else "; look for what they wait for."),
    )


def crowded_pool(metrics: Metrics) -> Finding | None:
    """There were more pool processes than cores."""
    if not metrics.worker_cores or metrics.pool_processes <= metrics.worker_cores or (metrics.worker_busy or 0) < 0.8:
        return None
    wait = ""
    if metrics.task_duration and metrics.function_cpu and metrics.task_duration > 1.3 * metrics.function_cpu:
        wait = (
            f" A task took {seconds(metrics.task_duration)} by the clock for {seconds(metrics.function_cpu)} of CPU: "
            "the rest of the time it waited, most likely for a core."
        )
    return Finding(
        "note",
        "There are more pool processes than cores.",
        f"{count(metrics.pool_processes, 'pool process', 'pool processes')} shared "
        f"{count(metrics.worker_cores, 'core')}.{wait}",
        f"For tasks that compute, try {metrics.worker_cores} or fewer: the others only add switching and memory.",
    )


def fewer_consumers(metrics: Metrics) -> Finding | None:
    """One queue had fewer consumers than the others."""
    if len(metrics.consumers) < 2 or min(metrics.consumers.values()) == max(metrics.consumers.values()):
        return None
    queue = min(metrics.consumers, key=lambda name: metrics.consumers[name])
    most = max(metrics.consumers.values())
    wait = ""
    if len(metrics.queue_p50) > 1 and queue in metrics.queue_p50:
        longest_other = max(median for name, median in metrics.queue_p50.items() if name != queue)
        wait = (
            f" Its tasks waited {seconds(metrics.queue_p50[queue])} (median), those of the others at most "
            f"{seconds(longest_other)}."
        )
    return Finding(
        "note",
        f"The queue {queue} has fewer consumers than others.",
        f"{metrics.consumers[queue]:.0f} at most, against {most:.0f}.{wait}",
        f"If {queue} should be served as well as the rest, add it to more workers (celery_worker_nodes).",
    )


def uneven_workers(metrics: Metrics) -> Finding | None:
    """Workers of equal size executed unequal numbers of tasks."""
    if len(metrics.executed) < 2 or not sum(metrics.executed.values()):
        return None
    by_process = {name: tasks / max(1, metrics.pool_sizes.get(name, 1)) for name, tasks in metrics.executed.items()}
    least = min(by_process, key=lambda name: by_process[name])
    most = max(by_process, key=lambda name: by_process[name])
    if by_process[most] < 1.5 * max(by_process[least], 1):
        return None
    return Finding(
        "note",
        "The work was not spread evenly over the workers.",
        f"{most} executed {metrics.executed[most]:,} tasks and {least} {metrics.executed[least]:,}, for "
        f"{count(metrics.pool_sizes.get(most, 0), 'pool process', 'pool processes')} and "
        f"{metrics.pool_sizes.get(least, 0)}.",
        f"Look at what {least} had less of: queues, cores, time since its start; a lower prefetch spreads long tasks "
        "better.",
    )


def long_tail(metrics: Metrics) -> Finding | None:
    """The last hundredth of the tasks took a large share of the run."""
    if metrics.tail_s is None or metrics.tasks < 1000 or metrics.tail_s < max(1.0, 0.1 * metrics.seconds):
        return None
    return Finding(
        "note",
        "The last tasks took long.",
        f"The last hundredth of the tasks took {seconds(metrics.tail_s)} of {seconds(metrics.seconds)}.",
        "Near the end some processes have nothing left while others work off what they fetched: lower the prefetch.",
    )
