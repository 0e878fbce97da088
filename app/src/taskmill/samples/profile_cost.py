"""What profiling costs: a run with cProfile beside one of the same load without it, as ``profile-cost.json``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from taskmill.model import record
from taskmill.model.errors import TaskmillError
from taskmill.model.run_folder import write_json

if TYPE_CHECKING:
    from pathlib import Path

NAME = "profile-cost.json"
#: Where each metric stands in the record.
METRICS = {
    "posted_per_s": ("rates", "posted_per_s"),
    "completed_per_s": ("rates", "completed_per_s"),
    "post_s": ("seconds", "post"),
    "total_s": ("seconds", "total"),
    "client_cpu_s": ("client", "cpu_seconds"),
}


def measure(run: Path, without: Path) -> dict[str, dict[str, Any]]:
    """Write the metrics of both runs into the folder of ``run``, and return them by ``with`` and ``without``.

    Raises ``TaskmillError`` where the runs cannot be compared: one did not come to its end, their workloads differ,
    ``run`` was not profiled, or ``without`` was.
    """
    records = {"with": complete_record(run), "without": complete_record(without)}
    if records["with"].get("workload") != records["without"].get("workload"):
        raise TaskmillError(f"{run.name} and {without.name} are not the same load: give runs with the same options")
    folders = {"with": run, "without": without}
    for side, data in records.items():
        if (data.get("environment") or {}).get("profile") is not (side == "with"):
            raise TaskmillError(
                f"{folders[side].name} is to be the run {side} cProfile, and was not run so (--profile)"
            )
    cost = {
        side: {"run": folders[side].name, **{name: metric(data, path) for name, path in METRICS.items()}}
        for side, data in records.items()
    }
    write_json(run / NAME, cost)
    return cost


def complete_record(folder: Path) -> dict[str, Any]:
    """Return the record of a run that came to its end; raise ``TaskmillError`` for any other."""
    data = record.load(folder)
    if data is None or data.get("state") != record.COMPLETE:
        raise TaskmillError(f"{folder} did not come to its end, so its figures say nothing of what profiling costs")
    return data


def metric(data: dict[str, Any], path: tuple[str, str]) -> Any:
    """Return one metric of a record; ``None`` where it has none."""
    section, name = path
    return (data.get(section) or {}).get(name)


def text(cost: dict[str, dict[str, Any]]) -> str:
    """Return the rates of both runs in a sentence."""
    rates = [cost[side]["completed_per_s"] or 0.0 for side in ("with", "without")]
    return f"Finished per second: {rates[0]:,.0f} with cProfile, {rates[1]:,.0f} without."
