"""Findings about the client's rate and pace: whether publishing or working was the limit."""

from __future__ import annotations

from typing import TYPE_CHECKING

from taskmill.report.findings.finding import Finding
from taskmill.report.text import percent, seconds

if TYPE_CHECKING:
    from taskmill.report.metrics import Metrics


def publishing_outran(metrics: Metrics) -> Finding | None:
    """Without a pace: the workers, not the client, were the limit."""
    if metrics.rate or metrics.tasks < 100 or not metrics.backlog_peak or metrics.finished_per_s <= 0:
        return None
    if metrics.backlog_peak < 0.2 * metrics.tasks or metrics.published_per_s < 1.5 * metrics.finished_per_s:
        return None
    return Finding(
        "note",
        "Posting outran the workers.",
        f"{metrics.published_per_s:,.0f} tasks per second were posted and {metrics.finished_per_s:,.0f} finished; "
        f"the backlog grew to {metrics.backlog_peak:,.0f} tasks after {seconds(metrics.backlog_peak_at)}.",
        "Faster posting changes nothing; the workers' side decides. Time in the queue is here mostly the wait for "
        "tasks posted before: for the latency of one task, post at a pace (--rate) below what the workers finish.",
    )


def client_limit(metrics: Metrics) -> Finding | None:
    """Without a pace: the workers waited for messages."""
    if metrics.rate or metrics.tasks < 100 or metrics.backlog_peak is None or metrics.seconds <= 0:
        return None
    if metrics.publish_seconds < 0.8 * metrics.seconds or metrics.backlog_peak > 0.1 * metrics.tasks:
        return None
    return Finding(
        "limit",
        "The client was the limit: workers waited for messages.",
        f"Posting took {percent(min(1.0, metrics.publish_seconds / metrics.seconds))} of the run, at "
        f"{metrics.published_per_s:,.0f} tasks per second, and never more than {metrics.backlog_peak:,.0f} tasks were "
        "open.",
        "Post from more processes (--processes): threads of one process share its interpreter and post no faster.",
    )


def unsustained_rate(metrics: Metrics) -> Finding | None:
    """Paced: the workers did not keep up with it."""
    if not metrics.rate or not metrics.backlog_peak or not metrics.finished_per_s:
        return None
    # Less than the tasks of a second is no backlog.
    if metrics.backlog_peak < max(metrics.rate, 0.05 * metrics.tasks) or metrics.finished_per_s > 0.95 * metrics.rate:
        return None
    return Finding(
        "limit",
        "The workers did not keep up with the pace.",
        f"{metrics.rate:,.0f} tasks per second were asked for and {metrics.finished_per_s:,.0f} finished; the backlog "
        f"grew to {metrics.backlog_peak:,.0f} tasks.",
        f"At this pace the wait grows for as long as the load lasts. This cluster carries about "
        f"{metrics.finished_per_s:,.0f} per second.",
    )


def sustained_rate(metrics: Metrics) -> Finding | None:
    """Paced: the workers kept up with it."""
    if not metrics.rate or metrics.backlog_peak is None or metrics.bad or unsustained_rate(metrics):
        return None
    return Finding(
        "good",
        "The workers kept up with the pace.",
        f"{metrics.rate:,.0f} tasks per second were asked for, {metrics.finished_per_s:,.0f} finished, and at most "
        f"{metrics.backlog_peak:,.0f} were open at a time.",
    )


def client_stalled(metrics: Metrics) -> Finding | None:
    """Paced: the client itself was late."""
    if metrics.late_s is None or metrics.late_s < 0.1:
        return None
    return Finding(
        "limit" if metrics.late_s >= 1 else "note",
        "The client fell behind its own pace.",
        f"It posted up to {seconds(metrics.late_s)} later than it should have, at {metrics.late_at}. Latency counts "
        f"from when a task was due, so this is part of it.",
        "Give the client cores of its own or more processes (--processes), or ask for a lower rate.",
    )
