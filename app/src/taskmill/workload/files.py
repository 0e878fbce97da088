"""The files of a scenario: kept in the run's folder, so that whoever takes the run up or collects it needs no other."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from taskmill.model.errors import TaskmillError
from taskmill.model.plan import SCENARIO_FILES
from taskmill.workload import functions

if TYPE_CHECKING:
    from taskmill.model.plan import Plan


def keep(plan: Plan, folder: Path) -> Plan:
    """Write a plan and the files of its scenario into a run's folder; return the plan as it is there.

    Raises ``TaskmillError`` where a file cannot be copied.
    """
    plan.save(folder)
    if not plan.scenario:
        return plan
    own = folder / SCENARIO_FILES
    try:
        for name in needed(plan):
            (own / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(Path(plan.directory) / name, own / name)
    except OSError as error:
        raise TaskmillError(f"the scenario's files cannot be kept in {own}: {error}") from error
    return replace(plan, directory=str(own))


def needed(plan: Plan) -> list[Path]:
    """Return the files of a scenario, relative to its directory: itself, rows, and modules that were imported."""
    named = [plan.scenario, *(route.rows for route in plan.routes if route.rows)]
    imports = any(route.generate or (route.right and route.right.how == "function") for route in plan.routes)
    return list(dict.fromkeys([*map(Path, named), *(functions.imported(plan.directory) if imports else [])]))
