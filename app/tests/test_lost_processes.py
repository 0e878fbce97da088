"""A worker parks the task that kills its process and no other, and goes on while its result backend does not answer."""

from __future__ import annotations

import json
import socket
from collections.abc import Callable
from pathlib import Path

import amqp
import pytest
from celery import Celery

from services import (
    CLIENT,
    DEAD,
    OTHER_VHOST,
    WORKER,
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
from taskmill.results.memcached import Results

MOST = 2
WITHOUT_JIT = {"TASKMILL_WORKER_WITHOUT": "jit"}
INCLUDE = "--include=killer,taskmill_worker"
BATCHES = pytest.mark.parametrize("batch", ["1", "20"], ids=["one by one", "in batches"])


def result(memcached: Memcached, identifier: str) -> dict[str, object]:
    """Wait for the final result of a task and return what is stored."""
    key = identifier.encode()
    found: dict[str, object] = {}

    def ended() -> bool:
        text = Results(memcached.url).get([key]).get(key)
        found.update(json.loads(text) if isinstance(text, str) else {})
        return found.get("status") in {"SUCCESS", "FAILURE"}

    wait_until(ended, 60, f"the result of {identifier}")
    return found


def have_redelivered(rabbitmq: RabbitMQ) -> None:
    """Take what is in the queue red, and be gone: it was in a worker that was lost."""
    lost = channel(rabbitmq, vhost=OTHER_VHOST)
    while lost.basic_get("red") is not None:
        pass
    lost.connection.close()


@pytest.mark.thorough
@BATCHES
@pytest.mark.parametrize("how", ["retry", "replace"])
def test_task_that_comes_again_under_its_id_is_not_parked(
    rabbitmq: RabbitMQ,
    memcached: Memcached,
    send: Callable[[amqp.Message], None],
    tmp_path: Path,
    how: str,
    batch: str,
) -> None:
    """More often than a process may be lost, and each of its messages was given back too; no process was lost."""
    fields = headers("killer.come_again")
    environment = {"CELERY_WORKER_REDELIVERIES": str(MOST), "CELERY_WORKER_BATCH": batch}
    with running(rabbitmq, memcached, tmp_path, INCLUDE, **environment):
        send(message(body(how, MOST + 2), fields))
        assert result(memcached, fields["id"])["result"] == how
        assert depth(rabbitmq, DEAD, OTHER_VHOST) == 0


@BATCHES
def test_message_that_is_given_back_is_not_parked(
    rabbitmq: RabbitMQ, memcached: Memcached, send: Callable[[amqp.Message], None], tmp_path: Path, batch: str
) -> None:
    """The task asks for it, more often than its process may be lost, and has its result in the end."""
    fields = headers("killer.give_back")
    environment = {"CELERY_WORKER_REDELIVERIES": str(MOST), "CELERY_WORKER_BATCH": batch}
    with running(rabbitmq, memcached, tmp_path, INCLUDE, **environment):
        send(message(body(str(tmp_path / "given-back"), MOST + 3), fields))
        assert result(memcached, fields["id"])["result"] == MOST + 3
        assert depth(rabbitmq, DEAD, OTHER_VHOST) == 0


@pytest.mark.parametrize("protocol", [pytest.param(1, marks=pytest.mark.thorough), 2])
def test_task_that_leaves_its_process_is_parked(
    rabbitmq: RabbitMQ, memcached: Memcached, send: Callable[[amqp.Message], None], tmp_path: Path, protocol: int
) -> None:
    """By `sys.exit`, which runs what cleans up behind the task: that is no end of a task."""
    fields = headers("killer.leave")
    with running(rabbitmq, memcached, tmp_path, INCLUDE, CELERY_WORKER_REDELIVERIES=str(MOST)):
        if protocol == 1:
            send(message(json.dumps(fields | {"args": [1], "kwargs": {}}), None))
        else:
            send(message(body(1), fields))
        stored = result(memcached, fields["id"])["result"]
        assert isinstance(stored, dict)
        assert stored["exc_type"] == "Parked"
        wait_until(lambda: depth(rabbitmq, DEAD, OTHER_VHOST) == 1, 60, "the dead letter")


@pytest.mark.thorough
def test_task_that_is_not_to_come_again_fails_with_its_process(
    rabbitmq: RabbitMQ, memcached: Memcached, send: Callable[[amqp.Message], None], tmp_path: Path
) -> None:
    """With `reject_on_worker_lost=False` the loss is its failure, as with Celery alone, redelivered or not."""
    redelivered, fresh = headers("killer.kill_and_fail"), headers("killer.kill_and_fail")
    begun = tmp_path / "begun"
    send(message(body(str(begun)), redelivered))
    have_redelivered(rabbitmq)
    with running(rabbitmq, memcached, tmp_path, INCLUDE, CELERY_WORKER_REDELIVERIES=str(MOST)):
        send(message(body(str(begun)), fresh))
        for fields in (redelivered, fresh):
            stored = result(memcached, fields["id"])["result"]
            assert isinstance(stored, dict)
            assert stored["exc_type"] == "WorkerLostError"
        assert begun.read_text().splitlines() == ["begun"] * 2
        assert depth(rabbitmq, DEAD, OTHER_VHOST) == 0


@pytest.mark.thorough
def test_task_that_ends_a_worker_without_processes_is_parked(
    rabbitmq: RabbitMQ, memcached: Memcached, send: Callable[[amqp.Message], None], tmp_path: Path
) -> None:
    """In the solo pool the worker ends with its task, once and as often again as it may; the next one parks it."""
    fields = headers("killer.leave")
    send(message(body(1), fields))
    environment = {
        "CELERY_BROKER_URL": rabbitmq.url(WORKER, OTHER_VHOST),
        "CELERY_RESULT_BACKEND": memcached.url,
        "CELERY_WORKER_REDELIVERIES": str(MOST),
    }
    options = (INCLUDE, "--pool=solo")
    worker = Worker("solo", environment, tmp_path / "log", queues=("red",), options=options)
    try:
        for _ in range(MOST + 1):
            worker.start()
            assert worker.process is not None
            assert worker.process.wait(120) != 0
            assert depth(rabbitmq, DEAD, OTHER_VHOST) == 0
        worker.start()
        stored = result(memcached, fields["id"])["result"]
        assert isinstance(stored, dict)
        assert stored["exc_type"] == "Parked"
        wait_until(lambda: depth(rabbitmq, DEAD, OTHER_VHOST) == 1, 60, "the dead letter")
        assert worker.ready()
    finally:
        worker.stop()
        for queue in ("red", DEAD):
            take_all(rabbitmq, queue, OTHER_VHOST)


@pytest.mark.thorough
def test_worker_answers_while_its_result_backend_does_not(
    rabbitmq: RabbitMQ, send: Callable[[amqp.Message], None], tmp_path: Path
) -> None:
    """It keeps its heartbeats, though every message was delivered before, and half of them are of no task."""
    for _ in range(20):
        send(message(body(3), headers()))
        send(message(body(3), headers("no.such.task")))
    have_redelivered(rabbitmq)
    with socket.create_server(("127.0.0.1", 0), backlog=1000) as silent:
        environment = {
            "CELERY_BROKER_URL": rabbitmq.url(WORKER, OTHER_VHOST) + "?heartbeat=5",
            "CELERY_RESULT_BACKEND": Memcached(port=silent.getsockname()[1]).url,
        }
        with running(rabbitmq, Memcached(), tmp_path, "--include=patient,taskmill_worker", **environment) as worker:
            # Both pool processes have waited four times by then, so that heartbeats were due.
            wait_until(lambda: worker.log.read_text().count("cannot be counted") >= 2, 120, "tasks that wait")
            wait_until(lambda: worker.log.read_text().count("Failed operation") >= 2, 120, "results that wait")
            app = Celery("asking", broker=rabbitmq.url(CLIENT, OTHER_VHOST), set_as_current=False)
            wait_until(lambda: bool(app.control.inspect(timeout=10, limit=1).ping()), 60, "an answer")
            app.close()
            assert "Connection to broker lost" not in worker.log.read_text()
            assert depth(rabbitmq, DEAD, OTHER_VHOST) > 0


def test_log_begins_with_what_is_loaded_and_what_the_backend_cannot_do(
    rabbitmq: RabbitMQ, memcached: Memcached, tmp_path: Path
) -> None:
    """One line says which features there are, and why not the others; what each of them lacks comes right after it."""
    with running(rabbitmq, memcached, tmp_path, INCLUDE, CELERY_RESULT_BACKEND="rpc://", **WITHOUT_JIT) as worker:
        lines = worker.log.read_text().splitlines()
    [first] = [number for number, line in enumerate(lines) if "taskmill_worker has loaded" in line]
    assert lines[first].endswith(
        "taskmill_worker has loaded memcached_backend, task_times, dead_lettering, written_jobs, green_loop; not "
        "loaded: jit (named in TASKMILL_WORKER_WITHOUT), batching (CELERY_WORKER_BATCH is 1), read_ahead "
        "(CELERY_WORKER_BATCH is 1)"
    )
    assert "The result backend RPCBackend cannot store when tasks ran." in lines[first + 1]
    assert "No task is parked: the result backend RPCBackend keeps no counts." in lines[first + 2]
    assert not any(" ready." in line for line in lines[:first])


@pytest.mark.parametrize("backend", ["rpc://", "disabled://"])
def test_rejected_message_is_answered_by_what_the_app_has(
    rabbitmq: RabbitMQ, memcached: Memcached, send: Callable[[amqp.Message], None], tmp_path: Path, backend: str
) -> None:
    """RPC sends the failure to who waits for it, and without a result backend nothing is amiss."""
    fields = headers("no.such.task")
    with running(rabbitmq, memcached, tmp_path, INCLUDE, CELERY_RESULT_BACKEND=backend) as worker:
        send(message(body(1), fields, reply_to="blue", correlation_id=fields["id"]))
        send(message(body(3), headers(), reply_to="green"))
        wait_until(lambda: depth(rabbitmq, DEAD, OTHER_VHOST) == 1, 60, "the dead letter")
        wait_until(lambda: "succeeded in" in worker.log.read_text(), 60, "the good one's end")
        if backend == "rpc://":
            wait_until(lambda: depth(rabbitmq, "blue", OTHER_VHOST) == 1, 60, "the answer")
    answers = [json.loads(answer.body) for answer in take_all(rabbitmq, "blue", OTHER_VHOST)]
    take_all(rabbitmq, "green", OTHER_VHOST)
    expected = [("FAILURE", "NotRegistered")] if backend == "rpc://" else []
    assert [(answer["status"], answer["result"]["exc_type"]) for answer in answers] == expected
    assert "cannot be stored" not in worker.log.read_text()
