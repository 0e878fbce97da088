"""What a fault did to a run, from folders made up from figures."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner

import runs
from taskmill import faults
from taskmill.cli import cli
from taskmill.faults import Fault
from taskmill.model.errors import UNMET

TASKS = 2000
TOTAL = 20.0
#: The fault of these tests, 8 to 10 seconds after the run's start.
FAULT = Fault("stop", "all stopped", runs.START + 8, runs.START + 10)


def make(folder: Path, **record: Any) -> Path:
    """Write a paced run of 100 tasks per second, on one clock, all of them begun as they were done."""
    runs.make(
        folder,
        TASKS,
        TOTAL,
        TOTAL,
        **({"clocks": {}, "repaired": [], "client": {"republished": 0}, "parked": 0} | record),
    )
    return folder


def rewrite(folder: Path, done: Any, posted: Any = None, worker: Any = None) -> None:
    """Give the run's tasks other times, in seconds since its start."""
    with np.load(folder / "tasks.npz") as file:
        arrays = {name: file[name] for name in file.files}
    arrays["done"] = arrays["start"] = runs.START + np.asarray(done, float)
    arrays["posted"] = arrays["due"] = arrays["done"] - 0.01 if posted is None else runs.START + posted
    if worker is not None:
        arrays["worker"] = np.asarray(worker, "u2")
    np.savez(folder / "tasks.npz", **arrays)


def even(start: float, end: float, rate: float) -> Any:
    """Return moments at a steady rate."""
    return start + np.arange(int((end - start) * rate)) / rate


@pytest.fixture
def stopped(tmp_path: Path) -> Path:
    """A run in which nothing ended from second 8 to 13, then twice as much per second until it had caught up."""
    folder = make(tmp_path / "run")
    done = np.concatenate((even(0, 8, 100), even(13, 18, 200), even(18, 20, 100)))
    rewrite(folder, done, posted=even(0, 20, 100))
    return folder


def test_the_rate_is_back_once_as_many_end_as_before(stopped: Path) -> None:
    """Nothing ended for five seconds from the fault on."""
    verdict = faults.conclude(stopped, FAULT, ["back_s<=5", "lost<=0"], {})
    assert verdict["figures"]["back_s"] == 5
    assert verdict["held"]


def test_a_fault_that_nobody_noticed_is_back_at_once(tmp_path: Path) -> None:
    """A steady rate never fell."""
    folder = make(tmp_path / "run")
    rewrite(folder, even(0, 20, 100))
    assert faults.conclude(folder, FAULT, [], {})["figures"]["back_s"] == 0


def test_a_rate_that_never_comes_back_has_no_figure_and_meets_no_bound(tmp_path: Path) -> None:
    """Half of the rate is not 95 % of it."""
    folder = make(tmp_path / "run")
    rewrite(folder, np.concatenate((even(0, 8, 100), even(8, 32, 50))))
    verdict = faults.conclude(folder, FAULT, ["back_s<=1000"], {})
    assert verdict["figures"]["back_s"] is None
    assert not verdict["held"]


def test_work_is_resumed_when_the_last_worker_begins_again(tmp_path: Path) -> None:
    """One worker goes on all the time, the other begins three seconds after the end of the fault."""
    folder = make(tmp_path / "run")
    done = even(0, 20, 100)
    away = (done > 8) & (done < 13)
    rewrite(folder, done, worker=np.where(away, 0, np.arange(TASKS) % 2))
    assert faults.conclude(folder, FAULT, [], {})["figures"]["resumed_s"] == pytest.approx(3, abs=0.1)


def test_a_worker_that_does_not_come_back_is_seen(tmp_path: Path) -> None:
    """There is no figure for when it resumed."""
    folder = make(tmp_path / "run")
    done = even(0, 20, 100)
    rewrite(folder, done, worker=np.where(done > 8, 0, np.arange(TASKS) % 2))
    verdict = faults.conclude(folder, FAULT, ["resumed_s<=60"], {})
    assert verdict["figures"]["resumed_s"] is None
    assert not verdict["held"]


def test_what_was_posted_before_the_end_of_the_fault_is_done_later(stopped: Path) -> None:
    """The task that was posted in second 10 is the thousandth, done at 14: 13 and 200 at 200 per second."""
    verdict = faults.conclude(stopped, FAULT, [], {})
    assert verdict["figures"]["redelivered_s"] == pytest.approx(6, abs=0.1)


def note(folder: Path, notes: dict[str, str]) -> None:
    """Write what the workers of one host noted."""
    directory = folder / "executions" / "worker1"
    directory.mkdir(parents=True)
    for name, lines in notes.items():
        (directory / name).write_text(lines)


def test_executions_are_counted_by_the_workers_own_notes(stopped: Path) -> None:
    """Of three tasks one ran twice, once in each of two versions; a process that ran nothing is no version."""
    note(
        stopped,
        {"w1@worker1.10.aa": "1.5 one\n2.5 two\n", "w1@worker1.11.bb": "3.5 two\n4.5 three\n", "w1@worker1.12.cc": ""},
    )
    figures = faults.conclude(stopped, FAULT, [], {})["figures"]
    assert (figures["run_twice"], figures["versions"]) == (1, 2)


def test_a_version_that_one_worker_never_ran_does_not_count(stopped: Path) -> None:
    """Two workers that differ by their settings are no deployment."""
    note(stopped, {"w1@worker1.10.aa": "1.5 one\n", "w1@worker1.11.bb": "2.5 two\n", "w2@worker1.12.cc": "3.5 three\n"})
    assert faults.conclude(stopped, FAULT, [], {})["figures"]["versions"] == 1


@pytest.mark.parametrize(
    ("again", "twice", "uncounted", "beyond"),
    [(0, 0, 0, 0), (20, 20, 0, 0), (21, 5, 0, 1), (5, 12, 7, 0), (5, 18, 13, 1), (22, 36, 14, 4)],
)
def test_what_ran_twice_is_held_against_what_was_unsettled(
    tmp_path: Path, again: int, twice: int, uncounted: int, beyond: int
) -> None:
    """Two threads with a window of ten each, and two workers that had reserved 8 and 4 messages."""
    folder = make(
        tmp_path / "run",
        client={"republished": again},
        environment={"window": 10},
        workload={"threads": 2, "processes": 1},
        workers=[{"prefetch": 8}, {"prefetch": 4}],
    )
    note(folder, {f"w1@worker1.{process}.aa": "".join(f"1.5 {one}\n" for one in range(twice)) for process in (1, 2)})
    if not twice:
        (folder / "executions" / "worker1" / "w1@worker1.1.aa").write_text("1.5 one\n")
    figures = faults.conclude(folder, FAULT, [], {})["figures"]
    assert (figures["uncounted"], figures["beyond_windows"]) == (uncounted, beyond)


def test_pool_processes_that_do_not_come_back_are_counted(stopped: Path) -> None:
    """Of w1 one of two is there again, under another number; w2 worked through; w3 came later, and w4 never again."""
    notes = stopped / "executions" / "worker1"
    notes.mkdir(parents=True)
    before, after = FAULT.began - 1, FAULT.over + 1
    for name, moments in {
        "w1@worker1.10.a": [before], "w1@worker1.11.a": [before], "w1@worker1.12.a": [after],
        "w2@worker1.13.a": [before, after], "w3@worker1.14.a": [after], "w4@worker1.15.a": [before],
    }.items():  # fmt: skip
        (notes / name).write_text("".join(f"{moment:.6f} {name}{moment}\n" for moment in moments))
    assert faults.conclude(stopped, FAULT, [], {})["figures"]["idle_processes"] == 2


def test_without_notes_nobody_says_that_nothing_ran_twice(stopped: Path) -> None:
    """The figure is not known, and meets no bound."""
    assert not faults.conclude(stopped, FAULT, ["run_twice<=0"], {})["held"]


def test_a_clock_that_jumped_is_measured(tmp_path: Path) -> None:
    """It is the most that a worker's clock moved between the start and the end; the record names whose it is."""
    folder = make(tmp_path / "run")
    record = json.loads((folder / "run.json").read_text())
    record["clocks"] = {
        "w1@worker1": {"start": {"offset_s": 0.0}, "end": {"offset_s": 3600.2}},
        "w2@worker1": {"start": {"offset_s": 0.1}, "end": {"offset_s": 0.1}},
        "w3@worker2": {"start": {"offset_s": 0.1}},
    }
    record["clock_jumps"] = {"w1@worker1": 3600.2}
    (folder / "run.json").write_text(json.dumps(record))
    figures = faults.conclude(folder, FAULT, [], {})["figures"]
    assert (figures["clock_jump_s"], figures["flagged"]) == (pytest.approx(3600.2), 1)


def test_a_bound_that_does_not_hold_ends_with_its_own_code(stopped: Path) -> None:
    """What was counted on the hosts can be bounded too, and the sentence says what it was."""
    options = ["--fault=stop", "--title=all stopped", f"--began={FAULT.began}", f"--over={FAULT.over}"]
    done = CliRunner().invoke(cli, ["fault", "judge", str(stopped), *options, "--bound=killed<=0", "--figure=killed=2"])
    assert done.exit_code == UNMET
    assert "not met: killed<=0 (killed is 2)" in done.output
    assert json.loads((stopped / "fault.json").read_text())["held"] is False


@pytest.mark.parametrize("option", ["--bound=nothing<=0", "--bound=lost", "--figure=killed", "--figure=killed=many"])
def test_a_bound_or_figure_that_is_none_is_refused(stopped: Path, option: str) -> None:
    """It is wrong usage, and nothing is written."""
    done = CliRunner().invoke(cli, ["fault", "judge", str(stopped), "--fault=stop", "--title=stop", option])
    assert done.exit_code == 2
    assert not (stopped / "fault.json").exists()


def test_the_table_has_a_row_for_each_with_and_without_safeguards(stopped: Path, tmp_path: Path) -> None:
    """What held, what a control saw, and what came to no verdict."""
    faults.conclude(stopped, FAULT, ["lost<=0"], {})
    control = make(tmp_path / "run2", counts={"lost": 7, "correct": TASKS - 7})
    faults.conclude(control, Fault("stop", "all stopped", FAULT.began, FAULT.over, control=True), ["lost>=1"], {})
    faults.failed(tmp_path / "run3", FAULT, "the broker did not answer")
    done = CliRunner().invoke(cli, ["fault", "table", str(tmp_path)])
    assert done.exit_code == 0
    rows = done.output.splitlines()[2:]
    assert [row.split(" | ")[-1].rstrip(" |") for row in rows] == [
        "held",
        "the loss is seen",
        "no verdict: the broker did not answer",
    ]
    assert rows[1].startswith("| all stopped (safeguard off) | 2,000 | 7 |")
    assert (tmp_path / "faults.md").read_text() == done.output


def test_a_folder_without_any_fault_is_named(tmp_path: Path) -> None:
    """There is no empty table."""
    done = CliRunner().invoke(cli, ["fault", "table", str(tmp_path)])
    assert done.exit_code != 0
    assert "holds no run" in str(done.exception)
