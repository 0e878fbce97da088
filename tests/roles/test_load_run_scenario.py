"""The step of load_run that copies a scenario to the client, applied to a directory of this machine."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

Play = Callable[..., "subprocess.CompletedProcess[str]"]
SCENARIO = """
kinds:
  rows: {task: a, queue: b, rows: data/rows.csv, args: [$x]}
  made: {task: a, queue: b, generate: "made.inner:items"}
  right: {task: a, queue: b, expect_from: "values:right"}
"""
FILES = ("data/rows.csv", "made/__init__.py", "made/inner.py", "values.py", "helper.py")


def copied(play: Play, tmp_path: Path, text: str) -> set[str]:
    """Copy a scenario from a directory in which other things lie, too; return what is at the client then."""
    source, target = tmp_path / "mine", tmp_path / "client"
    for name in (*FILES, ".secrets/password", "hosts.yml", "other/file.csv", "notes.txt"):
        (source / name).parent.mkdir(parents=True, exist_ok=True)
        (source / name).write_text("x\n")
    (source / "load.yml").write_text(text)
    target.mkdir(exist_ok=True)
    (target / "of-before.csv").touch()
    variables = {"load_run_scenario": str(source / "load.yml"), "load_run_scenario_directory": str(target)}
    done = play([{"import_role": {"name": "load_run", "tasks_from": "copy-scenario"}}], variables)
    assert done.returncode == 0, done.stdout
    return {path.relative_to(target).as_posix() for path in target.rglob("*") if path.is_file()}


def test_a_scenario_comes_to_the_client_with_what_it_names_and_nothing_else(play: Play, tmp_path: Path) -> None:
    """Rows, packages, and the Python files beside it; not the passwords of an inventory that it lies in."""
    assert copied(play, tmp_path, SCENARIO) == {"load.yml", *FILES}


@pytest.mark.parametrize(
    "text", ["kinds: [1]", *(pytest.param(text, marks=pytest.mark.thorough) for text in ("abc", "kinds: {a: 1}"))]
)
def test_a_scenario_that_is_none_is_left_to_taskmill_to_refuse(play: Play, tmp_path: Path, text: str) -> None:
    """It is copied as it is, with the Python files beside it."""
    assert copied(play, tmp_path, text) == {"load.yml", "values.py", "helper.py"}


@pytest.mark.parametrize(
    ("rows", "there"),
    [
        ("./data/rows.csv", {"data/rows.csv"}),
        ("", set()),
        *(pytest.param(rows, set(), marks=pytest.mark.thorough) for rows in ("/data/rows.csv", "../x")),
    ],
)
def test_no_name_of_rows_brings_all_that_lies_beside_the_scenario(
    play: Play, tmp_path: Path, rows: str, there: set[str]
) -> None:
    """Nor does one that taskmill refuses, on the client."""
    text = f"kinds: {{rows: {{task: a, queue: b, rows: '{rows}'}}}}"
    assert copied(play, tmp_path, text) == {"load.yml", "values.py", "helper.py", *there}
