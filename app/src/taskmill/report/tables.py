"""The tables of a run's report, as plain rows."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from taskmill.report import text
from taskmill.report.plain_data import as_dict, as_list, as_number
from taskmill.samples import profile
from taskmill.samples.task_timings import summary

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from taskmill.report.run_folder import Run

#: Functions of the profile that the page lists; profile.pstats has all.
FUNCTIONS_SHOWN = 400


def percentiles(run: Run) -> dict[str, dict[str, Any]]:
    """Return the percentiles of the tasks' durations by kind: the record's, or those of the timings without any."""
    recorded = {kind: as_dict(run.section("latency").get(kind)) for kind in ("queue", "execution", "latency")}
    if not any(recorded.values()):
        recorded = dict(run.timings.summary()) if run.timings is not None else {}
    names = {"queue": "in the queue", "execution": "in execution", "latency": latency_name(run)}
    return {names[kind]: percentiles for kind, percentiles in recorded.items() if percentiles}


def latency_name(run: Run) -> str:
    """Return from when to when a task's latency is counted."""
    return "from due to done" if run.section("latency").get("from") == "due" else "from posted to done"


def by_queue(run: Run) -> list[dict[str, Any]]:
    """Return a row for each queue: counts, quantiles of the seconds in the queue, the most messages that waited."""
    timings = run.timings
    waits = queue_time_quantiles(run, timings.queues, timings.queue) if timings is not None else {}
    rows = [count_row(name, counts, waits) for name, counts in run.entries("by_queue").items()]
    for row in rows:
        depth = run.queue_depths.get(row["name"])
        row["deepest"] = float(depth.ready.max()) if depth is not None else None
    return rows


def by_kind(run: Run) -> list[dict[str, Any]]:
    """Return a row for each kind of a scenario: counts, quantiles of the seconds in the queue, those of the bodies."""
    timings = run.timings
    waits = queue_time_quantiles(run, timings.kinds, timings.kind) if timings is not None else {}
    return [count_row(name, counts, waits) for name, counts in run.entries("by_kind").items()]


def by_stage(run: Run) -> list[dict[str, Any]]:
    """Return a row for each stage of a scenario, ``None`` for what is not known."""
    rows = []
    for stage in map(as_dict, as_list(run.data.get("stages"))):
        numbers = {key: as_number(stage.get(key)) for key in ("tasks", "late_s", "caught_up_s")}
        waits = {key: as_number(as_dict(stage.get("queue")).get(key)) for key in ("p50", "p99")}
        rows.append({"text": str(stage.get("text", "")), **numbers, **waits})
    return rows


def by_worker(run: Run) -> list[dict[str, Any]]:
    """Return a row for each worker: counts, quantiles of the seconds in the queue, seconds of the tasks' bodies."""
    timings = run.timings
    waits = queue_time_quantiles(run, timings.workers, timings.worker) if timings is not None else {}
    return [count_row(name, counts, waits) for name, counts in run.entries("by_worker").items()]


def count_row(name: str, counts: dict[str, Any], waits: dict[str, tuple[float, float]]) -> dict[str, Any]:
    """Return the row of a queue or a worker, ``None`` for what is not known."""
    succeeded = counts.get("succeeded")
    if succeeded is None:
        succeeded = (as_number(counts.get("correct")) or 0) + (as_number(counts.get("wrong")) or 0)
    median, p99 = waits.get(name, (None, None))
    numbers = {key: as_number(counts.get(key)) for key in ("posted", "wrong", "failed", "lost", "run_s", "cpu_s")}
    return {"name": name, **numbers, "succeeded": as_number(succeeded), "p50": median, "p99": p99}


def queue_time_quantiles(run: Run, names: list[str], index: NDArray[np.integer[Any]]) -> dict[str, tuple[float, float]]:
    """Return median and p99 of the seconds in the queue by group; ``index`` has each task's place in ``names``."""
    assert run.timings is not None
    waits = run.timings.queue_time()
    quantiles = {}
    for place, name in enumerate(names):
        if of_group := summary(waits[index == place]):
            quantiles[name] = (of_group["p50"], of_group["p99"])
    return quantiles


def functions(entries: profile.Entries) -> list[dict[str, Any]]:
    """Return cProfile's own columns, the functions with the most time of their own first."""
    ordered = sorted(entries.items(), key=lambda entry: entry[1][2], reverse=True)[:FUNCTIONS_SHOWN]
    return [
        {
            "ncalls": f"{calls}/{primitive}" if calls != primitive else str(calls),
            "calls": calls,
            "tottime": own,
            "own_percall": own / calls if calls else 0.0,
            "cumtime": cumulative,
            "cum_percall": cumulative / primitive if primitive else 0.0,
            "function": profile.function_name(function),
        }
        for function, (primitive, calls, own, cumulative, _) in ordered
    ]


def profile_cost(run: Run) -> list[tuple[str, float | None, float | None, float | None]]:
    """Return what profiling cost: a metric's name, its value with and without the profile, and their ratio."""
    with_profile, without = as_dict(run.profile_cost.get("with")), as_dict(run.profile_cost.get("without"))
    names = {
        "completed_per_s": "finished per second", "posted_per_s": "posted per second", "post_s": "seconds of posting",
        "total_s": "seconds in all", "client_cpu_s": "client's CPU seconds",
    }  # fmt: skip
    rows = []
    for key, name in names.items():
        value, other = as_number(with_profile.get(key)), as_number(without.get(key))
        if value is not None or other is not None:
            rows.append((name, value, other, value / other if value is not None and other else None))
    return rows


def clocks(run: Run) -> list[dict[str, Any]]:
    """Return the offset of every host's and worker's clock from the client's, with its error, in seconds."""
    at_start, at_end = as_dict(run.clocks.get("start")), as_dict(run.clocks.get("end"))
    of_hosts = {name: {"start": at_start.get(name), "end": at_end.get(name)} for name in sorted({*at_start, *at_end})}
    of_workers = run.entries("clocks")
    return [
        {
            "name": name,
            **{
                f"{at}_{key}": as_number(as_dict(clock.get(at)).get(key))
                for at in ("start", "end")
                for key in ("offset_s", "error_s")
            },
        }
        for name, clock in [*of_hosts.items(), *of_workers.items()]
    ]


class Limit(NamedTuple):
    """A limit, what is said of it, and whether it was hit."""

    name: str
    words: str
    hit: bool

    @classmethod
    def of(cls, name: str, hits: float | None, words: str) -> Limit:
        """Return a limit that was hit that often, with the words for that case; ``None`` where it is not known."""
        return cls(name, words if hits else "not hit" if hits is not None else "not recorded", bool(hits))


def limits(run: Run) -> list[Limit]:
    """Return every limit: the broker's, the result store's, the hosts'."""
    client = run.section("client")
    brokers = [as_dict(limits.get("broker")) for limits in run.limits.values() if "broker" in limits]
    blocked = as_number(client.get("blocked_seconds"))
    held = [entry for broker in brokers for entry in as_list(broker.get("blocked"))]
    evicted = as_number(run.result_store.get("evicted_during_run"))
    reconnects = as_number(client.get("reconnects"))
    return [
        alarm_limit(run, brokers),
        flow_limit(brokers),
        Limit.of("posting blocked by the broker", blocked, f"{text.seconds(blocked)}, all threads together"),
        Limit.of(
            "connections blocked by the broker",
            len(held) if brokers else None,
            f"seen {text.count(len(held), 'time')}",
        ),
        Limit.of("result store: evictions", evicted, f"{evicted or 0:,.0f} values"),
        restart_limit(run),
        memory_limit(run),
        Limit.of("connections to the broker lost while posting", reconnects, f"{reconnects or 0:.0f}"),
    ]


def alarm_limit(run: Run, brokers: list[dict[str, Any]]) -> Limit:
    """Return the broker's alarms, each by when it was first seen."""
    alarms = [
        as_dict(alarm) for broker in brokers for alarm in as_list(broker.get("alarms")) if as_dict(alarm).get("set")
    ]
    # An alarm is in every sample for as long as it lasts.
    first_seen = {str(alarm.get("what")): moment(run, alarm.get("unix")) for alarm in reversed(alarms)}
    words = text.listed([f"{alarm}, first seen at {seen}" for alarm, seen in sorted(first_seen.items())])
    return Limit.of("broker alarms", len(alarms) if brokers else None, words)


def flow_limit(brokers: list[dict[str, Any]]) -> Limit:
    """Return the samples in which the broker held connections back."""
    flow = [as_dict(entry) for broker in brokers for entry in as_list(broker.get("flow"))]
    most = max((as_number(entry.get("connections")) or 0 for entry in flow), default=0)
    words = f"seen {text.count(len(flow), 'time')}, {most:.0f} connections at most"
    return Limit.of("flow control", len(flow) if brokers else None, words)


def restart_limit(run: Run) -> Limit:
    """Return the services that were restarted."""
    restarts = [
        (f"{unit} on {host}", as_number(number) or 0)
        for host, limits in run.limits.items()
        for unit, number in as_dict(limits.get("restarts")).items()
    ]
    known = any("restarts" in limits for limits in run.limits.values())
    words = text.listed([f"{unit}: {number:.0f}" for unit, number in restarts if number])
    return Limit.of("restarts of services", sum(number for _, number in restarts) if known else None, words)


def memory_limit(run: Run) -> Limit:
    """Return the processes that the kernel killed."""
    kills = {
        host: as_number(limits.get("oom_kills")) or 0
        for host, limits in run.limits.items()
        if limits.get("oom_kills") is not None
    }
    words = text.listed([f"{number:.0f} on {host}" for host, number in kills.items() if number])
    return Limit.of("killed for want of memory", sum(kills.values()) if kills else None, words)


def moment(run: Run, unix: Any) -> str:
    """Return a Unix time as seconds of the run, in words."""
    seconds = as_number(unix)
    return f"{seconds - run.start:,.0f} s" if seconds is not None and run.start is not None else "an unknown time"
