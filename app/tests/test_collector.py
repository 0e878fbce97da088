"""Collecting, with results put into a real memcached by hand."""

import io
import json
import socket
import threading
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import memcache
import pytest

from services import Memcached, stored
from taskmill.model.errors import TaskmillError
from taskmill.model.plan import Plan, Route
from taskmill.progress import Reporter
from taskmill.publishing import journal
from taskmill.results import collector as collect
from taskmill.results.collected import Collected
from taskmill.results.collector import Collector
from taskmill.results.memcached import Results
from taskmill.results.store import BATCH
from taskmill.results.verdict import judge, same

#: When messages were posted, in Unix seconds.
POSTED = 1795388520.25


class Clock(threading.Event):
    """Stands in for the clock that collecting looks at and for the event that it waits by, so that nobody waits.

    Time goes on when it is waited for, and by a millisecond with every batch that is asked for. What is to happen
    meanwhile happens at its second.
    """

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Begin at zero; what collecting asks the result store for is counted from here on."""
        super().__init__()
        self.seconds = 0.0
        #: When each batch was asked for, and how many ids it had.
        self.asked: list[tuple[float, int]] = []
        #: When a batch last had a result.
        self.found = 0.0
        self._begin = time.monotonic()
        self._later: list[tuple[float, Callable[[], object]]] = []
        monkeypatch.setattr(collect, "time", SimpleNamespace(monotonic=lambda: self._begin + self.seconds))
        real = Results.get

        def get(results: Results, ids: list[bytes]) -> dict[bytes, Any]:
            self.pass_by(0.001)
            self.asked.append((self.seconds, len(ids)))
            found = real(results, ids)
            self.found = self.seconds if found else self.found
            return found

        monkeypatch.setattr(Results, "get", get)

    def at(self, seconds: float, what: Callable[..., object], *arguments: Any) -> None:
        """Have something happen at that second."""
        self._later.append((seconds, lambda: what(*arguments)))

    def pass_by(self, seconds: float) -> None:
        """Let so much time go by."""
        self.seconds += seconds
        due = [what for moment, what in self._later if moment <= self.seconds]
        self._later = [one for one in self._later if one[0] > self.seconds]
        for what in due:
            what()

    def wait(self, timeout: float | None = None) -> bool:
        """Wait without waiting."""
        assert timeout is not None
        self.pass_by(timeout)
        return self.is_set()


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """Return the clock of the test."""
    return Clock(monkeypatch)


class Shelf:
    """A run folder and the results of its ids."""

    def __init__(self, folder: Path, memcached: Memcached, clock: Clock) -> None:
        """Begin with no ids."""
        self.folder = folder
        self.clock = clock
        (folder / "ids").mkdir()
        self.url = memcached.url
        self.store = memcache.Client([f"127.0.0.1:{memcached.port}"])
        self.said = io.StringIO()

    def post(self, count: int, queue: str = "red", confirmed: int | None = None, thread: int = 0) -> list[bytes]:
        """Write ids as a posting thread would."""
        ids = journal.new_ids(count)
        one = journal.Journal(self.folder / "ids", 0, thread)
        one.write(b"".join(identifier + b" " + queue.encode() + b"\n" for identifier in ids), count, POSTED)
        one.confirm(count if confirmed is None else confirmed)
        one.close()
        return ids

    def finish(self, ids: list[bytes], result: Any = 5, **fields: Any) -> None:
        """Store results as a worker would."""
        for identifier in ids:
            assert self.store.set(f"celery-task-meta-{identifier.decode()}", stored(identifier, result, **fields))

    def collect(self, deadline: float = 0.5, at_work: Callable[[], str] = lambda: "") -> Collected:
        """Collect with the expectation 5."""
        plan = Plan("p", (Route("a", "red"),), 1, (), check=True, expect=5, deadline=deadline)
        reporter = Reporter(self.said)
        return Collector(plan, self.folder, Results(self.url), self.clock, reporter).run(at_work=at_work)

    def faults(self) -> list[dict[str, str]]:
        """Read faults.jsonl."""
        return [json.loads(line) for line in (self.folder / "faults.jsonl").read_text().splitlines()]


@pytest.fixture
def shelf(tmp_path: Path, memcached: Memcached, clock: Clock) -> Shelf:
    """Return an empty shelf."""
    return Shelf(tmp_path, memcached, clock)


def test_lost_head_of_a_queue_keeps_no_later_result_back(shelf: Shelf, clock: Clock) -> None:
    """With the first 3,500 of a queue lost, all later results are fetched, and soon."""
    ids = shelf.post(6000)
    shelf.finish(ids[3500:])
    outcome = shelf.collect(deadline=3)
    assert (outcome.correct, outcome.lost) == (2500, 3500)
    assert sorted(fault["id"].encode() for fault in shelf.faults()) == sorted(ids[:3500])
    assert clock.found < 1


def test_losses_all_over_a_queue_keep_no_later_result_back(shelf: Shelf, clock: Clock) -> None:
    """Lost ids that nearly fill the head do not turn the rest into a trickle of a few a second."""
    ids = shelf.post(8000)
    shelf.finish(ids[::20] + ids[996:])
    outcome = shelf.collect(deadline=3)
    assert (outcome.correct, outcome.lost) == (7054, 946)
    # Well before the deadline that would have fetched them all, and without asking for everything again and again.
    assert clock.found < 1
    assert sum(number for when, number in clock.asked if when <= clock.found) < 3 * 8000


def test_task_that_takes_longer_than_the_deadline_is_not_lost_while_a_worker_has_it(shelf: Shelf, clock: Clock) -> None:
    """It is waited for as long as somebody is at work, and with the next result the count of deadlines begins anew."""
    ids = shelf.post(2)
    clock.at(28, shelf.finish, ids[:1])
    clock.at(57, shelf.finish, ids[1:])
    outcome = shelf.collect(deadline=3, at_work=lambda: "workers have 2 messages")
    assert (outcome.correct, outcome.lost) == (2, 0)
    assert "no new result for 27 s, but workers have 2 messages: waiting longer" in shelf.said.getvalue()


@pytest.mark.parametrize(("seconds_at_work", "ended"), [(0, 3), (8, 9), (1000, 30)])
def test_what_nobody_is_at_work_on_is_lost_and_so_is_what_never_ends(
    shelf: Shelf, clock: Clock, seconds_at_work: float, ended: float
) -> None:
    """The next deadline after the last worker is idle, or the tenth, is the end."""
    shelf.post(3)
    outcome = shelf.collect(deadline=3, at_work=lambda: "busy" if clock.seconds < seconds_at_work else "")
    assert outcome.lost == 3
    assert ended < clock.seconds < ended + 1.5


def test_few_results_among_many_losses_are_fetched_without_waiting_between(shelf: Shelf, clock: Clock) -> None:
    """Where 19 of 20 are lost, the others are there already: their pace is not that of tasks at work."""
    ids = shelf.post(8000)
    shelf.finish(ids[::20])
    outcome = shelf.collect(deadline=3)
    assert (outcome.correct, outcome.lost) == (400, 7600)
    assert clock.found < 1
    assert sum(number for when, number in clock.asked if when <= clock.found) < 3 * 8000


def test_results_that_come_late_are_fetched(shelf: Shelf, clock: Clock) -> None:
    """While results keep coming, the deadline does not pass, whatever their order."""
    ids = shelf.post(2400)
    clock.at(0.4, shelf.finish, ids[:1200])
    clock.at(0.9, shelf.finish, ids[1200:2000])
    clock.at(1.7, shelf.finish, ids[2000:])
    outcome = shelf.collect(deadline=1.0)
    assert (outcome.correct, outcome.lost) == (2400, 0)


def test_results_that_come_past_the_deadline_are_lost(shelf: Shelf, clock: Clock) -> None:
    """The deadline counts from the last new result, and nothing is waited for beyond it."""
    ids = shelf.post(20)
    shelf.finish(ids[:5])
    clock.at(2.5, shelf.finish, ids[5:])
    outcome = shelf.collect(deadline=1.0)
    assert (outcome.correct, outcome.lost) == (5, 15)
    assert 1.0 < clock.seconds < 2.5


def test_id_set_aside_is_fetched_when_its_result_comes(shelf: Shelf, clock: Clock) -> None:
    """A head that was passed over is not forgotten."""
    ids = shelf.post(3000)
    shelf.finish(ids[1500:])
    clock.at(1.0, shelf.finish, ids[:1500])
    outcome = shelf.collect(deadline=3.0)
    assert (outcome.correct, outcome.lost) == (3000, 0)
    assert clock.found > 1


def test_a_task_that_is_not_done_is_waited_for(shelf: Shelf, clock: Clock) -> None:
    """STARTED and RETRY are not results."""
    ids = shelf.post(2)
    shelf.finish(ids, status="STARTED", result={"pid": 1})
    clock.at(0.3, shelf.finish, ids)
    assert shelf.collect(deadline=2.0).correct == 2
    assert clock.found >= 0.3


def test_unconfirmed_id_without_result_is_not_called_lost(shelf: Shelf) -> None:
    """After a kill, what was perhaps never sent is listed apart, and what was delivered all the same counts."""
    ids = shelf.post(10, confirmed=6)
    shelf.finish(ids[:8])
    outcome = shelf.collect()
    assert (outcome.posted, outcome.confirmed, outcome.correct, outcome.lost, outcome.unsent) == (8, 6, 8, 0, 2)
    assert [fault["outcome"] for fault in shelf.faults()] == ["unsent"] * 2


def test_stop_leaves_the_rest_for_next_time(shelf: Shelf, clock: Clock) -> None:
    """An interrupted collection counts nothing as lost, and the next one begins anew from the ids on disk."""
    ids = shelf.post(100)
    shelf.finish(ids[:40])
    clock.at(0.3, clock.set)
    outcome = shelf.collect(deadline=30)
    assert (outcome.correct, outcome.lost, outcome.finished) == (40, 0, False)
    shelf.finish(ids[40:])
    clock.clear()
    again = shelf.collect()
    assert (again.correct, again.lost, again.finished) == (100, 0, True)


def test_waiting_asks_seldom(shelf: Shelf, clock: Clock) -> None:
    """When nothing comes, memcached is asked about once a second, not in a busy loop."""
    shelf.post(5000)
    shelf.collect(deadline=2.5)
    # One widening pass, a few pauses, one last look: some forty batches of a thousand at the very most.
    assert len(clock.asked) < 40
    assert max(number for _, number in clock.asked) <= 2 * BATCH


def test_value_of_another_program_spoils_no_other(shelf: Shelf, memcached: Memcached) -> None:
    """Flags, compression or bytes that Celery never writes make one wrong result, and the rest is fetched."""
    ids = shelf.post(40)
    shelf.finish(ids)
    for number, flags, value in (
        (3, 64, b"x"),
        (17, 8, b"not compressed"),
        (25, 16, b"\xff\xfe"),
        (39, 2, b"no number"),
    ):
        with socket.create_connection(("127.0.0.1", memcached.port)) as raw:
            key = b"celery-task-meta-" + ids[number]
            raw.sendall(b"set %b %d 0 %d\r\n%b\r\n" % (key, flags, len(value), value))
            assert raw.recv(100) == b"STORED\r\n"
    outcome = shelf.collect()
    assert (outcome.correct, outcome.wrong, outcome.lost) == (36, 4, 0)
    assert {fault["id"].encode() for fault in shelf.faults()} == {ids[number] for number in (3, 17, 25, 39)}


def test_memcached_that_dies_is_an_error_and_not_a_loss(
    tmp_path: Path, clock: Clock, start_memcached: Callable[..., Memcached]
) -> None:
    """What cannot be fetched because memcached is away is not counted as lost."""
    own = start_memcached()
    shelf = Shelf(tmp_path, own, clock)
    shelf.finish(shelf.post(10)[:3])
    clock.at(0.3, own.stop)
    with pytest.raises(TaskmillError, match=r"cannot be reached: 7 results are not fetched yet.*taskmill collect"):
        shelf.collect(deadline=3.0)
    assert "waiting for it" in shelf.said.getvalue()


def test_run_without_ids_is_refused(shelf: Shelf) -> None:
    """There is nothing to collect."""
    with pytest.raises(TaskmillError, match="nothing was posted"):
        shelf.collect()


@pytest.mark.parametrize(
    ("value", "verdict", "detail"),
    [
        ("not json", "wrong", "no result of Celery"),
        ("[]", "wrong", "no result of Celery"),
        ('{"status": "SUCCESS", "result": 5, "task_id": "other"}', "wrong", "another task"),
        (
            '{"status": "REVOKED", "result": {"exc_type": "TaskRevokedError", "exc_message": ["terminated"]}}',
            "failed",
            "REVOKED: TaskRevokedError: terminated",
        ),
        (b'{"status": "PENDING", "result": null}', "pending", ""),
        (None, "wrong", "pickled"),
        # Beyond plain JSON, within what is told of it.
        (
            '{"status": "SUCCESS", "task_id": "id", "result": {"a": [{"__type__": "decimal", "__value__": "1.1"}]}}',
            "wrong",
            "Decimal",
        ),
    ],
)
def test_stored_values_are_judged(value: Any, verdict: str, detail: str) -> None:
    """Whatever stands in memcached under an id gets a verdict with a reason."""
    found = judge(b"id", value, True, 5)
    assert found[0] == verdict
    assert detail in found[1]


def test_same_is_strict_at_every_depth() -> None:
    """JSON values are the same only when their types are."""
    assert same({"a": [1, {"b": None}]}, {"a": [1, {"b": None}]})
    assert not same({"a": [1]}, {"a": [True]})
    assert not same([1], [1.0])
    assert not same({"a": 1}, {"a": 1, "b": 2})
    assert not same([1], [1, 2])
    assert not same("1", 1)
