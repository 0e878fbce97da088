"""Findings about the measuring itself: how exact the times are, and what the profile cost."""

from __future__ import annotations

from typing import TYPE_CHECKING

from taskmill.report.findings.finding import Finding
from taskmill.report.text import percent, seconds

if TYPE_CHECKING:
    from taskmill.report.metrics import Metrics


def inexact_clocks(metrics: Metrics) -> Finding | None:
    """The clocks could not be compared well enough for the times shown."""
    typical = min(metrics.queue_p50.values(), default=None)
    if metrics.clock_error is None or typical is None or metrics.clock_error < max(0.002, 0.2 * abs(typical)):
        return None
    return Finding(
        "note",
        "Times in the queue are no more exact than the clocks.",
        f"A host's clock is known to {seconds(metrics.clock_error)} only; the median time in a queue is "
        f"{seconds(typical)}.",
        "Synchronise the hosts' clocks from a near source (chrony).",
    )


def untimed_function(metrics: Metrics) -> Finding | None:
    """The function behind the tasks was not timed by itself."""
    if metrics.function_timed:
        return None
    return Finding(
        "note",
        "The function behind the tasks was not timed by itself.",
        "So there is no efficiency: the share of the workers' cores that the tasks' own work would have needed without "
        "a queue is not known.",
        "Name the function, or the task itself, in app_function (taskmill run --function-seconds).",
    )


def profile_cost(metrics: Metrics) -> Finding | None:
    """cProfile slowed the run down."""
    if metrics.profile_cost is None or metrics.profile_cost < 0.05:
        return None
    return Finding(
        "note",
        "Profiling slowed this run down.",
        f"Without cProfile the same load finished {percent(metrics.profile_cost)} more tasks per second.",
        "For a rate to quote, run with load_profile: false.",
    )
