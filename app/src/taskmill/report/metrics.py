"""The metrics of a run that findings rest on, each measured or ``None``."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
from msgspec.structs import asdict

from taskmill.report import cpu_breakdown
from taskmill.report.plain_data import as_dict, as_integer, as_list, as_number

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from taskmill.report.cpu_breakdown import CpuBreakdown
    from taskmill.report.run_folder import Run
    from taskmill.samples.task_timings import TaskTimings


@dataclass
class Metrics:
    """Metrics of one run; times in seconds, shares as parts of one."""

    tasks: int = 0
    seconds: float = 0.0
    publish_seconds: float = 0.0
    published_per_s: float = 0.0
    finished_per_s: float = 0.0
    counts: dict[str, int] = field(default_factory=dict)
    #: Tasks that store no result and are done, and where that is known from: workers or queues.
    acknowledged: int = 0
    acknowledged_from: str = ""
    #: Paced load: the tasks per second that were asked for, the most by which the client was late, and at which pace.
    rate: float | None = None
    late_s: float | None = None
    late_at: str = ""
    #: Share of the worker machines' cores that was busy, the number of these cores, and of pool processes on them.
    worker_busy: float | None = None
    worker_cores: int = 0
    pool_processes: int = 0
    #: Hosts that share the workers' machines without being worker hosts.
    hosts_beside_workers: list[str] = field(default_factory=list)
    #: Of one task: CPU seconds of its own function, of the workers' units around it, and of all other parts; and the
    #: seconds from its start to its end.
    function_cpu: float | None = None
    overhead_cpu: float | None = None
    other_cpu: float | None = None
    task_duration: float | None = None
    #: Share of all core-seconds by part.
    shares: dict[str, float] = field(default_factory=dict)
    #: The most tasks that were published and not done, and the seconds from the run's start until then.
    backlog_peak: float | None = None
    backlog_peak_at: float = 0.0
    #: By queue: median and p99 of the seconds in the queue, and the most consumers.
    queue_p50: dict[str, float] = field(default_factory=dict)
    queue_p99: dict[str, float] = field(default_factory=dict)
    consumers: dict[str, float] = field(default_factory=dict)
    #: By worker: tasks executed, and pool processes.
    executed: dict[str, int] = field(default_factory=dict)
    pool_sizes: dict[str, int] = field(default_factory=dict)
    #: Seconds from the last task's end to the last result checked, and those that the last hundredth of tasks took.
    collecting_after: float | None = None
    tail_s: float | None = None
    #: Tasks that were given up, since each time they ran their process was lost.
    parked: int = 0
    #: Values that the result store evicted during the run, and its size in bytes.
    evicted: int | None = None
    result_store_bytes: float | None = None
    alarms: list[str] = field(default_factory=list)
    #: Samples in which the broker held connections back.
    flow_samples: int = 0
    #: Seconds that the broker blocked publishing, over all threads.
    blocked_s: float = 0.0
    restarts: dict[str, int] = field(default_factory=dict)
    oom_kills: dict[str, int] = field(default_factory=dict)
    #: By host: the highest share of memory in use.
    memory: dict[str, float] = field(default_factory=dict)
    #: Seconds by which the clock that is known least exactly may be off.
    clock_error: float | None = None
    #: Finished tasks per second without cProfile, divided by those with it, less one.
    profile_cost: float | None = None
    profiled: bool = False
    #: Whether the function behind the tasks was timed by itself.
    function_timed: bool = True

    @property
    def bad(self) -> int:
        """Tasks that were lost, failed, or have a wrong result."""
        return sum(self.counts.get(name, 0) for name in ("lost", "wrong", "failed"))

    def share(self, part: str) -> float:
        """Return a part's share of all core-seconds, 0 when it is not known."""
        return self.shares.get(part, 0.0)

    @property
    def core_seconds(self) -> float:
        """All core-seconds, worked back from the function's share of them; 0 when it is not known."""
        share = self.share(cpu_breakdown.FUNCTION)
        return self.function_cpu * self.tasks / share if self.function_cpu and share else 0.0


def measure(run: Run, breakdown: CpuBreakdown | None) -> Metrics:
    """Return the metrics of a run whose CPU time was broken down, where it could be."""
    record, client = run.record, run.section("client")
    metrics = Metrics(
        tasks=record.counts.done,
        acknowledged=record.counts.acknowledged or 0,
        acknowledged_from=record.acknowledged_from,
        seconds=run.seconds,
        publish_seconds=record.seconds.post,
        published_per_s=record.rates.posted_per_s,
        finished_per_s=record.rates.completed_per_s,
        counts=asdict(record.counts),
        rate=as_number(record.workload.rate) or None,
        parked=record.parked,
        evicted=as_integer(run.result_store.get("evicted_during_run")),
        result_store_bytes=as_number(run.result_store.get("limit_bytes")),
        blocked_s=as_number(client.get("blocked_seconds")) or 0.0,
        profiled=bool(run.profile),
        function_timed=as_number(record.environment.get("function_seconds")) is not None,
    )
    add_pace(metrics, run)
    add_workers(metrics, run, breakdown)
    add_queues(metrics, run)
    add_limits(metrics, run)
    if breakdown is not None:
        add_cpu(metrics, run, breakdown)
    metrics.memory = {host.name: float(host.memory.max()) / 100 for host in run.host_samples if len(host.memory)}
    clock_errors = [
        as_number(as_dict(clock).get("error_s")) or 0.0
        for at in ("start", "end")
        for clock in as_dict(run.clocks.get(at)).values()
    ]
    metrics.clock_error = max(clock_errors, default=None)
    without, with_profile = (
        as_number(as_dict(run.profile_cost.get(side)).get("completed_per_s")) for side in ("without", "with")
    )
    if without and with_profile:
        metrics.profile_cost = without / with_profile - 1
    return metrics


def add_cpu(metrics: Metrics, run: Run, breakdown: CpuBreakdown) -> None:
    """Add the parts' shares, and what one task cost in which part."""
    metrics.shares = {part.name: part.share for part in breakdown.parts}
    if not metrics.tasks:
        return
    function = breakdown.core_seconds(cpu_breakdown.FUNCTION)
    overhead = breakdown.core_seconds(cpu_breakdown.OVERHEAD)
    metrics.function_cpu = function / metrics.tasks if function is not None else None
    metrics.overhead_cpu = overhead / metrics.tasks if overhead is not None else None
    not_other = {
        cpu_breakdown.FUNCTION,
        cpu_breakdown.OVERHEAD,
        cpu_breakdown.IDLE,
        cpu_breakdown.STOLEN,
        cpu_breakdown.UNACCOUNTED,
    }
    other = sum(part.core_seconds for part in breakdown.parts if part.name not in not_other)
    metrics.other_cpu = other / metrics.tasks
    duration = as_number(run.section("task_seconds").get("run"))
    metrics.task_duration = duration / metrics.tasks if duration else None


def add_pace(metrics: Metrics, run: Run) -> None:
    """Add by how much the client fell behind its pace; of stages, in the one in which it did most.

    Tasks that are due all at once are late by nature, and so are those of the stage that follows.
    """
    if metrics.rate:
        metrics.late_s = as_number(run.section("client").get("late_s"))
        metrics.late_at = f"{metrics.rate:,.0f} tasks per second"
    before = True
    for stage in map(as_dict, as_list(run.data.get("stages"))):
        held, late = bool(as_number(stage.get("seconds"))), as_number(stage.get("late_s"))
        if held and before and late is not None and late > (metrics.late_s or 0.0):
            metrics.late_s, metrics.late_at = late, str(stage.get("text", ""))
        before = held


def add_workers(metrics: Metrics, run: Run, breakdown: CpuBreakdown | None) -> None:
    """Add how busy the workers' machines were, which other hosts share them, and what each worker executed."""
    worker_hosts = set(cpu_breakdown.group_hosts(run, "workers"))
    by_name = {host.name: host for host in run.host_samples}
    busy = []
    for machine in breakdown.machines if breakdown else []:
        if not worker_hosts & set(machine.hosts):
            continue
        metrics.worker_cores += machine.cores
        metrics.hosts_beside_workers += [name for name in machine.hosts if name not in worker_hosts]
        sampled = next((by_name[name] for name in machine.hosts if name in by_name), None)
        if sampled is not None:
            busy.append((sampled.mean_busy() / 100, machine.cores))
    if busy:
        metrics.worker_busy = sum(share * cores for share, cores in busy) / sum(cores for _, cores in busy)
    metrics.pool_sizes = {worker.name: worker.pool_size for worker in run.record.workers}
    metrics.pool_processes = sum(metrics.pool_sizes.values())
    metrics.executed = {
        name: sum(as_integer(counts.get(outcome)) or 0 for outcome in ("succeeded", "failed"))
        for name, counts in run.entries("by_worker").items()
    }


def add_queues(metrics: Metrics, run: Run) -> None:
    """Add how many tasks waited, in which queues and for how long."""
    metrics.consumers = {
        queue: float(depth.consumers.max()) for queue, depth in run.queue_depths.items() if len(depth.consumers)
    }
    if run.timings is not None and run.start is not None and len(run.timings.posted):
        add_timings(metrics, run, run.timings)
    elif run.queue_depths:
        times = most_sample_times(run)
        waiting = sum(np.interp(times, depth.times, depth.ready) for depth in run.queue_depths.values())
        metrics.backlog_peak = float(np.max(waiting))
        metrics.backlog_peak_at = float(times[int(np.argmax(waiting))] - (run.start or times[0]))


def add_timings(metrics: Metrics, run: Run, timings: TaskTimings) -> None:
    """Add backlog, tail and time in the queues by the moments of every task."""
    published, done = run.elapsed(timings.posted), run.elapsed(timings.done)
    done = np.sort(done[np.isfinite(done)])
    published = np.sort(published)
    if len(done):
        at = np.concatenate((published[:: max(1, len(published) // 2000)], published[-1:]))
        open_tasks = np.searchsorted(published, at, "right") - np.searchsorted(done, at, "right")
        metrics.backlog_peak, metrics.backlog_peak_at = float(open_tasks.max()), float(at[int(open_tasks.argmax())])
        metrics.collecting_after = max(0.0, run.seconds - float(done[-1]))
        metrics.tail_s = float(done[-1] - np.quantile(done, 0.99))
    waits = timings.queue_time()
    for index, queue in enumerate(timings.queues):
        of_queue = waits[(timings.queue == index) & np.isfinite(waits)]
        if len(of_queue):
            metrics.queue_p50[queue], metrics.queue_p99[queue] = np.quantile(of_queue, [0.5, 0.99]).tolist()


def most_sample_times(run: Run) -> NDArray[np.float64]:
    """Return the times of the samples of that queue which has the most."""
    return max((depth.times for depth in run.queue_depths.values()), key=len)


def add_limits(metrics: Metrics, run: Run) -> None:
    """Add which limits were hit on the hosts."""
    for host, limits in run.limits.items():
        if kills := as_integer(limits.get("oom_kills")):
            metrics.oom_kills[host] = kills
        for unit, restarts in as_dict(limits.get("restarts")).items():
            if number := as_integer(restarts):
                metrics.restarts[f"{unit} on {host}"] = number
        broker = as_dict(limits.get("broker"))
        alarms = as_list(broker.get("alarms"))
        metrics.alarms += [str(alarm.get("what")) for alarm in alarms if as_dict(alarm).get("set")]
        metrics.flow_samples += len(as_list(broker.get("flow")))
