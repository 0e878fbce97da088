"""Making the record of a run out of its plan, what was posted, and what was collected."""

from __future__ import annotations

import platform
from collections import Counter
from typing import TYPE_CHECKING, Any, TypeVar

import amqp
import celery
import kombu
import memcache
from msgspec import UNSET, to_builtins

from taskmill import __version__
from taskmill.cluster import workers
from taskmill.model import record as records
from taskmill.model import thresholds
from taskmill.model.clock import Moment
from taskmill.model.plan import Plan
from taskmill.model.record import (
    Client,
    Clocks,
    Counts,
    Judged,
    Memcached,
    Outcomes,
    Probed,
    Queue,
    Rates,
    ResultStore,
    RunRecord,
    Seconds,
    Stage,
    Watched,
    Worker,
    Workload,
)
from taskmill.model.run_folder import read_faults
from taskmill.model.thresholds import Requirement
from taskmill.model.tolerant import read
from taskmill.publishing import journal
from taskmill.publishing.posted import Posted
from taskmill.results import kinds
from taskmill.samples import task_timings as timings
from taskmill.session.record_times import add_times, after_last

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from taskmill.results.collected import Collected
    from taskmill.samples.task_timings import TaskTimings

Counted = TypeVar("Counted", bound=Outcomes)
#: Seconds by which a clock may move during a run, as one that is kept right by others may.
JUMP = 0.5
RESULTS = ("retrieved", "correct", "wrong", "failed", "lost")


def build(
    plan: Plan,
    folder: Path,
    posted: Posted,
    collected: Collected | None,
    after: dict[str, Any],
    client: dict[str, Any],
    required: Sequence[Requirement] = (),
) -> RunRecord:
    """Return the record of the run in ``folder``.

    ``after`` holds ``workers``, ``clocks``, ``waiting`` and ``result_store`` as asked after the run, where they were.
    """
    counts = count(posted, collected)
    asked = clocks(posted, after)
    times = timings.load(folder, asked) if collected else None
    counts.duplicates, source = duplicates(plan, posted, counts.distinct, after)
    posting = posted.started.until(posted.ended) if posted.ended else 0.0
    total = posted.started.until(collected.ended) if collected and counts.done else posting
    collecting = collected.started.until(collected.ended) if collected else 0.0
    before = RunRecord.load(folder)
    record = RunRecord(
        name=plan.name,
        started_at=posted.started.iso,
        stack=plan.stack,
        workload=workload(plan),
        counts=counts,
        seconds=Seconds(round(posting, 3), round(collecting, 3), round(total, 3)),
        rates=Rates(
            posted_per_s=rate(posted.total("confirmed") or counts.confirmed, posting),
            completed_per_s=rate(counts.done, total),
        ),
        efficiency=efficiency(plan, counts.done, total),
        environment={**environment(plan, posted), **plan.environment},
        state=state(plan, posted, collected),
        duplicates_from=source,
        unstored=list(plan.unstored),
        acknowledged_from=collected.acknowledged_from if collected else "",
        checked=plan.checks and plan.storing > 0,
        client=about_client(plan, posted, collected, client, times),
        workers=[read(Worker, one) for one in after.get("workers") or posted.before.get("workers") or []],
        result_store=result_store(posted, after),
        by_queue=collected.by_queue if collected else {},
        by_kind=collected.by_kind if collected else {},
        stages=[Stage(text=str(one), tasks=one.tasks, seconds=one.seconds) for one in plan.stages],
        waiting=after.get("waiting") or {},
        probed=[read(Probed, one) for one in posted.before.get("probed") or []],
        parked=collected.parked if collected else 0,
        repaired=before.repaired if before else [],
        watched={text: read(Watched, one) for text, one in posted.watched.items()},
        clocks={worker: read(Clocks, both) for worker, both in asked.items()},
        clock_jumps={who: round(moved, 3) for who, moved in timings.clock_moves(asked).items() if abs(moved) > JUMP},
    )
    if record.result_store.kind == "memcached":
        record.memcached = read(Memcached, to_builtins(record.result_store))
    if times is not None:
        add_times(record, times)
    judge(record, required)
    record.problems = problems(record, posted)
    return record


def count(posted: Posted, collected: Collected | None) -> Counts:
    """Return the counts of a run, but for the duplicates; of one that was not collected, what was posted."""
    counts = Counts(
        posted=collected.posted if collected else posted.total("posted"),
        confirmed=collected.confirmed if collected else posted.total("confirmed"),
        distinct=collected.distinct - collected.unsent if collected else posted.total("posted"),
        **{name: getattr(collected, name) for name in RESULTS if collected},
    )
    if collected and collected.acknowledged is not None:
        counts.acknowledged = collected.acknowledged
    return counts


def recount(record: RunRecord, folder: Path) -> None:
    """Count the run anew, by the ids and the faults on disk; seconds, rates and latency stay as they are."""
    threads = list(journal.read(folder / "ids"))
    faults = list(read_faults(folder / "faults.jsonl", None))
    lines = Counter(queue.decode() for one in threads for _, queue in one.lines)
    outcomes = count_again(record.by_queue, {name: Queue(number) for name, number in lines.items()}, faults, "queue")
    if record.by_kind:
        plan = Plan.load(folder)
        posted = kinds.posted_by_kind(plan, kinds.places(plan, kinds.numbers(plan, threads)))
        count_again(record.by_kind, posted, faults, "kind")
    counts = record.counts
    for name in ("correct", "wrong", "failed", "lost"):
        setattr(counts, name, sum(getattr(queue, name) for queue in record.by_queue.values()))
    record.client.unsent = sum(outcome["unsent"] for outcome in outcomes.values())
    counts.posted = counts.distinct = lines.total() - record.client.unsent
    counts.confirmed = min(counts.posted, sum(one.confirmed for one in threads))
    counts.retrieved = counts.posted - counts.lost
    record.parked = sum(outcome["parked"] for outcome in outcomes.values())
    if counts.posted >= record.workload.tasks:
        record.state = records.COMPLETE
    judge(record, [Requirement.parse(one.text) for one in record.requirements])
    record.problems = problems(record, Posted.load(folder) or Posted(Moment.now()))


def count_again(
    counts: dict[str, Counted], posted: dict[str, Counted], faults: list[dict[str, Any]], key: str
) -> dict[str, Counter[str]]:
    """Count what was posted by queue or kind anew, and return the outcomes of the faults by the same."""
    outcomes: dict[str, Counter[str]] = {name: Counter() for name in posted}
    for fault in faults:
        outcomes[fault[key]][fault["outcome"]] += 1
    for name, outcome in outcomes.items():
        one = counts.setdefault(name, posted[name])
        one.posted = posted[name].posted
        one.wrong, one.failed, one.lost = outcome["wrong"], outcome["failed"] + outcome["parked"], outcome["lost"]
        one.correct = one.posted - outcome["unsent"] - one.wrong - one.failed - one.lost
    return outcomes


def judge(record: RunRecord, required: Sequence[Requirement]) -> None:
    """Note what was required of the run, and whether it is met."""
    record.requirements = [Judged(**one) for one in thresholds.judge(required, record.plain())]


def workload(plan: Plan) -> Workload:
    """Return what the plan says of the load."""
    return Workload(
        task=plan.task,
        tasks=plan.tasks,
        n=plan.n,
        queues=plan.queues,
        threads=plan.threads,
        processes=plan.processes,
        args=list(plan.args),
        rate=plan.rate,
        scenario=plan.scenario or UNSET,
    )


def about_client(
    plan: Plan, posted: Posted, collected: Collected | None, client: dict[str, Any], times: TaskTimings | None
) -> Client:
    """Return what the client used and met; ``client`` holds the memory and CPU seconds of this process."""
    return Client(
        peak_memory_bytes=client["peak_memory_bytes"] + posted.peak_memory_bytes,
        cpu_seconds=client["cpu_seconds"],
        lean=plan.minimal_headers,
        persistent=plan.persistent,
        republished=posted.total("republished"),
        nacked=posted.total("nacked"),
        reconnects=posted.total("reconnects"),
        blocked_seconds=round(posted.total("blocked_seconds"), 3),
        late_s=round(max((tally.late for tally in posted.threads), default=0.0), 6),
        between_seconds=round(posted.ended.until(collected.started), 3) if collected and posted.ended else 0.0,
        unsent=collected.unsent if collected else 0,
        after_last_s=after_last(times, collected.ended) if collected and collected.ended else None,
    )


def clocks(posted: Posted, after: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Return each worker's clock at the start and at the end of the run, as far as it was asked."""
    by_worker: dict[str, dict[str, Any]] = {}
    for when, asked in (("start", posted.before), ("end", after)):
        for worker, clock in (asked.get("clocks") or {}).items():
            by_worker.setdefault(worker, {})[when] = clock
    return by_worker


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
    executed = workers.executed_between(before, later, {route.task for route in plan.routes})
    others = (posted.before.get("broker") or {}).get("waiting")
    if executed is None or executed < distinct or others:
        return posted.total("republished"), "republished"
    return executed - distinct, "workers"


def result_store(posted: Posted, after: dict[str, Any]) -> ResultStore:
    """Return the store's size, and what it evicted during the run (``None`` where not known)."""
    # A run that an older taskmill published has it under the name of the only store of then.
    before = posted.before.get("result_store") or posted.before.get("memcached") or {}
    later = after.get("result_store") or {}
    record = read(ResultStore, {**before, **later})
    if "evictions" in before and "evictions" in later:
        record.evicted_during_run = later["evictions"] - before["evictions"]
    return record


def state(plan: Plan, posted: Posted, collected: Collected | None) -> str:
    """Return how far the run came."""
    # A client that was killed has not noted that it had posted everything; the ids on disk say it.
    if collected and collected.finished and (posted.finished or collected.posted >= plan.tasks):
        return records.COMPLETE
    if posted.error is not None:
        return records.FAILED
    if not posted.finished and posted.stopped_as_failed:
        return records.STOPPED_AS_FAILED
    return records.POSTED if posted.finished and collected is None else records.STOPPED


def environment(plan: Plan, posted: Posted) -> dict[str, Any]:
    """Return versions and settings that matter."""
    broker = posted.before.get("broker") or {}
    return {
        "taskmill": __version__,
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


def problems(record: RunRecord, posted: Posted) -> list[str]:
    """Return what is wrong, one sentence each; empty when all is well."""
    counts, sentences = record.counts, []
    for name, words in (
        ("lost", "confirmed by the broker, but without a result"),
        ("wrong", "with a wrong result"),
        ("failed", "ended with an exception"),
    ):
        if number := getattr(counts, name):
            listed = "faults.jsonl lists those that store a result" if record.unstored else "listed in faults.jsonl"
            sentences.append(f"{number:,} {name}: {words}; {listed}")
    if record.parked:
        sentences.append(
            f"{record.parked:,} of the failed are parked: their process was lost each time they ran. Their messages "
            f"are dead letters on the broker; `taskmill dead-letters` shows them"
        )
    if posted.error and record.state != records.COMPLETE:
        sentences.append(f"posting ended early: {posted.error}")
    sentences += [
        f"{one.text}: {one.note}"
        for one in record.requirements
        if one.note and record.watched.get(one.text, Watched()).stopped_at
    ]
    planned = record.workload.tasks
    if counts.posted < planned:
        sentences.append(f"{counts.posted:,} of {planned:,} tasks were posted")
    if record.state == records.COMPLETE and counts.lost == counts.posted and not record.waiting:
        sentences.append(
            "not one task has a result: where they store none (ignore_result), taskmill counts them otherwise, if "
            "workers answer before the run, or CELERY_RESULT_BACKEND is disabled://"
        )
    unsent = record.client.unsent
    if unsent:
        sentences.append(f"{unsent:,} ids were kept whose messages may never have been sent: the client was killed")
    waiting = sum(record.waiting.values())
    if waiting and counts.lost:
        sentences.append(
            f"{waiting:,} messages still wait in the queues: the workers are slower than the deadline, or gone. Once "
            f"the queues are empty, `taskmill collect` finds those results"
        )
    sentences += [
        f"the clock of {worker} moved by {moved:+,.1f} s during the run: its tasks' times are not to be trusted"
        for worker, moved in record.clock_jumps.items()
    ]
    evicted = record.result_store.evicted_during_run
    if evicted and counts.lost:
        sentences.append(f"{record.result_store.kind} evicted {evicted:,} values during the run: it is too small")
    return sentences
