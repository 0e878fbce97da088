"""Findings about the tasks' results: what is lost, wrong, failed or executed twice, and how results were fetched."""

from __future__ import annotations

from typing import TYPE_CHECKING

from taskmill.report.findings.finding import Finding
from taskmill.report.text import count, listed, seconds

if TYPE_CHECKING:
    from taskmill.report.metrics import Metrics


def bad_results(metrics: Metrics) -> Finding | None:
    """Tasks were lost, wrong or failed."""
    if not metrics.bad:
        return None
    counts = {name: metrics.counts.get(name, 0) for name in ("lost", "wrong", "failed")}
    bad = listed([f"{number:,} {name}" for name, number in counts.items() if number])
    advice = "faults.jsonl lists each one; the table of faults below shows the first."
    if counts["lost"] and metrics.evicted:
        advice = "The result store threw results away: give it more memory. " + advice
    return Finding(
        "fault", "Not every task has its right result.", f"{bad} of {metrics.counts.get('posted', 0):,}.", advice
    )


def unstored_results(metrics: Metrics) -> Finding | None:
    """Tasks store no result."""
    if not metrics.acknowledged:
        return None
    how = (
        "The workers counted them as executed."
        if metrics.acknowledged_from == "workers"
        else "No queue and no worker has their messages any more; how often they were executed is not known."
    )
    return Finding(
        "note",
        "No value was compared of tasks that store no result.",
        f"{count(metrics.acknowledged, 'task', 'tasks')}. {how}",
        "Whether such a task failed shows in the workers' logs alone. With a result backend and without ignore_result "
        "every value is compared.",
    )


def parked_tasks(metrics: Metrics) -> Finding | None:
    """Tasks killed their processes each time they ran."""
    if not metrics.parked:
        return None
    return Finding(
        "fault",
        "Tasks killed their process each time they ran.",
        f"{count(metrics.parked, 'task', 'tasks')} parked: the messages are dead letters, and no longer run.",
        "faults.jsonl names them as parked. Look for what they do to the process (memory, a crash in a library), then "
        "send them back to their queues: taskmill dead-letters --requeue.",
    )


def duplicates(metrics: Metrics) -> Finding | None:
    """Tasks were executed more than once."""
    if not (number := metrics.counts.get("duplicates", 0)):
        return None
    return Finding(
        "note",
        "Some tasks were executed more than once.",
        f"{number:,} executions beyond one for each task.",
        "Celery delivers at least once: tasks should bear it. It comes with lost connections and workers that ended "
        "early.",
    )


def slow_collecting(metrics: Metrics) -> Finding | None:
    """The client fetched results for long after the last task was done."""
    if metrics.collecting_after is None or metrics.collecting_after < max(1.0, 0.05 * metrics.seconds):
        return None
    return Finding(
        "limit",
        "The client was still fetching results after the last task was done.",
        f"{seconds(metrics.collecting_after)} of {seconds(metrics.seconds)} passed after the end of the last task.",
        "The workers were faster than this run's rate says; give the client more CPU, or a nearer result store.",
    )
