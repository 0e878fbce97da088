"""The verdict on a run that met a fault: its metrics, held against the fault's bounds, as ``fault.json``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from taskmill.faults import metrics
from taskmill.model import record as records
from taskmill.model import thresholds
from taskmill.model.errors import TaskmillError
from taskmill.model.run_folder import write_json

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from taskmill.faults.metrics import Fault

FILE_NAME = "fault.json"


def conclude(folder: Path, fault: Fault, bounds: Sequence[str], counted: Mapping[str, float]) -> dict[str, Any]:
    """Write ``fault.json`` of the run in ``folder`` and return it.

    ``counted`` are metrics that were counted on the hosts, by name. Raises ``ValueError`` for a bound that cannot be
    read, ``TaskmillError`` where the run has no record.
    """
    known = thresholds.METRICS | {name: ("fault", name) for name in (*metrics.NAMES, *counted)}
    requirements = [thresholds.Requirement.parse(bound, known) for bound in bounds]
    record = records.load(folder)
    if record is None:
        raise TaskmillError(f"{folder} has no run.json: the run that the fault {fault.name!r} met was not recorded")
    measured = metrics.measure(folder, record, fault) | dict(counted)
    judged = thresholds.judge(requirements, record | {"fault": measured})
    counts = record["counts"]
    verdict = {
        "fault": fault.name,
        "title": fault.title,
        "control": fault.control,
        "began": fault.began,
        "over": fault.over,
        "tasks": record["workload"]["tasks"],
        "figures": {name: counts[name] for name in ("lost", "wrong", "failed")} | measured,
        "bounds": judged,
        "held": all(bound["met"] for bound in judged),
    }
    write_json(folder / FILE_NAME, verdict)
    return verdict


def failed(folder: Path, fault: Fault, reason: str) -> dict[str, Any]:
    """Write a ``fault.json`` which says that there is no verdict and for what reason; return it."""
    verdict = {"fault": fault.name, "title": fault.title, "control": fault.control, "reason": reason, "held": False}
    folder.mkdir(parents=True, exist_ok=True)
    write_json(folder / FILE_NAME, verdict)
    return verdict


def text(verdict: dict[str, Any]) -> str:
    """Return a verdict as a line for people, with a line for each bound that does not hold."""
    name = f"{verdict['fault']}{' (control)' if verdict['control'] else ''}"
    if "reason" in verdict:
        return f"{name}: no verdict: {verdict['reason']}"
    figures = ", ".join(
        f"{metric} {number(value)}" for metric, value in verdict["figures"].items() if value is not None
    )
    lines = [f"{name}: {'held' if verdict['held'] else 'NOT HELD'}: {figures}"]
    return "\n".join([*lines, *(f"  {sentence}" for sentence in thresholds.unmet(verdict["bounds"]))])


def outcome(verdict: dict[str, Any]) -> str:
    """Return in a few words what came of a fault: the last cell of its row in the table."""
    if "reason" in verdict:
        return f"no verdict: {verdict['reason']}"
    if verdict["held"]:
        return "the loss is seen" if verdict["control"] else "held"
    return "; ".join(thresholds.unmet(verdict["bounds"]))


def number(value: float | None) -> str:
    """Return a metric's value for people."""
    if value is None:
        return "-"
    return f"{value:,.0f}" if float(value).is_integer() else f"{value:,.1f}"
