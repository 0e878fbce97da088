"""A record in words: the lines that end a command on the terminal, and the verdict in one sentence."""

from __future__ import annotations

from typing import TYPE_CHECKING

from msgspec import UnsetType

from taskmill.model.record import FAILED, POSTED, STOPPED, STOPPED_AS_FAILED, RunRecord, Spread

if TYPE_CHECKING:
    from pathlib import Path


def summary(record: RunRecord, folder: Path) -> str:
    """Return the lines that end a command on the terminal."""
    counts, seconds, rates = record.counts, record.seconds, record.rates
    client = record.client
    well = "correct" if record.checked else "successful"
    at_most = " at most" if record.duplicates_from == "republished" else ""
    lines = [
        headline(record),
        (
            f"  posted     {counts.posted:,} of {record.workload.tasks:,}, {counts.confirmed:,} confirmed, "
            f"in {seconds.post:,.1f} s ({rates.posted_per_s:,.0f}/s)"
        ),
    ]
    if record.state != POSTED:
        lines += [
            (
                f"  results    {counts.retrieved:,} fetched: {counts.correct:,} {well}, "
                f"{counts.wrong:,} wrong, {counts.failed:,} failed; {counts.lost:,} lost; "
                f"{counts.duplicates:,} duplicates{at_most}"
            ),
            *unstored(record),
            *by_kind(record),
            *by_stage(record),
            (
                f"  total      {seconds.total:,.1f} s from the first post to the last result: "
                f"{rates.completed_per_s:,.0f} tasks/s"
            ),
        ]
    # Without the times of task_times.py, when a task began is not known.
    latency, queue = record.latency.latency, record.latency.queue
    if isinstance(latency, Spread) and isinstance(queue, Spread):
        lines.append(f"  latency    {quantiles(latency)}, of it in the queue {quantiles(queue)}")
    if record.efficiency is not None:
        lines.append(f"  efficiency {100 * record.efficiency:.1f} % of the workers' cores did the tasks' own work")
    lines.append(f"  client     {client.peak_memory_bytes / 1e6:,.0f} MB at most, {client.cpu_seconds:,.0f} s of CPU")
    lines += [
        f"  repaired   {one.missing:,} missing at {one.at}, {one.posted:,} posted again: "
        f"{one.correct:,} {well}, {one.wrong:,} wrong, {one.failed:,} failed, {one.lost:,} lost"
        for one in record.repaired
    ]
    lines += [f"  problem    {problem}" for problem in record.problems]
    lines += [f"  {'met       ' if one.met else 'NOT MET   '} {one.text}" for one in record.requirements]
    lines.append(f"  record     {folder / 'run.json'}")
    page = folder / "report.html"
    lines.append(f"  report     {page if page.exists() else f'taskmill report {folder}'}")
    ended_early = record.state in {STOPPED, STOPPED_AS_FAILED, FAILED}
    if ended_early:
        lines.append(f"  go on by   taskmill resume {folder}")
    if ended_early or record.state == POSTED:
        lines.append(f"  fetch by   taskmill collect {folder}")
    return "\n".join(lines)


def unstored(record: RunRecord) -> list[str]:
    """Return the line about tasks that store no result, where there are some."""
    if not record.acknowledged_from:
        return []
    how = (
        "executed, by the workers' own count"
        if record.acknowledged_from == "workers"
        else "gone from queues and workers; how often they were executed is not known"
    )
    return [f"  no result  {record.counts.acknowledged or 0:,} tasks that store none are {how}"]


def by_kind(record: RunRecord) -> list[str]:
    """Return a line for each kind of a scenario."""
    width = max(map(len, record.by_kind), default=0)
    lines = []
    for name, kind in record.by_kind.items():
        counts = ", ".join(f"{getattr(kind, word):,} {word}" for word in ("correct", "wrong", "failed", "lost"))
        times = f"; {quantiles(kind.latency)}" if isinstance(kind.latency, Spread) and kind.latency.count else ""
        lines.append(f"    {name:{width}}  {kind.posted:,} posted: {counts}{times}")
    return lines


def by_stage(record: RunRecord) -> list[str]:
    """Return a line for each stage whose tasks have times."""
    return [
        f"    {stage.text}: done {stage.caught_up_s:,.3g} s after it began; at most {stage.late_s:,.3g} s late"
        for stage in record.stages
        if not isinstance(stage.caught_up_s, UnsetType) and not isinstance(stage.late_s, UnsetType)
    ]


def quantiles(values: Spread) -> str:
    """Return the median and the 99th percentile of a summary of seconds, for people."""
    return f"{values.p50:,.3g} s (p99 {values.p99:,.3g} s)"


def headline(record: RunRecord) -> str:
    """Return the verdict in one sentence."""
    counts = record.counts
    if record.state == FAILED:
        return f"Posting failed after {counts.posted:,} of {record.workload.tasks:,} tasks."
    if record.state == STOPPED_AS_FAILED:
        return (
            f"Stopped as failed after {counts.posted:,} of {record.workload.tasks:,} tasks: {counts.lost:,} are lost, "
            f"{counts.wrong:,} wrong and {counts.failed:,} failed."
        )
    if counts.lost or counts.wrong or counts.failed:
        return (
            f"Not well: of {counts.posted:,} tasks {counts.lost:,} are lost, {counts.wrong:,} wrong and "
            f"{counts.failed:,} failed."
        )
    if record.state == STOPPED and 0 < counts.posted == counts.done:
        return f"Not whole: {counts.posted:,} of {record.workload.tasks:,} tasks were posted; these are done."
    if record.state == STOPPED:
        return f"Interrupted: {counts.posted:,} tasks posted, {counts.retrieved:,} results fetched so far."
    if record.state == POSTED:
        return f"All {counts.posted:,} tasks are posted; their results are not fetched yet."
    if record.acknowledged_from and not counts.retrieved:
        return (
            f"All {counts.acknowledged or 0:,} tasks were {record.ended_as}; they store no result, so no value was "
            f"compared."
        )
    if record.acknowledged_from:
        well = "right" if record.checked else "successful"
        return (
            f"All {counts.correct:,} results are there and {well}; {counts.acknowledged or 0:,} more tasks store none, "
            f"and their values were not compared."
        )
    if not record.checked:
        return f"All {counts.retrieved:,} tasks ended well; their values were not compared with any."
    return f"All {counts.correct:,} results are there and right."
