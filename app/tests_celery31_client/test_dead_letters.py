"""The package taskmill_worker in a worker of Celery 3.1: what it cannot run is neither lost nor ends it."""

from __future__ import annotations

import json
import os
import pickle
import subprocess
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import amqp
import memcache
import pytest

from conftest import HERE, PYTHON
from services import ADMIN, DEAD, OTHER_VHOST, Mark, Memcached, RabbitMQ, channel, depth, end, take_all, wait_until

SOURCE = HERE.parent / "src"
SECRET = "do-not-log-me"
MOST = 2


@pytest.fixture
def start(rabbitmq: RabbitMQ, memcached: Memcached, tmp_path: Path) -> Iterator[Callable[[], subprocess.Popen[bytes]]]:
    """Return what starts a worker with the package on red, in the virtual host where the other is not."""
    started: list[subprocess.Popen[bytes]] = []

    def run() -> subprocess.Popen[bytes]:
        command = [PYTHON, "-m", "celery", "--app=work", "worker", "--queues=red", "--hostname=letters@%h"]
        with (tmp_path / f"log{len(started)}").open("wb") as log:
            process = subprocess.Popen(
                [*command, "--concurrency=1", "--include=taskmill_worker", "--loglevel=INFO"],
                cwd=HERE,
                env={
                    "PATH": os.environ["PATH"],
                    "PYTHONPATH": str(SOURCE),
                    "PYTHONDONTWRITEBYTECODE": "1",
                    "CELERY_BROKER_URL": rabbitmq.url(ADMIN, vhost=OTHER_VHOST),
                    "CELERY_RESULT_BACKEND": memcached.url,
                    "CELERY_WORKER_REDELIVERIES": str(MOST),
                },
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        started.append(process)
        return process

    try:
        yield run
    finally:
        for process in started:
            end(process)
        for queue in ("red", DEAD):
            take_all(rabbitmq, queue, OTHER_VHOST)


@pytest.fixture
def send(rabbitmq: RabbitMQ) -> Iterator[Callable[..., str]]:
    """Return what puts a message into the queue red, and returns the id of its task."""
    one = channel(rabbitmq, vhost=OTHER_VHOST)

    def put(task: str, *arguments: Any, body: str | bytes | None = None, kind: str = "application/json") -> str:
        identifier = str(uuid.uuid4())
        text = body or json.dumps({"task": task, "id": identifier, "args": arguments, "kwargs": {}})
        encoding = "utf-8" if isinstance(text, str) else "binary"
        one.basic_publish(
            amqp.Message(text, content_type=kind, content_encoding=encoding, delivery_mode=2), routing_key="red"
        )
        return identifier

    yield put
    one.connection.close()


def stored(memcached: Memcached, identifier: str) -> dict[str, Any]:
    """Return what is stored for a task; empty when nothing is."""
    client: Any = memcache.Client([f"127.0.0.1:{memcached.port}"])
    value = client.get(f"celery-task-meta-{identifier}")
    return json.loads(value) if value else {}


def test_bad_messages_become_dead_letters(
    start: Callable[[], subprocess.Popen[bytes]],
    send: Callable[..., str],
    rabbitmq: RabbitMQ,
    memcached: Memcached,
    tmp_path: Path,
) -> None:
    """Each is kept and told in one line without its content; no pickle is loaded; what is good after them is done."""
    process = start()
    mark = tmp_path / "mark"
    send("", body="{" + SECRET)
    send("", body=json.dumps([SECRET]))
    send("", body=json.dumps({"task": "work.double", "args": [SECRET]}))
    send("", body=pickle.dumps(Mark(mark), 2), kind="application/x-python-serialize")
    unknown = send("no.such.task", SECRET)
    good = send("work.double", 21)
    log = tmp_path / "log0"
    wait_until(lambda: bool(stored(memcached, good)), 60, "the good one's result")
    assert stored(memcached, good)["result"] == 42
    wait_until(lambda: depth(rabbitmq, DEAD, OTHER_VHOST) == 5, 60, "five dead letters")
    wait_until(lambda: bool(stored(memcached, unknown)), 60, "the result of the unknown one")
    assert stored(memcached, unknown)["result"]["exc_type"] == "NotRegistered"
    assert log.read_text().count("A message is rejected: ") == 5
    assert SECRET not in log.read_text()
    assert "has loaded task_times, dead_lettering; not loaded: memcached_backend (needs Python 3), " in log.read_text()
    assert process.poll() is None
    assert not mark.exists()


def test_task_that_no_worker_survives_is_parked(
    start: Callable[[], subprocess.Popen[bytes]], send: Callable[..., str], rabbitmq: RabbitMQ, memcached: Memcached
) -> None:
    """It ends one worker, and as many again as it may; the next one parks it, and goes on."""
    poison = send("work.kill", 1)
    for _ in range(MOST + 1):
        assert start().wait(60) != 0
        assert depth(rabbitmq, DEAD, OTHER_VHOST) == 0
    process = start()
    wait_until(lambda: depth(rabbitmq, DEAD, OTHER_VHOST) == 1, 60, "the dead letter")
    assert stored(memcached, poison)["result"]["exc_type"] == "Parked"
    good = send("work.double", 4)
    wait_until(lambda: bool(stored(memcached, good)), 60, "the good one's result")
    assert process.poll() is None
