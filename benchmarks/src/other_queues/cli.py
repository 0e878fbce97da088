"""The command ``python -m other_queues``."""

from __future__ import annotations

import importlib
import json
import os
import pkgutil
import sys
from dataclasses import asdict
from typing import TYPE_CHECKING

import click

import other_queues
from other_queues import load

if TYPE_CHECKING:
    from other_queues.subject import Subject

#: Modules of this package that are no subject.
OWN = {"__main__", "cli", "load", "subject"}
NAMES = sorted(module.name for module in pkgutil.iter_modules(other_queues.__path__) if module.name not in OWN)
NAME = click.argument("name", type=click.Choice(NAMES))
COUNT = click.IntRange(min=1)


def subject_of(name: str) -> Subject:
    """Return a subject. Only its own module is imported, since each needs libraries of its own."""
    subject: Subject = importlib.import_module(f"other_queues.{name}").SUBJECT
    return subject


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
def main() -> None:
    """Run other task queues with the same work."""


@main.command("worker")
@NAME
@click.option("--processes", type=COUNT, default=lambda: len(os.sched_getaffinity(0)), help="Default: the cores.")
def worker_command(name: str, processes: int) -> None:
    """Become the worker processes of the subject NAME."""
    subject = subject_of(name)
    if subject.worker is None:
        raise click.UsageError(f"{name} has no workers: its load does the work itself")
    os.execv(sys.executable, [sys.executable, *subject.worker(processes)])  # noqa: S606  # the subject's own command


@main.command("load")
@NAME
@click.option("--tasks", type=COUNT, required=True, help="How many tasks to publish.")
@click.option("--n", type=COUNT, required=True, help="Which Fibonacci number each computes.")
@click.option("--expect", type=int, required=True, help="The right result.")
@click.option(
    "--deadline", type=click.FloatRange(min=1), default=60.0, show_default=True, help="Seconds without a result."
)
def load_command(name: str, tasks: int, n: int, expect: int, deadline: float) -> None:
    """Publish tasks to the subject NAME, fetch and check every result, and write the outcome as JSON."""
    outcome = load.run(subject_of(name), tasks, n, expect, deadline)
    click.echo(json.dumps(asdict(outcome)))
    if outcome.correct < tasks:
        raise SystemExit(1)
