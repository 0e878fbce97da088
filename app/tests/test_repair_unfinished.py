"""A run whose collecting was interrupted is not repaired: of what was not fetched, nothing is known."""

from __future__ import annotations

import io
import json
import os
import threading
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import pytest
from click.testing import CliRunner

from services import stored
from taskmill.cli import cli
from taskmill.cli.verdict import tell_whole
from taskmill.cluster.broker import Broker
from taskmill.model import run_folder
from taskmill.model.clock import Moment
from taskmill.model.errors import TaskmillError
from taskmill.model.plan import Plan, Route
from taskmill.model.record import RunRecord
from taskmill.model.summary import headline
from taskmill.progress import Reporter
from taskmill.publishing import journal
from taskmill.publishing.channel import Tally
from taskmill.publishing.posted import Posted
from taskmill.recover import repair, resume
from taskmill.results import nothing
from taskmill.results.collected import Collected
from taskmill.results.collector import Collector
from taskmill.results.store import BATCH
from taskmill.session import build_record
from taskmill.session.drive import Session

TASKS = 4000
#: Where nobody is.
ADDRESSES = {"CELERY_BROKER_URL": "amqp://127.0.0.1:1/", "CELERY_RESULT_BACKEND": "cache+memcached://127.0.0.1:1/"}
PLAN = Plan("p", (Route("a", "red"),), TASKS, (), check=True, expect=5, deadline=0.2)


class Store:
    """Results of a few ids, in place of memcached; with `stop` the client is told to stop at the first answer."""

    kind = "memcached"
    batch = BATCH

    def __init__(self, values: dict[bytes, Any], stop: threading.Event | None = None) -> None:
        """Keep what is stored."""
        self.values = values
        self.stop = stop

    def get(self, ids: Sequence[bytes]) -> dict[bytes, Any]:
        """Return those that are stored."""
        if self.stop is not None:
            self.stop.set()
        return {identifier: self.values[identifier] for identifier in ids if identifier in self.values}

    def unreachable(self) -> list[str]:
        """Return no server."""
        return []


class Run:
    """The folder of a run that was posted whole, and collected as often as a test says."""

    def __init__(self, folder: Path) -> None:
        """Write the ids as a posting thread would."""
        self.folder = folder
        (folder / "ids").mkdir()
        PLAN.save(folder)
        self.ids = journal.new_ids(TASKS)
        one = journal.Journal(folder / "ids", 0, 0)
        one.write(b"".join(identifier + b" red\n" for identifier in self.ids), TASKS, Moment.now().wall)
        one.confirm(TASKS)
        one.close()
        tally = Tally("00-000", TASKS, posted=TASKS, confirmed=TASKS)
        self.posted = Posted(Moment.now(), threads=[tally], finished=True, ended=Moment.now())

    def collect(self, store: Store, plan: Plan = PLAN) -> Collected:
        """Collect, and write the record as the command does."""
        stop = store.stop or threading.Event()
        collected = Collector(plan, self.folder, store, stop, Reporter(io.StringIO())).run()
        client = {"peak_memory_bytes": 0, "cpu_seconds": 0.0}
        build_record.build(plan, self.folder, self.posted, collected, {}, client).save(self.folder)
        return collected

    def repair(self, store: Store | None = None) -> RunRecord:
        """Repair, with nothing in the store unless it is given; there is no broker, so nothing may be posted."""
        stop, reporter = threading.Event(), Reporter(io.StringIO())
        empty = store or Store({})
        return repair.repair(PLAN, self.folder, cast("Broker", None), empty, stop, reporter).record


@pytest.fixture
def run(tmp_path: Path) -> Run:
    """Return a run that was posted."""
    return Run(tmp_path)


def test_run_whose_collecting_was_interrupted_is_not_repaired(run: Run) -> None:
    """Some were fetched, the store lost the rest: the rest is not called correct, and the way on is named."""
    everything = {identifier: stored(identifier, 5) for identifier in run.ids}
    collected = run.collect(Store(everything, threading.Event()))
    assert 0 < collected.retrieved < TASKS
    before = (run.folder / "run.json").read_bytes()
    with pytest.raises(TaskmillError, match=f"taskmill collect {run.folder}"):
        run.repair()
    assert (run.folder / "run.json").read_bytes() == before


def test_run_that_is_collected_to_its_end_after_all_is_repaired(run: Run) -> None:
    """The control: what an interruption left is no obstacle once all is accounted for."""
    everything = {identifier: stored(identifier, 5) for identifier in run.ids}
    run.collect(Store(everything, threading.Event()))
    assert run.collect(Store(everything)).finished
    assert run.repair().counts.correct == TASKS


def test_later_collecting_that_was_interrupted_counts_too(run: Run) -> None:
    """A run that was whole once is not any more while a new collecting of it is not at its end."""
    everything = {identifier: stored(identifier, 5) for identifier in run.ids}
    run.collect(Store(everything))
    run.collect(Store(everything, threading.Event()))
    with pytest.raises(TaskmillError, match="not collected to its end"):
        run.repair()


def test_ids_that_were_posted_after_the_collecting_are_not_called_correct(run: Run) -> None:
    """As when a run that was taken up, and had posted the rest, was killed before it collected that."""
    run.collect(Store({identifier: stored(identifier, 5) for identifier in run.ids}))
    one = journal.Journal(run.folder / "ids", 1, 0)
    one.write(b"".join(identifier + b" red\n" for identifier in journal.new_ids(10)), 10, Moment.now().wall)
    one.confirm(10)
    one.close()
    with pytest.raises(TaskmillError, match="not collected to its end"):
        run.repair()


def test_a_collecting_that_ended_before_its_record_was_written_counts(run: Run) -> None:
    """The list of faults is of the later one then, and the record of the one before."""
    run.collect(Store({identifier: stored(identifier, 5) for identifier in run.ids}))
    written = (run.folder / "run.json").stat().st_mtime_ns
    os.utime(run.folder / "faults.jsonl", ns=(written + 1, written + 1))
    with pytest.raises(TaskmillError, match="not collected to its end"):
        run.repair()


def test_keys_that_this_taskmill_does_not_know_outlive_a_repair(run: Run) -> None:
    """At the top of the record and inside its sections, where a later taskmill or another program wrote them."""
    everything = {identifier: stored(identifier, 5) for identifier in run.ids}
    run.collect(Store(everything))
    path = run.folder / "run.json"
    data = json.loads(path.read_text())
    data |= {
        "later": {"a": [1]},
        "counts": data["counts"] | {"strange": 7},
        "workers": [{"name": "w1", "color": "red"}],
    }
    path.write_text(json.dumps(data))
    run.repair()
    again = json.loads(path.read_text())
    assert (again["later"], again["counts"]["strange"], again["workers"][0]["color"]) == ({"a": [1]}, 7, "red")
    assert again["counts"]["correct"] == TASKS


def test_run_that_was_cut_while_publishing_is_not_called_whole(run: Run) -> None:
    """Every result of what was posted is there, and a third was posted: neither collecting nor repairing says "all"."""
    plan = replace(PLAN, tasks=3 * TASKS)
    run.posted.finished = False
    everything = {identifier: stored(identifier, 5) for identifier in run.ids}
    assert run.collect(Store(everything), plan).finished
    for record in (RunRecord.load(run.folder), run.repair()):
        assert record is not None
        assert record.state == "interrupted"
        assert tell_whole(record) == 4
        assert headline(record).startswith("Not whole: 4,000 of 12,000 tasks were posted")


def test_run_whose_client_was_killed_after_its_last_message_is_whole(run: Run) -> None:
    """The ids on disk say that all were posted, though the client did not come to note it."""
    run.posted.finished = False
    everything = {identifier: stored(identifier, 5) for identifier in run.ids}
    run.collect(Store(everything))
    record = run.repair()
    assert (record.state, tell_whole(record), record.problems) == ("complete", 0, [])


def test_store_that_goes_away_is_no_reason_to_publish_again(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """To a store that does not answer every id is unknown; that says nothing about what is missing."""
    run.collect(Store({identifier: stored(identifier, 5) for identifier in run.ids[:-10]}))
    away = Store({})
    monkeypatch.setattr(away, "unreachable", lambda: ["memcached:11211"])
    with pytest.raises(TaskmillError, match="memcached:11211 cannot be reached: nothing is sent again"):
        run.repair(away)


def test_two_commands_do_not_work_on_one_run_at_the_same_time(run: Run) -> None:
    """The second is told; once the first is done, its turn has come."""
    with run_folder.claimed(run.folder):
        done = CliRunner().invoke(cli, ["repair", str(run.folder)], env=ADDRESSES)
    assert isinstance(done.exception, TaskmillError)
    assert f"another taskmill works on {run.folder}" in str(done.exception)
    with run_folder.claimed(run.folder):
        pass


def test_resumption_that_is_stopped_at_once_leaves_the_run_as_it_was(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ctrl-C while broker and workers are asked: a record that was whole is not written over by one without results."""
    run.collect(Store({identifier: stored(identifier, 5) for identifier in run.ids}))
    before = (run.folder / "run.json").read_bytes()
    monkeypatch.setattr(resume, "check_again", lambda *_, **__: {})
    stop = threading.Event()
    stop.set()
    session = Session(PLAN, run.folder, Broker(ADDRESSES["CELERY_BROKER_URL"]), nothing.Results(""), stop, Reporter())
    assert resume.resume(session) is None
    assert (run.folder / "run.json").read_bytes() == before
