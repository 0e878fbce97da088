"""The Python API: the load of docs/api.md, line for line."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

import taskmill as api
from conftest import Taskmill
from services import SOURCE, free_port

PAGE = Path(__file__).parents[2] / "docs" / "api.md"


def program() -> str:
    """Return the lines of Python on the page."""
    [block] = re.findall(r"^```python\n(.*?)^```", PAGE.read_text(), re.DOTALL | re.MULTILINE)
    return str(block)


@pytest.mark.usefixtures("worker")
def test_the_load_of_the_docs_runs(taskmill: Taskmill, tmp_path: Path) -> None:
    """A load of 300 tasks, its record, and its results once more."""
    base = {name: value for name, value in os.environ.items() if not name.startswith("CELERY_")}
    done = subprocess.run(
        [sys.executable, "-c", program()],
        cwd=tmp_path, env=base | {"PYTHONPATH": str(SOURCE)} | taskmill.environment,
        capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    first, *queues, last = done.stdout.splitlines()
    assert re.fullmatch(r"300 of 300 right, \d+ tasks per second", first)
    assert queues == ["red: 100 right", "green: 100 right", "blue: 100 right"]
    assert last == "complete, 300 results fetched once more, 0 problems"
    assert (tmp_path / "runs" / "latest" / "run.json").exists()


def test_the_page_drives_a_load_from_ten_lines() -> None:
    """Blank ones aside, and no more."""
    assert len([line for line in program().splitlines() if line]) == 10


def test_the_page_names_all_that_is_exported() -> None:
    """What is listed is there, and told of."""
    for name in api.__all__:
        assert getattr(api, name).__name__ == name
        assert f"`{name}" in PAGE.read_text()


def test_a_run_that_cannot_start_raises_and_leaves_no_folder(tmp_path: Path) -> None:
    """The message is that of the command."""
    plan = api.Plan("p", (api.Route("a.b", "red"),), tasks=1, args=(1,))
    broker, results = f"amqp://127.0.0.1:{free_port()}", f"cache+memcached://127.0.0.1:{free_port()}/"
    with pytest.raises(api.TaskmillError, match="cannot be reached"):
        api.run(plan, tmp_path / "runs", broker=broker, results=results)
    with pytest.raises(ValueError, match="no metric 'speed'"):
        api.run(plan, tmp_path / "runs", required=["speed>1"])
    with pytest.raises(api.TaskmillError, match="no run folder"):
        api.collect(tmp_path)
    assert not (tmp_path / "runs").exists()
