"""``taskmill report``, ``compare`` and ``check``, and ``profile-cost``, which playbooks call."""

from __future__ import annotations

from pathlib import Path

import click

from taskmill import report
from taskmill.capacity import measure
from taskmill.capacity import text as capacity_text
from taskmill.cli.options import REQUIRE, RUN
from taskmill.cli.values import FOLDER
from taskmill.cli.verdict import tell_thresholds
from taskmill.model import record as records
from taskmill.model import thresholds
from taskmill.model.errors import TaskmillError
from taskmill.model.record import Judged
from taskmill.model.thresholds import Requirement
from taskmill.samples import profile_cost


@click.command("report")
@RUN
def report_command(run: Path) -> None:
    """Write the report of RUN, of a load or of a search for capacity, anew from the files in it."""
    if (run / measure.NAME).exists():
        click.echo(capacity_text.summary(measure.conclude_again(run), run))
    else:
        click.echo(report.write(run))


@click.command("compare")
@click.argument("runs", type=FOLDER, nargs=-1, required=True)
@click.option(
    "--page",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Where to write the page with the charts; compare.html in the last run's folder when not given.",
)
def compare_command(runs: tuple[Path, ...], page: Path | None) -> None:
    """Compare RUNS with the first of them: a table with ratios, and a page with their curves over each other."""
    if len(runs) < 2:
        raise click.UsageError("name at least two runs")
    report.require()
    from taskmill.report import comparison  # noqa: PLC0415  # plotly is not everywhere

    compared = comparison.compare(runs)
    click.echo(comparison.text(compared))
    click.echo(comparison.write(compared, page or runs[-1] / "compare.html"))


@click.command("check")
@RUN
@REQUIRE
def check_command(run: Path, required: tuple[Requirement, ...]) -> None:
    """Look whether RUN, which has been recorded, reaches what is required."""
    data = records.load(run)
    if data is None:
        raise TaskmillError(f"{run} has no run.json that can be read: give the folder of a run that was recorded")
    if not required:
        raise click.UsageError("name what is required by --require")
    judged = [Judged(**one) for one in thresholds.judge(required, data)]
    for one in judged:
        if one.met:
            click.echo(f"met: {one.text} ({one.metric} is {one.value:.6g})")
    raise SystemExit(tell_thresholds(judged))


@click.command("profile-cost", hidden=True)
@RUN
@click.argument("without", type=FOLDER)
def profile_cost_command(run: Path, without: Path) -> None:
    """Keep in RUN what cProfile cost it, by WITHOUT, a run of the same load that had none."""
    click.echo(profile_cost.text(profile_cost.measure(run, without)))
