"""Findings about the services: memory, restarts, and the broker's limits."""

from __future__ import annotations

from typing import TYPE_CHECKING

from taskmill.report.findings.finding import Finding
from taskmill.report.text import count, listed, percent, seconds, size

if TYPE_CHECKING:
    from taskmill.report.metrics import Metrics


def evictions(metrics: Metrics) -> Finding | None:
    """The result store evicted results, since it was too small."""
    if not metrics.evicted:
        return None
    return Finding(
        "fault",
        "The result store was too small.",
        f"It evicted {metrics.evicted:,} values during the run, with {size(metrics.result_store_bytes)} of memory.",
        "Give it more memory (memcached_memory_mb, redis_memory_mb), fetch results sooner, or let them expire earlier.",
    )


def out_of_memory(metrics: Metrics) -> Finding | None:
    """The kernel killed processes."""
    if not metrics.oom_kills:
        return None
    killed = listed([f"{count(kills, 'process', 'processes')} on {host}" for host, kills in metrics.oom_kills.items()])
    return Finding(
        "fault",
        "The kernel killed processes for want of memory.",
        f"{killed}.",
        "Give that host more memory, or run fewer pool processes there.",
    )


def restarts(metrics: Metrics) -> Finding | None:
    """A service was restarted while the load ran."""
    if not metrics.restarts:
        return None
    restarted = listed([f"{unit}: {count(number, 'time')}" for unit, number in metrics.restarts.items()])
    return Finding(
        "fault",
        "Services restarted while the load ran.",
        f"{restarted}.",
        "Look at that unit's journal; tasks that it held went back to their queue and ran a second time.",
    )


def broker_alarms(metrics: Metrics) -> Finding | None:
    """The broker blocked publishers."""
    if not metrics.alarms and metrics.blocked_s < 0.01 * max(metrics.seconds, 1):
        return None
    raised = f"Alarms: {listed(sorted(set(metrics.alarms)))}. " if metrics.alarms else ""
    return Finding(
        "limit",
        "The broker stopped taking messages.",
        f"{raised}Posting threads stood blocked for {seconds(metrics.blocked_s)}, all together.",
        "Give the broker more memory or disk, or post no faster than the workers work (--rate).",
    )


def flow_control(metrics: Metrics) -> Finding | None:
    """The broker slowed the publishers' connections down."""
    if not metrics.flow_samples:
        return None
    return Finding(
        "note",
        "The broker held the posting connections back (flow control).",
        f"Seen in {count(metrics.flow_samples, 'sample')}; "
        f"{metrics.published_per_s:,.0f} tasks were posted per second.",
        "Posting faster will not help. Spread the load over more queues, or give the broker faster cores or disk.",
    )


def full_memory(metrics: Metrics) -> Finding | None:
    """A host's memory was nearly full."""
    full = {host: share for host, share in metrics.memory.items() if share >= 0.9}
    if not full:
        return None
    return Finding(
        "note",
        "Memory was nearly used up.",
        f"{listed([f'{percent(share)} on {host}' for host, share in full.items()])}, at most.",
        "Give it more, before the kernel begins to kill.",
    )
