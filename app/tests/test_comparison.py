"""Runs beside each other."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner

import runs
from taskmill import cli
from taskmill.model.errors import TaskmillError
from taskmill.model.run_folder import write_json
from taskmill.report import comparison


@pytest.fixture
def two(tmp_path: Path) -> list[Path]:
    """Return two runs of one load, the second of them twice as fast."""
    return [runs.make(tmp_path / "slow"), runs.make(tmp_path / "fast", total=10.0)]


def test_ratios_are_to_the_first_run(two: list[Path]) -> None:
    """Twice the rate, half the duration."""
    rows = {row.name: row for row in comparison.compare(two).rows}
    assert rows["finished per second"].values == ["1,000", "2,000"]
    assert rows["finished per second"].ratios == ["", "2.00"]
    assert rows["duration"].ratios == ["", "0.50"]
    assert rows["cores: broker"].values == ["15 %", "30 %"]


def test_first_line_says_that_the_workload_is_the_same(two: list[Path]) -> None:
    """Ratios mean something then."""
    assert comparison.text(comparison.compare(two)).splitlines()[0] == "All runs had the same workload."


def test_first_line_says_that_workloads_differ(tmp_path: Path, two: list[Path]) -> None:
    """And in what."""
    other = runs.make(tmp_path / "other", tasks=9000, workload={"args": [25]})
    first = comparison.text(comparison.compare([two[0], other])).splitlines()[0]
    assert first.startswith("The workloads differ")
    assert "tasks (20,000 / 9,000) and arguments ([20] / [25])" in first


def change(record: Path, edit: Callable[[dict[str, object]], object]) -> None:
    """Change a run's environment."""
    data = json.loads((record / "run.json").read_text())
    edit(data["environment"])
    write_json(record / "run.json", data)


def test_a_sentence_says_what_differs_in_the_environment(two: list[Path]) -> None:
    """Settings by their names, with both values; a section that one run lacks is one item."""
    assert comparison.compare(two).environment == "Nothing that was recorded of the environment differs."
    change(two[1], lambda environment: environment.update(celery="5.6.3", boot_id="x"))
    assert comparison.compare(two).environment == "In the environment differ: celery (5.7.0 / 5.6.3)."
    change(two[1], lambda environment: environment.pop("hosts"))
    assert "hosts (not recorded by all)" in comparison.compare(two).environment


def test_incomplete_run_is_compared_as_far_as_it_goes(two: list[Path]) -> None:
    """A run without a record is named, first of all."""
    (two[1] / "run.json").unlink()
    lines = comparison.text(comparison.compare(two)).splitlines()
    assert lines[0] == "Not comparable: fast has no record."
    assert any(line.startswith("missing: fast: run.json") for line in lines)


def test_command_prints_the_table_and_writes_the_page(two: list[Path], tmp_path: Path) -> None:
    """``taskmill compare RUN RUN``: text on the terminal, charts in the page."""
    done = CliRunner().invoke(cli.cli, ["compare", *map(str, two), "--page", str(tmp_path / "c.html")])
    assert done.exit_code == 0
    assert done.output.splitlines()[0] == "All runs had the same workload."
    page = (tmp_path / "c.html").read_text()
    for chart in ("overlay", "latency", "where"):
        assert f'id="figure-{chart}"' in page


@pytest.mark.parametrize("number", [0, 1])
def test_fewer_than_two_runs_are_a_usage_error(two: list[Path], number: int) -> None:
    """There is nothing to compare."""
    assert CliRunner().invoke(cli.cli, ["compare", *map(str, two[:number])]).exit_code == 2


def test_folder_that_is_no_run_is_refused(two: list[Path], tmp_path: Path) -> None:
    """The message names it."""
    with pytest.raises(TaskmillError, match="no run folder"):
        comparison.compare([two[0], tmp_path])
