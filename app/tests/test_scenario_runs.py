"""Scenarios from the file to the record, against a real RabbitMQ, memcached and worker."""

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from conftest import Taskmill
from services import RabbitMQ, Worker, take_all, wait_until
from taskmill.model.plan import Plan
from taskmill.publishing import journal
from taskmill.results.kinds import numbers
from taskmill.workload.calls import Calls

DOCS = Path(__file__).parents[2] / "docs"
SHIPPED = sorted((Path(__file__).parents[2] / "scenarios").glob("*.yml"))
GENERATED = """
def items(dice, index):
    return {"number": dice.randrange(10**9), "place": index}
"""
PUBLISHED = """
seed: 3
kinds:
  made: {task: a.b, queue: yellow, weight: 3, generate: "made:items"}
  fixed: {task: a.c, queue: yellow, args: [1, "ü"], kwargs: {x: null}, priority: 5, countdown: 60}
"""
JUDGED = """
kinds:
  right: {task: fibonacci.tasks.red, queue: red, weight: 2, args: [10], expect: 55}
  other: {task: fibonacci.tasks.green, queue: green, args: [10], expect: 56}
  fails: {task: fibonacci.tasks.blue, queue: blue, args: [x]}
  succeeds: {task: fibonacci.tasks.blue, queue: blue, args: [10], fails: TypeError}
"""

STOPPED = """
stages: [{hold: 100, seconds: 40}]
thresholds:
  - failed_share>0.5 for 1s, stop as failed
  - p50_latency_s of mail>0 for 2s, stop as failed
kinds:
  mail: {task: fibonacci.tasks.red, queue: red, args: [10], expect: 55}
  bill: {task: fibonacci.tasks.blue, queue: blue, args: [10], expect: 55}
"""


def record(folder: Path) -> dict[str, Any]:
    """Read run.json."""
    data: dict[str, Any] = json.loads((folder / "run.json").read_text())
    return data


@pytest.mark.usefixtures("worker")
def test_the_example_runs_and_its_run_folder_is_all_that_collecting_needs(taskmill: Taskmill, tmp_path: Path) -> None:
    """Every kind ends as it has to, is counted and timed by itself, and can be collected without the file."""
    for path in DOCS.glob("scenario*"):
        shutil.copy(path, tmp_path)
    done = taskmill("run", "--scenario", str(tmp_path / "scenario.yml"), "--tasks=33", "--threads=2", "--no-profile")
    assert done.code == 0, done.out + done.err
    found = record(taskmill.latest)
    assert {name: (kind["posted"], kind["correct"]) for name, kind in found["by_kind"].items()} == {
        "small": (18, 18),
        "by_name": (3, 3),
        "listed": (3, 3),
        "made": (6, 6),
        "refused": (3, 3),
    }
    assert (found["counts"]["correct"], found["checked"], found["problems"]) == (33, True, [])
    assert found["workload"]["scenario"] == "scenario.yml"
    assert "    by_name  3 posted: 3 correct, 0 wrong, 0 failed, 0 lost" in done.out
    # Stages are cut short by --tasks: of the second one 8 tasks were left.
    assert [(stage["tasks"], "late_s" in stage) for stage in found["stages"]] == [
        (25, True),
        (10, True),
        (15, False),
        (0, False),
    ]
    assert found["latency"]["from"] == "due"
    assert (taskmill.latest / "report.html").read_text().count("<h3>Kinds of the scenario</h3>") == 1
    for path in tmp_path.glob("scenario*"):
        path.unlink()
    again = taskmill("collect", str(taskmill.latest))
    assert again.code == 0, again.out + again.err
    assert record(taskmill.latest)["by_kind"]["made"]["correct"] == 6


@pytest.mark.thorough
@pytest.mark.usefixtures("worker")
@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)
def test_every_kind_of_a_shipped_scenario_ends_as_it_has_to(taskmill: Taskmill, path: Path) -> None:
    """On a worker of the example: the first message of each."""
    done = taskmill("run", "--scenario", str(path), "--smoke")
    assert done.code == 0, done.out + done.err
    assert {kind["correct"] for kind in record(taskmill.latest)["by_kind"].values()} == {1}


@pytest.mark.usefixtures("worker")
def test_what_is_wrong_is_told_with_its_kind(taskmill: Taskmill, tmp_path: Path) -> None:
    """A value, a failure that nobody expects, and a result where a failure is expected."""
    path = tmp_path / "load.yml"
    path.write_text(JUDGED)
    done = taskmill("run", "--scenario", str(path), "--tasks=10", "--threads=1", "--no-profile", "--no-probe")
    assert done.code == 1, done.out + done.err
    by_kind = record(taskmill.latest)["by_kind"]
    outcomes = ("posted", "correct", "wrong", "failed", "lost")
    assert {name: [kind[outcome] for outcome in outcomes] for name, kind in by_kind.items()} == {
        "right": [4, 4, 0, 0, 0],
        "other": [2, 0, 2, 0, 0],
        "fails": [2, 0, 0, 2, 0],
        "succeeds": [2, 0, 2, 0, 0],
    }
    faults = [json.loads(line) for line in (taskmill.latest / "faults.jsonl").read_text().splitlines()]
    assert {(fault["kind"], fault["outcome"], fault["detail"].partition(":")[0]) for fault in faults} == {
        ("other", "wrong", "the result is 55, not 56"),
        ("fails", "failed", "FAILURE"),
        ("succeeds", "wrong", "the task returned 55, and is to fail with TypeError"),
    }


@pytest.mark.usefixtures("worker")
def test_a_smoke_run_tells_what_came_of_the_first_message_of_each_kind(taskmill: Taskmill, tmp_path: Path) -> None:
    """One line each, right or wrong; whatever the weights are, each kind has one message."""
    path = tmp_path / "load.yml"
    path.write_text(JUDGED)
    done = taskmill("run", "--scenario", str(path), "--smoke", "--name=try")
    assert done.code == 1, done.out + done.err
    lines = done.out.splitlines()
    assert re.fullmatch(r"right     right( \([0-9.e-]+ s\))?", lines[0])
    assert lines[1] == "other     wrong: the result is 55, not 56"
    assert lines[2].startswith("fails     failed: FAILURE: TypeError: ")
    assert lines[3] == "succeeds  wrong: the task returned 55, and is to fail with TypeError"
    found = record(taskmill.latest)
    assert (found["name"], found["workload"]["tasks"]) == ("try-smoke", 4)
    assert [kind["posted"] for kind in found["by_kind"].values()] == [1, 1, 1, 1]


@pytest.mark.usefixtures("worker")
def test_a_threshold_over_time_stops_a_load_and_what_is_published_is_collected(
    taskmill: Taskmill, tmp_path: Path
) -> None:
    """By what the results of one kind say while others are published; exit code 5, since all that ran ended well."""
    path = tmp_path / "load.yml"
    path.write_text(STOPPED)
    done = taskmill("run", "--scenario", str(path), "--threads=2", "--no-profile")
    assert done.code == 5, done.out + done.err
    found = record(taskmill.latest)
    counts, text = found["counts"], "p50_latency_s of mail>0 for 2s, stop as failed"
    assert found["state"] == "stopped as failed"
    assert 0 < counts["posted"] == counts["correct"] < 4000
    watched = found["watched"][text]
    assert 0 < watched["least"] <= watched["value"] <= watched["most"]
    assert 2 <= watched["after_s"] < 40
    assert "stopping as failed: p50_latency_s of mail>0 for 2 s" in done.err.splitlines()
    assert f"taskmill: not met: {text} (it was " in done.err
    assert [one["met"] for one in found["requirements"]] == [True, False]


@pytest.mark.thorough
def test_workers_that_stand_still_stop_a_load_by_the_time_in_the_queue(
    taskmill: Taskmill, worker: Worker, tmp_path: Path
) -> None:
    """They tell nothing, and what waits for them tells enough; what is published is right once they go on."""
    path, err = tmp_path / "load.yml", tmp_path / "err"
    path.write_text(STOPPED.replace("p50_latency_s of mail>0", "p99_queue_s of bill>1"))
    with err.open("w") as stream:
        process = taskmill.popen("run", "--scenario", str(path), "--threads=2", "--no-profile", stderr=stream)
    wait_until(lambda: taskmill.ids_written() > 0, 60, "an id on disk")
    with worker.paused():
        wait_until(lambda: "stopping as failed: p99_queue_s of bill>1 for 2 s" in err.read_text(), 60, "the stop")
    process.communicate(timeout=120)
    assert process.returncode == 5, err.read_text()
    counts = record(taskmill.latest)["counts"]
    assert 0 < counts["posted"] == counts["correct"] < 4000


def test_every_message_is_the_one_of_its_number(
    taskmill: Taskmill, rabbitmq: RabbitMQ, purge: Callable[[str], None], tmp_path: Path
) -> None:
    """Whichever process and thread sends it: the ids on disk say which call each message has to carry."""
    purge("yellow")
    (tmp_path / "made.py").write_text(GENERATED)
    path = tmp_path / "load.yml"
    path.write_text(PUBLISHED)
    options = ("--no-workers", "--threads=2", "--processes=2", "--no-profile")
    done = taskmill("publish", "--scenario", str(path), "--tasks=401", *options)
    assert done.code == 0, done.out + done.err
    sent = {message.headers["id"]: message for message in take_all(rabbitmq, "yellow")}
    plan = Plan.load(taskmill.latest)
    threads = list(journal.read(taskmill.latest / "ids"))
    ids = [identifier.decode() for one in threads for identifier, _ in one.lines]
    assert sorted(numbers(plan, threads)) == list(range(401))
    assert sorted(ids) == sorted(sent)
    calls = Calls(plan)
    for identifier, number in zip(ids, numbers(plan, threads).tolist(), strict=True):
        message = sent[identifier]
        args, kwargs = json.loads(message.body)[:2]
        assert (args, kwargs) == tuple(calls.call(number))
        fixed = plan.slots[number % 4] == 1
        assert message.headers["task"] == ("a.c" if fixed else "a.b")
        due = message.headers["eta"] is not None
        assert (message.properties["priority"], due) == ((5, True) if fixed else (0, False))
