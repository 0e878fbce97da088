"""From a run to one file of HTML that needs nothing else."""

from __future__ import annotations

import base64
from functools import cache
from typing import TYPE_CHECKING, Any

import numpy as np
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup
from plotly.offline import get_plotlyjs

from taskmill.model import record
from taskmill.report import call_tree, cpu_breakdown, metrics, tables, text
from taskmill.report.charts import call_tree as call_tree_charts
from taskmill.report.charts import cores, durations, over_time
from taskmill.report.charts.style import part_colour
from taskmill.report.findings import find
from taskmill.report.plain_data import as_dict
from taskmill.report.run_folder import FAULTS_SHOWN

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from taskmill.report.charts.style import Chart
    from taskmill.report.cpu_breakdown import Machine
    from taskmill.report.run_folder import Run

#: What the page says of a host.
HOST = dict.fromkeys(("groups", "cores", "memory_mb", "distribution", "kernel", "python"))
#: Findings on the first screen, unless more of them matter.
FINDINGS_SHOWN = 3


@cache
def templates() -> Environment:
    """Return the templates of all pages; a process that writes many compiles each once."""
    loader = PackageLoader("taskmill.report")
    environment = Environment(
        loader=loader, autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    filters: dict[str, Callable[..., str]] = {
        "number": text.number, "rate": text.rate, "seconds": text.seconds, "percent": text.percent, "bytes": text.size,
    }  # fmt: skip
    environment.filters |= filters
    parts = {name: Markup(loader.get_source(environment, f"page.{name}")[0]) for name in ("css", "js")}  # noqa: S704  # ours
    environment.globals |= {"own": parts, "plotly": Markup(get_plotlyjs())}  # noqa: S704  # plotly's own
    return environment


def write(path: Path, template: str, content: dict[str, Any]) -> Path:
    """Render a template into a file and return its path; the file is written whole or not at all."""
    page = templates().get_template(template).render(content)
    temporary = path.with_name(f".{path.name}")
    try:
        temporary.write_text(page, encoding="utf-8")
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
    return path


def content(run: Run) -> dict[str, Any]:
    """Return what the template of a run's report shows."""
    breakdown = cpu_breakdown.measure(run)
    run_metrics = metrics.measure(run, breakdown)
    findings = find(run_metrics) if run.recorded else []
    return {
        "run": run,
        "record": run.record,
        "metrics": run_metrics,
        "findings": findings,
        # Whatever is broken or held the run back, and else the first of the notes.
        "findings_shown": max(FINDINGS_SHOWN, sum(finding.kind != "note" for finding in findings)),
        "breakdown": breakdown,
        "posted_at_once": not run_metrics.rate and run.section("latency").get("from") != "due",
        "complete": record.COMPLETE,
        "faults_shown": FAULTS_SHOWN,
        "images": {name: base64.b64encode(image).decode() for name, image in run.screenshots.items()},
        **charts(run, breakdown),
        **run_tables(run),
        **environment_tables(run),
    }


def charts(run: Run, breakdown: cpu_breakdown.CpuBreakdown | None) -> dict[str, Any]:
    """Return the charts of a run's report."""
    return {
        "part_colour": part_colour,
        "breakdown_chart": cores.breakdown_bar(breakdown) if breakdown else None,
        "over_time": [chart for chart in (over_time.rates(run), over_time.queue_depths(run)) if chart],
        "cpu_chart": cores.cpu_by_part(run),
        "memory_chart": cores.memory_by_part(run),
        "heat_maps": heat_maps(run),
        "histogram": histogram(run),
        "group_charts": [chart for chart in (over_time.by_queue(run), over_time.by_worker(run)) if chart],
        "call_trees": call_trees(run),
    }


def run_tables(run: Run) -> dict[str, Any]:
    """Return the tables of a run's report that say what happened."""
    return {
        "percentiles": tables.percentiles(run),
        "by_kind": tables.by_kind(run),
        "by_stage": tables.by_stage(run),
        "by_queue": tables.by_queue(run),
        "by_worker": tables.by_worker(run),
        "profile": tables.functions(run.profile),
        "functions_shown": tables.FUNCTIONS_SHOWN,
        "profile_cost": tables.profile_cost(run),
        "limits": tables.limits(run),
        "clocks": tables.clocks(run),
    }


def environment_tables(run: Run) -> dict[str, Any]:
    """Return the tables of a run's report that say where and by what it was made."""
    environment = run.record.environment
    return {
        "hosts": {name: HOST | as_dict(host) for name, host in run.environment("hosts").items()},
        "settings": run.environment("settings"),
        "client": run.section("client"),
        "result_store": run.result_store,
        "repository": run.environment("repository"),
        "command": str(environment.get("command") or ""),
        "versions": {
            name: value
            for name, value in environment.items()
            if not isinstance(value, (dict, list)) and name != "command"
        },
    }


def heat_maps(run: Run) -> list[tuple[Chart, str]]:
    """Return a heat map for each machine whose cores were sampled, with a sentence of its averages."""
    by_name = {host.name: host for host in run.host_samples}
    maps = []
    for place, machine in enumerate(cpu_breakdown.machines(run)):
        sampled = [by_name[name] for name in machine.hosts if name in by_name]
        if not sampled:
            continue
        memory = max((float(host.memory.max()) for host in sampled if len(host.memory)), default=None)
        words = f"{sampled[0].mean_busy():.0f} % busy on average over {text.count(machine.cores, 'core')}"
        if memory is not None:
            words += f", memory at most {memory:.0f} % in use"
        maps.append((cores.heat_map(run, sampled, machine_title(machine), place), words))
    return maps


def machine_title(machine: Machine) -> str:
    """Return the names of the hosts on a machine."""
    return f"{', '.join(machine.hosts)}: one machine" if len(machine.hosts) > 1 else machine.hosts[0]


def histogram(run: Run) -> Chart | None:
    """Return the histogram of the tasks' durations, as far as they are known."""
    timings = run.timings
    if timings is None:
        return None
    samples = {
        "in the queue": timings.queue_time(),
        "in execution": timings.run,
        tables.latency_name(run): timings.latency(),
    }
    return durations.histogram({name: values for name, values in samples.items() if np.isfinite(values).any()})


def call_trees(run: Run) -> list[Chart]:
    """Return the charts of who called whom: in the client, and in each worker that py-spy sampled."""
    trees = []
    client = call_tree.from_profile(run.profile) if run.profile else None
    if client is not None:
        note = (
            "Wall-clock seconds, waiting included, summed over threads. cProfile knows pairs of caller and callee: a "
            "function's time is divided among its callers by what it spent for each. Click to look closer."
        )
        title = "The client's calls (cProfile)"
        trees.append(call_tree_charts.icicle(client, "icicle-client", title, "s", note))
    for place, (worker, stacks) in enumerate(run.worker_stacks.items()):
        note = "One pool process, sampled from outside by py-spy. Click to look closer."
        title = f"{worker}: a pool process (py-spy)"
        tree = call_tree.from_stacks(stacks)
        trees.append(call_tree_charts.icicle(tree, f"icicle-{place}", title, "samples", note))
    return trees
