"""From figures to one file of HTML that needs nothing else."""

from __future__ import annotations

import base64
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup
from plotly.offline import get_plotlyjs

from taskmill.model import record
from taskmill.report import call_tree as calls
from taskmill.report import charts as figures
from taskmill.report import text
from taskmill.report.cpu_breakdown import machines, split
from taskmill.report.findings import find
from taskmill.report.metrics import gather
from taskmill.report.run_folder import FAULTS_SHOWN, Run, as_dict, as_list, as_number
from taskmill.samples import profile
from taskmill.samples.task_timings import summary

if TYPE_CHECKING:
    from collections.abc import Callable

    from taskmill.report.charts import Chart

TIMES = ("mean", "p50", "p90", "p99", "p99_9", "max")
#: What the page says of a host.
HOST = dict.fromkeys(("groups", "cores", "memory_mb", "distribution", "kernel", "python"))
#: Findings on the first screen, unless more of them matter.
FINDINGS_SHOWN = 3
#: Functions of the profile that the page lists; profile.pstats has all.
FUNCTIONS_SHOWN = 400


def write(path: Path, template: str, content: dict[str, Any]) -> Path:
    """Render a template into a file, whole or not at all, and return its path."""
    loader = PackageLoader("taskmill.report")
    environment = Environment(
        loader=loader, autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    filters: dict[str, Callable[..., str]] = {
        "number": text.number, "rate": text.rate, "seconds": text.seconds, "percent": text.percent, "bytes": text.size,
    }  # fmt: skip
    environment.filters |= filters
    own = {name: Markup(loader.get_source(environment, f"page.{name}")[0]) for name in ("css", "js")}  # noqa: S704  # ours
    page = environment.get_template(template).render(
        **content,
        own=own,
        plotly=Markup(get_plotlyjs()),  # noqa: S704  # plotly's own
    )
    temporary = path.with_name(f".{path.name}")
    try:
        temporary.write_text(page, encoding="utf-8")
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
    return path


def content(run: Run) -> dict[str, Any]:
    """Return what the report's template shows."""
    where = split(run)
    facts = gather(run, where)
    findings = find(facts) if run.recorded else []
    return {
        "run": run,
        "data": run.data,
        "facts": facts,
        "findings": findings,
        # Whatever is broken or held the run back, and else the first of the notes.
        "shown": max(FINDINGS_SHOWN, sum(finding.kind != "note" for finding in findings)),
        "where": where,
        "part_colour": figures.part_colour,
        "where_chart": figures.where_bar(where) if where else None,
        "charts": [chart for chart in (figures.rates(run), figures.depths(run)) if chart],
        "parts_chart": figures.parts_over_time(run),
        "memory_chart": figures.memory_over_time(run),
        "cores": cores(run),
        "times": times(run),
        "histogram": histogram(run),
        "by_queue": by_name(run, "by_queue"),
        "by_worker": by_name(run, "by_worker"),
        "groups": [*figures.by_group(run, "queue"), *figures.by_group(run, "worker")],
        "profile": functions(run.profile),
        "functions_shown": FUNCTIONS_SHOWN,
        "icicles": icicles(run),
        "limits": limits(run),
        "clocks": clocks(run),
        "hosts": {name: HOST | as_dict(one) for name, one in run.environment("hosts").items()},
        "settings": run.environment("settings"),
        "repository": run.environment("repository"),
        "command": str(run.data["environment"].get("command") or ""),
        "versions": {
            name: value
            for name, value in run.data["environment"].items()
            if not isinstance(value, (dict, list)) and name != "command"
        },
        "cost": cost(run),
        "images": {name: base64.b64encode(image).decode() for name, image in run.screenshots.items()},
        "faults_shown": FAULTS_SHOWN,
        "posted_at_once": not facts.rate and run.data["latency"].get("from") != "due",
        "complete": record.COMPLETE,
    }


def cores(run: Run) -> list[tuple[Chart, str]]:
    """Return a heat map for each machine, and what it says in words."""
    found = []
    by_name = {host.name: host for host in run.hosts}
    for place, machine in enumerate(machines(run)):
        sampled = [by_name[name] for name in machine.hosts if name in by_name]
        if not sampled:
            continue
        shared = f"{', '.join(machine.hosts)}: one machine" if len(machine.hosts) > 1 else machine.hosts[0]
        memory = max((float(host.memory.max()) for host in sampled if len(host.memory)), default=None)
        words = f"{sampled[0].mean():.0f} % busy on average over {text.count(machine.cores, 'core')}"
        if memory is not None:
            words += f", memory at most {memory:.0f} % in use"
        found.append((figures.heat(run, sampled, shared, place), words))
    return found


def times(run: Run) -> dict[str, dict[str, Any]]:
    """Return the percentiles, those of the record where it has them."""
    recorded = {kind: as_dict(run.data["latency"].get(kind)) for kind in ("queue", "execution", "latency")}
    if not any(recorded.values()):
        recorded = dict(run.timings.summary()) if run.timings is not None else {}
    names = {"queue": "in the queue", "execution": "in execution", "latency": whole_way(run)}
    return {names[kind]: figures_of for kind, figures_of in recorded.items() if figures_of}


def whole_way(run: Run) -> str:
    """Return what a task's latency is counted from."""
    return "from due to done" if run.data["latency"].get("from") == "due" else "from posted to done"


def histogram(run: Run) -> Chart | None:
    """Return the histogram of what is known of each task's time."""
    times_of = run.timings
    if times_of is None:
        return None
    kinds = {"in the queue": times_of.queue_time(), "in execution": times_of.run, whole_way(run): times_of.latency()}
    return figures.histogram({name: values for name, values in kinds.items() if np.isfinite(values).any()})


def by_name(run: Run, section: str) -> list[dict[str, Any]]:
    """Return a row for each queue or worker: counts, time in the queue, seconds of the tasks' bodies."""
    rows = []
    waited = waits(run, section)
    for name, figures_of in run.data[section].items():
        succeeded = figures_of.get("succeeded")
        if succeeded is None:
            succeeded = (as_number(figures_of.get("correct")) or 0) + (as_number(figures_of.get("wrong")) or 0)
        rows.append(
            {
                "name": name,
                **{
                    key: as_number(figures_of.get(key))
                    for key in ("posted", "wrong", "failed", "lost", "run_s", "cpu_s")
                },
                "succeeded": as_number(succeeded),
                "p50": waited.get(name, (None, None))[0],
                "p99": waited.get(name, (None, None))[1],
                "deepest": float(run.depths[name].ready.max()) if name in run.depths else None,
            }
        )
    return rows


def waits(run: Run, section: str) -> dict[str, tuple[float, float]]:
    """Return median and p99 of the seconds in the queue, by queue or worker."""
    if run.timings is None:
        return {}
    queues = section == "by_queue"
    names, index = (run.timings.queues, run.timings.queue) if queues else (run.timings.workers, run.timings.worker)
    waited = run.timings.queue_time()
    found = {}
    for place, name in enumerate(names):
        if quantiles := summary(waited[index == place]):
            found[name] = (quantiles["p50"], quantiles["p99"])
    return found


def functions(entries: profile.Entries) -> list[dict[str, Any]]:
    """Return cProfile's own columns, the functions with the most time of their own first."""
    ordered = sorted(entries.items(), key=lambda entry: entry[1][2], reverse=True)[:FUNCTIONS_SHOWN]
    return [
        {
            "ncalls": f"{calls_}/{primitive}" if calls_ != primitive else str(calls_),
            "calls": calls_,
            "tottime": own,
            "own_percall": own / calls_ if calls_ else 0.0,
            "cumtime": cumulative,
            "cum_percall": cumulative / primitive if primitive else 0.0,
            "function": profile.name(function),
        }
        for function, (primitive, calls_, own, cumulative, _) in ordered
    ]


def icicles(run: Run) -> list[Chart]:
    """Return who called whom: in the client, and in each worker that was sampled."""
    found = []
    tree = calls.from_profile(run.profile) if run.profile else None
    if tree is not None:
        note = (
            "Wall-clock seconds, waiting included, summed over threads. cProfile knows pairs of caller and callee: a "
            "function's time is divided among its callers by what it spent for each. Click to look closer."
        )
        found.append(figures.icicle(tree, "icicle-client", "The client's calls (cProfile)", "s", note))
    for place, (worker, stacks) in enumerate(run.stacks.items()):
        note = "One pool process, sampled from outside by py-spy. Click to look closer."
        title = f"{worker}: a pool process (py-spy)"
        found.append(figures.icicle(calls.from_stacks(stacks), f"icicle-{place}", title, "samples", note))
    return found


def limits(run: Run) -> list[tuple[str, str, bool]]:
    """Return every limit with what came of it, and whether it was hit."""
    client, memcached = run.data["client"], run.data["memcached"]
    rows: list[tuple[str, str, bool]] = []

    def row(name: str, hit: float | None, words: str) -> None:
        rows.append((name, words if hit else "not hit" if hit is not None else "not recorded", bool(hit)))

    brokers = [as_dict(found.get("broker")) for found in run.limits.values() if "broker" in found]
    alarms = [
        as_dict(alarm) for broker in brokers for alarm in as_list(broker.get("alarms")) if as_dict(alarm).get("set")
    ]
    # An alarm is there again at each look, for as long as it lasts.
    first = {str(alarm.get("what")): since(run, alarm.get("unix")) for alarm in reversed(alarms)}
    words = text.listed([f"{what}, first seen at {moment}" for what, moment in sorted(first.items())])
    row("broker alarms", len(alarms) if brokers else None, words)
    flow = [as_dict(entry) for broker in brokers for entry in as_list(broker.get("flow"))]
    most = max((as_number(entry.get("connections")) or 0 for entry in flow), default=0)
    row(
        "flow control",
        len(flow) if brokers else None,
        f"seen {text.count(len(flow), 'time')}, {most:.0f} connections at most",
    )
    blocked = as_number(client.get("blocked_seconds"))
    row("posting blocked by the broker", blocked, f"{text.seconds(blocked)}, all threads together")
    held = [entry for broker in brokers for entry in as_list(broker.get("blocked"))]
    row("connections blocked by the broker", len(held) if brokers else None, f"seen {text.count(len(held), 'time')}")
    evicted = as_number(memcached.get("evicted_during_run"))
    row("result store: evictions", evicted, f"{evicted or 0:,.0f} values")
    restarts = [
        (f"{unit} on {host}", as_number(number) or 0)
        for host, found in run.limits.items()
        for unit, number in as_dict(found.get("restarts")).items()
    ]
    known = any("restarts" in found for found in run.limits.values())
    words = text.listed([f"{unit}: {number:.0f}" for unit, number in restarts if number])
    row("restarts of services", sum(number for _, number in restarts) if known else None, words)
    kills = {
        host: as_number(found.get("oom_kills")) or 0
        for host, found in run.limits.items()
        if found.get("oom_kills") is not None
    }
    words = text.listed([f"{number:.0f} on {host}" for host, number in kills.items() if number])
    row("killed for want of memory", sum(kills.values()) if kills else None, words)
    reconnects = as_number(client.get("reconnects"))
    row("connections to the broker lost while posting", reconnects, f"{reconnects or 0:.0f}")
    return rows


def since(run: Run, unix: Any) -> str:
    """Return a Unix time as seconds of the run."""
    moment = as_number(unix)
    return f"{moment - run.start:,.0f} s" if moment is not None and run.start is not None else "an unknown time"


def clocks(run: Run) -> list[dict[str, Any]]:
    """Return every clock's offset against the client's, hosts and workers."""
    by_worker = {name: as_dict(one) for name, one in run.data["clocks"].items()}
    at_start, at_end = as_dict(run.clocks.get("start")), as_dict(run.clocks.get("end"))
    by_host = {name: {"start": at_start.get(name), "end": at_end.get(name)} for name in sorted({*at_start, *at_end})}
    return [
        {
            "name": name,
            **{
                f"{at}_{key}": as_number(as_dict(one.get(at)).get(key))
                for at in ("start", "end")
                for key in ("offset_s", "error_s")
            },
        }
        for name, one in [*by_host.items(), *by_worker.items()]
    ]


def cost(run: Run) -> list[tuple[str, float | None, float | None, float | None]]:
    """Return what profiling cost: figure, with it, without it, and the ratio."""
    with_it, without = as_dict(run.cost.get("with")), as_dict(run.cost.get("without"))
    names = {
        "completed_per_s": "finished per second", "posted_per_s": "posted per second", "post_s": "seconds of posting",
        "total_s": "seconds in all", "client_cpu_s": "client's CPU seconds",
    }  # fmt: skip
    rows = []
    for key, name in names.items():
        one, other = as_number(with_it.get(key)), as_number(without.get(key))
        if one is not None or other is not None:
            rows.append((name, one, other, one / other if one is not None and other else None))
    return rows
