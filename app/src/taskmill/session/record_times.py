"""The sections of a run's record that come from its tasks' times."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from taskmill.model.record import Latency, RunRecord, Spread, TaskSeconds, WorkerTotals
from taskmill.model.tolerant import read
from taskmill.samples import task_timings as timings

if TYPE_CHECKING:
    from taskmill.model.clock import Moment
    from taskmill.samples.task_timings import TaskTimings

FAILED_OUTCOME = timings.OUTCOMES.index("failed")


def add_times(record: RunRecord, times: TaskTimings) -> None:
    """Add the sections that come from ``tasks.npz``."""
    latencies = times.latency()
    seconds = {name: timings.sums_by_name(times.queue, times.queues, getattr(times, name)) for name in ("run", "cpu")}
    for place, name in enumerate(times.queues):
        if queue := record.by_queue.get(name):
            queue.run_s, queue.cpu_s = seconds["run"][name], seconds["cpu"][name]
            queue.latency = read(Spread, timings.summary(latencies[times.queue == place]))
    add_times_by_kind(record, times)
    add_times_by_stage(record, times)
    if summary := times.summary():
        record.latency = Latency(
            **{name: read(Spread, values) for name, values in summary.items()},
            counted_from="due" if record.workload.rate is not None or record.stages else "posted",
        )
    succeeded = timings.sums_by_name(times.worker, times.workers, (times.outcome != FAILED_OUTCOME).astype(float))
    failed = timings.sums_by_name(times.worker, times.workers, (times.outcome == FAILED_OUTCOME).astype(float))
    run, cpu = (timings.sums_by_name(times.worker, times.workers, values) for values in (times.run, times.cpu))
    record.by_worker = {
        worker: WorkerTotals(int(succeeded[worker]), int(failed[worker]), run[worker], cpu[worker])
        for worker in times.workers
        if worker
    }
    record.task_seconds = TaskSeconds(round(sum(run.values()), 6), round(sum(cpu.values()), 6))


def add_times_by_kind(record: RunRecord, times: TaskTimings) -> None:
    """Add the latencies and seconds of each kind of a scenario."""
    seconds = {name: timings.sums_by_name(times.kind, times.kinds, getattr(times, name)) for name in ("run", "cpu")}
    for place, name in enumerate(times.kinds):
        if kind := record.by_kind.get(name):
            kind.run_s, kind.cpu_s = seconds["run"][name], seconds["cpu"][name]
            for part, values in times.of(times.kind == place).summary().items():
                setattr(kind, part, read(Spread, values))


def add_times_by_stage(record: RunRecord, times: TaskTimings) -> None:
    """Add what came of the tasks of each stage that was published, at least in part."""
    for place, stage in enumerate(record.stages):
        if not (times.stage == place).any():
            continue
        mine = times.of(times.stage == place)
        # A countdown makes a task due after it was sent.
        stage.late_s = round(max(0.0, float(np.nanmax(mine.posted - mine.due))), 6)
        if np.isfinite(mine.done).any():
            stage.caught_up_s = round(float(np.nanmax(mine.done) - np.nanmin(mine.due)), 6)
            stage.queue = read(Spread, timings.summary(mine.queue_time()))


def after_last(times: TaskTimings | None, ended: Moment) -> float | None:
    """Return the seconds from the end of the last task to that of the collecting; ``None`` where no task has times."""
    done = times.done[np.isfinite(times.done)] if times else np.array([])
    return round(max(0.0, ended.wall - float(done.max())), 3) if len(done) else None
