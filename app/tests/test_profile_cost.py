"""What profiling costs, from two records."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from taskmill.cli import cli
from taskmill.model.errors import TaskmillError
from taskmill.samples import profile_cost


def write(folder: Path, profile: bool, rate: float, **changes: Any) -> Path:
    """Make the folder of a run that finished so many tasks a second."""
    folder.mkdir()
    record = {
        "state": "complete",
        "workload": {"tasks": 1000, "args": [20]},
        "rates": {"posted_per_s": 4 * rate, "completed_per_s": rate},
        "seconds": {"post": 250 / rate, "total": 1000 / rate},
        "client": {"cpu_seconds": 3.5},
        "environment": {"profile": profile},
    }
    (folder / "run.json").write_text(json.dumps(record | changes))
    return folder


def test_the_figures_of_both_are_kept_with_the_profiled_run(tmp_path: Path) -> None:
    """The file holds what the report reads, and the command says it."""
    run, without = write(tmp_path / "a", True, 100.0), write(tmp_path / "b", False, 125.0)
    done = CliRunner().invoke(cli, ["profile-cost", str(run), str(without)])
    assert done.exit_code == 0
    assert "100 with cProfile, 125 without" in done.output
    assert json.loads((run / "profile-cost.json").read_text()) == {
        "with": {
            "run": "a", "posted_per_s": 400.0, "completed_per_s": 100.0, "post_s": 2.5, "total_s": 10.0,
            "client_cpu_s": 3.5,
        },
        "without": {
            "run": "b", "posted_per_s": 500.0, "completed_per_s": 125.0, "post_s": 2.0, "total_s": 8.0,
            "client_cpu_s": 3.5,
        },
    }  # fmt: skip


@pytest.mark.parametrize(
    ("profile", "changes", "said"),
    [
        (True, {}, "without cProfile"),
        (False, {"workload": {"tasks": 999, "args": [20]}}, "not the same load"),
        (False, {"state": "stopped"}, "did not come to its end"),
    ],
)
def test_runs_that_cannot_be_compared_are_refused(
    tmp_path: Path, profile: bool, changes: dict[str, Any], said: str
) -> None:
    """Nothing is written where the difference would not be the profile's."""
    run = write(tmp_path / "a", True, 100.0)
    without = write(tmp_path / "b", profile, 125.0, **changes)
    with pytest.raises(TaskmillError, match=said):
        profile_cost.measure(run, without)
    assert not (run / "profile-cost.json").exists()


def test_a_folder_without_a_record_is_refused(tmp_path: Path) -> None:
    """It is named."""
    with pytest.raises(TaskmillError, match="b did not come to its end"):
        profile_cost.measure(write(tmp_path / "a", True, 100.0), tmp_path / "b")
