"""A pickle in the result store runs no code, neither in the client nor in a worker."""

from __future__ import annotations

import json
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

import amqp
import memcache
import pytest

from conftest import Taskmill
from services import OTHER_VHOST, Mark, Memcached, RabbitMQ, channel, running, wait_until
from taskmill.publishing import journal


@pytest.fixture
def plant(memcached: Memcached, tmp_path: Path) -> Callable[[str], Path]:
    """Return what stores a pickle at a key, and returns the file that loading it makes."""
    client: Any = memcache.Client([f"127.0.0.1:{memcached.port}"])

    def store(key: str) -> Path:
        mark = tmp_path / "mark"
        assert client.set(key, Mark(mark))
        return mark

    return store


def test_pickle_is_loaded_by_a_careless_client(plant: Callable[[str], Path], memcached: Memcached) -> None:
    """The negative control: python-memcached by itself runs what it finds."""
    mark = plant("careless")
    client: Any = memcache.Client([f"127.0.0.1:{memcached.port}"])
    client.get("careless")
    assert mark.exists()


def test_client_takes_a_pickle_for_a_wrong_result(
    taskmill: Taskmill, plant: Callable[[str], Path], purge: Callable[[str], None]
) -> None:
    """It is told apart from a result that is missing, and not loaded."""
    purge("yellow")
    assert taskmill("publish", "--no-workers", "--task=a.b=yellow", "--tasks=1", "--n=1").code == 0
    [thread] = journal.read(taskmill.latest / "ids")
    mark = plant(f"celery-task-meta-{thread.lines[0][0].decode()}")
    done = taskmill("collect", str(taskmill.latest), "--deadline=1")
    assert done.code == 1
    assert "the stored value is pickled; it was refused" in (taskmill.latest / "faults.jsonl").read_text()
    assert not mark.exists()


@pytest.mark.parametrize("suffix", ["", "-redelivered"])
def test_worker_loads_no_pickle(
    rabbitmq: RabbitMQ, memcached: Memcached, tmp_path: Path, plant: Callable[[str], Path], suffix: str
) -> None:
    """Where a worker looks before it stores a result, and for a count: it runs the task, and its result is there."""
    identifier = str(uuid.uuid4())
    key = f"celery-task-meta-{identifier}"
    mark = plant(key + suffix)
    one = channel(rabbitmq, vhost=OTHER_VHOST)
    headers = {"task": "fibonacci.tasks.red", "id": identifier, "lang": "py"}
    body = json.dumps([[10], {}, {"callbacks": None, "errbacks": None, "chain": None, "chord": None}])
    one.basic_publish(
        amqp.Message(body, content_type="application/json", content_encoding="utf-8", application_headers=headers),
        routing_key="red",
    )
    # Delivered once and given back: a worker looks up the count of what comes again.
    wait_until(lambda: one.basic_get("red") is not None, 60, "the message")
    one.connection.close()
    client: Any = memcache.Client([f"127.0.0.1:{memcached.port}"], unpickler=lambda _file: None)
    with running(rabbitmq, memcached, tmp_path, "--include=taskmill_worker"):
        wait_until(lambda: '"result": 55' in str(result(client, key)), 60, "the result")
    assert not mark.exists()


def result(client: Any, key: str) -> Any:
    """Return what is stored; ``None`` while it is the pickle, which this client cannot load."""
    try:
        return client.get(key)
    except AttributeError:
        return None
