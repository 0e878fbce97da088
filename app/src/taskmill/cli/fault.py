"""``taskmill fault``: what playbooks/break-things.yml calls."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from taskmill import faults
from taskmill.cli.options import RUN
from taskmill.cli.values import FigureType
from taskmill.model import errors


@click.group("fault", hidden=True)
def fault_group() -> None:
    """Say what a fault did to a run that playbooks/break-things.yml drove."""


@fault_group.command("judge")
@click.argument("run", type=click.Path(file_okay=False, path_type=Path))
@click.option("--fault", required=True, help="The fault's name.")
@click.option("--title", required=True, help="What was done, for people.")
@click.option("--began", type=float, default=0.0, help="When it began, in Unix seconds of the client's clock.")
@click.option("--over", type=float, default=0.0, help="When it was over.")
@click.option("--control", is_flag=True, help="A safeguard was off.")
@click.option("--bound", "bounds", multiple=True, help="What must hold, as 'lost<=0'; repeat it for more.")
@click.option("--figure", "counted", type=FigureType(), multiple=True, help="What was counted on the hosts.")
@click.option("--failed", help="Why there is no run to judge.")
def fault_judge_command(
    run: Path,
    bounds: tuple[str, ...],
    counted: tuple[tuple[str, float], ...],
    failed: str | None,
    **fault: Any,
) -> None:
    """Write RUN's fault.json and print the verdict; exit code 5 where a bound does not hold."""
    about = faults.Fault(fault.pop("fault"), **fault)
    if failed is not None:
        verdict = faults.failed(run, about, failed)
    else:
        try:
            verdict = faults.conclude(run, about, bounds, dict(counted))
        except ValueError as error:
            raise click.BadParameter(str(error), param_hint="--bound") from error
    click.echo(faults.text(verdict))
    raise SystemExit(errors.OK if verdict["held"] else errors.UNMET)


@fault_group.command("table")
@RUN
def fault_table_command(run: Path) -> None:
    """Write the table of all faults in RUN, the folder of their runs, and print it."""
    click.echo(faults.table(run), nl=False)
