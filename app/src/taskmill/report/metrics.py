"""The figures that findings are drawn from, each measured or ``None``."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from taskmill.report import cpu_breakdown as wheres
from taskmill.report.run_folder import as_dict, as_list, as_number

if TYPE_CHECKING:
    from taskmill.report.cpu_breakdown import Where
    from taskmill.report.run_folder import Run


@dataclass
class Facts:
    """Figures of one run; seconds, counts, shares of one."""

    tasks: int = 0
    seconds: float = 0.0
    post_seconds: float = 0.0
    posted_per_s: float = 0.0
    finished_per_s: float = 0.0
    counts: dict[str, int] = field(default_factory=dict)
    #: Paced load: tasks per second that were asked for, and the most that the client was late.
    rate: float | None = None
    late_s: float | None = None
    #: Share of the worker machines' cores that was busy, how many cores they are, and how many processes execute tasks.
    worker_busy: float | None = None
    worker_cores: int = 0
    pool_processes: int = 0
    #: Hosts that share the workers' machines without being workers.
    beside_workers: list[str] = field(default_factory=list)
    #: Seconds of one task: CPU of its own function, of the workers' units around it, of all other parts; wall clock.
    function_cpu: float | None = None
    around_cpu: float | None = None
    elsewhere_cpu: float | None = None
    task_run: float | None = None
    #: Share of all core-seconds by part.
    shares: dict[str, float] = field(default_factory=dict)
    #: The most tasks that were posted and not done, when that was, and how many there were when posting ended.
    backlog_peak: float | None = None
    backlog_at: float = 0.0
    #: Median and p99 seconds in the queue by queue, consumers by queue at most.
    queue_p50: dict[str, float] = field(default_factory=dict)
    queue_p99: dict[str, float] = field(default_factory=dict)
    consumers: dict[str, float] = field(default_factory=dict)
    #: Executions and pool processes by worker.
    executed: dict[str, int] = field(default_factory=dict)
    pools: dict[str, int] = field(default_factory=dict)
    #: Seconds from the last task's end to the last result checked, and those that the last hundredth of tasks took.
    collecting_after: float | None = None
    tail_s: float | None = None
    #: Tasks that were lost with their process too often.
    parked: int = 0
    evicted: int | None = None
    result_store_bytes: float | None = None
    alarms: list[str] = field(default_factory=list)
    flow_samples: int = 0
    blocked_s: float = 0.0
    restarts: dict[str, int] = field(default_factory=dict)
    oom_kills: dict[str, int] = field(default_factory=dict)
    #: Peak share of memory by host; the clock furthest from the client's, with the uncertainty of that.
    memory: dict[str, float] = field(default_factory=dict)
    clock_error: float | None = None
    #: What cProfile cost: finished per second without it over with it, less one.
    profile_cost: float | None = None
    profiled: bool = False

    @property
    def bad(self) -> int:
        """Tasks that did not end well."""
        return sum(self.counts.get(name, 0) for name in ("lost", "wrong", "failed"))

    def share(self, part: str) -> float:
        """Return a part's share of all core-seconds, 0 when it is not known."""
        return self.shares.get(part, 0.0)


def gather(run: Run, where: Where | None) -> Facts:
    """Return the figures of a run."""
    data = run.data
    tasks = int(data["counts"]["retrieved"])
    facts = Facts(
        tasks=tasks,
        seconds=run.seconds,
        post_seconds=data["seconds"]["post"],
        posted_per_s=data["rates"]["posted_per_s"],
        finished_per_s=data["rates"]["completed_per_s"],
        counts=data["counts"],
        rate=as_number(data["workload"]["rate"]) or None,
        late_s=as_number(data["client"].get("late_s")),
        parked=integer(data.get("parked")) or 0,
        evicted=integer(data["memcached"].get("evicted_during_run")),
        result_store_bytes=as_number(data["memcached"].get("limit_bytes")),
        blocked_s=as_number(data["client"].get("blocked_seconds")) or 0.0,
        profiled=bool(run.profile),
    )
    of_workers(run, where, facts)
    of_queues(run, facts)
    of_limits(run, facts)
    if where is not None:
        facts.shares = {part.name: part.share for part in where.parts}
        if tasks:
            of_one_task(run, where, facts)
    facts.memory = {host.name: float(host.memory.max()) / 100 for host in run.hosts if len(host.memory)}
    errors = [
        as_number(as_dict(clock).get("error_s")) or 0.0
        for at in ("start", "end")
        for clock in as_dict(run.clocks.get(at)).values()
    ]
    facts.clock_error = max(errors, default=None)
    rates = [as_number(as_dict(run.cost.get(name)).get("completed_per_s")) for name in ("without", "with")]
    if rates[0] and rates[1]:
        facts.profile_cost = rates[0] / rates[1] - 1
    return facts


def of_one_task(run: Run, where: Where, facts: Facts) -> None:
    """Note what one task cost, by who spent it."""
    function, around = where.core_seconds(wheres.FUNCTION), where.core_seconds(wheres.AROUND)
    facts.function_cpu = function / facts.tasks if function is not None else None
    facts.around_cpu = around / facts.tasks if around is not None else None
    own = {wheres.FUNCTION, wheres.AROUND, wheres.IDLE, wheres.STOLEN, wheres.REST}
    facts.elsewhere_cpu = sum(part.core_seconds for part in where.parts if part.name not in own) / facts.tasks
    wall = as_number(run.data["task_seconds"].get("run"))
    facts.task_run = wall / facts.tasks if wall else None


def of_workers(run: Run, where: Where | None, facts: Facts) -> None:
    """Note how busy the workers' machines were, and who else lives there."""
    mine = set(wheres.group_hosts(run, "workers"))
    by_name = {host.name: host for host in run.hosts}
    busy = []
    for machine in where.machines if where else []:
        if not mine & set(machine.hosts):
            continue
        facts.worker_cores += machine.cores
        facts.beside_workers += [name for name in machine.hosts if name not in mine]
        sampled = next((by_name[name] for name in machine.hosts if name in by_name), None)
        if sampled is not None:
            busy.append((sampled.mean() / 100, machine.cores))
    if busy:
        facts.worker_busy = sum(share * cores for share, cores in busy) / sum(cores for _, cores in busy)
    facts.pools = {str(worker.get("name")): integer(worker.get("pool_size")) or 0 for worker in run.data["workers"]}
    facts.pool_processes = sum(facts.pools.values())
    facts.executed = {
        name: sum(integer(figures.get(outcome)) or 0 for outcome in ("succeeded", "failed"))
        for name, figures in run.data["by_worker"].items()
    }


def of_queues(run: Run, facts: Facts) -> None:
    """Note what waited, where and how long."""
    facts.consumers = {
        queue: float(depth.consumers.max()) for queue, depth in run.depths.items() if len(depth.consumers)
    }
    times = run.timings
    if times is None or run.start is None or not len(times.posted):
        if run.depths:
            whole = sum(np.interp(depth_times(run), depth.times, depth.ready) for depth in run.depths.values())
            facts.backlog_peak = float(np.max(whole))
            facts.backlog_at = float(depth_times(run)[int(np.argmax(whole))] - (run.start or depth_times(run)[0]))
        return
    posted, done = run.since(times.posted), run.since(times.done)
    done = np.sort(done[np.isfinite(done)])
    posted = np.sort(posted)
    if len(done):
        at = np.concatenate((posted[:: max(1, len(posted) // 2000)], posted[-1:]))
        open_tasks = np.searchsorted(posted, at, "right") - np.searchsorted(done, at, "right")
        facts.backlog_peak, facts.backlog_at = float(open_tasks.max()), float(at[int(open_tasks.argmax())])
        facts.collecting_after = max(0.0, run.seconds - float(done[-1]))
        facts.tail_s = float(done[-1] - np.quantile(done, 0.99))
    waited = times.queue_time()
    for index, queue in enumerate(times.queues):
        mine = waited[(times.queue == index) & np.isfinite(waited)]
        if len(mine):
            facts.queue_p50[queue], facts.queue_p99[queue] = np.quantile(mine, [0.5, 0.99]).tolist()


def depth_times(run: Run) -> Any:
    """Return the moments at which the queue with the most samples was looked at."""
    return max((depth.times for depth in run.depths.values()), key=len)


def of_limits(run: Run, facts: Facts) -> None:
    """Note which limits were hit."""
    for host, limits in run.limits.items():
        if kills := integer(limits.get("oom_kills")):
            facts.oom_kills[host] = kills
        for unit, restarts in as_dict(limits.get("restarts")).items():
            if number := integer(restarts):
                facts.restarts[f"{unit} on {host}"] = number
        broker = as_dict(limits.get("broker"))
        facts.alarms += [str(alarm.get("what")) for alarm in as_list(broker.get("alarms")) if as_dict(alarm).get("set")]
        facts.flow_samples += len(as_list(broker.get("flow")))


def integer(value: Any) -> int | None:
    """Return a whole number, ``None`` in place of anything else."""
    number = as_number(value)
    return None if number is None else int(number)
