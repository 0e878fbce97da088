"""Counts, times and faults by the kinds of a scenario, from results that a test stores."""

import json
import threading
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from services import stored
from taskmill.model.clock import Moment
from taskmill.model.plan import Plan, Right, Route
from taskmill.model.record import Kind, RunRecord, Workload
from taskmill.model.run_folder import write_json
from taskmill.model.stages import Stage
from taskmill.model.summary import by_kind as lines_by_kind
from taskmill.progress import Quiet
from taskmill.publishing import journal
from taskmill.publishing.posted import Posted
from taskmill.results.collected import Collected
from taskmill.results.collector import Collector
from taskmill.results.kinds import numbers
from taskmill.samples import task_timings
from taskmill.session import build_record, record_times
from taskmill.workload import files
from taskmill.workload.calls import Calls

POSTED = 1795388520.0
ROWS = "".join(json.dumps({"number": number, "right": number * 2}) + "\n" for number in range(50))


class Shelf:
    """A result store of a dictionary."""

    kind = "shelf"
    batch = 10

    def __init__(self) -> None:
        """Begin empty."""
        self.values: dict[bytes, Any] = {}

    def get(self, ids: Sequence[bytes]) -> dict[bytes, Any]:
        """Return the values that are there."""
        return {identifier: self.values[identifier] for identifier in ids if identifier in self.values}

    def unreachable(self) -> list[str]:
        """Return no server."""
        return []


@pytest.fixture
def plan(tmp_path: Path) -> Plan:
    """Return a plan of 21 messages in its run folder: of each three, two of `rows` and one that has to fail."""
    given = tmp_path / "given"
    given.mkdir()
    (given / "load.yml").touch()
    (given / "rows.jsonl").write_text(ROWS)
    routes = (
        Route("a.rows", "red", "rows", 2, args=("$number",), rows="rows.jsonl", right=Right("value", "$right")),
        Route("a.fails", "red", "fails", args=(0,), right=Right("fails", "ValueError"), countdown=4.0),
    )
    (tmp_path / "run" / "ids").mkdir(parents=True)
    made = Plan("p", routes, 21, (), threads=3, deadline=0.01, scenario="load.yml", directory=str(given), profile=False)
    return files.keep(made, tmp_path / "run")


def publish(plan: Plan, folder: Path, left: int) -> dict[int, bytes]:
    """Write ids as the publishing threads would, but for the last ones of each; return them by their number."""
    found: dict[int, bytes] = {}
    for thread, (first, count) in enumerate(plan.posters()):
        ids = journal.new_ids(count - left)
        one = journal.Journal(folder / "ids", 0, thread)
        one.write(b"".join(identifier + b" red\n" for identifier in ids), len(ids), POSTED)
        one.confirm(len(ids))
        one.close()
        found |= dict(enumerate(ids, first))
    return found


def collect(plan: Plan, folder: Path, shelf: Shelf) -> Collected:
    """Collect what is there."""
    return Collector(plan, folder, shelf, threading.Event(), Quiet()).run()


def finish(plan: Plan, shelf: Shelf, ids: dict[int, bytes]) -> None:
    """Store what is right for every message."""
    calls = Calls(plan)
    times = {"taskmill": [POSTED + 6, 1_000_000, 500_000, "w1"]}
    for number, identifier in ids.items():
        if calls.right(number).how == "fails":
            failure = {"exc_type": "ValueError", "exc_message": ["no"], "exc_module": "builtins"}
            shelf.values[identifier] = stored(identifier, failure, status="FAILURE", **times)
        else:
            shelf.values[identifier] = stored(identifier, calls.right(number).value, **times)


@pytest.mark.parametrize("left", [0, 2])
def test_results_are_compared_with_what_is_right_for_their_number(plan: Plan, tmp_path: Path, left: int) -> None:
    """Also where threads have not published all of theirs, as after a kill: places in the journals are not numbers."""
    folder, shelf = tmp_path / "run", Shelf()
    ids = publish(plan, folder, left)
    finish(plan, shelf, ids)
    assert numbers(plan, list(journal.read(folder / "ids"))).tolist() == list(ids)
    outcome = collect(plan, folder, shelf)
    assert (outcome.correct, outcome.faults) == (len(ids), 0)
    rows = sum(number % 3 != plan.slots.index(1) for number in ids)
    tasks = {route.name: route.task for route in plan.routes}
    assert outcome.by_kind == {
        "rows": Kind(rows, correct=rows, task=tasks["rows"]),
        "fails": Kind(len(ids) - rows, correct=len(ids) - rows, task=tasks["fails"]),
    }


def test_faults_have_their_kind_and_a_repair_counts_by_it(plan: Plan, tmp_path: Path) -> None:
    """One of each sort in the kind with rows, and one that returned what it should not."""
    folder, shelf = tmp_path / "run", Shelf()
    ids = publish(plan, folder, 0)
    finish(plan, shelf, ids)
    places = [number for number in ids if plan.slots[number % 3] == 0]
    fails = next(number for number in ids if plan.slots[number % 3] == 1)
    shelf.values[ids[places[0]]] = stored(ids[places[0]], 77)
    shelf.values[ids[places[1]]] = stored(ids[places[1]], {"exc_type": "KeyError"}, status="FAILURE")
    del shelf.values[ids[places[2]]]
    shelf.values[ids[fails]] = stored(ids[fails], 5)
    outcome = collect(plan, folder, shelf)
    counts = {
        name: (kind.posted, kind.correct, kind.wrong, kind.failed, kind.lost) for name, kind in outcome.by_kind.items()
    }
    assert counts == {"rows": (14, 11, 1, 1, 1), "fails": (7, 6, 1, 0, 0)}
    faults = [json.loads(line) for line in (folder / "faults.jsonl").read_text().splitlines()]
    assert {(fault["id"], fault["kind"], fault["outcome"]) for fault in faults} == {
        (ids[places[0]].decode(), "rows", "wrong"),
        (ids[places[1]].decode(), "rows", "failed"),
        (ids[places[2]].decode(), "rows", "lost"),
        (ids[fails].decode(), "fails", "wrong"),
    }
    assert [fault["detail"] for fault in faults if fault["id"] == ids[places[0]].decode()] == [
        "the result is 77, not 0"
    ]
    record = RunRecord(by_kind=outcome.by_kind, workload=Workload(tasks=21))
    repaired = [fault for fault in faults if fault["outcome"] != "lost"]
    (folder / "faults.jsonl").write_text("".join(json.dumps(fault) + "\n" for fault in repaired))
    build_record.recount(record, folder)
    assert [(one.correct, one.wrong, one.failed, one.lost) for one in record.by_kind.values()] == [
        (12, 1, 1, 0),
        (6, 1, 0, 0),
    ]
    assert (record.by_kind["rows"].task, record.counts.correct) == ("a.rows", 18)


def test_each_kind_has_its_own_times_and_a_countdown_is_no_waiting(plan: Plan, tmp_path: Path) -> None:
    """A task with a countdown of 4 s that starts 6 s after its message was sent waited for 2 s."""
    folder, shelf = tmp_path / "run", Shelf()
    finish(plan, shelf, publish(plan, folder, 0))
    outcome = collect(plan, folder, shelf)
    record = RunRecord(by_kind=outcome.by_kind)
    times = task_timings.load(folder, {})
    assert times is not None
    assert times.kinds == ["rows", "fails"]
    assert np.bincount(times.kind).tolist() == [14, 7]
    record_times.add_times(record, times)
    plain = record.plain()["by_kind"]
    assert {
        name: (kind["queue"]["p99"], kind["execution"]["p50"], kind["latency"]["max"]) for name, kind in plain.items()
    } == {
        "rows": (6.0, 1.0, 7.0),
        "fails": (2.0, 1.0, 3.0),
    }
    assert (plain["rows"]["run_s"], plain["fails"]["cpu_s"]) == (14.0, 3.5)
    assert lines_by_kind(record) == [
        "    rows   14 posted: 14 correct, 0 wrong, 0 failed, 0 lost; 7 s (p99 7 s)",
        "    fails  7 posted: 7 correct, 0 wrong, 0 failed, 0 lost; 3 s (p99 3 s)",
    ]


def test_what_is_due_and_of_which_stage_is_kept_with_the_times(plan: Plan, tmp_path: Path) -> None:
    """By the turns of the threads: 20 messages at 10 per second, of which each second one is another thread's."""
    folder, shelf = tmp_path / "run", Shelf()
    staged = replace(plan, stages=(Stage.ramp(10, 10, 1.5), Stage(6)))
    write_json(folder / "post.json", asdict(Posted(Moment.at(0.0), due_from=POSTED)))
    finish(staged, shelf, publish(staged, folder, 0))
    collect(staged, folder, shelf)
    times = task_timings.load(folder, {})
    assert times is not None
    assert np.bincount(times.stage).tolist() == [15, 6]
    due = times.due - POSTED - np.where(times.kind == 1, 4.0, 0.0)
    assert sorted(due) == pytest.approx([number / 10 for number in range(15)] + [1.5] * 6)
    assert np.allclose(due[times.stage == 1], 1.5)


def test_a_plan_without_a_scenario_has_no_kinds(tmp_path: Path) -> None:
    """Its faults, times and record are as they were."""
    (tmp_path / "ids").mkdir()
    plan = Plan("p", (Route("a", "red"),), 2, (), check=True, expect=5, threads=1, deadline=0.01, profile=False)
    ids, shelf = publish(plan, tmp_path, 0), Shelf()
    shelf.values[ids[0]] = stored(ids[0], 6)
    outcome = collect(plan, tmp_path, shelf)
    assert (outcome.by_kind, outcome.wrong, outcome.lost) == ({}, 1, 1)
    faults = [json.loads(line) for line in (tmp_path / "faults.jsonl").read_text().splitlines()]
    assert [sorted(fault) for fault in faults] == [["detail", "id", "outcome", "queue"]] * 2
    times = task_timings.load(tmp_path, {})
    assert times is not None
    assert (times.kinds, len(times.kind)) == ([], 0)
