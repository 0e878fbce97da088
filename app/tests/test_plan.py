"""Plans and run folders."""

import json
from datetime import datetime, timezone
from pathlib import Path

import pytest

from taskmill.model.errors import TaskmillError
from taskmill.model.plan import Plan, Route
from taskmill.model.run_folder import new_folder, write_json

NOW = datetime(2026, 11, 22, 9, 30, 1, tzinfo=timezone.utc)
PLAN = Plan("p", (Route("a.b", "red"), Route("a.c", "green")), 1003, (20,), n=20, threads=10, processes=2)


def test_posters_share_all_tasks_evenly() -> None:
    """Every message number is posted by exactly one thread, and shares differ by one at most."""
    spans = PLAN.posters()
    assert len(spans) == 20
    assert [number for start, count in spans for number in range(start, start + count)] == list(range(1003))
    assert {count for _, count in spans} == {50, 51}


def test_threads_without_work_are_not_started() -> None:
    """Three tasks need three of the threads."""
    assert len(Plan("p", (Route("a", "q"),), 3, ()).posters()) == 3


def test_plan_survives_its_file(tmp_path: Path) -> None:
    """What is loaded is what was saved."""
    PLAN.save(tmp_path)
    assert Plan.load(tmp_path) == PLAN


def test_plan_on_disk_keeps_its_keys(tmp_path: Path) -> None:
    """Plans of before open, and what reads them finds what it knows."""
    PLAN.save(tmp_path)
    data = json.loads((tmp_path / "plan.json").read_text())
    assert list(data)[:4] == ["schema", "name", "kinds", "tasks"]
    assert data["kinds"] == [{"task": "a.b", "queue": "red"}, {"task": "a.c", "queue": "green"}]
    assert data.pop("lean") is True
    write_json(tmp_path / "plan.json", data)
    assert Plan.load(tmp_path) == PLAN


def test_folder_without_a_plan_is_refused(tmp_path: Path) -> None:
    """A folder that is no run folder, or whose plan is of another shape, is named in the error."""
    with pytest.raises(TaskmillError, match=r"no run folder.*plan\.json"):
        Plan.load(tmp_path)
    write_json(tmp_path / "plan.json", {"schema": 1, "kinds": [], "args": [], "surprise": 1})
    with pytest.raises(TaskmillError, match="surprise"):
        Plan.load(tmp_path)


def test_run_folders_never_collide_and_latest_points_at_the_newest(tmp_path: Path) -> None:
    """Two runs of one name in one second get folders of their own."""
    first, second = new_folder(tmp_path, "x", NOW), new_folder(tmp_path, "x", NOW)
    assert [first.name, second.name] == ["20261122T093001Z-x", "20261122T093001Z-x-2"]
    assert (tmp_path / "latest").readlink() == Path(second.name)
    assert sorted(path.name for path in tmp_path.iterdir()) == [first.name, second.name, "latest"]


def test_runs_directory_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    """The error says which directory and which option."""
    (tmp_path / "file").touch()
    with pytest.raises(TaskmillError, match=r"file/runs.*--runs-directory"):
        new_folder(tmp_path / "file" / "runs", "x")


@pytest.mark.parametrize("text", ["red", "=red", "task=", "task=two words", "task=" + "q" * 256])
def test_kind_of_another_form_is_refused(text: str) -> None:
    """Only TASK=QUEUE, with a queue's name that AMQP takes."""
    with pytest.raises(ValueError, match=r"queue|form"):
        Route.parse(text)
