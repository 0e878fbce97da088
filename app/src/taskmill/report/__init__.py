"""``report.html`` of a run: one file that needs nothing else, made from ``run.json`` and the files beside it.

The steps, each in a module or package of its own:

* ``run_folder`` reads the folder into plain data.
* ``cpu_breakdown``, ``metrics`` and ``call_tree`` compute.
* ``findings`` judges: what held the run back, and what to change.
* ``charts`` draws, ``tables`` makes rows, ``page`` renders both by ``templates/``.
* ``comparison`` sets several runs beside each other.

Of taskmill it imports ``model`` and ``samples`` alone. It needs what ``taskmill[report]`` installs; recording a run
does not.
"""

from __future__ import annotations

from importlib.util import find_spec
from typing import TYPE_CHECKING

from taskmill.model.errors import TaskmillError

if TYPE_CHECKING:
    from pathlib import Path

#: What ``taskmill[report]`` installs beyond what a run needs.
NEEDS = ("jinja2", "plotly")


def available() -> bool:
    """Return whether what reports need is installed."""
    return all(find_spec(module) for module in NEEDS)


def require() -> None:
    """Raise ``TaskmillError`` where what reports need is not installed."""
    if not available():
        raise TaskmillError(
            "reports are rendered by plotly, which is not installed here: pip install 'taskmill[report]', or take the "
            "run's folder to a machine that has it"
        )


def write(folder: Path) -> Path:
    """Write ``report.html`` into a run's folder and return its path.

    Files that are missing or cut short make a shorter report that names them. Raises ``TaskmillError`` when the folder
    is not one of a run, or what reports need is not installed.
    """
    require()
    # plotly is not everywhere.
    from taskmill.report import page, run_folder  # noqa: PLC0415

    return page.write(folder / "report.html", "report.html.j2", page.content(run_folder.read(folder)))
