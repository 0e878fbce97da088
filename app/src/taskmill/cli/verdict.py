"""What a command says of a run at its end, and the exit code that this comes to."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from taskmill.model import errors, thresholds
from taskmill.model.summary import summary

if TYPE_CHECKING:
    from pathlib import Path

    from taskmill.publishing.posted import Posted
    from taskmill.results.collector import Collected


def tell_run(data: dict[str, Any], folder: Path, posted: Posted, collected: Collected | None) -> int:
    """Say how a run went, and return the exit code."""
    click.echo(summary(data, folder))
    if collected is None:
        return errors.PostingError.exit_code if posted.error is not None else errors.INTERRUPTED
    if collected.faults:
        return errors.FAULTS
    if not collected.finished:
        return errors.INTERRUPTED
    return tell_thresholds(data["requirements"])


def tell_thresholds(judged: list[dict[str, Any]]) -> int:
    """Say what is not met, and return the exit code."""
    for sentence in thresholds.unmet(judged):
        click.echo(f"taskmill: {sentence}", err=True)
    return errors.OK if all(one["met"] for one in judged) else errors.UNMET
