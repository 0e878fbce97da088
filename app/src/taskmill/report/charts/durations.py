"""The chart of how long tasks waited and ran."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import plotly.graph_objects as go

from taskmill.report.charts import series
from taskmill.report.charts.style import BLUE, GREEN, ORANGE, Chart, faint, logarithmic, new_figure, rounded
from taskmill.report.text import seconds

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray


def histogram(durations: Mapping[str, NDArray[np.float64]]) -> Chart | None:
    """Draw the histograms of at most three kinds of durations, in seconds by the kind's name, on one logarithmic axis.

    ``None`` where no duration is known.
    """
    histograms = series.log_histogram(list(durations.values()))
    if histograms is None:
        return None
    borders, shares = histograms
    middle = np.sqrt(borders[1:] * borders[:-1])
    figure = new_figure(len(durations), list(durations))
    for row, (name, share) in enumerate(zip(durations, shares, strict=True), 1):
        tone = (ORANGE, GREEN, BLUE)[row - 1]
        figure.add_trace(
            go.Scatter(
                x=rounded(middle), y=rounded(100 * share), mode="lines", name=name, fill="tozeroy",
                fillcolor=faint(tone), line={"color": tone, "width": 1.6, "shape": "hvh"},
                customdata=[seconds(float(value)) for value in middle],
                hovertemplate="%{customdata}: %{y:.2f} % of tasks<extra></extra>",
            ), row=row, col=1,
        )  # fmt: skip
    figure.update_xaxes(logarithmic(float(borders[0]), float(borders[-1])))
    figure.update_yaxes(ticksuffix=" %", nticks=4)
    figure.update_layout(hovermode="closest", margin={"b": 30})
    return Chart(
        "histogram",
        "How long tasks waited and ran",
        figure,
        60 + 130 * len(durations),
        "Share of tasks by time; the axis is logarithmic.",
    )
