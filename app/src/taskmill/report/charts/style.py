"""What all charts share: colours, figures, lines and axes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from taskmill.report import cpu_breakdown
from taskmill.report.text import label, seconds

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

BLUE, ORANGE, GREEN, RED = "#4c8dff", "#f0883e", "#2fb573", "#f2555a"
VIOLET, CYAN, PINK, YELLOW, SLATE = "#a371f7", "#27b8c7", "#e778b5", "#d9a514", "#8b96a5"
#: Colours that can be told apart and that show on light and dark.
COLOURS = (BLUE, ORANGE, GREEN, VIOLET, CYAN, PINK, YELLOW, RED, SLATE)
#: Queues and workers that are named after a colour are drawn in it.
NAMED_COLOURS = {
    "red": RED, "green": GREEN, "blue": BLUE, "orange": ORANGE, "violet": VIOLET, "purple": VIOLET, "cyan": CYAN,
    "pink": PINK, "yellow": YELLOW, "grey": SLATE, "gray": SLATE,
}  # fmt: skip
PART_COLOURS = {
    cpu_breakdown.FUNCTION: GREEN, cpu_breakdown.OVERHEAD: ORANGE, cpu_breakdown.WORKER: ORANGE, "broker": VIOLET,
    "result store": CYAN, "client": BLUE, "monitor": PINK, "sampling": YELLOW, "everything else": SLATE,
    cpu_breakdown.STOLEN: RED, cpu_breakdown.IDLE: "rgba(139, 150, 165, .22)",
    cpu_breakdown.UNACCOUNTED: "rgba(139, 150, 165, .5)",
}  # fmt: skip
#: The title of an axis of time.
ELAPSED = "seconds since the first post"


@dataclass(frozen=True)
class Chart:
    """A plotly figure with what the page shows around it; the height is in pixels."""

    name: str
    title: str
    figure: go.Figure
    height: int
    note: str = ""

    @property
    def json(self) -> str:
        """The figure as JSON that may stand in a ``script`` element."""
        return str(self.figure.to_json()).replace("<", "\\u003c")


def colour(name: str, place: int) -> str:
    """Return the colour of a queue's or a worker's line: by its name, else by its place in the order of lines."""
    return NAMED_COLOURS.get(name.lower(), COLOURS[place % len(COLOURS)])


def part_colour(name: str, place: int = 0) -> str:
    """Return the colour of a part of the cores' time, the same in every chart."""
    return PART_COLOURS.get(name, COLOURS[(place + 5) % len(COLOURS)])


def faint(hexadecimal: str) -> str:
    """Return the colour of the area below a line whose colour is ``#rrggbb``."""
    red, green, blue = (int(hexadecimal[at : at + 2], 16) for at in (1, 3, 5))
    return f"rgba({red}, {green}, {blue}, .16)"


def new_figure(rows: int = 1, titles: Sequence[str] = (), **options: Any) -> go.Figure:
    """Return an empty figure with so many rows, each with its title; the page sets fonts and colours."""
    figure = make_subplots(
        rows=rows,
        cols=1,
        shared_xaxes=True,
        vertical_spacing=min(0.1, 0.3 / rows),
        subplot_titles=titles or None,
        **options,
    )
    figure.update_layout(
        template="none", margin={"l": 56, "r": 14, "t": 26, "b": 42}, hovermode="x unified", showlegend=False
    )
    # Titles of rows stand at the left, as everything else does.
    figure.update_annotations(x=0, xanchor="left", font={"size": 13})
    figure.update_yaxes(rangemode="tozero")
    return figure


def with_legend(figure: go.Figure) -> go.Figure:
    """Add a legend above the chart, and return the figure."""
    figure.update_layout(
        showlegend=True, margin={"t": 46}, legend={"orientation": "h", "x": 0, "y": 1.01, "yanchor": "bottom"}
    )
    return figure


def line(
    name: str, x: NDArray[np.float64], y: NDArray[np.float64], line_colour: str, hover: str, **options: Any
) -> go.Scatter:
    """Return a line; ``hover`` is plotly's template for what is shown at a point."""
    return go.Scatter(
        x=np.round(x, 3), y=rounded(y), name=label(name), mode="lines", line={"color": line_colour, "width": 2},
        hovertemplate=hover, **options,
    )  # fmt: skip


def rounded(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the values with the four digits that a chart shows, as float32, which halves their size on the page."""
    values = np.asarray(values, float)
    with np.errstate(divide="ignore", invalid="ignore"):
        digits = 10.0 ** (4 - np.ceil(np.log10(np.abs(values))))
        short = np.where(np.isfinite(digits) & (values != 0), np.round(values * digits) / digits, values)
    return short.astype("float32")


def logarithmic(low: float, high: float) -> dict[str, Any]:
    """Return a logarithmic axis of seconds from ``low`` to ``high``, marked at the powers of ten."""
    ticks = [10.0**power for power in range(int(np.floor(np.log10(low))), int(np.ceil(np.log10(high))) + 1)]
    return {"type": "log", "tickvals": ticks, "ticktext": [seconds(tick) for tick in ticks]}
