"""The command ``python -m benchmark``."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import click

from benchmark import folder, outcome, table
from taskmill.model.errors import TaskmillError

FOLDER = click.argument("run", metavar="FOLDER", type=click.Path(exists=True, file_okay=False, path_type=Path))


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
def main() -> None:
    """Say what benchmarks/task-queues.yml measures next, keep what it measured, and write the tables."""


@main.command("left")
@FOLDER
def left_command(run: Path) -> None:
    """Print the measurements that are left in FOLDER, as JSON."""
    click.echo(json.dumps(folder.left(run)))


@main.command("keep")
@FOLDER
@click.argument("file")
def keep_command(run: Path, file: str) -> None:
    """Write the measurement FILE into FOLDER; standard input says in JSON what the load printed and used."""
    kept = outcome.keep(run, file, json.load(sys.stdin))
    click.echo(kept.get("failed") or f"{kept['correct']:,} of {kept['tasks']:,} right, {kept['total_s']:.2f} s")


@main.command("report")
@FOLDER
def report_command(run: Path) -> None:
    """Write the tables of FOLDER, and print them."""
    table.conclude(run)
    click.echo((run / table.PAGE).read_text(encoding="utf-8"), nl=False)


if __name__ == "__main__":
    try:
        main()
    except TaskmillError as error:
        click.echo(f"benchmark: {error}", err=True)
        sys.exit(error.exit_code)
