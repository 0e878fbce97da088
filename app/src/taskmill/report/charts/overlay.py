"""Charts of several runs, each run a line."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from taskmill.report.charts import series
from taskmill.report.charts.style import COLOURS, ELAPSED, Chart, line, logarithmic, new_figure, rounded, with_legend

if TYPE_CHECKING:
    from collections.abc import Sequence

    from taskmill.report.run_folder import Run


def over_time(runs: Sequence[Run]) -> Chart | None:
    """Draw published and finished tasks per second and the backlog of each run; ``None`` without any timings."""
    timed = [run for run in runs if run.timings is not None]
    if not timed:
        return None
    borders = series.edges(max(run.seconds for run in timed), 300)
    middle = (borders[1:] + borders[:-1]) / 2
    figure = with_legend(new_figure(3, ["posted per second", "finished per second", "backlog"]))
    for place, run in enumerate(runs):
        if run.timings is None:
            continue
        published, done = run.elapsed(run.timings.posted), run.elapsed(run.timings.done)
        done = done[np.isfinite(done)]
        curves = [
            (middle, series.per_second(published, borders)),
            (middle, series.per_second(done, borders)),
            (borders, series.backlog(published, done, borders)),
        ]
        tone, key = COLOURS[place % len(COLOURS)], str(place)
        for row, (x, y) in enumerate(curves, 1):
            hover = "%{fullData.name}: %{y:,.0f}<extra></extra>"
            trace = line(run.name, x, y, tone, hover, legendgroup=key, showlegend=row == 1)
            figure.add_trace(trace, row=row, col=1)
    figure.update_xaxes(title_text=ELAPSED, row=3, col=1)
    figure.update_layout(margin={"t": 66}, legend={"y": 1.06})
    return Chart("overlay", "Over time", figure, 560)


def latency(runs: Sequence[Run]) -> Chart | None:
    """Draw the share of each run's tasks that were done within a time; ``None`` without any timings."""
    figure = with_legend(new_figure())
    fractions = np.concatenate((np.linspace(0, 0.99, 100), np.linspace(0.991, 1, 10)))
    for place, run in enumerate(runs):
        latencies = run.timings.latency() if run.timings is not None else np.array([])
        latencies = latencies[np.isfinite(latencies)]
        if len(latencies):
            x = np.maximum(np.quantile(latencies, fractions), 1e-6)
            hover = "%{fullData.name}: %{y:.1f} % within %{x:.3~s}s<extra></extra>"
            trace = line(run.name, x, 100 * fractions, COLOURS[place % len(COLOURS)], hover)
            figure.add_trace(trace.update(x=rounded(x)))
    if not figure.data:
        return None
    times = np.concatenate([trace.x for trace in figure.data])
    figure.update_xaxes(logarithmic(float(times.min()), float(times.max())), title_text="from due to done")
    figure.update_yaxes(ticksuffix=" %", range=[0, 101])
    figure.update_layout(hovermode="closest")
    note = "Share of tasks done within a time; the axis is logarithmic."
    return Chart("latency", "How soon tasks were done", figure, 340, note)
