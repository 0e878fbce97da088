"""What held the run back and what to change, in plain words: rules over measured figures.

Each rule looks at the facts and returns a finding or nothing. A finding names the figures that it rests on.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from taskmill.report import cpu_breakdown as where
from taskmill.report.text import count, listed, percent, seconds, size

if TYPE_CHECKING:
    from taskmill.report.metrics import Facts

#: In the order in which they are shown: something is broken; it held the run back; worth knowing; well.
KINDS = ("fault", "limit", "note", "good")
#: Share of the cores' time that is not the run's, from which on a run is no measure of its cluster.
DISTURBED = 0.25
#: Calls in one message, where a finding says what larger tasks would do.
PACKED = 10


@dataclass(frozen=True)
class Finding:
    """One finding: what is so, by which figures, and what to change."""

    kind: str
    title: str
    figures: str
    change: str = ""


Rule = Callable[["Facts"], Finding | None]


def bad_results(facts: Facts) -> Finding | None:
    """Tasks were lost, wrong or failed."""
    if not facts.bad:
        return None
    counts = {name: facts.counts.get(name, 0) for name in ("lost", "wrong", "failed")}
    what = listed([f"{number:,} {name}" for name, number in counts.items() if number])
    change = "faults.jsonl lists each one; the table of faults below shows the first."
    if counts["lost"] and facts.evicted:
        change = "The result store threw results away: give it more memory. " + change
    return Finding(
        "fault", "Not every task has its right result.", f"{what} of {facts.counts.get('posted', 0):,}.", change
    )


def parked_tasks(facts: Facts) -> Finding | None:
    """Tasks killed their processes each time they ran."""
    if not facts.parked:
        return None
    return Finding(
        "fault",
        "Tasks killed their process each time they ran.",
        f"{count(facts.parked, 'task', 'tasks')} parked: the messages are dead letters, and no longer run.",
        "faults.jsonl names them as parked. Look for what they do to the process (memory, a crash in a library), then "
        "send them back to their queues: taskmill dead-letters --requeue.",
    )


def evictions(facts: Facts) -> Finding | None:
    """The result store was too small."""
    if not facts.evicted:
        return None
    return Finding(
        "fault",
        "The result store was too small.",
        f"It evicted {facts.evicted:,} values during the run, with {size(facts.result_store_bytes)} of memory.",
        "Give it more memory (memcached_memory_mb), fetch results sooner, or let them expire earlier.",
    )


def out_of_memory(facts: Facts) -> Finding | None:
    """The kernel killed processes."""
    if not facts.oom_kills:
        return None
    where_killed = listed(
        [f"{count(kills, 'process', 'processes')} on {host}" for host, kills in facts.oom_kills.items()]
    )
    return Finding(
        "fault",
        "The kernel killed processes for want of memory.",
        f"{where_killed}.",
        "Give that host more memory, or run fewer pool processes there.",
    )


def restarts(facts: Facts) -> Finding | None:
    """A service was started anew while the load ran."""
    if not facts.restarts:
        return None
    what = listed([f"{unit}: {count(number, 'time')}" for unit, number in facts.restarts.items()])
    return Finding(
        "fault",
        "Services restarted while the load ran.",
        f"{what}.",
        "Look at that unit's journal; tasks that it held went back to their queue and ran a second time.",
    )


def broker_alarms(facts: Facts) -> Finding | None:
    """The broker stopped taking messages."""
    if not facts.alarms and facts.blocked_s < 0.01 * max(facts.seconds, 1):
        return None
    raised = f"Alarms: {listed(sorted(set(facts.alarms)))}. " if facts.alarms else ""
    return Finding(
        "limit",
        "The broker stopped taking messages.",
        f"{raised}Posting threads stood blocked for {seconds(facts.blocked_s)}, all together.",
        "Give the broker more memory or disk, or post no faster than the workers work (--rate).",
    )


def flow_control(facts: Facts) -> Finding | None:
    """The broker slowed the posting connections down."""
    if not facts.flow_samples:
        return None
    return Finding(
        "note",
        "The broker held the posting connections back (flow control).",
        f"Seen in {count(facts.flow_samples, 'sample')}; {facts.posted_per_s:,.0f} tasks were posted per second.",
        "Posting faster will not help. Spread the load over more queues, or give the broker faster cores or disk.",
    )


def carrying(facts: Facts) -> bool:
    """Say whether the workers' cores were busy, and with this run."""
    return facts.worker_busy is not None and facts.worker_busy >= 0.8 and not disturbed(facts)


def overhead(facts: Facts) -> Finding | None:
    """The workers' cores are busy, but not with the tasks."""
    if not carrying(facts) or facts.function_cpu is None or facts.around_cpu is None:
        return None
    spent = facts.function_cpu + facts.around_cpu
    if not spent or facts.function_cpu / spent > 0.5:
        return None
    everything = spent + ((facts.elsewhere_cpu or 0.0) if facts.beside_workers else 0.0)
    packed = facts.function_cpu + (everything - facts.function_cpu) / PACKED
    gain = everything / packed
    return Finding(
        "limit",
        "The workers' cores were busy carrying tasks around, not doing them.",
        f"They were {percent(facts.worker_busy)} busy. Of each task's {seconds(spent)} of CPU in the workers, "
        f"{seconds(facts.function_cpu)} ({percent(facts.function_cpu / spent)}) was its own function; "
        f"{seconds(facts.around_cpu)} was Celery and the libraries around it.",
        f"Make tasks larger: with {PACKED} calls in one message, the same cores could do up to {gain:.1f} times as "
        "many "
        f"calls per second (about {facts.finished_per_s * gain:,.0f}), as the cost around them is per message. Workers "
        f"that take messages in batches (celery-batches) or a pool of fewer, busier processes cut it too.",
    )


def useful(facts: Facts) -> Finding | None:
    """The workers' cores do the tasks' own work."""
    if not carrying(facts) or facts.function_cpu is None or facts.around_cpu is None:
        return None
    spent = facts.function_cpu + facts.around_cpu
    if not spent or facts.function_cpu / spent <= 0.5:
        return None
    return Finding(
        "limit",
        "The tasks' own function is the limit: the workers' cores were busy with it.",
        f"They were {percent(facts.worker_busy)} busy, and {percent(facts.function_cpu / spent)} of the workers' CPU "
        "was "
        f"the function itself ({seconds(facts.function_cpu)} for each task).",
        "A faster function (or interpreter), or more cores, is what makes this faster; tuning the queue will not.",
    )


def posting_outran(facts: Facts) -> Finding | None:
    """All at once: the workers, not the client, were the limit."""
    if facts.rate or facts.tasks < 100 or not facts.backlog_peak or facts.finished_per_s <= 0:
        return None
    if facts.backlog_peak < 0.2 * facts.tasks or facts.posted_per_s < 1.5 * facts.finished_per_s:
        return None
    return Finding(
        "note",
        "Posting outran the workers.",
        f"{facts.posted_per_s:,.0f} tasks per second were posted and {facts.finished_per_s:,.0f} finished; the backlog "
        f"grew to {facts.backlog_peak:,.0f} tasks after {seconds(facts.backlog_at)}.",
        "Faster posting changes nothing; the workers' side decides. Time in the queue is here mostly the wait for "
        "tasks "
        "posted before: for the latency of one task, post at a pace (--rate) below what the workers finish.",
    )


def client_limit(facts: Facts) -> Finding | None:
    """All at once, and still the workers waited for messages."""
    if facts.rate or facts.tasks < 100 or facts.backlog_peak is None or facts.seconds <= 0:
        return None
    if facts.post_seconds < 0.8 * facts.seconds or facts.backlog_peak > 0.1 * facts.tasks:
        return None
    return Finding(
        "limit",
        "The client was the limit: workers waited for messages.",
        f"Posting took {percent(min(1.0, facts.post_seconds / facts.seconds))} of the run, at "
        f"{facts.posted_per_s:,.0f} "
        f"tasks per second, and never more than {facts.backlog_peak:,.0f} tasks were open.",
        "Post from more processes (--processes): threads of one process share its interpreter and post no faster.",
    )


def unsustained_rate(facts: Facts) -> Finding | None:
    """Paced: the workers did not keep up with it."""
    if not facts.rate or not facts.backlog_peak or not facts.finished_per_s:
        return None
    # What is open for less than a second's worth of tasks is no backlog.
    if facts.backlog_peak < max(facts.rate, 0.05 * facts.tasks) or facts.finished_per_s > 0.95 * facts.rate:
        return None
    return Finding(
        "limit",
        "The workers did not keep up with the pace.",
        f"{facts.rate:,.0f} tasks per second were asked for and {facts.finished_per_s:,.0f} finished; the backlog "
        "grew to "
        f"{facts.backlog_peak:,.0f} tasks.",
        f"At this pace the wait grows for as long as the load lasts. This cluster carries about "
        f"{facts.finished_per_s:,.0f} per second.",
    )


def sustained_rate(facts: Facts) -> Finding | None:
    """Paced, and kept up with."""
    if not facts.rate or facts.backlog_peak is None or facts.bad or unsustained_rate(facts):
        return None
    return Finding(
        "good",
        "The workers kept up with the pace.",
        f"{facts.rate:,.0f} tasks per second were asked for, {facts.finished_per_s:,.0f} finished, and at most "
        f"{facts.backlog_peak:,.0f} were open at a time.",
    )


def client_stalled(facts: Facts) -> Finding | None:
    """Paced: the client itself was late."""
    if not facts.rate or facts.late_s is None or facts.late_s < 0.1:
        return None
    return Finding(
        "limit" if facts.late_s >= 1 else "note",
        "The client fell behind its own pace.",
        f"It posted up to {seconds(facts.late_s)} later than it should have, at {facts.rate:,.0f} tasks per second. "
        f"Latency counts from when a task was due, so this is part of it.",
        "Give the client cores of its own or more processes (--processes), or ask for a lower rate.",
    )


def spare_cores(facts: Facts) -> Finding | None:
    """Messages waited although the workers' cores were free."""
    if facts.worker_busy is None or facts.worker_busy > 0.6 or not facts.backlog_peak or not facts.pool_processes:
        return None
    if facts.backlog_peak < max(100, 0.1 * facts.tasks) or facts.post_seconds > 0.8 * facts.seconds:
        return None
    waits = facts.task_run and facts.function_cpu and facts.task_run > 3 * facts.function_cpu
    why = (
        f" A task took {seconds(facts.task_run)} but used only {seconds(facts.function_cpu)} of CPU: it waits for "
        f"something else."
        if waits
        else ""
    )
    return Finding(
        "limit",
        "Messages waited while the workers' cores were free.",
        f"Up to {facts.backlog_peak:,.0f} tasks were open, with {percent(facts.worker_busy)} of {facts.worker_cores} "
        "worker "
        f"cores busy and {count(facts.pool_processes, 'pool process', 'pool processes')}.{why}",
        "Raise the concurrency of the workers"
        + (", or use threads or gevent for tasks that wait." if waits else "; look for what they wait for."),
    )


def crowded_pool(facts: Facts) -> Finding | None:
    """More pool processes than cores."""
    if not facts.worker_cores or facts.pool_processes <= facts.worker_cores or (facts.worker_busy or 0) < 0.8:
        return None
    waited = ""
    if facts.task_run and facts.function_cpu and facts.task_run > 1.3 * facts.function_cpu:
        waited = (
            f" A task took {seconds(facts.task_run)} by the clock for {seconds(facts.function_cpu)} of CPU: the rest "
            "of "
            f"the time it waited, most likely for a core."
        )
    return Finding(
        "note",
        "There are more pool processes than cores.",
        f"{count(facts.pool_processes, 'pool process', 'pool processes')} shared "
        f"{count(facts.worker_cores, 'core')}.{waited}",
        f"For tasks that compute, try {facts.worker_cores} or fewer: the others only add switching and memory.",
    )


def shared_machine(facts: Facts) -> Finding | None:
    """Workers share their cores with the rest of the landscape."""
    if not facts.beside_workers or facts.elsewhere_cpu is None or not facts.function_cpu:
        return None
    return Finding(
        "note",
        "The workers share their cores with other hosts.",
        f"{listed(facts.beside_workers)} {'runs' if len(facts.beside_workers) == 1 else 'run'} on the same machine; "
        "broker, "
        f"result store, client and the rest took {seconds(facts.elsewhere_cpu)} of its CPU for each task, the function "
        f"{seconds(facts.function_cpu)}.",
        "On machines of their own the workers would have those cores too; compare rates only between runs of one "
        "shape.",
    )


def costly_part(part: str, least: float, title: str, change: str) -> Rule:
    """Return the rule that a part takes more of the cores than it should."""

    def rule(facts: Facts) -> Finding | None:
        share = facts.share(part)
        if share < least:
            return None
        each = (
            f" ({seconds(share * core_seconds(facts) / facts.tasks)} for each task)"
            if facts.tasks and core_seconds(facts)
            else ""
        )
        return Finding("note", title, f"{percent(share)} of all core-seconds{each}.", change)

    rule.__name__ = f"costly_{part.replace(' ', '_')}"
    return rule


def core_seconds(facts: Facts) -> float:
    """Return all core-seconds, worked back from a part of known size; 0 when there is none."""
    share = facts.share(where.FUNCTION)
    return facts.function_cpu * facts.tasks / share if facts.function_cpu and share else 0.0


def fewer_consumers(facts: Facts) -> Finding | None:
    """One queue has fewer workers than the others."""
    if len(facts.consumers) < 2 or min(facts.consumers.values()) == max(facts.consumers.values()):
        return None
    queue = min(facts.consumers, key=lambda name: facts.consumers[name])
    others = max(facts.consumers.values())
    waited = ""
    if len(facts.queue_p50) > 1 and queue in facts.queue_p50:
        rest = max(seconds_ for name, seconds_ in facts.queue_p50.items() if name != queue)
        mine = seconds(facts.queue_p50[queue])
        waited = f" Its tasks waited {mine} (median), those of the others at most {seconds(rest)}."
    return Finding(
        "note",
        f"The queue {queue} has fewer consumers than others.",
        f"{facts.consumers[queue]:.0f} at most, against {others:.0f}.{waited}",
        f"If {queue} should be served as well as the rest, add it to more workers (celery_worker_workers).",
    )


def uneven_workers(facts: Facts) -> Finding | None:
    """Workers of equal size did unequal work."""
    if len(facts.executed) < 2 or not sum(facts.executed.values()):
        return None
    each = {name: done / max(1, facts.pools.get(name, 1)) for name, done in facts.executed.items()}
    least, most = min(each, key=lambda name: each[name]), max(each, key=lambda name: each[name])
    if each[most] < 1.5 * max(each[least], 1):
        return None
    return Finding(
        "note",
        "The work was not spread evenly over the workers.",
        f"{most} executed {facts.executed[most]:,} tasks and {least} {facts.executed[least]:,}, for "
        f"{count(facts.pools.get(most, 0), 'pool process', 'pool processes')} and {facts.pools.get(least, 0)}.",
        f"Look at what {least} had less of: queues, cores, time since its start; a lower prefetch spreads long tasks "
        "better.",
    )


def slow_collecting(facts: Facts) -> Finding | None:
    """Results were there long before the client had them."""
    if facts.collecting_after is None or facts.collecting_after < max(1.0, 0.05 * facts.seconds):
        return None
    return Finding(
        "limit",
        "The client was still fetching results after the last task was done.",
        f"{seconds(facts.collecting_after)} of {seconds(facts.seconds)} passed after the end of the last task.",
        "The workers were faster than this run's rate says; give the client more CPU, or a nearer result store.",
    )


def long_tail(facts: Facts) -> Finding | None:
    """The last tasks took long."""
    if facts.tail_s is None or facts.tasks < 1000 or facts.tail_s < max(1.0, 0.1 * facts.seconds):
        return None
    return Finding(
        "note",
        "The last tasks took long.",
        f"The last hundredth of the tasks took {seconds(facts.tail_s)} of {seconds(facts.seconds)}.",
        "Near the end some processes have nothing left while others work off what they fetched: lower the prefetch.",
    )


def duplicates(facts: Facts) -> Finding | None:
    """Tasks were executed more than once."""
    if not (number := facts.counts.get("duplicates", 0)):
        return None
    return Finding(
        "note",
        "Some tasks were executed more than once.",
        f"{number:,} executions beyond one for each task.",
        "Celery delivers at least once: tasks should bear it. It comes with lost connections and workers that ended "
        "early.",
    )


def full_memory(facts: Facts) -> Finding | None:
    """A host's memory was nearly full."""
    full = {host: share for host, share in facts.memory.items() if share >= 0.9}
    if not full:
        return None
    return Finding(
        "note",
        "Memory was nearly used up.",
        f"{listed([f'{percent(share)} on {host}' for host, share in full.items()])}, at most.",
        "Give it more, before the kernel begins to kill.",
    )


def inexact_clocks(facts: Facts) -> Finding | None:
    """Clocks could not be compared well enough for the times shown."""
    typical = min(facts.queue_p50.values(), default=None)
    if facts.clock_error is None or typical is None or facts.clock_error < max(0.002, 0.2 * abs(typical)):
        return None
    return Finding(
        "note",
        "Times in the queue are no more exact than the clocks.",
        f"A host's clock is known to {seconds(facts.clock_error)} only; the median time in a queue is "
        f"{seconds(typical)}.",
        "Synchronise the hosts' clocks from a near source (chrony).",
    )


def profile_cost(facts: Facts) -> Finding | None:
    """Profiling slowed the run down."""
    if facts.profile_cost is None or facts.profile_cost < 0.05:
        return None
    return Finding(
        "note",
        "Profiling slowed this run down.",
        f"Without cProfile the same load finished {percent(facts.profile_cost)} more tasks per second.",
        "For a rate to quote, run with load_profile: false.",
    )


def not_accounted(facts: Facts) -> Finding | None:
    """The parts of the split do not add up."""
    rest = facts.share(where.REST)
    if abs(rest) < 0.05 or facts.around_cpu is None:
        return None
    if disturbed(facts):
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


def disturbed(facts: Facts) -> bool:
    """Say whether so much went elsewhere that busy cores say nothing of the workers."""
    return facts.share(where.REST) >= DISTURBED


RULES: tuple[Rule, ...] = (
    bad_results,
    parked_tasks,
    evictions,
    out_of_memory,
    restarts,
    broker_alarms,
    overhead,
    useful,
    unsustained_rate,
    client_limit,
    client_stalled,
    spare_cores,
    slow_collecting,
    posting_outran,
    costly_part(
        "broker",
        0.15,
        "The broker took a large share of the cores.",
        "Give it a machine of its own, or fewer schedulers (+S) where it fights the workers; larger tasks mean fewer "
        "messages.",
    ),
    costly_part(
        "client",
        0.15,
        "The client took a large share of the cores.",
        "Give it a machine of its own; profiling is a part of it, so compare with load_profile: false.",
    ),
    costly_part(
        "result store",
        0.1,
        "The result store took a large share of the cores.",
        "Ignore results that nobody reads, or make tasks larger.",
    ),
    costly_part(
        "monitor",
        0.03,
        "The monitor took cores from the load.",
        "Stop Flower while measuring, or run workers without events.",
    ),
    costly_part(
        "sampling",
        0.03,
        "The sampling took cores from the load.",
        "Sample less often, when the run is a long one.",
    ),
    costly_part(
        where.STOLEN,
        0.02,
        "The hypervisor gave the cores to others.",
        "Run on machines whose cores are yours; rates vary with the neighbours' load until then.",
    ),
    crowded_pool,
    shared_machine,
    flow_control,
    fewer_consumers,
    uneven_workers,
    long_tail,
    duplicates,
    full_memory,
    inexact_clocks,
    profile_cost,
    not_accounted,
    sustained_rate,
)


def find(facts: Facts) -> list[Finding]:
    """Return what the rules find, what matters most first."""
    found = [finding for rule in RULES if (finding := rule(facts)) is not None]
    return sorted(found, key=lambda finding: KINDS.index(finding.kind))
