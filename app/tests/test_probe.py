"""One message of each route before a run: what is refused, in which words, what is measured, what follows from it."""

from __future__ import annotations

import io
import json
import math
import re
import threading
import time
from dataclasses import replace
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, cast

import pytest

from conftest import TASKS, Taskmill
from services import stored
from taskmill.cluster import workers
from taskmill.cluster.workers import Worker
from taskmill.model.errors import TaskmillError
from taskmill.model.plan import Plan, Route
from taskmill.model.record import Probed
from taskmill.progress import Reporter
from taskmill.session import patience, probe
from taskmill.session.preflight import Conditions
from taskmill.session.probe import Probe, Sample, samples

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from taskmill.cluster.broker import Broker

RED, BLUE = Route("a.red", "red"), Route("a.blue", "blue")
PLAN = Plan("p", (RED, BLUE, RED), 100, (7,), check=True, expect=5)
W1 = Worker("w1@h", 1, "prefork", 2, 8, 60, "", ("blue", "red"), {})
#: What every refusal ends with.
END = "To publish without it: --no-probe (load_probe: false)"


class Cluster(threading.Event):
    """Stands in for broker, workers, store, the clock, and the event that is waited by, so that nobody waits.

    What is to happen happens at its second.
    """

    kind = "memcached"

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Begin at zero, with nothing stored and one worker that is idle."""
        super().__init__()
        self.seconds = 0.0
        self.values: dict[bytes, Any] = {}
        self.away: list[str] = []
        #: Messages that the worker has, and that wait in a queue.
        self.held: set[str] = set()
        self.waiting: dict[str, int] = {}
        self.silent = False
        self.executed: dict[str, int] = {}
        self.said = io.StringIO()
        self._later: list[tuple[float, Callable[[], object]]] = []
        #: What the store was asked to have room for.
        self.room: list[Any] = []
        self.begin = time.monotonic()
        monkeypatch.setattr(probe, "time", SimpleNamespace(monotonic=lambda: self.begin + self.seconds))
        monkeypatch.setattr(Probe, "_send", lambda *arguments: self.send(*arguments))
        monkeypatch.setattr(workers, "settled", lambda *_: [replace(W1, executed={"a.red": 1, "a.blue": 1})])
        monkeypatch.setattr(workers, "ask", lambda *_: [] if self.silent else [replace(W1, executed=self.executed)])
        monkeypatch.setattr(workers, "taken", self.taken)

    def taken(self, _broker: Any, _workers: Any) -> list[tuple[str, dict[str, Any]]]:
        """Return who has which message."""
        return [("w1@h", {"id": identifier}) for identifier in self.held]

    def check(self, queues: Sequence[str]) -> dict[str, Any]:
        """Answer as the broker."""
        return {"waiting": self.waiting, "consumers": dict.fromkeys(queues, 1)}

    def get(self, ids: Sequence[bytes]) -> dict[bytes, Any]:
        """Answer as the store."""
        return {one: self.values[one] for one in ids if one in self.values}

    def unreachable(self) -> list[str]:
        """Answer as the store that is away, if it is."""
        return self.away

    def at(self, seconds: float, what: Callable[..., object], *arguments: Any) -> None:
        """Have something happen at that second."""
        self._later.append((seconds, lambda: what(*arguments)))

    def wait(self, timeout: float | None = None) -> bool:
        """Wait without waiting."""
        self.seconds += timeout or 0.0
        due = [what for moment, what in self._later if moment <= self.seconds]
        self._later = [one for one in self._later if one[0] > self.seconds]
        for what in due:
            what()
        return self.is_set()

    def send(self, _probe: Probe, asked: list[Sample], _folder: Any) -> None:
        """Give the messages the ids ``0``, ``1`` and so on, in the order of their routes."""
        for place, sample in enumerate(asked):
            sample.identifier = str(place).encode()
            sample.sent = sample.seen = self.begin + self.seconds

    def takes(self, stored: int) -> int:
        """Answer as the store: a thousand bytes more."""
        return stored + 1000

    def preflight(self, *asked: Any) -> None:
        """Note what the store has to have room for."""
        self.room.append(asked)

    def probe(self, plan: Plan) -> Probe:
        """Return a probe of the plan."""
        return Probe(plan, cast("Broker", self), cast("Any", self), [W1], self, Reporter(self.said))

    def try_tasks(self, plan: Plan, conditions: Conditions) -> tuple[Plan, dict[str, Any]]:
        """Do what a run does before its first message."""
        before = {"broker": {"waiting": {}}, "workers": workers.plain([W1]), "unstored": []}
        return probe.try_tasks(
            plan, before, cast("Broker", self), cast("Any", self), self, Reporter(self.said), conditions
        )

    def finish(self, place: int, result: Any, **fields: Any) -> None:
        """Store a result."""
        identifier = str(place).encode()
        self.values[identifier] = stored(identifier, result, **fields)
        self.held.discard(str(place))


@pytest.fixture
def cluster(monkeypatch: pytest.MonkeyPatch) -> Cluster:
    """Return the cluster of a test."""
    return Cluster(monkeypatch)


def refusal(cluster: Cluster, plan: Plan) -> str:
    """Return what a probe of the plan is refused with."""
    with pytest.raises(TaskmillError) as refused:
        cluster.probe(plan).run()
    return str(refused.value)


def test_there_is_one_message_of_each_route_that_the_run_has() -> None:
    """The first of each, at most twenty of them, and none for a queue that others use."""
    assert [(one.number, one.route) for one in samples(PLAN)] == [(0, RED), (1, BLUE)]
    assert [one.route for one in samples(replace(PLAN, tasks=1))] == [RED]
    assert [one.route for one in samples(PLAN, ["red"])] == [BLUE]
    many = replace(PLAN, routes=tuple(Route(f"a.{number}", "red") for number in range(1000)), tasks=5000)
    assert [one.number for one in samples(many)] == list(range(20))


def test_duration_sizes_and_worker_are_measured_and_said(cluster: Cluster) -> None:
    """Those of the function where its worker stores them, else the time until the result was there."""
    cluster.at(0.1, cluster.finish, 0, 5)
    cluster.finish(1, 5, taskmill=[1.0, 2500, None, "w2@h"])
    red, blue = cluster.probe(PLAN).run()
    assert (red.task, red.queue, red.worker, red.measured) == ("a.red", "red", "", "round trip")
    assert 0.1 <= red.seconds < 0.3
    size = len(cluster.values[b"1"])
    assert blue == Probed("a.blue", "blue", "w2@h", 0.0025, "worker", blue.message_bytes, size)
    assert 50 < blue.message_bytes < 150
    first, *lines = cluster.said.getvalue().splitlines()
    assert first == "asking for one of each task: a.red, a.blue"
    assert lines[1] == (f"  a.blue: took 0.0025 s on w2@h, message {blue.message_bytes} bytes, result {size} bytes")


def test_result_that_the_store_has_as_bytes_has_a_size_too(cluster: Cluster) -> None:
    """As Redis has it; the store is asked whether it has room for as many."""
    text = stored(b"0", 5)
    cluster.values[b"0"] = text.encode()
    [found] = cluster.probe(replace(PLAN, routes=(RED,))).run()
    assert found.result_bytes == len(text)
    assert f"result {len(text)} bytes" in cluster.said.getvalue()


def test_wrong_value_is_refused_with_both_values(cluster: Cluster) -> None:
    """With task, arguments and worker, and the ways out."""
    cluster.finish(0, 5)
    cluster.finish(1, 6, taskmill=[1.0, 2500, None, "w2@h"])
    assert refusal(cluster, PLAN) == (
        "one of each task was run first, and a.blue, called with [7] on w2@h, came to no good end: the result is 6, "
        "not 5. Nothing of the run was published. Mend the task, its arguments (--args, app_arguments) or the expected "
        f"value (--expect, app_expected). {END}"
    )


def test_exceptions_are_refused_with_the_first_of_them(cluster: Cluster) -> None:
    """And with how many more there are."""
    for place in (0, 1):
        cluster.finish(place, {"exc_type": "ValueError", "exc_message": ["no 7"]}, status="FAILURE")
    assert refusal(cluster, PLAN) == (
        "one of each task was run first, and a.red, called with [7], came to no good end (and so did 1 more of these "
        "tasks): FAILURE: ValueError: no 7. Nothing of the run was published. Mend the task, its arguments (--args, "
        f"app_arguments) or the expected value (--expect, app_expected). {END}"
    )


@pytest.mark.parametrize(
    ("error", "words"),
    [
        ("Parked", "its process was lost each time, and its message is a dead letter now (FAILURE: Parked: why)"),
        (
            "ResultTooLargeError",
            "FAILURE: ResultTooLargeError: why. In this landscape memcached's own limit is memcached_item_mb",
        ),
    ],
)
def test_what_a_worker_stores_of_its_own_accord_is_explained(cluster: Cluster, error: str, words: str) -> None:
    """A parked message, and a result that is larger than the store takes."""
    cluster.finish(0, {"exc_type": error, "exc_message": ["why"]}, status="FAILURE")
    cluster.finish(1, 5)
    assert f"came to no good end: {words}. Nothing of the run" in refusal(cluster, PLAN)


def test_task_that_takes_minutes_is_waited_for_while_a_worker_has_it(cluster: Cluster) -> None:
    """What is waited for is said every ten seconds, and what was measured sets the deadline."""
    plan = replace(PLAN, routes=(RED,))
    cluster.held.add("0")
    cluster.at(720, cluster.finish, 0, 5)
    [found] = cluster.probe(plan).run()
    assert 720 <= found.seconds < 722
    lines = cluster.said.getvalue().splitlines()
    assert "  a.red: 10 s, w1@h has its message" in lines
    assert len([line for line in lines if "has its message" in line]) in range(65, 73)
    assert patience.result_timeout(plan, [found]) == pytest.approx(2160, abs=6)


def test_task_that_others_take_the_place_of_is_waited_for_while_workers_have_these(cluster: Cluster) -> None:
    """Its own message is with nobody meanwhile; the deadline begins when workers last had one of another."""
    cluster.held.add("of a task that it sent")
    cluster.at(200, cluster.held.clear)
    cluster.at(210, cluster.finish, 0, 5)
    [found] = cluster.probe(replace(PLAN, routes=(RED,), deadline=30)).run()
    assert 210 <= found.seconds < 212
    assert "  a.red: 10 s, workers have messages that are not its own (1)" in cluster.said.getvalue()


def test_messages_that_never_end_are_not_waited_for_without_end(cluster: Cluster) -> None:
    """Ten times the deadline, since they may be others' altogether."""
    cluster.held.update("xyz")
    assert refusal(cluster, replace(PLAN, routes=(RED,), deadline=30)) == (
        "a.red, called with [7], is not done after 300 s: workers have messages that are not its own (3). Nothing of "
        "the run was published. If it takes that long, give more than a tenth of it as --deadline "
        f"(load_result_timeout). {END}"
    )


def test_failure_is_told_without_waiting_for_what_takes_long(cluster: Cluster) -> None:
    """The others have five seconds more."""
    cluster.held.add("0")
    cluster.finish(1, 6)
    assert "a.blue, called with [7], came to no good end: the result is 6, not 5" in refusal(cluster, PLAN)
    assert 5 <= cluster.seconds < 7


@pytest.mark.parametrize("hidden", [False, True])
def test_task_that_does_not_end_is_not_waited_for_without_end(cluster: Cluster, hidden: bool) -> None:
    """Ten times the deadline, whether its worker says so or is too busy to answer."""
    cluster.held.update("" if hidden else "0")
    cluster.silent = hidden
    state = "a consumer of red does not answer, as one that is at work" if hidden else "w1@h has its message"
    assert refusal(cluster, replace(PLAN, routes=(RED,), deadline=30)) == (
        f"a.red, called with [7], is not done after 300 s: {state}. Nothing of the run was published. If it takes that "
        f"long, give more than a tenth of it as --deadline (load_result_timeout). {END}"
    )


def test_result_that_does_not_come_is_waited_for_no_longer_than_a_run_would(cluster: Cluster) -> None:
    """The deadline begins when somebody last had the message."""
    cluster.waiting = {"red": 1}
    cluster.at(20, cluster.waiting.clear)
    assert refusal(cluster, replace(PLAN, routes=(RED,), deadline=30)) == (
        "a.red, called with [7], has left no result within 30 s, and no worker has its message any more. Nothing of "
        "the run was published. Look at the workers' logs, at their result backend and at the dead letters. " + END
    )
    assert 50 <= cluster.seconds < 55
    assert "  a.red: 10 s, messages wait in red (1)" in cluster.said.getvalue()


def test_store_that_goes_away_is_named(cluster: Cluster) -> None:
    """It is not taken for one without the result."""
    cluster.away = ["m1:11211"]
    assert refusal(cluster, PLAN) == (
        "memcached at m1:11211 cannot be reached. Look at whether it runs there, and at CELERY_RESULT_BACKEND in "
        "/etc/taskmill/taskmill.env"
    )


def test_task_that_stores_nothing_is_done_when_nobody_has_it(cluster: Cluster) -> None:
    """And a worker has executed it; where none has, its message was thrown away."""
    plan = replace(PLAN, routes=(RED,), unstored=("a.red",))
    cluster.held.add("0")
    cluster.executed = {"a.red": 1}
    cluster.at(5, cluster.held.clear)
    [found] = cluster.probe(plan).run()
    assert found.result_bytes is None
    assert 5 < found.seconds < 9
    assert "no result is stored" in cluster.said.getvalue()
    cluster.executed = {}
    said = refusal(cluster, plan)
    assert "came to no good end: its message has left the queue, and no worker has executed it. Nothing" in said


def test_stop_ends_the_waiting(cluster: Cluster) -> None:
    """Nothing is measured, and it is said that the tasks may run yet."""
    cluster.held.update("01")
    cluster.at(3, cluster.set)
    assert cluster.probe(PLAN).run() == []
    assert cluster.seconds < 5
    assert "stopped while one of each task was asked for: these may run yet" in cluster.said.getvalue()


def test_queues_that_others_use_are_left_out(cluster: Cluster) -> None:
    """It is said which; with none left nothing is sent."""
    assert cluster.probe(PLAN).run(["red", "blue"]) == []
    assert cluster.said.getvalue() == "messages of others wait in red, blue: these tasks are not tried first\n"


def test_run_begins_with_what_was_measured(cluster: Cluster) -> None:
    """The deadline, the workers' counts after it, and the room that the store needs for results of that size."""
    for place in (0, 1):
        cluster.finish(place, 5, taskmill=[1.0, 600_000_000, None, "w1@h"])
    plan, before = cluster.try_tasks(PLAN, Conditions())
    assert plan == replace(PLAN, deadline=1800)
    assert [one["seconds"] for one in before["probed"]] == [600, 600]
    assert before["workers"][0]["executed"] == {"a.red": 1, "a.blue": 1}
    assert cluster.room == [(100, len(cluster.values[b"0"]) + 1000, 5)]
    said = cluster.said.getvalue()
    assert "a result counts as lost when none has come for 1,800 s (--deadline)" in said
    assert said.count("warning: a.") == 2
    plan, _ = cluster.try_tasks(replace(PLAN, deadline=60), Conditions(result_bytes=1, consumer_timeout=7200))
    assert plan.deadline == 60
    assert len(cluster.room) == 1
    assert cluster.said.getvalue().count("warning: a.") == 2


def test_room_is_for_results_as_the_run_mixes_them(cluster: Cluster) -> None:
    """A large result of one message in ten is a tenth of them, though one of each kind is tried."""
    kinds = (Route("a.red", "red", "small", weight=9), Route("a.red", "red", "large"))
    plan = replace(PLAN, routes=kinds, scenario="s.yml", check=False)
    cluster.finish(0, 5)
    cluster.finish(1, "x" * 10_000)
    _, before = cluster.try_tasks(plan, Conditions())
    assert [one["kind"] for one in before["probed"]] == ["small", "large"]
    small, large = (len(cluster.values[name]) + 1000 for name in (b"0", b"1"))
    assert cluster.room == [(100, math.ceil((9 * small + large) / 10), None)]


def test_a_countdown_is_waited_for_by_the_run_and_not_by_what_is_tried(cluster: Cluster) -> None:
    """The deadline is longer by it; one that is longer than the broker waits is warned of, tried or not."""
    kinds = (Route("a.red", "red", "soon", countdown=1800.0), Route("a.red", "red", "late", countdown=2000.5))
    plan = replace(PLAN, routes=kinds, scenario="s.yml", check=False)
    for place in (0, 1):
        cluster.finish(place, 5, taskmill=[1.0, 50_000_000, None, "w1@h"])
    assert cluster.try_tasks(plan, Conditions())[0].deadline == 150 + 2001
    said = cluster.said.getvalue().splitlines()
    assert said[0] == (
        "warning: kinds.late has a countdown of 2,000 s, for which a worker keeps its message unacknowledged. After "
        "1,800 s (consumer_timeout) RabbitMQ gives it to another worker, and so on: the task runs twice, or its "
        "connection is closed. Give less, or set rabbitmq_consumer_timeout to more than 2,001, and run site.yml"
    )
    assert sum("countdown" in line for line in said) == 1
    assert cluster.try_tasks(plan, Conditions(probe=False, consumer_timeout=7200))[0].deadline == 120 + 2001
    assert cluster.said.getvalue().splitlines() == said


def test_nothing_is_tried_where_that_is_not_wanted(cluster: Cluster) -> None:
    """The plan has the usual deadline then, and nothing is said."""
    plan, before = cluster.try_tasks(PLAN, Conditions(probe=False))
    assert plan == replace(PLAN, deadline=120)
    assert "probed" not in before
    assert cluster.said.getvalue() == ""


@pytest.mark.parametrize(
    ("given", "seconds", "timeout"),
    [(None, (), 120), (None, (0.001, 40), 120), (None, (0.1, 150), 450), (None, (40.1,), 121), (30, (150,), 30)],
)
def test_deadline_follows_from_the_longest_task(given: float | None, seconds: Sequence[float], timeout: float) -> None:
    """Three times that, at least 120 s; what the user says holds."""
    plan = replace(PLAN, deadline=given)
    assert patience.result_timeout(plan, [Probed(seconds=one) for one in seconds]) == timeout


def test_tasks_longer_than_the_broker_waits_for_are_warned_of() -> None:
    """Once for each, with what to set; a worker without a prefetch limit takes all."""
    long = Probed("a.red", "red", "w1@h", 720.0)
    [said] = patience.consumer_timeout_warnings(PLAN, [long, long], [W1], 1800)
    assert said == (
        "warning: a.red takes 720 s, and w1@h takes 4 messages ahead for each pool process: with late acknowledgement "
        "the last is unacknowledged for 2,880 s. After 1,800 s (consumer_timeout) RabbitMQ gives it to another worker, "
        "and the task runs twice. Lower prefetch_multiplier in celery_worker_nodes, or set rabbitmq_consumer_timeout "
        "to more than 2,880, and run site.yml"
    )
    assert patience.consumer_timeout_warnings(PLAN, [long], [W1], 2880) == []
    [said] = patience.consumer_timeout_warnings(PLAN, [replace_seconds(long, 60)], [replace(W1, prefetch=0)], 1800)
    assert "takes 50 messages ahead" in said


def replace_seconds(probed: Probed, seconds: float) -> Probed:
    """Return the same task with another duration."""
    return Probed(probed.task, probed.queue, probed.worker, seconds)


@pytest.mark.parametrize(
    ("red", "blue", "seconds"),
    [
        # 67 of 100 messages are red; red is served by two processes, blue by these and by six more.
        (10.0, 0.9, 67 * 10 / 2),
        (0.9, 10.0, 33 * 10 / 8),
        (10.0, 10.0, 67 * 10 / 2),
        (1.0, 20.0, (67 * 1 + 33 * 20) / 8),
        (0.9, 0.9, 0),
    ],
)
def test_a_run_takes_what_its_tasks_take(red: float, blue: float, seconds: float) -> None:
    """By what the pool processes of each queue have to do; the first call of a short task tells nothing."""
    probed = [Probed("a.red", "red", "w1@h", red), Probed("a.blue", "blue", "w1@h", blue)]
    workers = [W1, replace(W1, name="w2@h", pool_size=6, queues=("blue",))]
    assert patience.least_seconds(PLAN, probed, workers) == pytest.approx(seconds)


def test_how_long_a_run_takes_is_said_before_it_begins(cluster: Cluster) -> None:
    """Where it is a minute or more; before the first of its messages."""
    cluster.finish(0, 5, taskmill=[1.0, 10_000_000, None, "w1@h"])
    cluster.finish(1, 5, taskmill=[1.0, 10_000, None, "w1@h"])
    cluster.try_tasks(PLAN, Conditions())
    assert "the run takes 6 min or more, as long as these tasks are; for a shorter one: fewer --tasks (TASKS=)" in (
        cluster.said.getvalue().splitlines()
    )
    assert [patience.duration_line(seconds).partition(" or")[0] for seconds in (59.9, 60, 7199, 7200)] == [
        "",
        "the run takes 1 min",
        "the run takes 120 min",
        "the run takes 2.0 h",
    ]


@pytest.mark.usefixtures("worker")
def test_run_whose_task_fails_or_is_wrong_is_refused_before_it_begins(taskmill: Taskmill) -> None:
    """On a real cluster: no run folder is left, and the task's own exception is told."""
    done = taskmill("run", *TASKS, "--tasks=1000", "--args", '["six"]')
    assert done.code == 3, done.out + done.err
    said = " ".join(done.err.split())
    assert re.search(r"fibonacci\.tasks\.\w+, called with \['six'\] on w1@", said)
    assert ": FAILURE: TypeError: " in said
    done = taskmill("publish", *TASKS, "--tasks=1000", "--n=5", "--expect=6")
    assert done.code == 3, done.out + done.err
    assert "the result is 5, not 6. Nothing of the run was published." in " ".join(done.err.split())
    assert not taskmill.runs.exists()


@pytest.mark.usefixtures("worker")
def test_a_task_with_a_countdown_is_tried_at_once(taskmill: Taskmill, tmp_path: Path) -> None:
    """It would be due in an hour; the others of its kind are published with that, as the plan says."""
    scenario = tmp_path / "late.yml"
    kind = "{task: fibonacci.tasks.red, queue: red, args: [5], countdown: 3600, expect: 6}"
    scenario.write_text(f"kinds: {{late: {kind}}}\n")
    done = taskmill("run", "--scenario", str(scenario), "--tasks=1")
    assert done.code == 3, done.out + done.err
    said = " ".join(done.err.split())
    assert "warning: kinds.late has a countdown of 3,600 s" in said
    assert "came to no good end: the result is 5, not 6. Nothing of the run was published." in said


@pytest.mark.usefixtures("worker")
def test_probe_does_not_count_in_the_run(taskmill: Taskmill) -> None:
    """The workers' counts before the run have it already; the deadline that it gave is in the plan."""
    done = taskmill("run", TASKS[0], "--tasks=30", "--n=5", "--expect=5", "--no-profile")
    assert done.code == 0, done.out + done.err
    data = json.loads((taskmill.latest / "run.json").read_text())
    assert (data["duplicates_from"], data["counts"]["duplicates"], data["counts"]["correct"]) == ("workers", 0, 30)
    assert [one["task"] for one in data["probed"]] == ["fibonacci.tasks.red"]
    assert json.loads((taskmill.latest / "plan.json").read_text())["deadline"] == 120
    done = taskmill("run", TASKS[0], "--tasks=30", "--n=5", "--no-probe", "--no-profile")
    assert "asking for one of each task" not in done.err
    assert json.loads((taskmill.latest / "run.json").read_text())["probed"] == []
