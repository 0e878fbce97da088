"""A search for capacity in words: lines for a terminal, and a Markdown page.

``data`` is what ``capacity.json`` holds.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from taskmill.capacity import scale
from taskmill.report.text import count, percent, rate, seconds

if TYPE_CHECKING:
    from pathlib import Path

#: The states of a search, and the sentence that says what each means for its figures.
STATES = {
    "complete": "",
    "interrupted": "Interrupted: this is what was known by then.",
    "budget used up": "The budget was used up before the search was over: this is what was known by then.",
    "failed": "The search had to end: this is what was known by then.",
}


def load_line(load: dict[str, Any]) -> str:
    """Return a load, its verdict and the metrics that show it, in a line."""
    slope = load["slope"]
    return (
        f"{rate(load['rate'])}: {load['state']} (backlog {slope['value']:+,.3g}/s, {slope['low']:+,.3g} to "
        f"{slope['high']:+,.3g}; pools busy {percent(load['busy'])}; p99 {seconds(load['p99_s'])})"
    )


def headline(data: dict[str, Any]) -> str:
    """Return the highest steady rate that was found, in a sentence."""
    answer = data["answer"]
    if not data["settings"]["rounds"] and data["unpaced"]:
        return f"Without a pace: {unpaced(data)}."
    if not answer:
        return "No steady rate was found."
    return (
        f"This cluster does {rate(answer['rate'])} of these tasks, steadily; the limit lies between "
        f"{rate(answer['low'])} and {rate(answer['high'])}."
    )


def basis(data: dict[str, Any]) -> str:
    """Return how much was measured, in a sentence without its end."""
    rounds, loads = len(data["rounds"]), len(data["loads"])
    return (
        f"{rounds} of {data['settings']['rounds']} rounds, {loads} paced loads of {data['settings']['seconds']:g} s, "
        f"{data['seconds']:,.0f} s in all, every result checked"
    )


def unpaced(data: dict[str, Any]) -> str:
    """Return the load without a pace, in a sentence without its end."""
    load = data["unpaced"]
    return (
        f"{rate(load['rate'])} done while {rate(load['posted_per_s'])} were posted, by "
        f"{count(load['pool_processes'], 'pool process', 'pool processes')} on "
        f"{count(load['worker_hosts'], 'worker host')}"
    )


def summary(data: dict[str, Any], folder: Path) -> str:
    """Return the lines that ``taskmill capacity`` ends with; ``folder`` is the search's."""
    lines = [headline(data)]
    if STATES[data["state"]]:
        lines.append(f"  {STATES[data['state']]}")
    lines.append(f"  basis      {basis(data)}")
    if data["unpaced"]:
        lines.append(f"  unpaced    {unpaced(data)}")
    if data["answer"]:
        lines.append(f"  held by    {data['limit']['text']}")
        for row in data["extrapolation"]:
            hosts = count(row["worker_hosts"], "worker host")
            lines.append(f"  {hosts:<16} {rate(row['rate'])}, held by {row['held_by']}")
        lines.append(f"  {scale.assumption(data)}")
    lines.append(f"  record     {folder / 'capacity.json'}")
    if data["state"] != "complete":
        lines.append(f"  go on by   taskmill capacity --resume {folder}")
    return "\n".join(lines)


def markdown(data: dict[str, Any]) -> str:
    """Return ``capacity.md``."""
    lines = [f"# Capacity: {data['name']}", "", headline(data), ""]
    if STATES[data["state"]]:
        lines += [STATES[data["state"]], ""]
    lines += [f"From {basis(data)}."]
    if data["unpaced"]:
        lines += ["", f"Without a pace: {unpaced(data)}."]
    if data["answer"] and data.get("limit"):
        lines += ["", f"Held by {data['limit']['text']}.", "", "## More worker hosts", ""]
        lines += ["| worker hosts | tasks per second | held by |", "|---|---|---|"]
        lines += [
            f"| {row['worker_hosts']} | {rate(row['rate'])} | {row['held_by']} |" for row in data["extrapolation"]
        ]
        lines += ["", scale.assumption(data)]
    lines += ["", "## The loads", "", "| rate | came to | backlog grew by (95 %) | pools busy | p50 | p99 | folder |"]
    lines += ["|---|---|---|---|---|---|---|"]
    for load in data["loads"]:
        slope = load["slope"]
        lines.append(
            f"| {rate(load['rate'])} | {load['state']} | {slope['value']:+,.3g}/s ({slope['low']:+,.3g} to "
            f"{slope['high']:+,.3g}) | {percent(load['busy'])} | {seconds(load['p50_s'])} | {seconds(load['p99_s'])} | "
            f"`{load['folder']}` |"
        )
    return "\n".join(lines) + "\n"
