"""``report.html`` of a run: one file that needs nothing else, made from ``run.json`` and the files beside it.

``folder`` reads, ``facts``, ``where``, ``series`` and ``calls`` compute, ``findings`` judges, ``figures`` draws and
``page`` renders. It takes what ``taskmill[report]`` installs; recording a run does not.
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
    """Say whether reports can be rendered here."""
    return all(find_spec(module) for module in NEEDS)


def require() -> None:
    """Raise ``TaskmillError`` where reports cannot be rendered."""
    if not available():
        raise TaskmillError(
            "reports are rendered by plotly, which is not installed here: pip install 'taskmill[report]', or take the "
            "run's folder to a machine that has it"
        )


def write(folder: Path) -> Path:
    """Write ``report.html`` and return its path; raise ``TaskmillError`` when the folder is no run folder.

    Files that are missing or cut short make a shorter report that names them.
    """
    require()
    # plotly is not everywhere.
    from taskmill.report import page  # noqa: PLC0415
    from taskmill.report import run_folder as folders  # noqa: PLC0415

    return page.write(folder / "report.html", "report.html.j2", page.content(folders.read(folder)))
