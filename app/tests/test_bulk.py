"""Many results in one go, in Redis: the same keys, times and messages as Celery's own backend. No services."""

from __future__ import annotations

from typing import Any

import pytest
import redis.exceptions
from celery import Celery
from celery.backends.redis import RedisBackend

from taskmill_worker.batching import bulk


class Pipeline:
    """Stands in for redis-py's pipeline: collects commands, and answers as Redis would."""

    def __init__(self, client: Client) -> None:
        """Begin empty."""
        self.client = client
        self.commands: list[tuple[Any, ...]] = []

    def __enter__(self) -> Pipeline:
        """Do nothing."""
        return self

    def __exit__(self, *_: object) -> None:
        """Do nothing."""

    def setex(self, *command: Any) -> None:
        """Collect a command."""
        self.commands.append(("setex", *command))

    def set(self, *command: Any) -> None:
        """Collect a command."""
        self.commands.append(("set", *command))

    def publish(self, *command: Any) -> None:
        """Collect a command."""
        self.commands.append(("publish", *command))

    def execute(self, raise_on_error: bool = True) -> list[Any]:
        """Answer."""
        self.client.executed.append(self.commands)
        if self.client.away:
            self.client.away -= 1
            raise redis.exceptions.ConnectionError("away")
        refused = redis.exceptions.OutOfMemoryError("OOM")
        assert not raise_on_error or not self.client.full
        return [refused if command[1] in self.client.full else True for command in self.commands]


class Client:
    """Stands in for redis-py's client."""

    def __init__(self) -> None:
        """Be there, with room."""
        self.executed: list[list[tuple[Any, ...]]] = []
        self.away = 0
        self.full: set[Any] = set()

    def pipeline(self, **_: Any) -> Pipeline:
        """Return a new one."""
        return Pipeline(self)


@pytest.fixture
def backend(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Return Celery's backend with a client that keeps what it is told, and whose pauses take no time."""
    app = Celery("bulk", backend="redis://127.0.0.1:1/", set_as_current=False)
    app.conf.result_backend_transport_options = {"retry_policy": {"interval_step": 0, "max_retries": 3}}
    monkeypatch.setattr(RedisBackend, "client", Client())
    return app.backend


def store_singly(backend: Any, values: dict[Any, Any]) -> list[tuple[Any, ...]]:
    """Return the commands that Celery's backend itself sends."""
    backend.client.executed.clear()
    for key, value in values.items():
        backend.set(key, value)
    commands = [command for commands in backend.client.executed for command in commands]
    backend.client.executed.clear()
    return commands


@pytest.mark.parametrize("expires", [None, 60])
def test_redis_gets_what_celery_sends_in_one_round_trip(backend: Any, expires: int | None) -> None:
    """Each value with its time to live, and the message to the clients that wait for it."""
    backend.expires = expires
    values = {backend.get_key_for_task(str(number)): f"value {number}" for number in range(100)}
    singly = store_singly(backend, values)
    stores = bulk.bulk_of(backend)
    assert stores is not None
    assert stores.store(values) == {}
    assert backend.client.executed == [singly]
    assert len(singly) == 200


def test_a_redis_that_is_away_is_tried_as_often_as_its_policy_says(backend: Any) -> None:
    """All are stored when it is back; when it is not, each is named with the reason."""
    stores = bulk.bulk_of(backend)
    assert stores is not None
    backend.client.away = 3
    assert stores.store({b"one": "1"}) == {}
    backend.client.away = 100
    missed = stores.store({b"one": "1", b"two": "2"})
    assert {key: str(error) for key, error in missed.items()} == {b"one": "away", b"two": "away"}
    assert backend.client.away == 100 - 4


def test_what_redis_refuses_is_told_and_not_tried_again(backend: Any) -> None:
    """As Celery's own backend has it; the others are stored."""
    stores = bulk.bulk_of(backend)
    assert stores is not None
    backend.client.full = {b"two"}
    missed = stores.store({b"one": "1", b"two": "2", b"three": "3"})
    assert {key: type(error).__name__ for key, error in missed.items()} == {b"two": "OutOfMemoryError"}
    assert len(backend.client.executed) == 1


@pytest.mark.parametrize("address", ["rpc://", "disabled://", "file:///tmp", "cache+memory://"])
def test_other_backends_store_one_by_one(address: str) -> None:
    """Nothing stands between them and Celery."""
    assert bulk.bulk_of(Celery("bulk", broker="memory://", backend=address, set_as_current=False).backend) is None
