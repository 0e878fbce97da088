"""Charts over the time of the run: published and finished tasks, backlog, queue depths, by queue and by worker."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import plotly.graph_objects as go

from taskmill.report.charts import series
from taskmill.report.charts.style import (
    BLUE,
    ELAPSED,
    GREEN,
    ORANGE,
    RED,
    SLATE,
    Chart,
    colour,
    faint,
    line,
    new_figure,
    rounded,
    with_legend,
)
from taskmill.report.text import seconds

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from taskmill.report.run_folder import Run
    from taskmill.samples.task_timings import TaskTimings


def rates(run: Run) -> Chart | None:
    """Draw the tasks published and finished per second, and the backlog between them; ``None`` without timings."""
    if run.timings is None or not len(run.timings.posted):
        return None
    published = run.elapsed(run.timings.posted)
    done = run.elapsed(run.timings.done)
    done = done[np.isfinite(done)]
    borders = series.edges(run.seconds, 250)
    middle = (borders[1:] + borders[:-1]) / 2
    titles = ["posted per second", "finished per second", "backlog: posted and not finished"]
    figure = new_figure(3, titles)
    for row, (times, tone) in enumerate(((published, BLUE), (done, GREEN)), 1):
        hover = "%{y:,.0f} per second<extra></extra>"
        shape = {"color": tone, "width": 1.6, "shape": "hvh"}
        values = series.per_second(times, borders)
        figure.add_trace(
            go.Scatter(
                x=np.round(middle, 3), y=rounded(values), mode="lines", line=shape, fill="tozeroy",
                fillcolor=faint(tone), hovertemplate=hover, name=titles[row - 1],
            ), row=row, col=1,
        )  # fmt: skip
    open_tasks = series.backlog(published, done, borders)
    figure.add_trace(
        line(
            titles[2], borders, open_tasks, ORANGE, "%{y:,.0f} tasks<extra></extra>",
            fill="tozeroy", fillcolor=faint(ORANGE),
        ), row=3, col=1,
    )  # fmt: skip
    figure.update_xaxes(range=[0, run.seconds])
    figure.update_xaxes(title_text=ELAPSED, row=3, col=1)
    width = borders[1] - borders[0]
    note = f"Counted in steps of {seconds(float(width))}. Each chart has a scale of its own."
    return with_faults(Chart("rates", "Posted, finished, and the backlog between them", figure, 470, note), run)


def queue_depths(run: Run) -> Chart | None:
    """Draw the messages that wait in each queue; ``None`` without samples."""
    if not run.queue_depths:
        return None
    figure = with_legend(new_figure())
    start = run.start or min(float(depth.times[0]) for depth in run.queue_depths.values())
    for place, (queue, depth) in enumerate(run.queue_depths.items()):
        x, y = series.thinned(depth.times - start, depth.ready)
        figure.add_trace(line(queue, x, y, colour(queue, place), "%{fullData.name}: %{y:,.0f}<extra></extra>"))
    publishing_end = run.record.seconds.post
    if publishing_end:
        figure.add_vline(x=publishing_end, line={"dash": "dot", "width": 1.5, "color": SLATE})
    figure.update_xaxes(title_text=ELAPSED, rangemode="nonnegative")
    note = "The dotted line is the end of posting. Messages already with a worker (prefetched) are not among them."
    return with_faults(Chart("depths", "Messages waiting in each queue", figure, 320, note), run)


def with_faults(chart: Chart, run: Run) -> Chart:
    """Return a chart with the faults that were injected, where there were some."""
    came = [fault for fault in run.injected if fault.began is not None]
    for fault in came:
        end = fault.began if fault.over is None else fault.over
        chart.figure.add_vrect(
            x0=fault.began, x1=end, fillcolor=faint(RED), line={"width": 1, "color": RED}, layer="below",
        )  # fmt: skip
    return replace(chart, note=f"{chart.note} The red bands are injected faults.".lstrip()) if came else chart


def by_queue(run: Run) -> Chart | None:
    """Draw what came of the tasks of each queue over time; ``None`` without timings."""
    timings = run.timings
    if timings is None or not len(timings.done):
        return None
    return by_group(run, timings, "queue", Groups(timings.queues, timings.queue))


def by_worker(run: Run) -> Chart | None:
    """Draw what came of the tasks of each worker over time; ``None`` without timings."""
    timings = run.timings
    if timings is None or not len(timings.done):
        return None
    return by_group(run, timings, "worker", Groups(timings.workers, timings.worker))


class Groups(NamedTuple):
    """Names of queues or workers, and for each task the place of its own among them."""

    names: list[str]
    places: NDArray[np.integer[Any]]


def by_group(run: Run, timings: TaskTimings, group: str, groups: Groups) -> Chart:
    """Draw succeeded and failed tasks per second, and the median time in the queue, each group a line."""
    borders = series.edges(run.seconds, 200)
    middle = (borders[1:] + borders[:-1]) / 2
    done, waits = run.elapsed(timings.done), timings.queue_time()
    outcomes = {"succeeded per second": timings.outcome < 2, "failed per second": timings.outcome == 2}
    shown = {title: chosen for title, chosen in outcomes.items() if chosen.any()}
    with_waits = bool(np.isfinite(waits).any())
    titles = [*shown, *(["time in queue, median of the tasks that ended"] if with_waits else [])]
    figure = with_legend(new_figure(len(titles), titles))
    for place, name in enumerate(name or "not known" for name in groups.names):
        of_group, tone, key = groups.places == place, colour(name, place), str(place)
        for row, chosen in enumerate(shown.values(), 1):
            values = series.per_second(done[of_group & chosen], borders)
            hover = "%{fullData.name}: %{y:,.0f} per second<extra></extra>"
            trace = line(name, middle, values, tone, hover, legendgroup=key, showlegend=row == 1)
            figure.add_trace(trace.update(line={"width": 1.6}), row=row, col=1)
        if with_waits:
            values = series.quantile_over_time(done[of_group], waits[of_group], borders, 0.5)
            hover = "%{fullData.name}: %{y:.3~s}s<extra></extra>"
            trace = line(name, middle, values, tone, hover, legendgroup=key, showlegend=not shown, connectgaps=True)
            figure.add_trace(trace, row=len(titles), col=1)
    if with_waits:
        figure.update_yaxes(ticksuffix=" s", row=len(titles), col=1)
    figure.update_xaxes(range=[0, run.seconds])
    figure.update_xaxes(title_text=ELAPSED, row=len(titles), col=1)
    figure.update_layout(margin={"t": 66})
    figure.update_layout(legend={"y": 1.06})
    return with_faults(Chart(f"by-{group}", f"By {group}", figure, 100 + 170 * len(titles)), run)
