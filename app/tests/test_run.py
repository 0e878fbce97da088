"""Whole runs, against a real RabbitMQ, memcached and worker."""

import csv
import json
import os
import pty
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import memcache
import pytest

from conftest import TASKS, Taskmill
from services import SOURCE, Memcached, Worker, wait_until

COUNTS = ["posted", "confirmed", "distinct", "retrieved", "correct", "wrong", "failed", "lost", "duplicates"]


def record(folder: Path) -> dict[str, Any]:
    """Read run.json."""
    data: dict[str, Any] = json.loads((folder / "run.json").read_text())
    return data


def faults(folder: Path) -> list[dict[str, str]]:
    """Read faults.jsonl."""
    return [json.loads(line) for line in (folder / "faults.jsonl").read_text().splitlines()]


def client(memcached: Memcached) -> memcache.Client:
    """Return a plain memcached client."""
    return memcache.Client([f"127.0.0.1:{memcached.port}"])


def ids(folder: Path) -> list[str]:
    """Return the ids on disk."""
    return [
        line.split()[0] for path in sorted((folder / "ids").glob("*.ids")) for line in path.read_text().splitlines()
    ]


@pytest.mark.usefixtures("worker")
def test_run_posts_fetches_checks_and_records(taskmill: Taskmill) -> None:
    """A run with ten threads ends with every result right, exit code 0 and the record of the design."""
    done = taskmill(
        "run",
        *TASKS,
        "--name=happy",
        "--tasks=3000",
        "--n=10",
        "--expect=55",
        "--function-seconds=0.00001",
        "--worker-cores=2",
    )
    assert done.code == 0, done.out + done.err
    assert "All 3,000 results are there and right." in done.out
    data = record(taskmill.latest)
    design = "schema name started_at stack workload counts seconds rates efficiency environment"
    assert list(data)[:10] == design.split()
    assert data["schema"] == 1
    assert data["name"] == "happy"
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", data["started_at"])
    assert data["workload"] == {
        "task": "fibonacci.tasks.red, fibonacci.tasks.green, fibonacci.tasks.blue",
        "tasks": 3000,
        "n": 10,
        "queues": ["red", "green", "blue"],
        "threads": 10,
        "processes": 1,
        "args": [10],
        "rate": None,
    }
    assert list(data["counts"]) == COUNTS
    assert data["counts"] == dict.fromkeys(COUNTS, 3000) | {"wrong": 0, "failed": 0, "lost": 0, "duplicates": 0}
    assert data["duplicates_from"] == "workers"
    assert {queue: counts["correct"] for queue, counts in data["by_queue"].items()} == dict.fromkeys(
        ("red", "green", "blue"), 1000
    )
    assert [(one["task"], one["queue"], one["measured"]) for one in data["probed"]] == [
        (f"fibonacci.tasks.{name}", name, "worker") for name in ("red", "green", "blue")
    ]
    seconds = data["seconds"]
    assert 0 < seconds["post"] < seconds["total"]
    assert seconds["total"] >= seconds["post"] + seconds["collect"] - 0.01
    assert data["rates"]["completed_per_s"] == pytest.approx(3000 / seconds["total"], rel=0.01)
    assert data["rates"]["posted_per_s"] == pytest.approx(3000 / seconds["post"], rel=0.01)
    assert data["efficiency"] == pytest.approx(3000 * 0.00001 / (2 * seconds["total"]), abs=0.0001)
    assert data["client"]["peak_memory_bytes"] > 10e6
    assert [
        (worker["name"].split("@")[0], worker["pool"], worker["pool_size"], worker["queues"])
        for worker in data["workers"]
    ] == [("w1", "prefork", 2, ["blue", "green", "red"])]
    assert data["problems"] == []
    assert faults(taskmill.latest) == []
    assert (taskmill.latest / "report.html").read_text().startswith("<!doctype html>")
    profile = (taskmill.latest / "profile.txt").read_text()
    assert "publishing/threads.py" in profile
    assert "results/collector.py" in profile
    with (taskmill.latest / "queues.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert {row["queue"] for row in rows} == {"red", "green", "blue"}
    assert all(int(row["ready"]) >= 0 and int(row["consumers"]) == 1 for row in rows)


@pytest.mark.usefixtures("worker")
def test_run_with_processes_profiles_each_of_them(taskmill: Taskmill) -> None:
    """Threads spread over processes post every message once, and all of them are in the profile."""
    done = taskmill("run", *TASKS, "--tasks=1200", "--n=5", "--expect=5", "--threads=2", "--processes=3")
    assert done.code == 0, done.out + done.err
    data = record(taskmill.latest)
    assert data["counts"] == dict.fromkeys(COUNTS, 1200) | {"wrong": 0, "failed": 0, "lost": 0, "duplicates": 0}
    assert len(list((taskmill.latest / "ids").glob("*.ids"))) == 6
    assert len(set(ids(taskmill.latest))) == 1200
    assert sorted(path.name for path in (taskmill.latest / "profile").iterdir()) == [
        "collect.pstats",
        "post-00.pstats",
        "post-01.pstats",
        "post-02.pstats",
    ]


@pytest.mark.usefixtures("worker")
def test_post_collect_and_report_work_on_their_own(taskmill: Taskmill) -> None:
    """The three parts of a run, each in a process of its own; total covers all of it."""
    posted = taskmill("publish", *TASKS, "--tasks=300", "--n=5", "--expect=5", "--no-profile")
    assert posted.code == 0, posted.err
    assert "All 300 tasks are posted" in posted.out
    folder = taskmill.latest
    assert record(folder)["state"] == "posted"
    collected = taskmill("collect", str(folder))
    assert collected.code == 0, collected.err
    data = record(folder)
    assert data["counts"]["correct"] == 300
    assert data["state"] == "complete"
    assert data["seconds"]["total"] > data["seconds"]["post"] + data["seconds"]["collect"]
    assert data["client"]["between_seconds"] > 0
    assert not (folder / "profile.pstats").exists()
    (folder / "report.html").unlink()
    assert taskmill("report", str(folder)).code == 0
    assert "All 300 results are there and right." in (folder / "report.html").read_text()


@pytest.mark.usefixtures("worker")
def test_wrong_value_is_counted_listed_and_fails_the_run(taskmill: Taskmill) -> None:
    """A result that differs from the right value is no success."""
    done = taskmill("run", *TASKS, "--tasks=30", "--n=5", "--expect=6", "--no-probe")
    assert done.code == 1
    assert "30 wrong" in done.out
    assert "faults.jsonl" in done.out
    data = record(taskmill.latest)
    assert (data["counts"]["wrong"], data["counts"]["correct"], data["counts"]["retrieved"]) == (30, 0, 30)
    first = faults(taskmill.latest)[0]
    assert first["outcome"] == "wrong"
    assert first["detail"] == "the result is 5, not 6"
    assert first["id"] in ids(taskmill.latest)
    assert first["queue"] in {"red", "green", "blue"}


@pytest.mark.usefixtures("worker")
def test_true_is_not_one(taskmill: Taskmill) -> None:
    """fib(1) is 1, which is neither true nor 1.0."""
    assert taskmill("run", *TASKS, "--tasks=3", "--n=1", "--expect=true", "--no-probe").code == 1
    assert taskmill("run", *TASKS, "--tasks=3", "--n=1", "--expect=1.0", "--no-probe").code == 1
    assert taskmill("run", *TASKS, "--tasks=3", "--n=1", "--expect=1").code == 0


@pytest.mark.usefixtures("worker")
def test_failing_task_is_counted_with_its_exception(taskmill: Taskmill) -> None:
    """A task that raises is failed, not lost, and its exception is listed."""
    done = taskmill("run", *TASKS, "--tasks=6", "--args", '["six"]', "--no-probe")
    assert done.code == 1
    assert record(taskmill.latest)["counts"]["failed"] == 6
    first = faults(taskmill.latest)[0]
    assert first["outcome"] == "failed"
    assert first["detail"].startswith("FAILURE: TypeError: ")


@pytest.mark.usefixtures("worker")
def test_task_that_the_workers_do_not_know_is_failed(taskmill: Taskmill) -> None:
    """Where nobody asks the workers first, a name that is not registered comes back as a failure, not as silence."""
    done = taskmill("run", "--task=no.such.task=red", "--tasks=3", "--n=5", "--deadline=10", "--no-workers")
    assert done.code == 1
    assert [fault["outcome"] for fault in faults(taskmill.latest)] == ["failed"] * 3
    assert "NotRegistered" in faults(taskmill.latest)[0]["detail"]


@pytest.mark.usefixtures("worker")
def test_lost_result_is_listed_after_the_deadline(taskmill: Taskmill, memcached: Memcached) -> None:
    """A result that is gone counts as lost once nothing new came for the deadline; the others are fetched."""
    assert taskmill("publish", *TASKS, "--tasks=1600", "--n=5", "--expect=5").code == 0
    folder, store = taskmill.latest, client(memcached)
    everything = ids(folder)
    keys = [f"celery-task-meta-{identifier}" for identifier in everything]
    wait_until(lambda: len(store.get_multi(keys)) == 1600, 60, "1,600 results", 0.5)
    # The head of a queue and one more: collecting must get past it.
    gone = [everything[0], everything[1200]]
    for identifier in gone:
        store.delete(f"celery-task-meta-{identifier}")
    done = taskmill("collect", str(folder), "--deadline=2")
    assert done.code == 1
    assert "2 lost" in done.out
    assert record(folder)["counts"] == dict.fromkeys(COUNTS, 1600) | {
        "retrieved": 1598,
        "correct": 1598,
        "wrong": 0,
        "failed": 0,
        "lost": 2,
        "duplicates": 0,
    }
    assert sorted(fault["id"] for fault in faults(folder)) == sorted(gone)
    assert {fault["outcome"] for fault in faults(folder)} == {"lost"}


@pytest.mark.usefixtures("worker")
def test_pickled_value_is_refused(taskmill: Taskmill, memcached: Memcached, tmp_path: Path) -> None:
    """A pickle in the place of a result is never loaded: its code does not run, and the result is wrong."""
    assert taskmill("publish", *TASKS, "--tasks=3", "--n=5", "--expect=5").code == 0
    store, witness = client(memcached), tmp_path / "witness"
    key = f"celery-task-meta-{ids(taskmill.latest)[0]}"
    wait_until(lambda: store.get(key) is not None, 60, "a result", 0.1)
    store.set(key, Bomb(str(witness)))
    done = taskmill("collect", str(taskmill.latest), "--deadline=3")
    assert done.code == 1
    assert faults(taskmill.latest)[0]["detail"] == "the stored value is pickled; it was refused"
    assert not witness.exists()


class Bomb:
    """Makes a file when it is unpickled."""

    def __init__(self, path: str) -> None:
        """Take the file's path."""
        self.path = path

    def __reduce__(self) -> Any:
        """Pickle as a call of open."""
        return open, (self.path, "w")


@pytest.mark.usefixtures("worker")
def test_results_without_expectation_are_not_called_right(taskmill: Taskmill) -> None:
    """Without --expect the report says that values were not compared."""
    done = taskmill("run", *TASKS, "--tasks=3", "--n=5")
    assert done.code == 0
    assert "were not compared" in done.out


def test_progress_is_a_plain_line_without_a_terminal(taskmill: Taskmill, worker: Worker) -> None:
    """Lines carry counts, share and rate, and no control characters."""
    assert worker.process is not None
    done = taskmill("run", *TASKS, "--tasks=30", "--n=5")
    lines = [line for line in done.err.splitlines() if line.startswith(("posting", "collecting"))]
    assert re.fullmatch(r"posting 30 of 30 \(100 %\), [\d,]+/s", lines[0])
    assert re.fullmatch(r"collecting 30 of 30 \(100 %\), [\d,]+/s", lines[-1])
    assert "\x1b" not in done.err + done.out


@pytest.mark.usefixtures("worker")
def test_progress_is_bars_on_a_terminal(taskmill: Taskmill) -> None:
    """With a terminal on stderr there are bars, and stdout has the summary alone."""
    near, far = pty.openpty()
    taskmill.environment["TERM"] = "xterm"
    process = taskmill.popen("run", *TASKS, "--tasks=30", "--n=5", stderr=far)
    os.close(far)
    seen = b""
    try:
        while chunk := os.read(near, 65536):
            seen += chunk
    except OSError:
        pass
    out, _ = process.communicate(timeout=30)
    os.close(near)
    assert process.returncode == 0
    assert "posting" in seen.decode()
    assert "━" in seen.decode()
    assert out.startswith("All 30 tasks ended well")


def test_importing_everything_connects_to_nothing(tmp_path: Path) -> None:
    """No module works at import time: without addresses, all of them import."""
    modules = (
        "taskmill.cli",
        *(f"fibonacci.{name}" for name in ("celery", "tasks", "settings", "expected")),
        "taskmill_worker.memcached_backend",
    )
    code = f"import {', '.join(modules)}"
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={"PYTHONPATH": str(SOURCE)},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
        timeout=30,
    )
    assert done.returncode == 0, done.stderr
