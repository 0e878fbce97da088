"""The chart of who called whom."""

from __future__ import annotations

from typing import TYPE_CHECKING

import plotly.graph_objects as go

from taskmill.report.charts.style import COLOURS, SLATE, Chart, new_figure
from taskmill.report.text import label, seconds

if TYPE_CHECKING:
    from taskmill.report.call_tree import Call


def icicle(root: Call, name: str, title: str, unit: str, note: str) -> Chart:
    """Draw a call tree, callers above callees; the wider a call, the more ``unit`` (``s`` or samples) it took."""
    labels: list[str] = []
    parents: list[str] = []
    values: list[int] = []
    texts: list[str] = []
    tones: list[str] = []
    packages: dict[str, int] = {}
    # In whole micro-units rounded down, so that no children are more than their parent: plotly draws nothing then.
    scale = 1_000_000 if unit == "s" else 1

    def add(call: Call, parent: str, most: int) -> int:
        place, value = str(len(labels)), min(int(call.value * scale), most)
        labels.append(label(call.name))
        parents.append(parent)
        values.append(value)
        amount = seconds(call.value) if unit == "s" else f"{int(call.value):,} {unit}"
        source = f"{label(call.place)}<br>" if call.place else ""
        texts.append(f"{source}{amount}, {100 * call.value / root.value:.1f} %")
        tones.append(package_colour(call.package, packages))
        left = value
        for inner in sorted(call.calls, key=lambda call: -call.value):
            left -= add(inner, place, left)
        return value

    add(root, "", int(root.value * scale))
    figure = new_figure()
    figure.add_trace(
        go.Icicle(
            ids=[str(place) for place in range(len(labels))], labels=labels, parents=parents, values=values, text=texts,
            branchvalues="total", tiling={"orientation": "v"}, maxdepth=24, pathbar={"thickness": 22},
            marker={"colors": tones, "line": {"width": 0.5}}, leaf={"opacity": 1}, textfont={"color": "#0e1116"},
            textinfo="label", hovertemplate="%{label}<br>%{text}<extra></extra>",
        )
    )  # fmt: skip
    figure.update_layout(
        margin={"l": 4, "r": 4, "t": 28, "b": 4}, hovermode="closest", uniformtext={"minsize": 9, "mode": "hide"}
    )
    return Chart(name, title, figure, 50 + 26 * min(24, max(6, root.depth)), note)


def package_colour(package: str, packages: dict[str, int]) -> str:
    """Return a package's colour; ``packages`` has the place of each that was drawn before, and is added to."""
    if not package:
        return SLATE
    return COLOURS[packages.setdefault(package, len(packages)) % (len(COLOURS) - 1)]
