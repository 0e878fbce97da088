"""A client that was killed is taken up again: every planned task is posted and collected, whatever it was doing."""

from __future__ import annotations

import json
import signal
import threading
from pathlib import Path
from typing import Any

import pytest

from conftest import TASKS, Taskmill
from services import Worker, wait_until
from taskmill.model.errors import TaskmillError
from taskmill.publishing import journal

WINDOW = 20
LOAD = (*TASKS, "--threads=2", f"--window={WINDOW}", "--no-profile")
#: A pace that takes seconds on any machine, so that there is time to kill the client on its way.
POSTING = ("--n=2", "--expect=1", "--rate=800")


def record(folder: Path) -> dict[str, Any]:
    """Read run.json."""
    data: dict[str, Any] = json.loads((folder / "run.json").read_text())
    return data


@pytest.mark.usefixtures("worker")
@pytest.mark.parametrize("processes", [pytest.param(1, marks=pytest.mark.thorough), 2])
def test_client_killed_while_posting_is_taken_up(taskmill: Taskmill, processes: int) -> None:
    """All planned tasks are there once; at most a window of each thread was sent twice, and that is counted."""
    tasks = 3000
    process = taskmill.popen("run", *LOAD, *POSTING, f"--processes={processes}", f"--tasks={tasks}")
    wait_until(lambda: taskmill.ids_written() > 400, 60, "400 ids on disk")
    process.kill()
    process.communicate(timeout=60)
    folder = taskmill.latest
    before = {identifier for one in journal.read(folder / "ids") for identifier, _ in one.lines}
    assert 400 < len(before) < tasks
    done = taskmill("resume", str(folder))
    assert done.code == 0, done.out + done.err
    threads = list(journal.read(folder / "ids"))
    after = [identifier for one in threads for identifier, _ in one.lines]
    assert len(after) == len(set(after)) == sum(one.confirmed for one in threads) == tasks
    assert before <= set(after)
    data = record(folder)
    counts = data["counts"]
    assert data["state"] == "complete"
    assert counts["posted"] == counts["confirmed"] == counts["distinct"] == counts["correct"] == tasks
    assert (counts["lost"], counts["wrong"], counts["failed"]) == (0, 0, 0)
    assert counts["duplicates"] <= data["client"]["republished"] <= 2 * processes * WINDOW
    assert data["duplicates_from"] == "workers"
    assert f"{data['client']['republished']:,} of them are sent once more" in done.err


def test_client_killed_while_collecting_is_taken_up(taskmill: Taskmill, worker: Worker) -> None:
    """Nothing is posted once more, and all results are fetched."""
    process = taskmill.popen("run", *LOAD, "--n=2", "--expect=1", "--rate=1200", "--tasks=600")
    wait_until(lambda: taskmill.ids_written() > 0, 60, "an id on disk")
    with worker.paused():
        wait_until((taskmill.runs / "latest" / ".faults.jsonl").exists, 60, "collecting")
        process.kill()
        process.communicate(timeout=60)
    folder = taskmill.latest
    assert not (folder / "run.json").exists()
    done = taskmill("resume", str(folder))
    assert done.code == 0, done.out + done.err
    assert "600 of 600 ids are on disk, 0 of them are sent once more" in done.err
    data = record(folder)
    assert (data["state"], data["counts"]["correct"], data["counts"]["duplicates"]) == ("complete", 600, 0)


@pytest.mark.usefixtures("worker")
def test_client_that_was_stopped_is_taken_up(taskmill: Taskmill) -> None:
    """Ctrl-C while posting, then resume: nothing is sent twice, and what the first client required still is."""
    process = taskmill.popen("run", *LOAD, *POSTING, "--tasks=2000", "--require=completed_per_s>=1000000")
    wait_until(lambda: taskmill.ids_written() > 200, 60, "200 ids on disk")
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 130, out + err
    assert f"taskmill resume {taskmill.latest}" in out.replace(
        str(taskmill.runs / taskmill.latest.name), str(taskmill.latest)
    )
    started = record(taskmill.latest)["started_at"]
    done = taskmill("resume", str(taskmill.latest))
    assert done.code == 5, done.out + done.err
    data = record(taskmill.latest)
    assert (data["state"], data["counts"]["correct"], data["counts"]["duplicates"]) == ("complete", 2000, 0)
    assert data["client"]["republished"] == 0
    assert data["started_at"] == started


def test_journal_is_taken_up_after_its_last_whole_line(tmp_path: Path) -> None:
    """The half line of a killed writer is gone, the whole ones stay, and what comes is appended."""
    first, second, third = journal.new_ids(3)
    one = journal.Journal(tmp_path, 0, 0)
    one.write(first + b" red\n" + second + b" red\n", 2, 1.0)
    one.confirm(1)
    one.close()
    with (tmp_path / "00-000.ids").open("ab") as file:
        file.write(b"half a li")
    [left] = journal.read(tmp_path)
    again = journal.Journal(tmp_path, 0, 0, left)
    again.write(third + b" red\n", 3, 2.0)
    again.confirm(3)
    again.close()
    [whole] = journal.read(tmp_path)
    assert [identifier for identifier, _ in whole.lines] == [first, second, third]
    assert whole.confirmed == 3
    assert whole.posted.tolist() == [1.0, 1.0, 2.0]


def test_run_whose_client_still_posts_is_not_taken_up(tmp_path: Path) -> None:
    """Two clients would post everything twice; once the first is gone, it may be."""
    folder = tmp_path / "ids"
    folder.mkdir()
    one = journal.Journal(folder, 0, 0)
    with pytest.raises(TaskmillError, match="another client still posts into"):
        journal.await_writers(folder, 0.1, threading.Event())
    one.close()
    journal.await_writers(folder, 0.1, threading.Event())
