"""Findings about the cores: what the workers spent them on, and which other part took a large share of them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from taskmill.report import cpu_breakdown
from taskmill.report.findings.finding import Finding, Rule
from taskmill.report.text import listed, percent, seconds

if TYPE_CHECKING:
    from taskmill.report.metrics import Metrics

#: Share of unaccounted core-seconds from which on a run is no measure of its cluster.
DISTURBED = 0.25
#: Calls in one message, where a finding says what larger tasks would do.
CALLS_PER_MESSAGE = 10


def disturbed(metrics: Metrics) -> bool:
    """Return whether so much CPU went elsewhere that busy cores say nothing of the workers."""
    return metrics.share(cpu_breakdown.UNACCOUNTED) >= DISTURBED


def busy_with_this_run(metrics: Metrics) -> bool:
    """Return whether the workers' cores were busy, and busy with this run."""
    return metrics.worker_busy is not None and metrics.worker_busy >= 0.8 and not disturbed(metrics)


def overhead(metrics: Metrics) -> Finding | None:
    """The workers' cores were busy, but not with the tasks' own function."""
    if not busy_with_this_run(metrics) or metrics.function_cpu is None or metrics.overhead_cpu is None:
        return None
    worker_cpu = metrics.function_cpu + metrics.overhead_cpu
    if not worker_cpu or metrics.function_cpu / worker_cpu > 0.5:
        return None
    all_cpu = worker_cpu + ((metrics.other_cpu or 0.0) if metrics.hosts_beside_workers else 0.0)
    with_larger_tasks = metrics.function_cpu + (all_cpu - metrics.function_cpu) / CALLS_PER_MESSAGE
    gain = all_cpu / with_larger_tasks
    return Finding(
        "limit",
        "The workers' cores were busy carrying tasks around, not doing them.",
        f"They were {percent(metrics.worker_busy)} busy. Of each task's {seconds(worker_cpu)} of CPU in the workers, "
        f"{seconds(metrics.function_cpu)} ({percent(metrics.function_cpu / worker_cpu)}) was its own function; "
        f"{seconds(metrics.overhead_cpu)} was Celery and the libraries around it.",
        f"Make tasks larger: with {CALLS_PER_MESSAGE} calls in one message, the same cores could do up to {gain:.1f} "
        f"times as many calls per second (about {metrics.finished_per_s * gain:,.0f}), as the cost around them is per "
        "message. Workers that take messages in batches (celery-batches) or a pool of fewer, busier processes cut it "
        "too.",
    )


def useful(metrics: Metrics) -> Finding | None:
    """The workers' cores were busy with the tasks' own function."""
    if not busy_with_this_run(metrics) or metrics.function_cpu is None or metrics.overhead_cpu is None:
        return None
    worker_cpu = metrics.function_cpu + metrics.overhead_cpu
    if not worker_cpu or metrics.function_cpu / worker_cpu <= 0.5:
        return None
    return Finding(
        "limit",
        "The tasks' own function is the limit: the workers' cores were busy with it.",
        f"They were {percent(metrics.worker_busy)} busy, and {percent(metrics.function_cpu / worker_cpu)} of the "
        f"workers' CPU was the function itself ({seconds(metrics.function_cpu)} for each task).",
        "A faster function (or interpreter), or more cores, is what makes this faster; tuning the queue will not.",
    )


def shared_machine(metrics: Metrics) -> Finding | None:
    """Workers shared their cores with other hosts of the landscape."""
    if not metrics.hosts_beside_workers or metrics.other_cpu is None or not metrics.function_cpu:
        return None
    hosts = metrics.hosts_beside_workers
    return Finding(
        "note",
        "The workers share their cores with other hosts.",
        f"{listed(hosts)} {'runs' if len(hosts) == 1 else 'run'} on the same machine; broker, result store, client and "
        f"the rest took {seconds(metrics.other_cpu)} of its CPU for each task, the function "
        f"{seconds(metrics.function_cpu)}.",
        "On machines of their own the workers would have those cores too; compare rates only between runs of one "
        "shape.",
    )


def unaccounted(metrics: Metrics) -> Finding | None:
    """The measured parts do not add up to the whole."""
    rest = metrics.share(cpu_breakdown.UNACCOUNTED)
    if abs(rest) < 0.05 or metrics.overhead_cpu is None:
        return None
    if disturbed(metrics):
        return Finding(
            "limit",
            "Something else took the cores.",
            f"{percent(rest)} of all core-seconds went to what is no service of the hosts, and was not idle.",
            "Find out what else runs on those machines, and run the load again without it.",
        )
    return Finding(
        "note",
        "A part of the cores' time is not accounted for.",
        f"{percent(rest)} of all core-seconds belongs to no service of the hosts and was not idle.",
        "The kernel's own work is in it, and whatever else ran on those machines.",
    )


def costly_part(part: str, threshold: float, title: str, advice: str) -> Rule:
    """Return the rule that finds a part whose share of all core-seconds is at least ``threshold``."""

    def rule(metrics: Metrics) -> Finding | None:
        share = metrics.share(part)
        if share < threshold:
            return None
        per_task = (
            f" ({seconds(share * metrics.core_seconds / metrics.tasks)} for each task)"
            if metrics.tasks and metrics.core_seconds
            else ""
        )
        return Finding("note", title, f"{percent(share)} of all core-seconds{per_task}.", advice)

    rule.__name__ = f"costly_{part.replace(' ', '_')}"
    return rule


costly_broker = costly_part(
    "broker",
    0.15,
    "The broker took a large share of the cores.",
    "Give it a machine of its own, or fewer schedulers (+S) where it fights the workers; larger tasks mean fewer "
    "messages.",
)
costly_client = costly_part(
    "client",
    0.15,
    "The client took a large share of the cores.",
    "Give it a machine of its own; profiling is a part of it, so compare with load_profile: false.",
)
costly_result_store = costly_part(
    "result store",
    0.1,
    "The result store took a large share of the cores.",
    "Ignore results that nobody reads, or make tasks larger.",
)
costly_monitor = costly_part(
    "monitor",
    0.03,
    "The monitor took cores from the load.",
    "Stop Flower while measuring, or run workers without events.",
)
costly_sampling = costly_part(
    "sampling",
    0.03,
    "The sampling took cores from the load.",
    "Sample less often, when the run is a long one.",
)
costly_hypervisor = costly_part(
    cpu_breakdown.STOLEN,
    0.02,
    "The hypervisor gave the cores to others.",
    "Run on machines whose cores are yours; rates vary with the neighbours' load until then.",
)
