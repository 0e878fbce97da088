"""The command ``python -m peers``."""

from __future__ import annotations

import importlib
import json
import os
import pkgutil
import sys
from dataclasses import asdict
from typing import TYPE_CHECKING

import click

import peers
from peers import load

if TYPE_CHECKING:
    from peers.peer import Peer

#: Modules of this package that are no peer.
OWN = {"__main__", "cli", "load", "peer"}
NAMES = sorted(module.name for module in pkgutil.iter_modules(peers.__path__) if module.name not in OWN)
NAME = click.argument("name", type=click.Choice(NAMES))
COUNT = click.IntRange(min=1)


def peer_of(name: str) -> Peer:
    """Return a peer; each needs libraries of its own, so only this one is imported."""
    peer: Peer = importlib.import_module(f"peers.{name}").PEER
    return peer


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
def main() -> None:
    """Run other task queues with the same work."""


@main.command("worker")
@NAME
@click.option("--processes", type=COUNT, default=lambda: len(os.sched_getaffinity(0)), help="Default: the cores.")
def worker_command(name: str, processes: int) -> None:
    """Become the worker processes of the peer NAME."""
    peer = peer_of(name)
    if peer.worker is None:
        raise click.UsageError(f"{name} has no workers: its load does the work itself")
    os.execv(sys.executable, [sys.executable, *peer.worker(processes)])  # noqa: S606  # what a peer says


@main.command("load")
@NAME
@click.option("--tasks", type=COUNT, required=True, help="How many tasks to post.")
@click.option("--n", type=COUNT, required=True, help="Which Fibonacci number each computes.")
@click.option("--expect", type=int, required=True, help="The right result.")
@click.option(
    "--deadline", type=click.FloatRange(min=1), default=60.0, show_default=True, help="Seconds without a result."
)
def load_command(name: str, tasks: int, n: int, expect: int, deadline: float) -> None:
    """Post tasks to the peer NAME, fetch and check every result; write the outcome as JSON."""
    outcome = load.run(peer_of(name), tasks, n, expect, deadline)
    click.echo(json.dumps(asdict(outcome)))
    if outcome.correct < tasks:
        raise SystemExit(1)
