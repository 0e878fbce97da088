"""The record: one shape, read whatever its state, and described by a schema in docs/."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

import runs
from taskmill.model.clock import Moment
from taskmill.model.record import Queue, RunRecord, json_schema
from taskmill.publishing.posted import Posted
from taskmill.report.run_folder import read
from taskmill.session.build_record import problems

SCHEMA = Path(__file__).parents[2] / "docs" / "run-schema.json"


@pytest.fixture
def data(tmp_path: Path) -> dict[str, Any]:
    """Return the record of a whole run, as it is written."""
    record = RunRecord.load(runs.make(tmp_path / "run", tasks=100, total=3.0, post=1.0))
    assert record is not None
    return record.plain()


def test_what_is_read_is_written_again_key_for_key(data: dict[str, Any]) -> None:
    """In the same order, too, and with nothing added."""
    assert json.dumps(RunRecord.of(data).plain()) == json.dumps(data)


def test_key_that_does_not_apply_is_absent() -> None:
    """As for a run without times of its tasks."""
    assert RunRecord().plain()["latency"] == RunRecord().plain()["task_seconds"] == {}
    assert RunRecord(by_queue={"red": Queue(posted=1)}).plain()["by_queue"]["red"] == {
        "posted": 1, "correct": 0, "wrong": 0, "failed": 0, "lost": 0,
    }  # fmt: skip


@pytest.mark.parametrize("damage", [None, 5, "x", [1], {"x": 1}, [{"x": 1}], {"x": {"y": {}}}])
def test_damaged_record_is_read_as_far_as_it_goes(data: dict[str, Any], damage: Any) -> None:
    """Any key of another type has what a new record has, and all others stay."""
    for key, value in data.items():
        record = RunRecord.of(data | {key: damage}).plain()
        assert record.keys() == data.keys()
        assert {name: record[name] for name in data if name != key} == {n: v for n, v in data.items() if n != key}
        assert type(record[key]) is type(value) or record[key] is None or value is None


def test_damage_inside_a_section_costs_that_key_alone(data: dict[str, Any]) -> None:
    """The other counts, queues and workers are there."""
    data["counts"]["lost"] = "three"
    data["by_queue"]["broken"] = 5
    data["workers"].append("none")
    record = RunRecord.of(data)
    assert (record.counts.lost, record.counts.posted) == (0, 100)
    assert list(record.by_queue) == ["red", "green", "blue"]
    assert len(record.workers) == len(data["workers"]) - 1


def test_record_of_an_older_taskmill_opens() -> None:
    """One of schema 1 that has only what it always had, and a key that is no more."""
    record = RunRecord.of({"schema": 1, "name": "old", "counts": {"posted": 3, "correct": 3}, "gone": True})
    assert (record.name, record.counts.correct, record.counts.lost, record.problems) == ("old", 3, 0, [])


def test_memcached_of_an_older_taskmill_is_the_result_store(tmp_path: Path) -> None:
    """It had no other store: what was evicted is in the report and in the problems, before a repair and after it."""
    folder = runs.make(tmp_path / "run", tasks=90)
    data = json.loads((folder / "run.json").read_text())
    assert "result_store" not in data
    data["memcached"]["evicted_during_run"] = 7
    data["counts"]["lost"] = 3
    (folder / "run.json").write_text(json.dumps(data))
    before = read(folder)
    assert before.result_store["evicted_during_run"] == 7
    assert (before.record.result_store.kind, before.record.result_store.limit_bytes) == ("memcached", 400556032)
    assert "memcached evicted 7 values during the run: it is too small" in problems(before.record, Posted(Moment.now()))
    # As a repair does at its end.
    before.record.update(folder)
    after = read(folder)
    assert after.result_store == {"kind": "memcached", **data["memcached"]}


def test_folder_without_a_record_has_none(tmp_path: Path) -> None:
    """No file, or one that is cut short."""
    assert RunRecord.load(tmp_path) is None
    (tmp_path / "run.json").write_text('{"schema": 1, "na')
    assert RunRecord.load(tmp_path) is None


def test_schema_in_docs_is_current() -> None:
    """`make schema` writes it anew."""
    assert json.loads(SCHEMA.read_text()) == json_schema()
