"""``taskmill scenario``, which playbooks call before they prepare hosts for a load."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import click

from taskmill.model.errors import TaskmillError
from taskmill.model.plan import Plan, Right
from taskmill.workload.calls import Calls


@click.command("scenario")
@click.argument("file", type=click.Path(path_type=Path))
def scenario_command(file: Path) -> None:
    """Say what the scenario FILE is, or what is wrong with it.

    Its rows are read. Its functions are not called: they may need what is installed on the client alone.
    """
    from taskmill.workload import scenario  # noqa: PLC0415  # PyYAML is for who has a scenario

    try:
        found = scenario.read(file)
    except ValueError as error:
        raise TaskmillError(str(error)) from error
    routes = tuple(
        replace(route, right=Right() if route.right and route.right.how == "function" else route.right)
        for route in found.routes
        if not route.generate
    )
    if routes:
        Calls(Plan("scenario", routes, len(routes), (), directory=str(file.parent))).check()
    due = sum(stage.tasks for stage in found.due)
    messages = f"{due:,} messages" if due else "as many messages as are asked for"
    click.echo(f"{file}: {messages}; kinds: {', '.join(found.kinds)}")
