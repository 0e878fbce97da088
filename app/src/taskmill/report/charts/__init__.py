"""Charts, as plotly figures. They get plain data, and leave what depends on light or dark to the page.

plotly reads markup and ``%{...}`` in labels: every name goes through :func:`taskmill.report.text.label`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from taskmill.report import cpu_breakdown as where
from taskmill.report.charts import series
from taskmill.report.text import label, seconds

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from taskmill.model.arrays import Floats
    from taskmill.report.call_tree import Call
    from taskmill.report.cpu_breakdown import Where
    from taskmill.report.run_folder import Run
    from taskmill.samples.host_samples import Host

BLUE, ORANGE, GREEN, RED = "#4c8dff", "#f0883e", "#2fb573", "#f2555a"
VIOLET, CYAN, PINK, YELLOW, SLATE = "#a371f7", "#27b8c7", "#e778b5", "#d9a514", "#8b96a5"
#: Colours that can be told apart and that show on light and dark.
COLOURS = (BLUE, ORANGE, GREEN, VIOLET, CYAN, PINK, YELLOW, RED, SLATE)
#: Queues that are named after a colour have it.
NAMED = {
    "red": RED, "green": GREEN, "blue": BLUE, "orange": ORANGE, "violet": VIOLET, "purple": VIOLET, "cyan": CYAN,
    "pink": PINK, "yellow": YELLOW, "grey": SLATE, "gray": SLATE,
}  # fmt: skip
PARTS = {
    where.FUNCTION: GREEN, where.AROUND: ORANGE, where.WORKER: ORANGE, "broker": VIOLET, "result store": CYAN,
    "client": BLUE, "monitor": PINK, "sampling": YELLOW, "everything else": SLATE, where.STOLEN: RED,
    where.IDLE: "rgba(139, 150, 165, .22)", where.REST: "rgba(139, 150, 165, .5)",
}  # fmt: skip
#: Rows and columns of a heat map together, at most.
CELLS = 120_000
ELAPSED = "seconds since the first post"


@dataclass(frozen=True)
class Chart:
    """A figure with its place on the page."""

    name: str
    title: str
    figure: go.Figure
    height: int
    note: str = ""

    @property
    def json(self) -> str:
        """The figure for a ``script`` element."""
        return str(self.figure.to_json()).replace("<", "\\u003c")


def colour(name: str, place: int) -> str:
    """Return a line's colour by its name, else by its place."""
    return NAMED.get(name.lower(), COLOURS[place % len(COLOURS)])


def part_colour(name: str, place: int = 0) -> str:
    """Return a part's colour, the same in every chart."""
    return PARTS.get(name, COLOURS[(place + 5) % len(COLOURS)])


def faint(hexadecimal: str) -> str:
    """Return a colour for an area below a line."""
    red, green, blue = (int(hexadecimal[at : at + 2], 16) for at in (1, 3, 5))
    return f"rgba({red}, {green}, {blue}, .16)"


def figure(rows: int = 1, titles: Sequence[str] = (), **options: Any) -> go.Figure:
    """Return an empty figure whose looks the page gives it."""
    made = make_subplots(
        rows=rows,
        cols=1,
        shared_xaxes=True,
        vertical_spacing=min(0.1, 0.3 / rows),
        subplot_titles=titles or None,
        **options,
    )
    made.update_layout(
        template="none", margin={"l": 56, "r": 14, "t": 26, "b": 42}, hovermode="x unified", showlegend=False
    )
    # Titles of rows stand at the left, as everything else does.
    made.update_annotations(x=0, xanchor="left", font={"size": 13})
    made.update_yaxes(rangemode="tozero")
    return made


def with_legend(made: go.Figure) -> go.Figure:
    """Show a legend above the chart."""
    made.update_layout(
        showlegend=True, margin={"t": 46}, legend={"orientation": "h", "x": 0, "y": 1.01, "yanchor": "bottom"}
    )
    return made


def line(name: str, x: Floats, y: Floats, colour_: str, hover: str, **options: Any) -> go.Scatter:
    """Return a line."""
    return go.Scatter(
        x=np.round(x, 3), y=rounded(y), name=label(name), mode="lines", line={"color": colour_, "width": 2},
        hovertemplate=hover, **options,
    )  # fmt: skip


def rounded(values: Floats) -> Floats:
    """Return what a chart needs of the values: four digits, at half the size."""
    values = np.asarray(values, float)
    with np.errstate(divide="ignore", invalid="ignore"):
        digits = 10.0 ** (4 - np.ceil(np.log10(np.abs(values))))
        short = np.where(np.isfinite(digits) & (values != 0), np.round(values * digits) / digits, values)
    return short.astype("float32")


def rates(run: Run) -> Chart | None:
    """Tasks posted and finished per second, kept apart, and the backlog between them."""
    if run.timings is None or not len(run.timings.posted):
        return None
    posted = run.since(run.timings.posted)
    done = run.since(run.timings.done)
    done = done[np.isfinite(done)]
    borders = series.edges(run.seconds, 250)
    middle = (borders[1:] + borders[:-1]) / 2
    titles = ["posted per second", "finished per second", "backlog: posted and not finished"]
    made = figure(3, titles)
    for row, (times, tone) in enumerate(((posted, BLUE), (done, GREEN)), 1):
        hover = "%{y:,.0f} per second<extra></extra>"
        shape = {"color": tone, "width": 1.6, "shape": "hvh"}
        values = series.per_second(times, borders)
        made.add_trace(
            go.Scatter(
                x=np.round(middle, 3), y=rounded(values), mode="lines", line=shape, fill="tozeroy",
                fillcolor=faint(tone), hovertemplate=hover, name=titles[row - 1],
            ), row=row, col=1,
        )  # fmt: skip
    open_tasks = series.backlog(posted, done, borders)
    made.add_trace(
        line(
            titles[2], borders, open_tasks, ORANGE, "%{y:,.0f} tasks<extra></extra>",
            fill="tozeroy", fillcolor=faint(ORANGE),
        ), row=3, col=1,
    )  # fmt: skip
    made.update_xaxes(range=[0, run.seconds])
    made.update_xaxes(title_text=ELAPSED, row=3, col=1)
    width = borders[1] - borders[0]
    note = f"Counted in steps of {seconds(float(width))}. Each chart has a scale of its own."
    return Chart("rates", "Posted, finished, and the backlog between them", made, 470, note)


def depths(run: Run) -> Chart | None:
    """Messages that wait in each queue."""
    if not run.depths:
        return None
    made = with_legend(figure())
    start = run.start or min(float(depth.times[0]) for depth in run.depths.values())
    for place, (queue, depth) in enumerate(run.depths.items()):
        x, y = series.thinned(depth.times - start, depth.ready)
        made.add_trace(line(queue, x, y, colour(queue, place), "%{fullData.name}: %{y:,.0f}<extra></extra>"))
    posting = run.data["seconds"]["post"]
    if posting:
        made.add_vline(x=posting, line={"dash": "dot", "width": 1.5, "color": SLATE})
    made.update_xaxes(title_text=ELAPSED, rangemode="nonnegative")
    note = "The dotted line is the end of posting. Messages already with a worker (prefetched) are not among them."
    return Chart("depths", "Messages waiting in each queue", made, 320, note)


def heat(run: Run, hosts: list[Host], title: str, place: int) -> Chart:
    """Every core of one machine over time, with its memory below."""
    host = hosts[0]
    cores = host.cores
    borders = series.edges(
        run.seconds or float(np.ptp(host.times)) or 1.0, max(60, min(300, CELLS // max(1, len(cores))))
    )
    # sadf stamps whole seconds: finer steps would stay empty.
    borders = borders if borders[1] >= 1 else np.arange(0, np.ceil(borders[-1]) + 1)
    origin = run.start if run.start is not None else float(host.times[0])
    middle = (borders[1:] + borders[:-1]) / 2
    made = figure(
        2,
        ["", "memory in use"],
        specs=[[{}], [{}]],
        row_heights=[max(0.55, 1 - 90 / heat_height(len(cores))), min(0.45, 90 / heat_height(len(cores)))],
    )
    shown = [series.resample(host.times - origin - 0.5, host.busy[core], borders) for core in cores]
    made.add_trace(
        go.Heatmap(
            z=np.round(np.nan_to_num(np.array(shown), nan=0.0)).astype("u1"), x=np.round(middle, 3),
            y=[f"core {core}" for core in cores], zmin=0, zmax=100, showscale=False, ygap=1 if len(cores) <= 32 else 0,
            hovertemplate="%{y}: %{z} % busy<extra></extra>",
        ), row=1, col=1,
    )  # fmt: skip
    for number, one in enumerate(memories(hosts)):
        if len(one.memory):
            tone = COLOURS[(number + 3) % len(COLOURS)]
            x, y = series.thinned(one.times - origin, one.memory)
            made.add_trace(
                line(f"memory of {one.name}", x, y, tone, "%{fullData.name}: %{y:.0f} %<extra></extra>"), row=2, col=1
            )
    made.update_yaxes(range=[0, 100], ticksuffix=" %", nticks=3, row=2, col=1)
    made.update_yaxes(autorange="reversed", row=1, col=1, dtick=1 if len(cores) <= 16 else None)
    made.update_xaxes(range=[0, float(borders[-1])])
    made.update_xaxes(title_text=ELAPSED, row=2, col=1)
    made.update_layout(hovermode="closest", margin={"t": 10, "l": 66})
    return Chart(f"cores-{place}", title, made, heat_height(len(cores)) + 52)


def memories(hosts: list[Host]) -> list[Host]:
    """Return the hosts with memory of their own: containers without a bound see their machine's."""
    first, *others = hosts
    same = all(
        len(one.memory) and abs(one.memory.mean() - first.memory.mean()) < 1 for one in others if len(first.memory)
    )
    return [first] if same else hosts


def heat_height(cores: int) -> int:
    """Return the height of a machine's chart."""
    return 110 + min(640, max(24 * cores, 70) if cores <= 16 else 12 * cores)


def parts_over_time(run: Run) -> Chart | None:
    """Cores in use by part, one upon the other."""
    if run.start is None or not run.units or run.seconds <= 0:
        return None
    borders = series.edges(run.seconds, 200)
    borders = borders if borders[1] >= 1 else np.arange(0, np.ceil(borders[-1]) + 1)
    used = where.used_by_part(run, borders + run.start)
    made = with_legend(figure())
    for place, (part, cpu) in enumerate(used.items()):
        made.add_trace(
            line(
                part, (borders[1:] + borders[:-1]) / 2, np.diff(cpu) / np.diff(borders), part_colour(part, place),
                "%{fullData.name}: %{y:.2f}<extra></extra>", stackgroup="all",
            )
        )  # fmt: skip
    made.update_traces(line={"width": 0.5})
    made.update_layout(legend={"traceorder": "normal"})
    made.update_xaxes(title_text=ELAPSED, range=[0, run.seconds])
    made.update_yaxes(title_text="cores")
    return Chart("parts", "Cores in use by part", made, 330, "Each part's services, on all hosts together.")


def memory_over_time(run: Run) -> Chart | None:
    """Memory in use by part, one upon the other."""
    if run.start is None or not run.units or run.seconds <= 0:
        return None
    at = series.edges(run.seconds, 200)
    held = where.memory_by_part(run, at + run.start)
    made = with_legend(figure())
    for place, (part, memory) in enumerate(held.items()):
        hover = "%{fullData.name}: %{y:,.0f} MB<extra></extra>"
        made.add_trace(line(part, at, memory / 1e6, part_colour(part, place), hover, stackgroup="all"))
    made.update_traces(line={"width": 0.5})
    made.update_xaxes(title_text=ELAPSED, range=[0, run.seconds])
    made.update_yaxes(title_text="MB")
    made.update_layout(legend={"traceorder": "normal"})
    note = "The memory that each part's processes hold, on all hosts together; what they share counts for each."
    return Chart("memory", "Memory by part", made, 300, note)


def where_bar(split: Where) -> Chart:
    """The whole as one bar."""
    made = bars([("", split)])
    made.update_yaxes(visible=False)
    made.update_layout(margin={"l": 8, "r": 8, "t": 8, "b": 40}, showlegend=False)
    return Chart("where", "Where the time went", made, 130)


def bars(splits: Sequence[tuple[str, Where]]) -> go.Figure:
    """One bar for each run, its parts one after the other in percent."""
    made = figure()
    last = (where.STOLEN, where.IDLE, where.REST)
    names = list(dict.fromkeys(part.name for _, split in splits for part in split.parts))
    names = [name for name in names if name not in last] + [name for name in last if name in names]
    for place, name in enumerate(names):
        found = [next((part for part in split.parts if part.name == name), None) for _, split in splits]
        shares = [max(0.0, 100 * part.share) if part else 0.0 for part in found]
        made.add_trace(
            go.Bar(
                orientation="h", y=[label(run) for run, _ in splits], x=shares, name=label(name),
                customdata=[part.core_seconds if part else 0.0 for part in found],
                marker={"color": part_colour(name, place), "line": {"width": 0},
                        "pattern": {"shape": "/" if name == where.REST else ""}},
                text=[f"{share:.0f} %" if share >= 4 else "" for share in shares], textposition="inside",
                insidetextanchor="middle", textangle=0,
                hovertemplate="%{fullData.name}: %{x:.1f} %, %{customdata:,.0f} core-seconds<extra></extra>",
            )
        )  # fmt: skip
    made.update_layout(barmode="stack", bargap=0.25, hovermode="closest", legend={"traceorder": "normal"})
    made.update_xaxes(ticksuffix=" %", range=[0, 100])
    return made


def logarithmic(low: float, high: float) -> dict[str, Any]:
    """Return a logarithmic axis of seconds, marked at the powers of ten."""
    ticks = [10.0**power for power in range(int(np.floor(np.log10(low))), int(np.ceil(np.log10(high))) + 1)]
    return {"type": "log", "tickvals": ticks, "ticktext": [seconds(tick) for tick in ticks]}


def histogram(kinds: Mapping[str, Floats]) -> Chart | None:
    """How long tasks waited, ran and took, on one logarithmic axis."""
    found = series.log_histogram(list(kinds.values()))
    if found is None:
        return None
    borders, shares = found
    middle = np.sqrt(borders[1:] * borders[:-1])
    made = figure(len(kinds), list(kinds))
    for row, (name, share) in enumerate(zip(kinds, shares, strict=True), 1):
        tone = (ORANGE, GREEN, BLUE)[row - 1]
        made.add_trace(
            go.Scatter(
                x=rounded(middle), y=rounded(100 * share), mode="lines", name=name, fill="tozeroy",
                fillcolor=faint(tone), line={"color": tone, "width": 1.6, "shape": "hvh"},
                customdata=[seconds(float(value)) for value in middle],
                hovertemplate="%{customdata}: %{y:.2f} % of tasks<extra></extra>",
            ), row=row, col=1,
        )  # fmt: skip
    made.update_xaxes(logarithmic(float(borders[0]), float(borders[-1])))
    made.update_yaxes(ticksuffix=" %", nticks=4)
    made.update_layout(hovermode="closest", margin={"b": 30})
    return Chart(
        "histogram",
        "How long tasks waited and ran",
        made,
        60 + 130 * len(kinds),
        "Share of tasks by time; the axis is logarithmic.",
    )


def by_group(run: Run, group: str) -> list[Chart]:
    """What Flower's old monitor showed: succeeded, failed and time in queue over time, by queue or by worker."""
    times = run.timings
    if times is None or not len(times.done):
        return []
    names, index = (times.queues, times.queue) if group == "queue" else (times.workers, times.worker)
    borders = series.edges(run.seconds, 200)
    middle = (borders[1:] + borders[:-1]) / 2
    done, waited = run.since(times.done), times.queue_time()
    wanted = [("succeeded per second", times.outcome < 2), ("failed per second", times.outcome == 2)]
    wanted = [(title, chosen) for title, chosen in wanted if chosen.any()]
    with_wait = bool(np.isfinite(waited).any())
    titles = [title for title, _ in wanted] + (["time in queue, median of the tasks that ended"] if with_wait else [])
    made = with_legend(figure(len(titles), titles))
    for place, name in enumerate(name or "not known" for name in names):
        mine, tone = index == place, colour(name, place)
        for row, (_, chosen) in enumerate(wanted, 1):
            values = series.per_second(done[mine & chosen], borders)
            hover = "%{fullData.name}: %{y:,.0f} per second<extra></extra>"
            trace = line(name, middle, values, tone, hover, legendgroup=str(place), showlegend=row == 1)
            made.add_trace(trace.update(line={"width": 1.6}), row=row, col=1)
        if with_wait:
            values = series.quantile_over_time(done[mine], waited[mine], borders, 0.5)
            hover = "%{fullData.name}: %{y:.3~s}s<extra></extra>"
            made.add_trace(
                line(
                    name, middle, values, tone, hover, legendgroup=str(place), showlegend=not wanted, connectgaps=True
                ),
                row=len(titles),
                col=1,
            )
    if with_wait:
        made.update_yaxes(ticksuffix=" s", row=len(titles), col=1)
    made.update_xaxes(range=[0, run.seconds])
    made.update_xaxes(title_text=ELAPSED, row=len(titles), col=1)
    made.update_layout(margin={"t": 66})
    made.update_layout(legend={"y": 1.06})
    return [Chart(f"by-{group}", f"By {group}", made, 100 + 170 * len(titles))]


def icicle(root: Call, name: str, title: str, unit: str, note: str) -> Chart:
    """Who called whom, callers above callees; the wider, the more time."""
    labels: list[str] = []
    parents: list[str] = []
    values: list[int] = []
    texts: list[str] = []
    tones: list[str] = []
    groups: dict[str, int] = {}
    # In whole micro-units rounded down, so that no children are more than their parent: plotly draws nothing then.
    scale = 1_000_000 if unit == "s" else 1

    def add(call: Call, parent: str, most: int) -> int:
        place, value = str(len(labels)), min(int(call.value * scale), most)
        labels.append(label(call.name))
        parents.append(parent)
        values.append(value)
        amount = seconds(call.value) if unit == "s" else f"{int(call.value):,} {unit}"
        place_of = f"{label(call.place)}<br>" if call.place else ""
        texts.append(f"{place_of}{amount}, {100 * call.value / root.value:.1f} %")
        tones.append(group_colour(call.group, groups))
        left = value
        for inner in sorted(call.calls, key=lambda one: -one.value):
            left -= add(inner, place, left)
        return value

    add(root, "", int(root.value * scale))
    made = figure()
    made.add_trace(
        go.Icicle(
            ids=[str(place) for place in range(len(labels))], labels=labels, parents=parents, values=values, text=texts,
            branchvalues="total", tiling={"orientation": "v"}, maxdepth=24, pathbar={"thickness": 22},
            marker={"colors": tones, "line": {"width": 0.5}}, leaf={"opacity": 1}, textfont={"color": "#0e1116"},
            textinfo="label", hovertemplate="%{label}<br>%{text}<extra></extra>",
        )
    )  # fmt: skip
    made.update_layout(
        margin={"l": 4, "r": 4, "t": 28, "b": 4}, hovermode="closest", uniformtext={"minsize": 9, "mode": "hide"}
    )
    return Chart(name, title, made, 50 + 26 * min(24, max(6, root.depth)), note)


def group_colour(group: str, groups: dict[str, int]) -> str:
    """Return the colour of a library, in the order in which they come up."""
    if not group:
        return SLATE
    return COLOURS[groups.setdefault(group, len(groups)) % (len(COLOURS) - 1)]


def overlay(runs: Sequence[Run], names: Sequence[str]) -> list[Chart]:
    """Several runs in one chart each: finished per second, backlog, and the share of tasks done within a time."""
    timed = [
        (place, name, run) for place, (name, run) in enumerate(zip(names, runs, strict=True)) if run.timings is not None
    ]
    if not timed:
        return []
    longest = max(run.seconds for _, _, run in timed)
    borders = series.edges(longest, 300)
    middle = (borders[1:] + borders[:-1]) / 2
    titles = ["posted per second", "finished per second", "backlog"]
    over_time = with_legend(figure(3, titles))
    shares = with_legend(figure())
    fractions = np.concatenate((np.linspace(0, 0.99, 100), np.linspace(0.991, 1, 10)))
    for place, name, run in timed:
        assert run.timings is not None
        tone = COLOURS[place % len(COLOURS)]
        posted, done = run.since(run.timings.posted), run.since(run.timings.done)
        done = done[np.isfinite(done)]
        curves = [
            (middle, series.per_second(posted, borders)),
            (middle, series.per_second(done, borders)),
            (borders, series.backlog(posted, done, borders)),
        ]
        for row, (x, y) in enumerate(curves, 1):
            hover = "%{fullData.name}: %{y:,.0f}<extra></extra>"
            over_time.add_trace(
                line(name, x, y, tone, hover, legendgroup=str(place), showlegend=row == 1), row=row, col=1
            )
        took = run.timings.latency()
        took = took[np.isfinite(took)]
        if len(took):
            x = np.maximum(np.quantile(took, fractions), 1e-6)
            hover = "%{fullData.name}: %{y:.1f} % within %{x:.3~s}s<extra></extra>"
            trace = line(name, x, 100 * fractions, tone, hover)
            shares.add_trace(trace.update(x=rounded(x)))
    over_time.update_xaxes(title_text=ELAPSED, row=3, col=1)
    over_time.update_layout(margin={"t": 66}, legend={"y": 1.06})
    if shares.data:
        reached = np.concatenate([trace.x for trace in shares.data])
        shares.update_xaxes(logarithmic(float(reached.min()), float(reached.max())), title_text="from due to done")
    shares.update_yaxes(ticksuffix=" %", range=[0, 101])
    shares.update_layout(hovermode="closest")
    charts = [Chart("overlay", "Over time", over_time, 560)]
    if shares.data:
        charts.append(
            Chart(
                "latency",
                "How soon tasks were done",
                shares,
                340,
                "Share of tasks done within a time; the axis is logarithmic.",
            )
        )
    return charts
