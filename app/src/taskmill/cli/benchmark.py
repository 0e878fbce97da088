"""``taskmill benchmark``: what playbooks/compare-peers.yml calls."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import click

from taskmill import benchmark
from taskmill.cli.options import RUN


@click.group("benchmark", hidden=True)
def benchmark_group() -> None:
    """Say what playbooks/compare-peers.yml is to measure next, keep what it measured, and draw the conclusions."""


@benchmark_group.command("left")
@RUN
def benchmark_left_command(run: Path) -> None:
    """Print the measurements of RUN that are still to be made, as JSON."""
    click.echo(json.dumps(benchmark.left(run)))


@benchmark_group.command("keep")
@RUN
@click.argument("file")
def benchmark_keep_command(run: Path, file: str) -> None:
    """Keep in RUN the measurement FILE, of what standard input says in JSON."""
    found = benchmark.keep(run, file, json.load(sys.stdin))
    click.echo(found.get("failed") or f"{found['correct']:,} of {found['tasks']:,} right, {found['total_s']:.2f} s")


@benchmark_group.command("report")
@RUN
def benchmark_report_command(run: Path) -> None:
    """Write RUN's tables, and print them."""
    benchmark.conclude(run)
    click.echo((run / benchmark.PAGE).read_text(encoding="utf-8"), nl=False)
