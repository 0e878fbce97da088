"""What held the run back and what to change, in plain words: rules over a run's metrics.

A rule is a function that takes :class:`~taskmill.report.metrics.Metrics` and returns a :class:`Finding` or ``None``. To
add one, write it into the module of its topic, list it in :data:`RULES`, and add its case to
``tests/test_findings.py``; a figure that no rule uses yet becomes a field of ``Metrics``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from taskmill.report.findings import client, cpu, measuring, results, services, workers
from taskmill.report.findings.finding import KINDS, Finding, Rule

if TYPE_CHECKING:
    from taskmill.report.metrics import Metrics

__all__ = ["KINDS", "RULES", "Finding", "Rule", "find"]

#: Findings of one kind are shown in this order.
RULES: tuple[Rule, ...] = (
    results.bad_results,
    results.parked_tasks,
    services.evictions,
    services.out_of_memory,
    services.restarts,
    services.broker_alarms,
    cpu.overhead,
    cpu.useful,
    client.unsustained_rate,
    client.client_limit,
    client.client_stalled,
    workers.spare_cores,
    results.slow_collecting,
    client.publishing_outran,
    cpu.costly_broker,
    cpu.costly_client,
    cpu.costly_result_store,
    cpu.costly_monitor,
    cpu.costly_sampling,
    cpu.costly_hypervisor,
    workers.crowded_pool,
    cpu.shared_machine,
    services.flow_control,
    workers.fewer_consumers,
    workers.uneven_workers,
    workers.long_tail,
    results.duplicates,
    results.unstored_results,
    services.full_memory,
    measuring.inexact_clocks,
    measuring.profile_cost,
    measuring.untimed_function,
    cpu.unaccounted,
    client.sustained_rate,
)


def find(metrics: Metrics) -> list[Finding]:
    """Return what the rules find: faults first, then limits, notes, and what is well."""
    findings = [finding for rule in RULES if (finding := rule(metrics)) is not None]
    return sorted(findings, key=lambda finding: KINDS.index(finding.kind))
