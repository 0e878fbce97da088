"""Thresholds over time: how they are written, when they hold, and what becomes of a run that one of them stops."""

from __future__ import annotations

import io
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any, cast

import msgspec
import pytest

from services import stored
from taskmill.cli.verdict import tell_run
from taskmill.cluster import queue_depths
from taskmill.cluster.broker import Broker
from taskmill.model import errors, record, thresholds
from taskmill.model.clock import Moment
from taskmill.model.errors import TaskmillError
from taskmill.model.plan import Plan, Route
from taskmill.model.record import RunRecord
from taskmill.model.summary import headline, summary
from taskmill.model.thresholds import LIVE, Requirement
from taskmill.progress import Quiet, Reporter
from taskmill.publishing.channel import ConfirmedChannel, MessageSource
from taskmill.publishing.posted import Posted
from taskmill.results.nothing import Results
from taskmill.session import build_record, drive, watch
from taskmill.session.drive import Session
from taskmill.session.live import Live
from taskmill.session.watch import Guard, Watch

TEXT = "p99_queue_s of invoice > 5 for 30s, stop as failed"
START = Moment(1000.0, 1795388520.0, "boot")
KNOWN = ", ".join(LIVE)


def after(seconds: float) -> Moment:
    """Return a moment of the run."""
    return Moment(START.monotonic + seconds, START.wall + seconds, START.boot)


@pytest.mark.parametrize(
    "text",
    [TEXT, "p99_queue_s of invoice>5 for 30 s,stop  as failed", " p99_queue_s of invoice>5 for 30.0s, stop as failed "],
)
def test_a_threshold_over_time_is_read_by_the_parser_of_all(text: str) -> None:
    """It is written as it is read."""
    one = Requirement.parse(text)
    assert str(one) == "p99_queue_s of invoice>5 for 30s, stop as failed"
    assert (one.kind, one.seconds, one.condition, one.keys) == (
        "invoice", 30.0, "p99_queue_s of invoice>5", ("latency", "queue", "p99"),
    )  # fmt: skip
    assert Requirement.parse(str(one)) == one


@pytest.mark.parametrize(
    ("text", "wrong"),
    [
        (
            "lost>0 for 5s, stop as failed",
            f"there is no metric 'lost' while messages are published; known are {KNOWN}",
        ),
        (
            "p99_queue>0 for 5s, stop as failed",
            (
                "there is no metric 'p99_queue' while messages are published; the nearest is p99_queue_s; known are "
                f"{KNOWN}"
            ),
        ),
        (
            "waiting of a>0 for 5s, stop as failed",
            (
                "there is no metric 'waiting' of a kind while messages are published; known are "
                + ", ".join(thresholds.LIVE_OF_KIND)
            ),
        ),
        (
            "waiting>0 for 5m, stop as failed",
            (
                "'5m' in 'waiting>0 for 5m, stop as failed' is no duration: give seconds, as in "
                "'for 30s, stop as failed'"
            ),
        ),
        (
            "waiting>0 for 0s, stop as failed",
            (
                "'0s' in 'waiting>0 for 0s, stop as failed' is no duration: give seconds, as in "
                "'for 30s, stop as failed'"
            ),
        ),
        (
            "waiting>0 for 5s, stop as faild",
            (
                "'stop as faild' in 'waiting>0 for 5s, stop as faild' is nothing that a threshold does: the nearest is "
                "stop as failed; write 'for 5s, stop as failed'"
            ),
        ),
        (
            "waiting>0 for 5s",
            "'' in 'waiting>0 for 5s' is nothing that a threshold does: write 'for 5s, stop as failed'",
        ),
        (
            "waiting for 5s, stop as failed",
            (
                "'waiting for 5s, stop as failed' does not have the form METRIC OPERATOR NUMBER, such as "
                "'completed_per_s>=500'; operators are >=, <=, >, <, =="
            ),
        ),
    ],
)
def test_what_cannot_be_watched_is_refused(text: str, wrong: str) -> None:
    """With what is known while a run goes on, and the nearest word."""
    with pytest.raises(ValueError, match=r"\w") as refused:
        Requirement.parse(text)
    assert str(refused.value) == wrong


def test_a_threshold_of_the_end_does_not_take_what_is_known_only_meanwhile() -> None:
    """The record has no such metric."""
    with pytest.raises(ValueError, match="there is no metric 'waiting'; known are"):
        Requirement.parse("waiting<5")


@pytest.mark.parametrize(
    ("text", "wrong"),
    [
        (
            "lost of invoce==0",
            "lost of invoce==0: there is no kind 'invoce': the nearest is invoice; there are invoice, mail",
        ),
        (
            "failed_share of mail>0 for 5s, stop as failed",
            (
                "failed_share of mail>0 for 5s, stop as failed: its tasks store no result, so failed_share of mail is "
                "not known while messages are published. Ask for waiting, posted_per_s or late_s, or have the tasks "
                "store their results"
            ),
        ),
    ],
)
def test_what_this_run_will_not_know_is_refused_before_its_first_message(text: str, wrong: str) -> None:
    """A kind that it lacks, and results that nobody stores; what is judged at the end is not its business."""
    routes = (Route("a.invoice", "red", "invoice"), Route("a.mail", "red", "mail"))
    plan = Plan("p", routes, 5, (), unstored=("a.mail",), scenario="load.yml")
    watch.check(
        plan, [Requirement.parse(one) for one in (TEXT, "waiting>0 for 1s, stop as failed", "failed of mail<1")]
    )
    with pytest.raises(TaskmillError) as refused:
        watch.check(plan, [Requirement.parse(text)])
    assert str(refused.value) == wrong


@pytest.mark.parametrize(
    ("looks", "stops"),
    [
        ([(0, 6), (10, 7), (20, 9), (29.9, 6)], None),
        ([(0, 6), (10, 7), (20, 9), (30, 6)], 30),
        # One value that is right, one that is not known, and ten seconds without a look, are each a break.
        ([(0, 6), (10, 7), (20, 5), (30, 6), (40, 6), (50, 6), (60, 8)], 60),
        ([(0, 6), (10, 7), (20, None), (30, 6), (40, 6), (50, 6), (60, 8)], 60),
        ([(0, 6), (10, 7), (20.5, 6), (30, 6), (40, 6), (50, 6), (50.5, 8)], 50.5),
    ],
)
def test_a_condition_has_to_hold_without_a_break(looks: list[tuple[float, float | None]], stops: float | None) -> None:
    """For as many seconds as it says, from look to look."""
    guard = Guard(Requirement.parse(TEXT))
    fired = [seconds for seconds, value in looks if guard.look(after(seconds), value)]
    assert fired[:1] == ([] if stops is None else [stops])


def judged(watched: dict[str, Any]) -> dict[str, Any]:
    """Judge the threshold of a run that was watched."""
    return Requirement.parse(TEXT).judge({"watched": watched})


def test_the_moment_and_the_values_are_told() -> None:
    """Those of the time in which it held, and of no other."""
    guard = Guard(Requirement.parse(TEXT))
    for seconds, value in ((0, 99.0), (8, 1.0), (10, 6.25), (19, 9.5), (28, 7.0), (35, 7.5), (40, 8.0)):
        guard.look(after(seconds), value)
    plain = guard.plain(after(-2.5), 41.0)
    assert plain == {
        "value": 8.0, "seconds": 41.0, "stopped_at": "2026-11-22T23:02:40Z", "after_s": 42.5,
        "least": 6.25, "most": 9.5,
    }  # fmt: skip
    assert msgspec.to_builtins(msgspec.convert(plain, record.Watched)) == plain
    one = judged({str(guard.requirement): plain})
    assert (one["met"], one["value"]) == (False, 8.0)
    assert thresholds.unmet([one]) == [
        (
            "not met: p99_queue_s of invoice>5 for 30s, stop as failed (it was 6.25 to 9.5 for 30 s: publishing was "
            "stopped at 2026-11-22T23:02:40Z, 42.5 s after the first message)"
        )
    ]


@pytest.mark.parametrize(
    ("watched", "met", "note"),
    [
        ({"value": 9.0, "seconds": 50.0}, True, None),
        # Too short for it to hold that long.
        ({"value": None, "seconds": 29.0}, True, None),
        (
            {"value": None, "seconds": 31.0},
            False,
            "no p99_queue_s of invoice was known while messages were published",
        ),
        (None, False, "this run was not watched for it"),
    ],
)
def test_what_never_held_is_met_unless_nobody_could_know(
    watched: dict[str, Any] | None, met: bool, note: str | None
) -> None:
    """A threshold that could not fail is no threshold."""
    one = judged({} if watched is None else {str(Requirement.parse(TEXT)): watched})
    assert (one["met"], one.get("note")) == (met, note)


class Known:
    """What is known of a run: what a test says."""

    def __init__(self, values: Callable[[float], float | None]) -> None:
        """Take the values, by Unix seconds."""
        self._values = values

    def look(self, _now: float) -> None:
        """Take in nothing."""

    def value(self, _asked: Requirement, now: float) -> float | None:
        """Return what the test says."""
        return self._values(now - START.wall)


def test_a_threshold_stops_the_publishing_and_not_what_comes_after_it() -> None:
    """Of several, those that hold are named; the user's own stop is left alone."""
    user, said = threading.Event(), io.StringIO()
    texts = ("lost==0", "waiting>5 for 3s, stop as failed", "waiting>8 for 2s, stop as failed")
    one = Watch([Requirement.parse(text) for text in texts], user, Quiet(said))
    live = cast("Live", Known(lambda seconds: 6 + seconds))
    for seconds in range(4):
        assert not one.stop.is_set()
        one.look(live, after(seconds))
    assert (one.stop.is_set(), user.is_set()) == (True, False)
    assert said.getvalue() == "stopping as failed: waiting>5 for 3 s\n"
    plain = one.plain(START)
    assert list(plain) == list(texts[1:])
    assert [("stopped_at" in found, found["value"]) for found in plain.values()] == [(True, 9.0), (False, 9.0)]


def test_ctrl_c_stops_a_publishing_that_is_watched() -> None:
    """At once, without a look in between."""
    user = threading.Event()
    one = Watch([Requirement.parse(TEXT)], user, Quiet(io.StringIO()))
    assert (one.stop.is_set(), one.stop.wait(0)) == (False, False)
    user.set()
    assert (one.stop.is_set(), one.stop.wait(0)) == (True, True)


def test_a_watch_that_fails_says_so_and_is_met_by_nothing() -> None:
    """As where a scenario's function raises."""
    said = io.StringIO()

    def fail(_: float) -> float:
        raise TaskmillError("kinds.a: b:c raised KeyError")

    one = Watch([Requirement.parse(TEXT)], threading.Event(), Quiet(said))
    one.run(cast("Live", Known(fail)), threading.Event())
    assert said.getvalue() == (
        "thresholds over time are not watched any more: TaskmillError: kinds.a: b:c raised KeyError\n"
    )
    assert (one.plain(START), one.stop.is_set()) == ({}, False)


def publish_slowly(channel: ConfirmedChannel, source: MessageSource, _to_republish: object = None) -> None:
    """Stand in for a channel whose broker confirms at once, and is asked to end."""
    stop: threading.Event = channel._stop
    while source.more() and not stop.is_set():
        entries = source.take(5)
        channel.tally.first = channel.tally.first or time.monotonic()
        channel.tally.posted += len(entries)
        channel.tally.confirmed += len(entries)
        channel.tally.last = time.monotonic()
        source.stepped()
        stop.wait(0.01)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a run's folder, of a broker that confirms at once, and of whose queue 700 messages are never taken."""

    @contextmanager
    def sample(*_: object) -> Iterator[dict[str, int]]:
        yield {"red": 700}

    monkeypatch.setattr(queue_depths, "sample", sample)
    monkeypatch.setattr(ConfirmedChannel, "publish", publish_slowly)
    monkeypatch.setattr(watch, "INTERVAL", 0.05)
    (tmp_path / "ids").mkdir()
    return tmp_path


class Every(Results):
    """A store that has the same result for whatever is asked for."""

    def __init__(self, **fields: Any) -> None:
        """Take what the results are."""
        super().__init__("")
        self._fields = fields

    def get(self, ids: Sequence[bytes]) -> dict[bytes, Any]:
        """Return a result of each."""
        return {identifier: stored(identifier, 5, **self._fields) for identifier in ids}


@pytest.mark.parametrize(
    ("metric", "status", "code"),
    [("p50_latency_s<0", "SUCCESS", errors.UNMET), ("failed_share==1", "FAILURE", errors.FAULTS)],
)
def test_what_is_published_before_the_stop_is_collected(folder: Path, metric: str, status: str, code: int) -> None:
    """All of it, and then the exit code tells a threshold from tasks that failed."""
    text = f"{metric} for 0.3s, stop as failed"
    plan = Plan("p", (Route("a.b", "red"),), 10**9, (1,), threads=2, deadline=0.1, profile=False)
    session = Session(
        plan, folder, Broker("amqp://localhost"), Every(status=status), threading.Event(), Reporter(io.StringIO())
    )
    required = [Requirement.parse(text)]
    posted = session.publish({}, required)
    collected = session.collect()
    found = session.record(posted, collected, {}, required)
    counts = found.counts
    assert (found.state, counts.lost) == ("stopped as failed", 0)
    assert 0 < counts.posted == counts.retrieved == counts.correct + counts.failed < plan.tasks
    assert [one.met for one in found.requirements] == [False]
    assert tell_run(drive.Concluded(found, folder, posted, collected)) == code


def test_a_run_that_is_stopped_as_failed_says_why(folder: Path) -> None:
    """Publishing ends in order; the record's state and the exit code say failed, and not interrupted."""
    plan = Plan("p", (Route("a.b", "red"),), 10**9, (1,), threads=2, unstored=("a.b",), profile=False)
    required = [Requirement.parse(text) for text in ("waiting>500 for 0.3s, stop as failed", "late_s<5")]
    session = Session(plan, folder, Broker("amqp://localhost"), Results(""), threading.Event(), Reporter(io.StringIO()))
    posted = session.publish({}, required)
    assert (posted.finished, posted.error, posted.stopped_as_failed, session.stop.is_set()) == (
        False,
        None,
        True,
        False,
    )
    assert asdict(Posted.load(folder) or posted)["watched"] == posted.watched
    found = session.record(posted, None, {}, required)
    count = found.counts.posted
    assert 0 < count < plan.tasks
    assert (found.state, found.counts.confirmed) == ("stopped as failed", count)
    one = posted.watched["waiting>500 for 0.3s, stop as failed"]
    when = f"{one['stopped_at']}, {one['after_s']:,.1f} s after the first message"
    why = f"it was 700 to 700 for 0.3 s: publishing was stopped at {when}"
    assert found.problems == [
        f"waiting>500 for 0.3s, stop as failed: {why}",
        f"{count:,} of 1,000,000,000 tasks were posted",
    ]
    assert thresholds.unmet(map(msgspec.structs.asdict, found.requirements)) == [
        f"not met: waiting>500 for 0.3s, stop as failed ({why})"
    ]
    assert headline(found) == (
        f"Stopped as failed after {count:,} of 1,000,000,000 tasks: 0 are lost, 0 wrong and 0 failed."
    )
    assert f"  go on by   taskmill resume {folder}" in summary(found, folder).splitlines()
    # Counted once more, it stays so.
    build_record.judge(found, [Requirement.parse(one.text) for one in found.requirements])
    assert [one.met for one in found.requirements] == [False, True]
    loaded = RunRecord.load(folder)
    assert loaded is not None
    assert tell_run(drive.Concluded(loaded, folder, posted, None)) == errors.UNMET
