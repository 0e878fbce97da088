"""What a command says of a run at its end, and the exit code that this comes to."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click
from msgspec.structs import asdict

from taskmill.model import errors, thresholds
from taskmill.model import record as records
from taskmill.model.summary import summary

if TYPE_CHECKING:
    from collections.abc import Sequence

    from taskmill.model.record import Judged, RunRecord
    from taskmill.session.drive import Concluded


def tell_run(run: Concluded) -> int:
    """Say how a run went, and return the exit code."""
    click.echo(summary(run.record, run.folder))
    if run.collected is None and run.record.state == records.STOPPED_AS_FAILED:
        return tell_whole(run.record)
    if run.collected is None:
        return errors.PostingError.exit_code if run.posted.error is not None else errors.INTERRUPTED
    if run.collected.faults:
        return errors.FAULTS
    if not run.collected.finished:
        return errors.INTERRUPTED
    return tell_whole(run.record)


def tell_whole(record: RunRecord) -> int:
    """Say what is not met by a run without faults that was collected to its end, and return the exit code."""
    code = tell_thresholds(record.requirements)
    if record.state == records.STOPPED_AS_FAILED:
        return errors.UNMET
    return errors.PostingError.exit_code if record.counts.posted < record.workload.tasks else code


def tell_thresholds(judged: Sequence[Judged]) -> int:
    """Say what is not met, and return the exit code."""
    for sentence in thresholds.unmet(map(asdict, judged)):
        click.echo(f"taskmill: {sentence}", err=True)
    return errors.OK if all(one.met for one in judged) else errors.UNMET
