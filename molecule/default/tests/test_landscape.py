"""The landscape after site.yml and one small run of run-load.yml."""

from __future__ import annotations

import base64
import json
import os
import urllib.request
from pathlib import Path
from typing import Any

import pytest

SCENARIO = Path(os.environ["MOLECULE_EPHEMERAL_DIRECTORY"])
RUN = SCENARIO / "runs" / "latest"
FLOWER = "http://10.78.1.11:5555"
TASKS = 3000


@pytest.fixture(scope="module")
def run() -> dict[str, Any]:
    """The record that the run left on the controller."""
    record: dict[str, Any] = json.loads((RUN / "run.json").read_text())
    return record


def test_every_task_came_back_right(run: dict[str, Any]) -> None:
    """All tasks were posted, retrieved and correct; none wrong, failed, lost or doubled."""
    assert run["counts"] == {
        **dict.fromkeys(["posted", "confirmed", "distinct", "retrieved", "correct"], TASKS),
        **dict.fromkeys(["wrong", "failed", "lost", "duplicates"], 0),
    }


def test_the_record_agrees_with_itself(run: dict[str, Any]) -> None:
    """Rates and efficiency follow from the counts and seconds of the same record."""
    total = run["seconds"]["total"]
    assert run["schema"] == 1
    assert run["workload"]["queues"] == ["red", "green", "blue"]
    assert total >= max(run["seconds"]["post"], run["seconds"]["collect"])
    assert run["rates"]["completed_per_s"] == pytest.approx(TASKS / total, rel=0.01)
    assert 0 < run["efficiency"] <= 1


def test_the_run_is_complete_on_the_controller() -> None:
    """Ids, profile, samples of every host and queue, and the report lie in the run's folder."""
    lines = [line for file in (RUN / "ids").glob("*.ids") for line in file.read_text().splitlines()]
    ids = [line.split()[0] for line in lines]
    assert len(set(ids)) == TASKS
    assert "function calls" in (RUN / "profile.txt").read_text()
    assert {file.stem for file in (RUN / "hosts").glob("*.json")} == {"broker1", "worker1", "client1"}
    assert (RUN / "report.html").stat().st_size > 1000
    queues = (RUN / "queues.csv").read_text()
    assert all(queue in queues for queue in ("red", "green", "blue"))


def test_a_run_that_fails_comes_home_with_the_list_of_its_faults() -> None:
    """The run of a task that no worker knows lies on the controller too, each of its tasks listed as failed."""
    (failing,) = (SCENARIO / "runs").glob("*-failing")
    faults = [json.loads(line) for line in (failing / "faults.jsonl").read_text().splitlines()]
    assert [fault["outcome"] for fault in faults] == ["failed"] * 30
    assert "NotRegistered" in faults[0]["detail"]


def test_flower_shows_both_workers_online_with_three_queues() -> None:
    """Flower, asked with its password, knows w1 and w2 as online, each on all three queues."""
    password = (SCENARIO / "inventory" / ".secrets" / "flower").read_text().strip()
    credentials = base64.b64encode(f"taskmill:{password}".encode()).decode()
    headers = {"Authorization": f"Basic {credentials}"}

    def ask(path: str) -> Any:
        request = urllib.request.Request(FLOWER + path, headers=headers)
        with urllib.request.urlopen(request, timeout=30) as answer:
            return json.load(answer)

    workers = ask("/api/workers?refresh=true")
    queues = {name: {queue["name"] for queue in info["active_queues"]} for name, info in workers.items()}
    all_three = {"red", "green", "blue"}
    assert queues == {"w1@worker1": all_three, "w2@worker1": all_three}
    assert ask("/api/workers?status=true") == {"w1@worker1": True, "w2@worker1": True}
