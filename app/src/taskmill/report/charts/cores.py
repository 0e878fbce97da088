"""Charts of cores and memory: by core of each machine, by part over time, and the breakdown of the core-seconds."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import plotly.graph_objects as go

from taskmill.report import cpu_breakdown
from taskmill.report.charts import series
from taskmill.report.charts.style import COLOURS, ELAPSED, Chart, line, new_figure, part_colour, with_legend
from taskmill.report.text import label

if TYPE_CHECKING:
    from collections.abc import Sequence

    from taskmill.report.cpu_breakdown import CpuBreakdown
    from taskmill.report.run_folder import Run
    from taskmill.samples.host_samples import HostSamples

#: The most rectangles of a heat map.
CELLS = 120_000


def heat_map(run: Run, hosts: list[HostSamples], title: str, place: int) -> Chart:
    """Draw how busy every core of one machine was over time, and its memory below.

    ``hosts`` are the samples of the machine's hosts, ``place`` its place among the machines.
    """
    host = hosts[0]
    cores = host.cores
    borders = series.edges(
        run.seconds or float(np.ptp(host.times)) or 1.0, max(60, min(300, CELLS // max(1, len(cores))))
    )
    # sadf stamps whole seconds: finer steps would stay empty.
    borders = borders if borders[1] >= 1 else np.arange(0, np.ceil(borders[-1]) + 1)
    origin = run.start if run.start is not None else float(host.times[0])
    middle = (borders[1:] + borders[:-1]) / 2
    height = heat_map_height(len(cores))
    figure = new_figure(
        2,
        ["", "memory in use"],
        specs=[[{}], [{}]],
        row_heights=[max(0.55, 1 - 90 / height), min(0.45, 90 / height)],
    )
    busy = [series.resample(host.times - origin - 0.5, host.busy[core], borders) for core in cores]
    figure.add_trace(
        go.Heatmap(
            z=np.round(np.nan_to_num(np.array(busy), nan=0.0)).astype("u1"), x=np.round(middle, 3),
            y=[f"core {core}" for core in cores], zmin=0, zmax=100, showscale=False, ygap=1 if len(cores) <= 32 else 0,
            hovertemplate="%{y}: %{z} % busy<extra></extra>",
        ), row=1, col=1,
    )  # fmt: skip
    for number, owner in enumerate(hosts_with_own_memory(hosts)):
        if len(owner.memory):
            tone = COLOURS[(number + 3) % len(COLOURS)]
            x, y = series.thinned(owner.times - origin, owner.memory)
            trace = line(f"memory of {owner.name}", x, y, tone, "%{fullData.name}: %{y:.0f} %<extra></extra>")
            figure.add_trace(trace, row=2, col=1)
    figure.update_yaxes(range=[0, 100], ticksuffix=" %", nticks=3, row=2, col=1)
    figure.update_yaxes(autorange="reversed", row=1, col=1, dtick=1 if len(cores) <= 16 else None)
    figure.update_xaxes(range=[0, float(borders[-1])])
    figure.update_xaxes(title_text=ELAPSED, row=2, col=1)
    figure.update_layout(hovermode="closest", margin={"t": 10, "l": 66})
    return Chart(f"cores-{place}", title, figure, height + 52)


def hosts_with_own_memory(hosts: list[HostSamples]) -> list[HostSamples]:
    """Return the first host where all show the same memory, as containers without a limit do, else all hosts."""
    first, *others = hosts
    same = all(
        len(host.memory) and abs(host.memory.mean() - first.memory.mean()) < 1 for host in others if len(first.memory)
    )
    return [first] if same else hosts


def heat_map_height(cores: int) -> int:
    """Return the height of a machine's chart in pixels."""
    return 110 + min(640, max(24 * cores, 70) if cores <= 16 else 12 * cores)


def cpu_by_part(run: Run) -> Chart | None:
    """Draw the cores in use by part, stacked; ``None`` without samples of the units."""
    if run.start is None or not run.unit_samples or run.seconds <= 0:
        return None
    borders = series.edges(run.seconds, 200)
    borders = borders if borders[1] >= 1 else np.arange(0, np.ceil(borders[-1]) + 1)
    used = cpu_breakdown.cpu_by_part(run, borders + run.start)
    figure = with_legend(new_figure())
    for place, (part, cpu) in enumerate(used.items()):
        figure.add_trace(
            line(
                part, (borders[1:] + borders[:-1]) / 2, np.diff(cpu) / np.diff(borders), part_colour(part, place),
                "%{fullData.name}: %{y:.2f}<extra></extra>", stackgroup="all",
            )
        )  # fmt: skip
    figure.update_traces(line={"width": 0.5})
    figure.update_layout(legend={"traceorder": "normal"})
    figure.update_xaxes(title_text=ELAPSED, range=[0, run.seconds])
    figure.update_yaxes(title_text="cores")
    return Chart("parts", "Cores in use by part", figure, 330, "Each part's services, on all hosts together.")


def memory_by_part(run: Run) -> Chart | None:
    """Draw the memory in use by part, stacked; ``None`` without samples of the units."""
    if run.start is None or not run.unit_samples or run.seconds <= 0:
        return None
    at = series.edges(run.seconds, 200)
    held = cpu_breakdown.memory_by_part(run, at + run.start)
    figure = with_legend(new_figure())
    for place, (part, memory) in enumerate(held.items()):
        hover = "%{fullData.name}: %{y:,.0f} MB<extra></extra>"
        figure.add_trace(line(part, at, memory / 1e6, part_colour(part, place), hover, stackgroup="all"))
    figure.update_traces(line={"width": 0.5})
    figure.update_xaxes(title_text=ELAPSED, range=[0, run.seconds])
    figure.update_yaxes(title_text="MB")
    figure.update_layout(legend={"traceorder": "normal"})
    note = "The memory that each part's processes hold, on all hosts together; what they share counts for each."
    return Chart("memory", "Memory by part", figure, 300, note)


def breakdown_bar(breakdown: CpuBreakdown) -> Chart:
    """Draw the breakdown of one run as one bar."""
    figure = breakdown_bars([("", breakdown)])
    figure.update_yaxes(visible=False)
    figure.update_layout(margin={"l": 8, "r": 8, "t": 8, "b": 40}, showlegend=False)
    return Chart("where", "Where the time went", figure, 130)


def breakdown_bars(breakdowns: Sequence[tuple[str, CpuBreakdown]]) -> go.Figure:
    """Draw a bar for each run, by its name, with the shares of its parts in percent."""
    figure = new_figure()
    last = (cpu_breakdown.STOLEN, cpu_breakdown.IDLE, cpu_breakdown.UNACCOUNTED)
    names = list(dict.fromkeys(part.name for _, breakdown in breakdowns for part in breakdown.parts))
    names = [name for name in names if name not in last] + [name for name in last if name in names]
    for place, name in enumerate(names):
        shares = [max(0.0, 100 * (breakdown.share(name) or 0.0)) for _, breakdown in breakdowns]
        figure.add_trace(
            go.Bar(
                orientation="h", y=[label(run) for run, _ in breakdowns], x=shares, name=label(name),
                customdata=[breakdown.core_seconds(name) or 0.0 for _, breakdown in breakdowns],
                marker={"color": part_colour(name, place), "line": {"width": 0},
                        "pattern": {"shape": "/" if name == cpu_breakdown.UNACCOUNTED else ""}},
                text=[f"{share:.0f} %" if share >= 4 else "" for share in shares], textposition="inside",
                insidetextanchor="middle", textangle=0,
                hovertemplate="%{fullData.name}: %{x:.1f} %, %{customdata:,.0f} core-seconds<extra></extra>",
            )
        )  # fmt: skip
    figure.update_layout(barmode="stack", bargap=0.25, hovermode="closest", legend={"traceorder": "normal"})
    figure.update_xaxes(ticksuffix=" %", range=[0, 100])
    return figure
