"""The record of a run: ``run.json``, plain data that everything after it reads.

The keys ``schema`` to ``environment`` are fixed; these stand beside them:

* ``state``: ``complete``; ``posted`` (and not collected yet); ``interrupted`` (posting or collecting was stopped);
  ``posting failed`` (the broker stayed away, or lacks a queue). ``taskmill collect`` goes on from all but the first.
* ``duplicates_from``: how ``counts.duplicates`` was found. ``workers``: by the workers' own counts of executions before
  and after; it is what they executed beyond one per distinct id. ``republished``: the workers' counts were not to be
  had (one was restarted, or none answered), and it is the number of messages sent twice because a confirm was missing;
  not all of them need to have been executed twice.
* ``client``: threads, processes, memory (the most it held, all its processes together, in bytes), CPU seconds, messages
  sent again, seconds that the broker blocked, seconds between posting and a later ``taskmill collect``.
* ``workers``: what the workers said of themselves. ``memcached``: its size and its evictions during the run.
* ``by_queue``: counts for each queue, with the seconds and the CPU seconds that its tasks' functions ran, and their
  latency. ``by_worker``: succeeded, failed and the same seconds for each worker that stored a result. ``task_seconds``:
  those of all.
* ``latency``: seconds in the queue, in execution and of both, as ``mean``, percentiles and ``max``, counted ``from``
  when a task was ``due`` (paced load) or ``posted``.
* ``clocks``: each worker's clock less the client's, at the start and at the end. ``clock_jumps``: seconds by which one
  moved that moved by more than :data:`JUMP` of them.
* ``requirements``: what was required of the run, and whether it is met.
* ``waiting``: messages that waited in a queue at the end.
* ``repaired``: what each ``taskmill repair`` made up for: ``at`` what time, how many were ``missing`` and how many of
  them ``posted`` once more, and what came of them. The counts are those after it; seconds, rates and latency those of
  the run itself.
* ``parked``: of the failed tasks, those that were lost with their process too often and are dead letters now.
* ``problems``: what is wrong, in words.

``counts.posted`` are messages that the broker has, or may have; ``confirmed`` those it confirmed; ``retrieved`` the
final results fetched. ``efficiency`` is ``null`` when the function's time or the workers' cores were not given.
"""

from __future__ import annotations

import platform
from collections import Counter
from typing import TYPE_CHECKING, Any

import amqp
import celery
import kombu
import memcache
import numpy as np

import taskmill
from taskmill.cluster import workers
from taskmill.model import thresholds as requirements
from taskmill.model.clock import Moment
from taskmill.model.plan import SCHEMA, read_json, write_json
from taskmill.model.thresholds import Requirement
from taskmill.publishing import journal
from taskmill.publishing.processes import Posted
from taskmill.results import collector as collect
from taskmill.samples import task_timings as timings

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from taskmill.model.plan import Plan
    from taskmill.results.collector import Collected
    from taskmill.samples.task_timings import Timings

COMPLETE = "complete"
POSTED = "posted"
STOPPED = "interrupted"
FAILED = "posting failed"
#: Seconds by which a clock may move during a run, as one that is kept right by others may.
JUMP = 0.5
FAILED_OUTCOME = timings.OUTCOMES.index("failed")


def build(
    plan: Plan,
    folder: Path,
    posted: Posted,
    collected: Collected | None,
    after: dict[str, Any],
    client: dict[str, Any],
    required: Sequence[Requirement] = (),
) -> dict[str, Any]:
    """Return the record of the run in ``folder``.

    ``after`` holds ``workers``, ``clocks`` and ``memcached`` as asked after the run, where they were.
    """
    tasks = collected.posted if collected else posted.total("posted")
    counts = {
        "posted": tasks,
        "confirmed": collected.confirmed if collected else posted.total("confirmed"),
        "distinct": collected.distinct - collected.unsent if collected else posted.total("posted"),
        **{
            name: getattr(collected, name) if collected else 0
            for name in ("retrieved", "correct", "wrong", "failed", "lost")
        },
    }
    asked = clocks(posted, after)
    found = timings.load(folder, asked) if collected else None
    counts["duplicates"], source = duplicates(plan, posted, counts["distinct"], after)
    posting = posted.started.until(posted.ended) if posted.ended else 0.0
    total = posted.started.until(collected.ended) if collected and collected.retrieved else posting
    collecting = collected.started.until(collected.ended) if collected else 0.0
    record = {
        "schema": SCHEMA,
        "name": plan.name,
        "started_at": posted.started.iso,
        "stack": plan.stack,
        "workload": {
            "task": plan.task,
            "tasks": plan.tasks,
            "n": plan.n,
            "queues": plan.queues,
            "threads": plan.threads,
            "processes": plan.processes,
            "args": list(plan.args),
            "rate": plan.rate,
        },
        "counts": counts,
        "seconds": {"post": round(posting, 3), "collect": round(collecting, 3), "total": round(total, 3)},
        "rates": {
            "posted_per_s": rate(posted.total("confirmed") or counts["confirmed"], posting),
            "completed_per_s": rate(counts["retrieved"], total),
        },
        "efficiency": efficiency(plan, counts["retrieved"], total),
        "environment": {**environment(plan, posted), **plan.environment},
        "state": state(posted, collected),
        "duplicates_from": source,
        "checked": plan.check,
        "client": {
            **client,
            "lean": plan.lean,
            "persistent": plan.persistent,
            "peak_memory_bytes": client["peak_memory_bytes"] + posted.peak_memory_bytes,
            "republished": posted.total("republished"),
            "nacked": posted.total("nacked"),
            "reconnects": posted.total("reconnects"),
            "blocked_seconds": round(posted.total("blocked_seconds"), 3),
            "late_s": round(max((tally.late for tally in posted.threads), default=0.0), 6),
            "between_seconds": round(posted.ended.until(collected.started), 3) if collected and posted.ended else 0.0,
            "unsent": collected.unsent if collected else 0,
            "after_last_s": after_last(found, collected.ended) if collected and collected.ended else None,
        },
        "workers": after.get("workers") or posted.before.get("workers") or [],
        "memcached": memcached(posted, after),
        "by_queue": collected.by_queue if collected else {},
        "waiting": after.get("waiting") or {},
        "parked": collected.parked if collected else 0,
        "repaired": (load(folder) or {}).get("repaired", []),
        "clocks": asked,
        "clock_jumps": {
            worker: round(moved, 3) for worker, moved in timings.clock_moves(asked).items() if abs(moved) > JUMP
        },
    }
    record.update(times(record, found))
    record["requirements"] = requirements.judge(required, record)
    record["problems"] = problems(record, posted)
    return record


def recount(record: dict[str, Any], folder: Path) -> None:
    """Count the run anew, by the ids and the faults on disk; seconds, rates and latency stay as they are."""
    threads = list(journal.read(folder / "ids"))
    lines = Counter(queue.decode() for one in threads for _, queue in one.lines)
    faults: dict[str, Counter[str]] = {queue: Counter() for queue in lines}
    for fault in collect.read_faults(folder / "faults.jsonl", None):
        faults[fault["queue"]][fault["outcome"]] += 1
    for queue, found in faults.items():
        failed = found["failed"] + found["parked"]
        bad = {"wrong": found["wrong"], "failed": failed, "lost": found["lost"]}
        correct = lines[queue] - found["unsent"] - sum(bad.values())
        record["by_queue"].setdefault(queue, {}).update({"posted": lines[queue], "correct": correct, **bad})
    totals = {
        name: sum(one[name] for one in record["by_queue"].values()) for name in ("correct", "wrong", "failed", "lost")
    }
    unsent = sum(found["unsent"] for found in faults.values())
    posted = lines.total() - unsent
    record["counts"].update(
        posted=posted,
        distinct=posted,
        confirmed=min(posted, sum(one.confirmed for one in threads)),
        retrieved=posted - totals["lost"],
        **totals,
    )
    record["parked"] = sum(found["parked"] for found in faults.values())
    record["client"]["unsent"] = unsent
    required = [Requirement.parse(one["text"]) for one in record["requirements"]]
    record["requirements"] = requirements.judge(required, record)
    record["problems"] = problems(record, Posted.load(folder) or Posted(Moment.now()))


def clocks(posted: Posted, after: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Return each worker's clock at the start and at the end of the run, as far as it was asked."""
    found: dict[str, dict[str, Any]] = {}
    for when, asked in (("start", posted.before), ("end", after)):
        for worker, clock in (asked.get("clocks") or {}).items():
            found.setdefault(worker, {})[when] = clock
    return found


def times(record: dict[str, Any], found: Timings | None) -> dict[str, Any]:
    """Return the sections that come from ``tasks.npz``; empty ones where results carry no times."""
    if found is None:
        return {"latency": {}, "by_worker": {}, "task_seconds": {}}
    paced = record["workload"]["rate"] is not None
    summary = found.summary()
    latencies = found.latency()
    seconds = {name: timings.by(found.queue, found.queues, getattr(found, name)) for name in ("run", "cpu")}
    for place, queue in enumerate(found.queues):
        if queue in record["by_queue"]:
            record["by_queue"][queue] |= {
                "run_s": seconds["run"][queue],
                "cpu_s": seconds["cpu"][queue],
                "latency": timings.summary(latencies[found.queue == place]),
            }
    succeeded = timings.by(found.worker, found.workers, (found.outcome != FAILED_OUTCOME).astype(float))
    failed = timings.by(found.worker, found.workers, (found.outcome == FAILED_OUTCOME).astype(float))
    run, cpu = (timings.by(found.worker, found.workers, values) for values in (found.run, found.cpu))
    return {
        "latency": {**summary, "from": "due" if paced else "posted"} if summary else {},
        "by_worker": {
            worker: {
                "succeeded": int(succeeded[worker]),
                "failed": int(failed[worker]),
                "run_s": run[worker],
                "cpu_s": cpu[worker],
            }
            for worker in found.workers
            if worker
        },
        "task_seconds": {"run": round(sum(run.values()), 6), "cpu": round(sum(cpu.values()), 6)},
    }


def after_last(found: Timings | None, ended: Moment) -> float | None:
    """Return the seconds from the end of the last task to that of the collecting; ``None`` where no task has times."""
    done = found.done[np.isfinite(found.done)] if found else np.array([])
    return round(max(0.0, ended.wall - float(done.max())), 3) if len(done) else None


def rate(count: int, seconds: float) -> float:
    """Return how many per second, 0 when no time has passed."""
    return round(count / seconds, 3) if seconds > 0 else 0.0


def efficiency(plan: Plan, tasks: int, total: float) -> float | None:
    """Return the share of the workers' cores that did the user's work; ``None`` when it is not known."""
    if not (plan.function_seconds and plan.worker_cores and total > 0):
        return None
    return round(tasks * plan.function_seconds / (plan.worker_cores * total), 4)


def duplicates(plan: Plan, posted: Posted, distinct: int, after: dict[str, Any]) -> tuple[int, str]:
    """Return executions beyond one per distinct id, and where the number comes from."""
    # Fewer executions than ids: tasks are open yet, or a worker joined that was not asked before. Messages that waited
    # before the run are executed, and counted by the workers, within it.
    before = workers.from_plain(posted.before.get("workers"))
    later = workers.from_plain(after.get("workers"))
    executed = workers.executed_between(before, later, {kind.task for kind in plan.kinds})
    others = (posted.before.get("broker") or {}).get("waiting")
    if executed is None or executed < distinct or others:
        return posted.total("republished"), "republished"
    return executed - distinct, "workers"


def memcached(posted: Posted, after: dict[str, Any]) -> dict[str, Any]:
    """Return memcached's size, and what it evicted during the run (``None`` where not known)."""
    before, later = posted.before.get("memcached") or {}, after.get("memcached") or {}
    evicted = later["evictions"] - before["evictions"] if "evictions" in before and "evictions" in later else None
    return {**before, **later, "evicted_during_run": evicted}


def state(posted: Posted, collected: Collected | None) -> str:
    """Return how far the run came."""
    if posted.error is not None:
        return FAILED
    if posted.finished and collected is None:
        return POSTED
    if not posted.finished or collected is None or not collected.finished:
        return STOPPED
    return COMPLETE


def is_collected(record: dict[str, Any], folder: Path) -> bool:
    """Say whether each id in the folder of the run is accounted for: by a result, as lost, or as never sent.

    Only a collecting that comes to its end counts what is lost, whatever became of the posting before it. One that was
    interrupted before it wrote the record has left a list of faults that is newer than that.
    """
    counts = record["counts"]
    ids = sum(len(one.lines) for one in journal.read(folder / "ids"))
    faults, written = (folder / name for name in ("faults.jsonl", "run.json"))
    return (
        counts["retrieved"] + counts["lost"] + record["client"].get("unsent", 0) == ids
        and faults.exists()
        and faults.stat().st_mtime_ns <= written.stat().st_mtime_ns
    )


def environment(plan: Plan, posted: Posted) -> dict[str, Any]:
    """Return versions and settings that matter."""
    broker = posted.before.get("broker") or {}
    return {
        "taskmill": taskmill.__version__,
        "client_host": platform.node(),
        "client_python": platform.python_version(),
        "celery": celery.__version__,
        "kombu": kombu.__version__,
        "amqp": amqp.__version__,
        "python_memcached": getattr(memcache, "__version__", ""),
        "broker": " ".join(filter(None, (broker.get("product"), broker.get("version")))),
        "window": plan.window,
        "profile": plan.profile,
        "worker_cores": plan.worker_cores,
        "function_seconds": plan.function_seconds,
    }


def problems(record: dict[str, Any], posted: Posted) -> list[str]:
    """Return what is wrong, one sentence each; empty when all is well."""
    counts, found = record["counts"], []
    for name, words in (
        ("lost", "confirmed by the broker, but without a result"),
        ("wrong", "with a wrong result"),
        ("failed", "ended with an exception"),
    ):
        if counts[name]:
            found.append(f"{counts[name]:,} {name}: {words}; listed in faults.jsonl")
    if record["parked"]:
        found.append(
            f"{record['parked']:,} of the failed are parked: their process was lost each time they ran. Their messages "
            f"are dead letters on the broker; `taskmill letters` shows them"
        )
    if posted.error:
        found.append(f"posting ended early: {posted.error}")
    planned = record["workload"]["tasks"]
    if counts["posted"] < planned:
        found.append(f"{counts['posted']:,} of {planned:,} tasks were posted")
    unsent = record["client"]["unsent"]
    if unsent:
        found.append(f"{unsent:,} ids were kept whose messages may never have been sent: the client was killed")
    waiting = sum(record["waiting"].values())
    if waiting and counts["lost"]:
        found.append(
            f"{waiting:,} messages still wait in the queues: the workers are slower than the deadline, or gone. Once "
            f"the queues are empty, `taskmill collect` finds those results"
        )
    found += [
        f"the clock of {worker} moved by {moved:+,.1f} s during the run: its tasks' times are not to be trusted"
        for worker, moved in record.get("clock_jumps", {}).items()
    ]
    evicted = record["memcached"].get("evicted_during_run")
    if evicted and counts["lost"]:
        found.append(f"memcached evicted {evicted:,} values during the run: it is too small")
    return found


def save(folder: Path, record: dict[str, Any]) -> None:
    """Write ``run.json``."""
    write_json(folder / "run.json", record)


def load(folder: Path) -> dict[str, Any] | None:
    """Read ``run.json``; ``None`` when there is none that can be read."""
    return read_json(folder / "run.json")


def summary(record: dict[str, Any], folder: Path) -> str:
    """Return the lines that end a command on the terminal."""
    counts, seconds, rates = record["counts"], record["seconds"], record["rates"]
    client = record["client"]
    well = "correct" if record["checked"] else "successful"
    at_most = " at most" if record["duplicates_from"] == "republished" else ""
    lines = [
        headline(record),
        (
            f"  posted     {counts['posted']:,} of {record['workload']['tasks']:,}, {counts['confirmed']:,} confirmed, "
            f"in {seconds['post']:,.1f} s ({rates['posted_per_s']:,.0f}/s)"
        ),
    ]
    if record["state"] != POSTED:
        lines += [
            (
                f"  results    {counts['retrieved']:,} fetched: {counts['correct']:,} {well}, "
                f"{counts['wrong']:,} wrong, {counts['failed']:,} failed; {counts['lost']:,} lost; "
                f"{counts['duplicates']:,} duplicates{at_most}"
            ),
            (
                f"  total      {seconds['total']:,.1f} s from the first post to the last result: "
                f"{rates['completed_per_s']:,.0f} tasks/s"
            ),
        ]
    # Without the times of task_times.py, when a task began is not known.
    if {"latency", "queue"} <= record["latency"].keys():
        lines.append(
            f"  latency    {quantiles(record['latency']['latency'])}, "
            f"of it in the queue {quantiles(record['latency']['queue'])}"
        )
    if record["efficiency"] is not None:
        lines.append(f"  efficiency {100 * record['efficiency']:.1f} % of the workers' cores did the tasks' own work")
    lines.append(
        f"  client     {client['peak_memory_bytes'] / 1e6:,.0f} MB at most, {client['cpu_seconds']:,.0f} s of CPU"
    )
    lines += [
        f"  repaired   {one['missing']:,} missing at {one['at']}, {one['posted']:,} posted again: "
        f"{one['correct']:,} {well}, {one['wrong']:,} wrong, {one['failed']:,} failed, {one['lost']:,} lost"
        for one in record.get("repaired", [])
    ]
    lines += [f"  problem    {problem}" for problem in record["problems"]]
    lines += [f"  {'met       ' if one['met'] else 'NOT MET   '} {one['text']}" for one in record["requirements"]]
    lines.append(f"  record     {folder / 'run.json'}")
    page = folder / "report.html"
    lines.append(f"  report     {page if page.exists() else f'taskmill report {folder}'}")
    if record["state"] in {STOPPED, FAILED}:
        lines.append(f"  go on by   taskmill resume {folder}")
    if record["state"] in {POSTED, STOPPED, FAILED}:
        lines.append(f"  fetch by   taskmill collect {folder}")
    return "\n".join(lines)


def quantiles(values: dict[str, float]) -> str:
    """Return the median and the 99th percentile of a summary of seconds, for people."""
    return f"{values['p50']:,.3g} s (p99 {values['p99']:,.3g} s)"


def headline(record: dict[str, Any]) -> str:
    """Return the verdict in one sentence."""
    counts = record["counts"]
    if record["state"] == FAILED:
        return f"Posting failed after {counts['posted']:,} of {record['workload']['tasks']:,} tasks."
    if counts["lost"] or counts["wrong"] or counts["failed"]:
        return (
            f"Not well: of {counts['posted']:,} tasks {counts['lost']:,} are lost, {counts['wrong']:,} wrong and "
            f"{counts['failed']:,} failed."
        )
    if record["state"] == STOPPED:
        return f"Interrupted: {counts['posted']:,} tasks posted, {counts['retrieved']:,} results fetched so far."
    if record["state"] == POSTED:
        return f"All {counts['posted']:,} tasks are posted; their results are not fetched yet."
    if not record["checked"]:
        return f"All {counts['retrieved']:,} tasks ended well; their values were not compared with any."
    return f"All {counts['correct']:,} results are there and right."
