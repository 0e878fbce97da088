"""What profiling costs: a run with cProfile beside one of the same load without it, as ``profile-cost.json``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from taskmill.model import record
from taskmill.model.errors import TaskmillError
from taskmill.model.run_folder import write_json

if TYPE_CHECKING:
    from pathlib import Path

NAME = "profile-cost.json"
#: Where each figure stands in the record.
FIGURES = {
    "posted_per_s": ("rates", "posted_per_s"),
    "completed_per_s": ("rates", "completed_per_s"),
    "post_s": ("seconds", "post"),
    "total_s": ("seconds", "total"),
    "client_cpu_s": ("client", "cpu_seconds"),
}


def measure(run: Path, without: Path) -> dict[str, dict[str, Any]]:
    """Write the figures of both into the folder of ``run``, and return them.

    Raises ``TaskmillError`` where they cannot be compared: a run that did not come to its end, another workload, or a
    profile where there should be none, and the other way round.
    """
    records = {"with": finished(run), "without": finished(without)}
    if records["with"].get("workload") != records["without"].get("workload"):
        raise TaskmillError(f"{run.name} and {without.name} are not the same load: give runs with the same knobs")
    for (side, found), folder, profiled in zip(records.items(), (run, without), (True, False), strict=True):
        if (found.get("environment") or {}).get("profile") is not profiled:
            raise TaskmillError(f"{folder.name} is to be the run {side} cProfile, and was not run so (--profile)")
    cost = {
        side: {"run": folder.name, **{name: figure(found, path) for name, path in FIGURES.items()}}
        for (side, found), folder in zip(records.items(), (run, without), strict=True)
    }
    write_json(run / NAME, cost)
    return cost


def finished(folder: Path) -> dict[str, Any]:
    """Return the record of a run that came to its end."""
    found = record.load(folder)
    if found is None or found.get("state") != record.COMPLETE:
        raise TaskmillError(f"{folder} did not come to its end, so its figures say nothing of what profiling costs")
    return found


def figure(found: dict[str, Any], path: tuple[str, str]) -> Any:
    """Return one figure of a record; ``None`` where it has none."""
    section, name = path
    return (found.get(section) or {}).get(name)


def text(cost: dict[str, dict[str, Any]]) -> str:
    """Return both sides in a sentence."""
    rates = [cost[side]["completed_per_s"] or 0.0 for side in ("with", "without")]
    return f"Finished per second: {rates[0]:,.0f} with cProfile, {rates[1]:,.0f} without."
