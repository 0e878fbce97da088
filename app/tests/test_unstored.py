"""Tasks that store no result are counted by their acknowledgement and their execution, and the verdict says so."""

from __future__ import annotations

import io
import itertools
import json
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from conftest import Taskmill
from services import CLIENT, OTHER_VHOST, Memcached, RabbitMQ, Worker, purge_queue, running, wait_until
from taskmill.model.errors import TaskmillError
from taskmill.model.plan import Plan, Route
from taskmill.progress import Reporter
from taskmill.publishing import journal
from taskmill.results.acknowledged import Acknowledged, Look, ids_of
from taskmill.results.collector import Collector

FORGET = "--task=forgetful.forget=red"
KEEP = "--task=forgetful.keep=red"
FAIL = "--task=forgetful.forget_unless_it_fails=red"


@pytest.fixture
def begin(
    rabbitmq: RabbitMQ, memcached: Memcached, taskmill: Taskmill, tmp_path: Path
) -> Iterator[Callable[..., Worker]]:
    """Yield what starts a worker of the app `forgetful` on red, and has the command publish to it."""
    numbers = itertools.count()
    taskmill.environment["CELERY_BROKER_URL"] = rabbitmq.url(CLIENT, vhost=OTHER_VHOST)
    purge_queue(rabbitmq, "red", OTHER_VHOST)
    with ExitStack() as started:

        def start(backend: str | None, name: str = "forgetful") -> Worker:
            folder = tmp_path / f"worker{next(numbers)}"
            folder.mkdir()
            # The app has a setting of its own, so that it can be without a backend.
            backends = {"CELERY_RESULT_BACKEND": "", "FORGETFUL_BACKEND": backend or ""}
            return started.enter_context(running(rabbitmq, memcached, folder, name=name, app="forgetful", **backends))

        yield start


def record(folder: Path) -> dict[str, Any]:
    """Read run.json."""
    data: dict[str, Any] = json.loads((folder / "run.json").read_text())
    return data


def test_tasks_that_ignore_their_result_are_counted(
    taskmill: Taskmill, memcached: Memcached, begin: Callable[..., Worker]
) -> None:
    """The workers say that they do; nothing is lost, nothing is waited for, and no value is called right."""
    begin(memcached.url)
    # Far beyond what a test may take.
    done = taskmill("run", FORGET, "--tasks=300", "--n=3", "--expect=3", "--deadline=1000", "--no-profile")
    assert done.code == 0, done.out + done.err
    assert "All 300 tasks were executed; they store no result, so no value was compared." in done.out
    assert "forgetful.forget: no result is stored" in done.err
    data = record(taskmill.latest)
    assert (data["state"], data["checked"], data["problems"]) == ("complete", False, [])
    assert data["unstored"] == ["forgetful.forget"]
    assert data["acknowledged_from"] == "workers"
    counts = {name: data["counts"][name] for name in ("posted", "acknowledged", "retrieved", "correct", "lost")}
    assert counts == {"posted": 300, "acknowledged": 300, "retrieved": 0, "correct": 0, "lost": 0}
    assert data["by_queue"]["red"]["acknowledged"] == 300
    assert data["rates"]["completed_per_s"] > 0
    assert "300 tasks that store no result executed" in (taskmill.latest / "report.html").read_text()
    refused = taskmill("repair", str(taskmill.latest))
    assert refused.code == 3
    assert "store no result (forgetful.forget)" in refused.err
    again = taskmill("collect", str(taskmill.latest))
    assert again.code == 0, again.out + again.err


def test_tasks_with_and_without_results_are_told_apart(
    taskmill: Taskmill, memcached: Memcached, begin: Callable[..., Worker]
) -> None:
    """Of those that store results every value is compared; a failure that is stored all the same counts as one."""
    begin(memcached.url)
    load = ("--tasks=400", "--n=3", "--expect=3", "--deadline=1000", "--no-profile", "--threads=3")
    done = taskmill("run", FORGET, KEEP, KEEP, *load)
    assert done.code == 0, done.out + done.err
    assert "All 266 results are there and right; 134 more tasks store none" in done.out
    done = taskmill("run", FORGET, FAIL, *load, "--no-probe")
    assert done.code == 1, done.out + done.err
    counts = record(taskmill.latest)["counts"]
    assert (counts["acknowledged"], counts["failed"], counts["lost"], counts["correct"]) == (200, 200, 0, 0)


def test_app_without_a_result_backend_is_counted(taskmill: Taskmill, begin: Callable[..., Worker]) -> None:
    """The client is told so in its address, and asks nobody for results."""
    begin(None)
    taskmill.environment["CELERY_RESULT_BACKEND"] = "disabled://"
    done = taskmill("run", KEEP, "--tasks=60", "--n=3", "--expect=3", "--deadline=1000", "--no-profile")
    assert done.code == 0, done.out + done.err
    data = record(taskmill.latest)
    assert (data["result_store"]["kind"], data["counts"]["acknowledged"]) == ("none", 60)


def test_workers_without_the_clients_backend_are_noticed(
    taskmill: Taskmill, memcached: Memcached, begin: Callable[..., Worker]
) -> None:
    """The client has an address of results and the workers' app has none: nothing is waited for in vain."""
    begin(None)
    assert taskmill.environment["CELERY_RESULT_BACKEND"] == memcached.url
    done = taskmill("run", KEEP, "--tasks=60", "--n=3", "--expect=3", "--deadline=1000", "--no-profile")
    assert done.code == 0, done.out + done.err
    assert record(taskmill.latest)["counts"]["acknowledged"] == 60


@pytest.mark.thorough
def test_ctrl_c_while_they_run_leaves_a_run_that_collect_takes_up(
    taskmill: Taskmill, memcached: Memcached, begin: Callable[..., Worker], tmp_path: Path
) -> None:
    """Nothing is called lost or done meanwhile; once they are done, they are counted by the queues alone."""
    worker = begin(memcached.url)
    # A pace that takes two seconds, so that the worker stands still before the last of them is done.
    load = ("--tasks=8", "--rate=4", "--args=[3, 0.5]", "--deadline=1000", "--no-profile", "--threads=1")
    err = tmp_path / "err"
    with err.open("w") as stream:
        process = taskmill.popen("run", FORGET, *load, stderr=stream)
    wait_until((taskmill.runs / "latest").exists, 60, "the run's folder")
    with worker.paused():
        # Before that, a run is posted and nothing else.
        wait_until(lambda: "executing" in err.read_text(), 60, "the counting")
        process.send_signal(signal.SIGINT)
        out, _ = process.communicate(timeout=120)
        # Whoever asks now does not take the silence of a worker for its being done.
        asked = taskmill("collect", str(taskmill.latest), "--deadline=1", timeout=120)
    assert process.returncode == 130, out + err.read_text()
    assert asked.code == 3, asked.out + asked.err
    assert "a consumer of red does not answer" in asked.err
    data = record(taskmill.latest)
    assert (data["state"], data["counts"]["lost"], "acknowledged" in data["counts"]) == ("interrupted", 0, False)
    worker.stop()
    begin(memcached.url)
    done = taskmill("collect", str(taskmill.latest))
    assert done.code == 0, done.out + done.err
    data = record(taskmill.latest)
    assert (data["state"], data["counts"]["acknowledged"], data["acknowledged_from"]) == ("complete", 8, "queues")
    assert "All 8 tasks were acknowledged; they store no result" in done.out


@pytest.mark.thorough
def test_worker_of_another_name_that_came_later_does_not_end_the_counting(
    taskmill: Taskmill, memcached: Memcached, begin: Callable[..., Worker]
) -> None:
    """It is asked as well as those of before the run; what they executed is not known then, and the queues tell."""
    begin(memcached.url)
    done = taskmill("publish", FORGET, "--tasks=20", "--n=3", "--deadline=3", "--no-profile")
    assert done.code == 0, done.out + done.err
    begin(memcached.url, name="another")
    done = taskmill("collect", str(taskmill.latest))
    assert done.code == 0, done.out + done.err
    data = record(taskmill.latest)
    assert (data["counts"]["acknowledged"], data["acknowledged_from"]) == (20, "queues")


class Away:
    """A store that does not answer."""

    kind = "redis"
    batch = 2

    def __init__(self, then: Callable[[], None] = lambda: None) -> None:
        """Do something when it is asked."""
        self.then = then

    def get(self, _ids: Sequence[bytes]) -> dict[bytes, Any]:
        """Return nothing."""
        self.then()
        return {}

    def unreachable(self) -> list[str]:
        """Return its address."""
        return ["store1:6379"]


@pytest.fixture
def forgotten(tmp_path: Path) -> Plan:
    """Return the plan of a run of five tasks that store nothing, whose ids are on disk."""
    (tmp_path / "ids").mkdir()
    one = journal.Journal(tmp_path / "ids", 0, 0)
    one.write(b"".join(identifier + b" red\n" for identifier in journal.new_ids(5)), 5, 1.0)
    one.confirm(5)
    one.close()
    return Plan("p", (Route("forget", "red"),), 5, (), unstored=("forget",))


def test_store_that_is_away_makes_no_failure_a_success(forgotten: Plan, tmp_path: Path) -> None:
    """Which of the tasks have stored a failure is not known then."""
    collector = Collector(forgotten, tmp_path, Away(), threading.Event(), Reporter(io.StringIO()))
    assert len(collector.unstored) == 5
    with pytest.raises(TaskmillError, match=r"redis at store1:6379 cannot be reached: 5 results are not fetched yet"):
        collector.run(Acknowledged(Look(0, 0, 5), finished=True))


def test_stop_while_stored_failures_are_looked_for_counts_nothing(forgotten: Plan, tmp_path: Path) -> None:
    """The rest of the ids is not asked for, and the next collecting begins anew."""
    stop = threading.Event()
    collector = Collector(forgotten, tmp_path, Away(stop.set), stop, Reporter(io.StringIO()))
    outcome = collector.run(Acknowledged(Look(0, 0, 5), finished=True))
    assert (outcome.finished, outcome.acknowledged, outcome.lost) == (False, None, 0)


@pytest.mark.parametrize(
    ("look", "doubtful", "found", "split"),
    [
        (Look(0, 0, 100), 0, 0, (100, 0, 0)),
        (Look(0, 0, 130), 0, 0, (100, 0, 0)),
        (Look(0, 0, None), 0, 0, (100, 0, 0)),
        # The workers did not execute all that left the queues.
        (Look(0, 0, 97), 0, 0, (97, 3, 0)),
        (Look(0, 0, 97), 2, 0, (97, 1, 2)),
        # Ten further ones have stored a failure.
        (Look(0, 0, 107), 0, 10, (97, 3, 0)),
        # The deadline passed with some of them in the queue or with a worker.
        (Look(20, 5, 75), 0, 0, (75, 25, 0)),
        (Look(20, 5, None), 0, 0, (75, 25, 0)),
        (Look(500, 0, None), 0, 0, (0, 100, 0)),
        # What was perhaps never sent is not counted as done where nobody counted executions.
        (Look(0, 0, None), 4, 0, (96, 0, 4)),
    ],
)
def test_done_lost_and_unsent_add_up(look: Look, doubtful: int, found: int, split: tuple[int, int, int]) -> None:
    """Of a hundred tasks each is one of the three, whatever queues and workers say."""
    assert Acknowledged(look).split(100, doubtful, found) == split
    assert sum(split) == 100


def test_which_messages_are_of_which_task_is_known_by_their_places(tmp_path: Path) -> None:
    """The journal has ids and queues; the task follows from a message's number in the run."""
    routes = (Route("forget", "red"), Route("keep", "red"), Route("keep", "red"))
    plan = Plan("p", routes, 20, (), threads=2, processes=2, unstored=("forget",))
    numbers: dict[bytes, int] = {}
    for place, (first, count) in enumerate(plan.posters()):
        ids = journal.new_ids(count)
        numbers |= dict(zip(ids, range(first, first + count), strict=True))
        one = journal.Journal(tmp_path, *divmod(place, plan.threads))
        one.write(b"".join(identifier + b" red\n" for identifier in ids), count, 1.0)
        one.close()
    found = ids_of(plan, journal.read(tmp_path))
    assert sorted(numbers[identifier] for identifier in found) == [0, 3, 6, 9, 12, 15, 18]
    assert plan.storing == 20 - len(found)
