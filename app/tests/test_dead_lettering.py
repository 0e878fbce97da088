"""What no worker can run becomes a dead letter, and a task that kills its process is parked; the others go on."""

from __future__ import annotations

import contextlib
import json
import pickle
import re
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from unittest import mock

import amqp
import pytest
from celery import Celery
from celery.concurrency import get_implementation

from conftest import Taskmill
from services import (
    CLIENT,
    DEAD,
    LARGEST,
    OTHER_VHOST,
    Mark,
    Memcached,
    RabbitMQ,
    Worker,
    channel,
    depth,
    running,
    take_all,
    wait_until,
)
from task_messages import body, headers, message
from taskmill.results import verdict
from taskmill.results.memcached import Results
from taskmill_worker import dead_lettering

# The module runs on Python 2.7 too and has no annotations.
most_redeliveries: Callable[[dict[str, str]], int] = dead_lettering.most_redeliveries
SECRET = "do-not-log-me"
GOOD = ("--task=fibonacci.tasks.red=red", "--n=3", "--expect=2", "--allow-waiting", "--no-profile", "--deadline=30")
#: As many times as a task of these tests may begin again.
MOST = 2


def bad_messages(mark: Path) -> dict[str, amqp.Message]:
    """Return one message of each kind that no worker can run."""
    no_id = headers()
    del no_id["id"]
    pickled = pickle.dumps(Mark(mark))
    return {
        "not JSON": message("{" + SECRET, headers()),
        "not UTF-8": message(b"\xff\xfe" + SECRET.encode(), headers()),
        "no task message": message(json.dumps(SECRET), None),
        "text": message(SECRET, None, "text/plain"),
        "unknown task": message(body(SECRET), headers("no.such.task")),
        "no id": message(body(SECRET), no_id),
        "no arguments": message(json.dumps([SECRET]), headers()),
        "time limits in words": message(body(SECRET), headers(timelimit=["soon", SECRET])),
        "unreadable ETA": message(body(SECRET), headers(eta=SECRET)),
        "id that is no text": message("{" + SECRET, headers() | {"id": [1, 2]}),
        "pickle": message(pickled, headers(), "application/x-python-serialize"),
        "pickle of protocol 1": message(pickled, None, "application/x-python-serialize"),
        "pickle that says it is JSON": message(pickled, headers()),
    }


@pytest.fixture(params=["one by one", pytest.param("in batches", marks=pytest.mark.thorough)])
def worker(
    rabbitmq: RabbitMQ, memcached: Memcached, tmp_path: Path, request: pytest.FixtureRequest
) -> Iterator[Worker]:
    """Yield a worker with what this file is about, one that runs tasks one by one, and one that batches them."""
    include = "--include=killer,taskmill_worker"
    environment = {"CELERY_WORKER_REDELIVERIES": str(MOST)}
    if request.param == "in batches":
        environment["CELERY_WORKER_BATCH"] = "100"
    with running(rabbitmq, memcached, tmp_path, include, **environment) as one:
        yield one


@pytest.fixture
def plain_worker(rabbitmq: RabbitMQ, memcached: Memcached, tmp_path: Path) -> Iterator[Worker]:
    """Yield a worker as Celery makes it."""
    with running(rabbitmq, memcached, tmp_path, "--include=killer") as one:
        yield one


@pytest.fixture
def other(taskmill: Taskmill, rabbitmq: RabbitMQ) -> Taskmill:
    """Return the command for the virtual host of these tests."""
    taskmill.environment["CELERY_BROKER_URL"] = rabbitmq.url(CLIENT, vhost=OTHER_VHOST)
    return taskmill


def judged(memcached: Memcached, identifier: str) -> tuple[str, str]:
    """Return verdict and detail of the stored result of a task; empty ones when there is none."""
    key = identifier.encode()
    found = Results(memcached.url).get([key])
    return verdict.judge(key, found[key], False, None)[:2] if found else ("", "")


def await_judged(memcached: Memcached, identifier: str) -> tuple[str, str]:
    """Wait for the result of a task, which a pool process stores; return what :func:`judged` does."""
    wait_until(lambda: judged(memcached, identifier) != ("", ""), 60, f"the result of {identifier}")
    return judged(memcached, identifier)


def dead(rabbitmq: RabbitMQ) -> int:
    """Return how many dead letters there are."""
    return depth(rabbitmq, DEAD, OTHER_VHOST)


def test_bad_messages_become_dead_letters_and_the_others_go_on(
    worker: Worker,
    other: Taskmill,
    rabbitmq: RabbitMQ,
    memcached: Memcached,
    send: Callable[[amqp.Message], None],
    tmp_path: Path,
) -> None:
    """Of every kind eight, before and among good ones: each is kept by the broker and is one line of the log."""
    mark = tmp_path / "mark"
    kinds = bad_messages(mark)
    process = other.popen("run", *GOOD, "--tasks=400", "--threads=2", "--window=20")
    for _ in range(8):
        for one in kinds.values():
            send(one)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 0, out + err
    wait_until(lambda: dead(rabbitmq) == 8 * len(kinds), 60, "all dead letters")
    letters = take_all(rabbitmq, DEAD, OTHER_VHOST)
    assert {(letter.headers["x-death"][0]["reason"], letter.headers["x-death"][0]["queue"]) for letter in letters} == {
        ("rejected", "red")
    }
    as_sent = Counter(bytes(one.body) if isinstance(one.body, bytes) else one.body.encode() for one in kinds.values())
    as_kept = Counter(bytes(one.body) if isinstance(one.body, bytes) else one.body.encode() for one in letters)
    assert as_kept == {text: 8 * number for text, number in as_sent.items()}
    log = worker.log.read_text()
    assert log.count("A message is rejected: ") == 8 * len(kinds)
    assert log.count(" ready.") == 1
    assert "Traceback" not in log
    # The ETA and the time limits are of the message's headers, and so is all that a line may tell.
    assert SECRET not in log
    assert not mark.exists()
    for kind, words in {
        "not JSON": "Refused: its message could not be decoded",
        "pickle": "Refused: its message was not valid",
        "unknown task": "NotRegistered: no.such.task",
        "unreadable ETA": "Refused: its message was not valid",
    }.items():
        identifier = kinds[kind].application_headers["id"]
        verdict, detail = await_judged(memcached, identifier)
        assert verdict == "failed", kind
        assert words in detail


def test_without_the_module_they_are_lost_and_end_the_worker(
    plain_worker: Worker, rabbitmq: RabbitMQ, send: Callable[[amqp.Message], None], tmp_path: Path
) -> None:
    """The negative control: Celery acknowledges what it cannot decode, logs the content, and dies of a missing id."""
    kinds = bad_messages(tmp_path / "mark")
    send(kinds["not JSON"])
    wait_until(lambda: SECRET in plain_worker.log.read_text(), 60, "the content in the log")
    assert dead(rabbitmq) == depth(rabbitmq, "red", OTHER_VHOST) == 0
    send(kinds["no id"])
    assert plain_worker.process is not None
    assert plain_worker.process.wait(60) != 0


def test_wrong_arguments_are_the_failure_of_the_task(
    worker: Worker, rabbitmq: RabbitMQ, memcached: Memcached, send: Callable[[amqp.Message], None]
) -> None:
    """The message is good and the call is not: the result says TypeError, and nothing is a dead letter."""
    fields = headers()
    send(message(body(1, 2, 3), fields))
    verdict, detail = await_judged(memcached, fields["id"])
    assert verdict == "failed"
    assert "TypeError" in detail
    assert dead(rabbitmq) == 0
    assert worker.ready()


def test_task_that_kills_its_process_is_parked_and_named(worker: Worker, other: Taskmill, rabbitmq: RabbitMQ) -> None:
    """It begins once and as often again as it may; then its message is kept, its result says so, the rest is right."""
    process = other.popen("run", *GOOD, "--tasks=400", "--threads=2", "--window=20")
    wait_until(lambda: other.ids_written() > 20, 60, "20 ids on disk")
    poison = other("run", "--task=killer.kill=red", "--tasks=1", "--n=1", "--allow-waiting", "--no-probe")
    folder = other.latest
    out, err = process.communicate(timeout=60)
    assert process.returncode == 0, out + err
    assert poison.code == 1, poison.out + poison.err
    [fault] = [json.loads(line) for line in (folder / "faults.jsonl").read_text().splitlines()]
    assert fault["outcome"] == "parked"
    assert f"delivered again {MOST} times" in fault["detail"]
    data = json.loads((folder / "run.json").read_text())
    assert (data["counts"]["failed"], data["counts"]["lost"], data["parked"]) == (1, 0, 1)
    assert any("parked" in problem for problem in data["problems"])
    [letter] = take_all(rabbitmq, DEAD, OTHER_VHOST)
    assert letter.headers["id"] == fault["id"]
    log = worker.log.read_text()
    assert log.count("SIGKILL") >= MOST + 1
    assert log.count("it is parked") == 1


def test_without_the_module_it_is_tried_for_ever(
    plain_worker: Worker, rabbitmq: RabbitMQ, send: Callable[[amqp.Message], None]
) -> None:
    """The negative control: the same task goes on killing processes past the number of times it may."""
    send(message(body(1), headers("killer.kill")))
    wait_until(lambda: plain_worker.log.read_text().count("signal 9") > 3 * (MOST + 1), 60, "many lost processes")
    assert dead(rabbitmq) == 0


def test_tasks_that_only_waited_in_lost_workers_are_not_counted(
    rabbitmq: RabbitMQ, memcached: Memcached, tmp_path: Path, other: Taskmill
) -> None:
    """A message that was with more lost workers than a task may lose, but never began, is run all the same."""
    assert other("publish", "--no-workers", *GOOD, "--tasks=50").code == 0
    # A consumer that takes all, begins none, and is gone.
    for _ in range(MOST + 2):
        lost = channel(rabbitmq, vhost=OTHER_VHOST)
        while lost.basic_get("red") is not None:
            pass
        lost.connection.close()
    include = "--include=taskmill_worker"
    with running(rabbitmq, memcached, tmp_path, include, CELERY_WORKER_REDELIVERIES=str(MOST)):
        done = other("collect", str(other.latest), "--deadline=30")
    assert done.code == 0, done.out + done.err


@pytest.mark.parametrize("pool", ["solo", "threads"])
def test_unknown_task_is_told_of_and_stored_as_by_celery(monkeypatch: pytest.MonkeyPatch, pool: str) -> None:
    """The event names exception and task, and the result has no children; the worker itself goes on."""
    app = Celery("keeping", broker="memory://", backend="cache+memory://", set_as_current=False)
    monkeypatch.setattr(dead_lettering, "current_app", app)
    consumer = mock.Mock()
    consumer.pool = get_implementation(pool)(1, app=app)
    consumer.pool.start()
    fields = headers("no.such.task")
    one = mock.Mock(headers=fields, delivery_info={}, properties={}, body="[]", content_type="application/json")
    unknown: Callable[..., None] = dead_lettering.on_unknown_task
    unknown(consumer, None, one, KeyError("no.such.task"))
    one.reject_log_error.assert_called_once()
    consumer.event_dispatcher.send.assert_called_once_with(
        "task-failed", uuid=fields["id"], exception="NotRegistered('no.such.task')"
    )
    consumer.pool.stop()
    stored = app.backend.get_task_meta(fields["id"])
    assert (stored["status"], stored["children"]) == ("FAILURE", [])


@pytest.mark.parametrize("begun", [False, True], ids=["as it is read", "out of its task"])
def test_message_is_to_blame_only_for_what_comes_before_its_task(begun: bool) -> None:
    """The solo pool runs a task as the message is taken in, and what comes out of that is no fault of the message."""
    refused: list[BaseException] = []

    class Consumer:
        connection_errors = (OSError,)

        def on_invalid_task(self, _body: Any, _message: Any, error: BaseException) -> None:
            refused.append(error)

    def execute_using_pool() -> None:
        raise TypeError

    def read() -> None:
        raise TypeError

    def take(_message: Any) -> None:
        if begun:
            execute_using_pool()
        read()

    guarded: Callable[..., Any] = dead_lettering.guarded
    handle = guarded(lambda _consumer: take)(Consumer())
    one = amqp.Message("", application_headers={})
    one.acknowledged = False
    with pytest.raises(TypeError) if begun else contextlib.nullcontext():
        handle(one)
    assert len(refused) == (not begun)


@pytest.mark.parametrize("text", ["0", "-1", "0.5", "1.5", "often", "\N{SUPERSCRIPT TWO}"])
def test_redeliveries_must_be_whole_and_positive(text: str) -> None:
    """The variable is named when it is wrong, and 3 when it is not there."""
    said = f"CELERY_WORKER_REDELIVERIES must be a whole number of at least 1, not {text!r}"
    with pytest.raises(ValueError, match=f"^{re.escape(said)}$"):
        most_redeliveries({"CELERY_WORKER_REDELIVERIES": text})
    assert most_redeliveries({}) == 3


def test_message_that_is_too_large_is_refused_and_said_so(other: Taskmill) -> None:
    """The broker takes no larger one, and posting ends at once with the reason, the sizes and the setting."""
    done = other(
        "publish",
        "--no-workers",
        "--task=fibonacci.tasks.red=red",
        "--tasks=3",
        "--args",
        json.dumps(["x" * LARGEST]),
        "--no-profile",
        timeout=30,
    )
    assert done.code == 4, done.out + done.err
    assert "rabbitmq_max_message_size" in done.out
    assert str(LARGEST) in done.out
