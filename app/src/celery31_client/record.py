"""The record of a run, ``run.json``, with the keys that ``taskmill``'s record has.

What this client does not know stands there as zero: its broker confirms nothing (``counts.confirmed``), so nothing is
sent again for want of a confirm. ``counts.duplicates`` comes from the workers' own counts of executions where all of
them were there before and after; else it is 0, and ``duplicates_from`` says ``republished``.
"""

from __future__ import division, print_function

import os
import platform
import resource

import amqp
import celery
import kombu
import memcache

from celery31_client.progress import count
from celery31_client.services import executed_between

SCHEMA = 1
COMPLETE = "complete"
STOPPED = "interrupted"
FAILED = "posting failed"


def build(plan, posted, collector, before, after):
    """Return the record. ``before`` and ``after`` hold ``workers`` and ``memcached``, as far as they answered."""
    counts = {"posted": posted["posted"], "confirmed": 0, "distinct": posted["posted"]}
    counts.update(
        collector.counts if collector else dict.fromkeys(("retrieved", "correct", "wrong", "failed", "lost"), 0)
    )
    counts["duplicates"], source = duplicates(plan, posted["posted"], before, after)
    posting = posted["last"] - posted["first"]
    total = collector.ended - posted["first"] if collector and counts["retrieved"] else posting
    n = plan["args"][0] if len(plan["args"]) == 1 and type(plan["args"][0]) is int else None
    record = {
        "schema": SCHEMA,
        "name": plan["name"],
        "started_at": plan["started_at"],
        "stack": plan["stack"],
        "workload": {
            "task": ", ".join(task for task, _ in plan["kinds"]),
            "tasks": plan["tasks"],
            "n": n,
            "queues": queues(plan),
            "threads": plan["threads"],
            "processes": 1,
            "rate": None,
            "args": plan["args"],
        },
        "counts": counts,
        "seconds": {
            "post": round(posting, 3),
            "collect": round(collector.ended - collector.started, 3) if collector else 0.0,
            "total": round(total, 3),
        },
        "rates": {"posted_per_s": rate(counts["posted"], posting), "completed_per_s": rate(counts["retrieved"], total)},
        "efficiency": efficiency(plan, counts["retrieved"], total),
        "environment": environment(plan, before),
        "state": state(posted, collector),
        "duplicates_from": source,
        "checked": plan["check"],
        "client": client(posted, collector),
        "workers": after.get("workers") or before.get("workers") or [],
        "memcached": memcached(before.get("memcached"), after.get("memcached")),
        "by_queue": collector.by_queue if collector else {},
        "waiting": after.get("waiting") or {},
    }
    record["problems"] = problems(record, posted["error"])
    return record


def environment(plan, before):
    """Return what the run was made with: software, options, and what the plan has of the landscape."""
    found = {
        # The key is as it was in the records of earlier runs.
        "contender": "the article's own client",
        "client_host": platform.node(),
        "client_python": platform.python_version(),
        "celery": celery.__version__,
        "kombu": kombu.__version__,
        "amqp": amqp.__version__,
        "python_memcached": memcache.__version__,
        "broker": before.get("broker", ""),
        "results_fetched": "%d at a time" % plan["batch"] if plan["batch"] else "one by one",
        "profile": plan["profile"],
        "worker_cores": plan["worker_cores"],
        "function_seconds": plan["function_seconds"],
    }
    found.update(plan["environment"])
    return found


def client(posted, collector):
    """Return what this process used; what it does not know stands there as zero."""
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return {
        "peak_memory_bytes": usage.ru_maxrss * 1024,
        "cpu_seconds": round(usage.ru_utime + usage.ru_stime, 1),
        "republished": 0,
        "nacked": 0,
        "reconnects": 0,
        "blocked_seconds": 0.0,
        "between_seconds": round(collector.started - posted["last"], 3) if collector else 0.0,
        "unsent": 0,
    }


def queues(plan):
    """Return the queues of a plan, each once, in the order given."""
    found = []
    for _, queue in plan["kinds"]:
        if queue not in found:
            found.append(queue)
    return found


def rate(number, seconds):
    """Return how many per second, 0 when no time has passed."""
    return round(number / seconds, 3) if seconds > 0 else 0.0


def efficiency(plan, tasks, total):
    """Return the share of the workers' cores that did the user's work; ``None`` when it is not known."""
    if not (plan["function_seconds"] and plan["worker_cores"] and total > 0):
        return None
    return round(tasks * plan["function_seconds"] / (plan["worker_cores"] * total), 4)


def duplicates(plan, posted, before, after):
    """Return executions beyond one per task, and where the number comes from."""
    tasks = [task for task, _ in plan["kinds"]]
    executed = executed_between(before.get("workers") or [], after.get("workers") or [], tasks)
    if executed is None or executed < posted or before.get("waiting"):
        return 0, "republished"
    return executed - posted, "workers"


def memcached(before, after):
    """Return memcached's size, and what it evicted during the run (``None`` where not known)."""
    found = dict(before or {}, **(after or {}))
    found["evicted_during_run"] = after["evictions"] - before["evictions"] if before and after else None
    return found


def state(posted, collector):
    """Return how far the run came."""
    if posted["error"]:
        return FAILED
    return COMPLETE if collector and collector.finished and posted["finished"] else STOPPED


def problems(record, error):
    """Return what is wrong, one sentence each; empty when all is well."""
    counts, found = record["counts"], []
    for name, words in (
        ("lost", "posted, but without a result"),
        ("wrong", "with a wrong result"),
        ("failed", "ended with an exception"),
    ):
        if counts[name]:
            found.append("%s %s: %s; listed in faults.jsonl" % (count(counts[name]), name, words))
    if error:
        found.append("posting ended early: %s" % error)
    if counts["posted"] < record["workload"]["tasks"]:
        found.append("%s of %s tasks were posted" % (count(counts["posted"]), count(record["workload"]["tasks"])))
    if counts["lost"] and record["waiting"]:
        waiting = count(sum(record["waiting"].values()))
        found.append(
            "%s messages still wait in the queues: the workers are slower than the deadline, or gone" % waiting
        )
    evicted = record["memcached"]["evicted_during_run"]
    if counts["lost"] and evicted:
        found.append("memcached evicted %s values during the run: it is too small" % count(evicted))
    return found


def headline(record):
    """Return the verdict in one sentence."""
    counts, tasks = record["counts"], count(record["workload"]["tasks"])
    if record["state"] == FAILED:
        return "Posting failed after %s of %s tasks." % (count(counts["posted"]), tasks)
    if counts["lost"] or counts["wrong"] or counts["failed"]:
        return "Not well: of %s tasks %s are lost, %s wrong and %s failed." % tuple(
            count(counts[name]) for name in ("posted", "lost", "wrong", "failed")
        )
    if record["state"] == STOPPED:
        return "Interrupted: %s tasks posted, %s results fetched so far." % (
            count(counts["posted"]),
            count(counts["retrieved"]),
        )
    if not record["checked"]:
        return "All %s tasks ended well; their values were not compared with any." % count(counts["retrieved"])
    return "All %s results are there and right." % count(counts["correct"])


def summary(record, folder):
    """Return the lines that end a command on the terminal."""
    counts, seconds, rates = record["counts"], record["seconds"], record["rates"]
    lines = [
        headline(record),
        "  posted     %s of %s, unconfirmed, in %.1f s (%s/s)"
        % (
            count(counts["posted"]),
            count(record["workload"]["tasks"]),
            seconds["post"],
            count(int(round(rates["posted_per_s"]))),
        ),
        "  results    %s fetched: %s correct, %s wrong, %s failed; %s lost; %s duplicates"
        % tuple(count(counts[name]) for name in ("retrieved", "correct", "wrong", "failed", "lost", "duplicates")),
        "  total      %.1f s from the first post to the last result: %s tasks/s"
        % (seconds["total"], count(int(round(rates["completed_per_s"])))),
    ]
    if record["efficiency"] is not None:
        lines.append(
            "  efficiency %.1f %% of the workers' cores did the tasks' own work" % (100 * record["efficiency"])
        )
    client = record["client"]
    lines.append("  client     %d MB at most, %d s of CPU" % (client["peak_memory_bytes"] / 1e6, client["cpu_seconds"]))
    lines += ["  problem    %s" % problem for problem in record["problems"]]
    lines.append("  record     %s" % os.path.join(folder, "run.json"))
    if record["state"] != COMPLETE:
        lines.append("  go on by   taskmill collect %s" % folder)
    return "\n".join(lines)
