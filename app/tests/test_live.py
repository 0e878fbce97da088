"""What is known of a run while its messages are published, from journals and results that a test writes."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest.mock import Mock

import pytest

from services import stored
from taskmill.cluster import queue_depths
from taskmill.model.clock import Moment
from taskmill.model.plan import Plan, Right, Route
from taskmill.model.stages import Stage
from taskmill.model.thresholds import LIVE, LIVE_OF_KIND, Requirement
from taskmill.publishing import journal
from taskmill.publishing.posted import Posted
from taskmill.publishing.tail import Tail
from taskmill.session import followed
from taskmill.session.followed import Followed
from taskmill.session.live import Live

START = 1795388520.0
ROUTES = (
    Route("a.right", "red", "right", 3, args=(1,), right=Right("value", 5)),
    Route("a.slow", "blue", "slow", args=(2,), countdown=4.0),
)
PLAN = Plan("p", ROUTES, 80, (), threads=2, stages=(Stage.ramp(10, 10, 8),), scenario="load.yml")


class Shelf:
    """A result store of a dictionary, which takes few ids at once."""

    kind = "shelf"
    batch = 7

    def __init__(self) -> None:
        """Begin empty."""
        self.values: dict[bytes, Any] = {}
        self.away: list[str] = []
        #: How many ids were asked for, each time.
        self.asked: list[int] = []

    def get(self, ids: Sequence[bytes]) -> dict[bytes, Any]:
        """Return the values that are there."""
        self.asked.append(len(ids))
        return {identifier: self.values[identifier] for identifier in ids if identifier in self.values}

    def unreachable(self) -> list[str]:
        """Return the servers that are away."""
        return self.away


class Load:
    """The journals of a plan's threads, written by hand, and what is known of them."""

    def __init__(
        self,
        folder: Path,
        plan: Plan = PLAN,
        waiting: dict[str, int] | None = None,
        asked: Sequence[str] = ("failed_share", "wrong_share"),
        processes: int | None = None,
    ) -> None:
        """Begin before the first message; workers' clocks are two seconds ahead."""
        (folder / "ids").mkdir()
        due_from = START if plan.paced else None
        Posted(Moment.at(0.0), due_from=due_from).save(folder)
        self.plan, self.shelf = plan, Shelf()
        self._journals = [journal.Journal(folder / "ids", 0, place) for place in range(len(plan.posters()))]
        self._counts = [0] * len(self._journals)
        clocks = {"w1": {"offset_s": 2.0, "error_s": 0.0}}
        requirements = [over_time(one) for one in asked]
        waiting = {} if waiting is None else waiting
        self.live = Live(plan, folder, self.shelf, requirements, waiting, clocks, processes)

    def send(self, thread: int, count: int, at: float) -> dict[int, bytes]:
        """Write so many ids of a thread, sent so many seconds after the start; return them by their number."""
        ids, first = journal.new_ids(count), self._counts[thread]
        self._counts[thread] += count
        lines = b"".join(identifier + b" red\n" for identifier in ids)
        self._journals[thread].write(lines, self._counts[thread], START + at)
        return dict(enumerate(ids, self.plan.posters()[thread][0] + first))

    def finish(self, ids: dict[int, bytes], started: float, result: Any = 5, **fields: Any) -> None:
        """Store results of tasks that began so many seconds after the start, and ran for half a second."""
        times = {"taskmill": [START + started + 2.0, 500_000, 100_000, "w1"]}
        self.shelf.values |= {identifier: stored(identifier, result, **times, **fields) for identifier in ids.values()}

    def look(self, at: float) -> None:
        """Look, so many seconds after the start."""
        self.live.look(START + at)

    def value(self, metric: str, at: float, comparison: str = ">0") -> float | None:
        """Return what is known of a metric at that moment."""
        return self.live.value(over_time(metric, comparison), START + at)


def over_time(metric: str, comparison: str = ">0") -> Requirement:
    """Return a threshold over time of a metric."""
    return Requirement.parse(f"{metric}{comparison} for 1s, stop as failed")


def test_a_journal_is_read_as_it_grows(tmp_path: Path) -> None:
    """What both of its files have; half a line, and ids whose time is not there yet, are for the next time."""
    tail = Tail(tmp_path, "00-000")
    ids = journal.new_ids(4)
    assert tail.read()[0] == []
    (tmp_path / "00-000.ids").write_bytes(b"".join(one + b" a queue\n" for one in ids[:3]) + ids[3][:9])
    assert tail.read()[0] == []
    times = tmp_path / "00-000.times"
    times.write_bytes(b"1 10.5\n2 11.0\n3 1")
    found, moments = tail.read()
    assert (found, moments.tolist(), tail.count) == (ids[:2], [10.5, 11.0], 2)
    with times.open("ab") as file:
        file.write(b"2.25\n")
    found, moments = tail.read()
    assert (found, moments.tolist(), tail.count) == (ids[2:3], [12.25], 3)


def test_every_metric_is_not_known_before_there_is_anything_to_know_it_by(tmp_path: Path) -> None:
    """But that no message is late yet."""
    load = Load(tmp_path)
    load.look(0.0)
    assert {metric: load.value(metric, 0.0) for metric in LIVE} == dict.fromkeys(LIVE) | {"late_s": 0.0}
    assert all(load.value(f"{metric} of slow", 0.0) is None for metric in LIVE_OF_KIND)


def test_results_of_the_last_seconds_are_judged_by_kind(tmp_path: Path) -> None:
    """Times count from when a task was due, its countdown included, by this machine's clock."""
    load = Load(tmp_path)
    # Numbers 0 to 7, due at 0, 0.2 .. 1.4 s: two of them of the slow kind.
    ids = load.send(0, 8, 1.5)
    slow = {number: one for number, one in ids.items() if load.plan.slots[number % 4] == 1}
    right = {number: one for number, one in ids.items() if number not in slow}
    load.finish(right, 2.0)
    load.finish(dict(list(right.items())[:2]), 2.0, 6)
    load.finish(dict(list(right.items())[2:3]), 2.0, {"exc_type": "KeyError"}, status="FAILURE")
    load.look(3.0)
    due = [0.2 * number for number in right]
    assert load.value("p99_queue_s of right", 3.0) == pytest.approx(2.0)
    assert load.value("mean_latency_s of right", 3.0) == pytest.approx(2.5 - sum(due) / 6)
    assert load.value("p50_execution_s of right", 3.0) == pytest.approx(0.5)
    assert load.value("wrong_share of right", 3.0) == pytest.approx(2 / 6)
    assert load.value("failed_share of right", 3.0) == pytest.approx(1 / 6)
    assert load.value("failed_share of slow", 3.0) is None
    load.finish(slow, 9.0)
    load.look(10.0)
    assert load.value("p50_queue_s of slow", 10.0) == pytest.approx(9.0 - 4.0 - 0.2 * max(slow))
    assert load.value("failed_share", 10.0) == pytest.approx(1 / 8)
    # What was seen ten seconds ago does not count any more.
    load.look(13.0)
    assert load.value("failed_share of right", 13.0) is None
    assert load.value("failed_share", 13.0) == 0.0


def test_messages_tell_how_long_they_wait_for_workers_that_stand_still(tmp_path: Path) -> None:
    """The least that it will be, which is enough for what must not grow; the two pool processes may have begun two."""
    load = Load(tmp_path, asked=("mean_latency_s",), processes=2)
    right = {number: one for number, one in load.send(0, 8, 1.5).items() if load.plan.slots[number % 4] == 0}
    load.look(3.0)
    ages = [3.0 - 0.2 * number for number in sorted(right)]
    assert len(ages) == 6
    assert load.value("mean_queue_s of right", 3.0) == pytest.approx(sum(ages[2:]) / 4)
    assert load.value("mean_latency_s of right", 3.0, ">=1") == pytest.approx(sum(ages) / 6)
    assert load.value("p99_queue_s", 3.0) == pytest.approx(ages[2])
    assert load.value("mean_execution_s of right", 3.0) is None
    # Not due yet.
    assert load.value("mean_latency_s of slow", 3.0) is None
    assert load.value("mean_latency_s", 3.0, "<9") is None
    # Without the number of pool processes each of them may have begun.
    (tmp_path / "unknown").mkdir()
    unknown = Load(tmp_path / "unknown")
    unknown.send(0, 8, 1.5)
    unknown.look(3.0)
    assert unknown.value("p99_latency_s", 3.0) == pytest.approx(3.0)
    assert unknown.value("p99_queue_s", 3.0) is None
    load.shelf.away = ["store1"]
    assert load.value("mean_latency_s", 3.0) is None
    load.shelf.away = []
    load.finish({0: right[0]}, 3.5)
    load.look(5.0)
    assert load.value("mean_queue_s of right", 5.0) == pytest.approx(3.5)


def test_a_task_without_times_has_no_time_in_the_queue_but_counts(tmp_path: Path) -> None:
    """As of workers that do not load task_times; a result that is not final is none."""
    load = Load(tmp_path)
    ids = load.send(0, 2, 0.5)
    load.shelf.values = {ids[0]: stored(ids[0], 5), ids[1]: stored(ids[1], None, status="STARTED")}
    load.look(1.0)
    assert (load.value("p50_queue_s", 1.0), load.value("wrong_share", 1.0)) == (None, 0.0)
    load.finish({1: ids[1]}, 0.75)
    load.look(2.0)
    assert load.value("p50_queue_s", 2.0) == pytest.approx(0.75 - 0.2)


def test_the_rate_and_the_lateness_of_the_client_are_of_the_last_seconds(tmp_path: Path) -> None:
    """A message that is due and not sent is late already, in whichever thread."""
    load = Load(tmp_path)
    load.send(0, 10, 2.0)
    load.send(1, 10, 2.0)
    load.look(4.0)
    assert load.value("posted_per_s", 4.0) == pytest.approx(20 / 2)
    # The first messages were due at 0 and 0.1 s; those that are not sent, from 2.0 s on.
    assert load.value("late_s", 4.0) == pytest.approx(2.0)
    load.look(5.0)
    assert load.value("late_s", 5.0) == pytest.approx(3.0)
    load.send(0, 30, 5.5)
    load.send(1, 30, 8.0)
    load.look(9.0)
    assert load.value("posted_per_s", 9.0) == pytest.approx(80 / 7)
    assert load.value("late_s", 9.0) == pytest.approx(8.0 - 2.1)
    load.look(14.5)
    assert load.value("posted_per_s", 14.5) == pytest.approx(60 / 10)
    load.look(30.0)
    assert (load.value("posted_per_s", 30.0), load.value("late_s", 30.0)) == (0.0, 0.0)


@pytest.mark.parametrize(
    ("asked", "fetched"),
    [(("waiting", "late_s"), 0), (("p50_queue_s of slow",), 2), (("p50_queue_s", "late_s"), 8)],
)
def test_no_more_is_fetched_than_what_is_asked_for(tmp_path: Path, asked: tuple[str, ...], fetched: int) -> None:
    """And nothing is compared where no share is asked for: the functions of the scenario are not called."""
    plan = replace(PLAN, routes=tuple(replace(one, right=Right("function", "none:none")) for one in ROUTES))
    load = Load(tmp_path, plan, asked=asked)
    load.finish(load.send(0, 8, 1.0), 1.5, 77)
    load.look(2.0)
    assert sum(load.shelf.asked) == fetched


def test_a_load_that_is_not_paced_is_never_late(tmp_path: Path) -> None:
    """Its tasks count from when they were sent; without a scenario all tasks are of one kind."""
    load = Load(tmp_path, Plan("p", (Route("a.b", "red"),), 9, (1,), threads=1))
    load.finish(load.send(0, 4, 3.0), 5.0)
    load.look(6.0)
    assert load.value("late_s", 6.0) == 0.0
    assert load.value("p90_queue_s", 6.0) == pytest.approx(2.0)


def test_messages_that_wait_are_of_all_queues(tmp_path: Path) -> None:
    """While one of them has not said, as without a broker, the number is not known."""
    waiting = {"red": 4}
    load = Load(tmp_path, waiting=waiting)
    assert load.value("waiting", 0.0) is None
    waiting["blue"] = 3
    assert load.value("waiting", 0.0) == 7


def test_what_waits_is_not_known_while_the_broker_is_away(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The last sample is none of now; with the broker it is known again."""
    monkeypatch.setattr(queue_depths, "INTERVAL", 0.01)
    broker = Mock()
    declare = broker.connect.return_value.channel.return_value.queue_declare
    declare.return_value = SimpleNamespace(message_count=12, consumer_count=1)

    def wait_for(wanted: dict[str, int]) -> None:
        deadline = time.monotonic() + 30
        while waiting != wanted:
            assert time.monotonic() < deadline, waiting
            time.sleep(0.01)

    with queue_depths.sample(broker, ["red", "blue"], tmp_path / "queues.csv") as waiting:
        wait_for({"red": 12, "blue": 12})
        declare.side_effect = ConnectionResetError
        wait_for({})
        declare.side_effect = None
        wait_for({"red": 12, "blue": 12})


def test_a_fair_share_is_followed_where_many_are_under_way() -> None:
    """Old and new with the same chance, so that each that is followed stands for as many; then all of them again."""
    shelf = Shelf()
    ids = [b"%036d" % number for number in range(64_000)]
    one = Followed(shelf, lambda _: Right(), {})
    one.add((identifier, number, float(number)) for number, identifier in enumerate(ids))
    one.look(1.0)
    assert sum(shelf.asked) <= followed.MOST
    assert max(shelf.asked) == shelf.batch
    shelf.values = {identifier: stored(identifier, 1) for identifier in ids}
    results = one.look(2.0)
    assert sum(result.weight for result in results) == pytest.approx(64_000, rel=0.2)
    assert len(results) > followed.MOST // 4
    # All were done at one moment, and each was due at its number. Within four deviations.
    done = datetime.fromisoformat(json.loads(stored(ids[0], 1))["date_done"]).timestamp()
    older = sum(done - result.latency < 32_000 for result in results)
    assert abs(older - len(results) / 2) < 2 * len(results) ** 0.5
    for _ in range(8):
        one.look(3.0)
    shelf.asked.clear()
    one.add((b"%036d" % number, number, 0.0) for number in range(70_000, 70_100))
    one.look(4.0)
    assert sum(shelf.asked) == 100


def test_a_metric_of_all_kinds_counts_each_as_often_as_it_comes() -> None:
    """Although of a kind that comes often a smaller share is followed."""
    results = [followed.Result(0.0, "failed", 1.0, 1.0, 1.0, 1), followed.Result(0.0, "correct", 9.0, 1.0, 9.0, 3)]
    assert followed.value(("share", "failed"), results) == 0.25
    assert followed.value(("latency", "queue", "mean"), results) == 7.0
    assert followed.value(("latency", "queue", "p50"), results) == 9.0
