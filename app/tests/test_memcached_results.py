"""How much room results take in memcached."""

import multiprocessing
import re
import socket
from collections.abc import Callable
from typing import Any

import memcache
import pytest
from celery import Celery

from services import Memcached, stored
from taskmill.model.errors import TaskmillError
from taskmill.publishing import journal
from taskmill.results.memcached import KEY_PREFIX, Results, check_room, result_bytes, text_bytes
from taskmill_worker.memcached_backend import MemcachedBackend, MemcachedUnavailableError, ResultTooLargeError

#: What task_times.py adds.
TIMES = [1795388520.123456, 912, 905, "w1@worker1"]


def fill(store: Memcached, count: int, result: Any) -> dict[str, int]:
    """Store so many results as a worker does and return the stats."""
    client = memcache.Client([f"127.0.0.1:{store.port}"])
    for identifier in journal.new_ids(count):
        assert client.set(KEY_PREFIX + identifier, stored(identifier, result, taskmill=TIMES), 86400)
    ((_, stats),) = client.get_stats()
    return {name: int(value) for name, value in stats.items() if re.fullmatch(r"\d+", value)}


@pytest.mark.parametrize("result", [6765, None, "x" * 150, {"rows": list(range(400))}])
def test_result_bytes_is_the_slab_that_memcached_uses(start_memcached: Callable[..., Memcached], result: Any) -> None:
    """The size that preflight reckons with is that of the slab in which memcached puts such a result."""
    store = start_memcached()
    fill(store, 1, result)
    ((_, slabs),) = memcache.Client([f"127.0.0.1:{store.port}"]).get_slab_stats()
    used = {int(slab["chunk_size"]) for slab in slabs.values() if isinstance(slab, dict) and int(slab["used_chunks"])}
    assert used == {result_bytes(result, 1.25)}


def test_memcached_of_the_size_asked_for_keeps_every_result(start_memcached: Callable[..., Memcached]) -> None:
    """What preflight lets pass fits without an eviction; what it refuses does not fit."""
    store = start_memcached(6)
    results = Results(store.url)
    fits = next(tasks for tasks in range(40000, 0, -100) if accepted(results, tasks))
    assert fits > 13000
    assert fill(store, fits, 6765)["evictions"] == 0
    assert fill(store, 2 * 3449, 6765)["evictions"] > 0


def test_expected_value_that_is_larger_than_an_item_is_refused(memcached: Memcached) -> None:
    """Whatever the room is; the two settings that bound it are named."""
    results = Results(memcached.url)
    with pytest.raises(TaskmillError) as refused:
        check_room(results, 1, None, "x" * 1_200_000)
    assert str(refused.value) == (
        f"memcached at {results} takes no result as large as the expected one: it needs 1,200,364 bytes, and an item "
        "has at most 1,048,576. Have the task return less, such as the name of a file; or set memcached_item_mb to 2 "
        "or more and run site.yml, and cache_backend_options = {'server_max_value_length': 0} in the app's settings; "
        "or set result_store to redis"
    )
    assert check_room(results, 0, None, "x" * 1_200_000).largest_bytes == 1 << 20


def test_measured_result_takes_the_slab_that_an_expected_one_does(memcached: Memcached) -> None:
    """What is known of its text alone is enough."""
    assert Results(memcached.url).takes(text_bytes(6765)) == result_bytes(6765, 1.25)


def accepted(results: Results, tasks: int) -> bool:
    """Say whether preflight lets so many tasks pass."""
    try:
        check_room(results, tasks, None, 6765)
    except TaskmillError:
        return False
    return True


def test_what_is_not_memcached_is_told(monkeypatch: pytest.MonkeyPatch, memcached: Memcached) -> None:
    """An answer without memcached's figures is an error of its own."""
    results = Results(memcached.url)
    monkeypatch.setattr(memcache.Client, "get_stats", lambda *_: [("x", {"pid": "1"})])
    with pytest.raises(TaskmillError, match="is not memcached"):
        results.stats()


def test_many_ids_are_fetched_at_once(memcached: Memcached, monkeypatch: pytest.MonkeyPatch) -> None:
    """A batch of a thousand takes one round trip, not a thousand."""
    client = memcache.Client([f"127.0.0.1:{memcached.port}"])
    ids = journal.new_ids(1000)
    for identifier in ids:
        client.set(KEY_PREFIX + identifier, "x")
    commands: list[bytes] = []
    send = memcache._Host.send_cmd

    def counted(host: Any, command: bytes) -> None:
        commands.append(command)
        send(host, command)

    monkeypatch.setattr(memcache._Host, "send_cmd", counted)
    found = Results(memcached.url).get(ids)
    assert [command[:4] for command in commands] == [b"get "]
    assert found == dict.fromkeys(ids, "x")


def test_a_forked_process_does_not_write_into_its_parents_connection(memcached: Memcached) -> None:
    """A pool process that replaces another is forked when the worker's main process has talked to memcached already."""
    app = Celery("test", broker="memory://", backend="cache")
    backend = MemcachedBackend(app, f"memcached://127.0.0.1:{memcached.port}/")

    def right(name: str) -> int:
        """Return how many of 2,000 values came back as they were stored."""
        values = [f"{name}-{number}" for number in range(2000)]
        return sum(backend.client.set(name, value) and backend.get(name.encode()) == value for value in values)

    assert right("before") == 2000
    forking = multiprocessing.get_context("fork")
    answers = forking.Queue()
    children = [forking.Process(target=lambda name=name: answers.put(right(name))) for name in ("one", "two")]
    for child in children:
        child.start()
    found = [right("parent"), *(answers.get(timeout=60) for _ in children)]
    for child in children:
        child.join(10)
    assert found == [2000, 2000, 2000]


def test_a_batch_is_stored_though_memcached_was_restarted_since_the_last(
    start_memcached: Callable[..., Memcached],
) -> None:
    """The first write on the connection from before fails; the backend writes once more, on a new one."""
    server = start_memcached(64)
    backend = MemcachedBackend(Celery("test", broker="memory://"), f"memcached://127.0.0.1:{server.port}/")
    assert not backend.set_many({b"before": "1"})
    server.stop()
    server.start()
    assert not backend.set_many({b"one": "1", b"two": "2"})
    assert backend.mget([b"before", b"one", b"two"]) == {b"one": "1", b"two": "2"}


def test_what_memcached_does_not_take_of_a_batch_is_told(start_memcached: Callable[..., Memcached]) -> None:
    """Each result that was not stored, with why and where."""
    server = start_memcached(64)
    backend = MemcachedBackend(Celery("test", broker="memory://"), f"memcached://127.0.0.1:{server.port}/")
    server.stop()
    missed = backend.set_many({b"one": "1", b"two": "2"})
    assert missed.keys() == {b"one", b"two"}
    for error in missed.values():
        assert isinstance(error, MemcachedUnavailableError)
        assert f"127.0.0.1:{server.port} did not store a result" in str(error)


@pytest.mark.parametrize("answer", [b"", b"SERVER_ERROR out of memory storing object\r\n"], ids=["silent", "refuses"])
def test_a_memcached_that_falls_silent_is_tried_again(answer: bytes) -> None:
    """Celery is told what it may try again, though memcached does not say why it has not stored the result either."""
    app = Celery("test", broker="memory://")
    app.conf.cache_backend_options = {"dead_retry": 0, "socket_timeout": 0.2}
    with socket.create_server(("127.0.0.1", 0), backlog=10) as server:
        backend = MemcachedBackend(app, f"memcached://127.0.0.1:{server.getsockname()[1]}/")
        assert backend.client.servers[0].connect()
        connection, _ = server.accept()
        with connection:
            connection.sendall(answer)
            with pytest.raises(MemcachedUnavailableError) as raised:
                backend.set(b"key", "value")
            # Closed: an answer that comes late is nobody's.
            assert backend.client.servers[0].socket is None
    assert backend.exception_safe_to_retry(raised.value)


@pytest.mark.parametrize(
    ("options", "limit"),
    [
        ({}, "the limit of python-memcached is 1,048,576 bytes"),
        ({"server_max_value_length": 0}, "its item size is 1,048,576 bytes"),
    ],
)
def test_a_result_that_is_too_large_is_refused_at_once(
    memcached: Memcached, options: dict[str, int], limit: str
) -> None:
    """By itself and among others, which are stored; the error says the size, the limit and both settings."""
    app = Celery("test", broker="memory://")
    app.conf.cache_backend_options = options
    backend = MemcachedBackend(app, f"memcached://127.0.0.1:{memcached.port}/")
    large = "é" + "x" * (1 << 20)
    with pytest.raises(ResultTooLargeError, match=limit) as raised:
        backend.set(b"large", large)
    for text in ("1,048,578 bytes", "-I", "server_max_value_length"):
        assert text in str(raised.value)
    missed = backend.set_many({b"before": "1", b"large": large, b"after": "2"})
    assert missed.keys() == {b"large"}
    assert limit in str(missed[b"large"])
    assert backend.mget([b"before", b"large", b"after"]) == {b"before": "1", b"after": "2"}


def test_a_result_that_nearly_fills_an_item_is_stored(memcached: Memcached) -> None:
    """The limit is memcached's own, and no byte less for what fits."""
    app = Celery("test", broker="memory://")
    backend = MemcachedBackend(app, f"memcached://127.0.0.1:{memcached.port}/")
    fits = "x" * ((1 << 20) - 200)
    backend.set(b"fits", fits)
    assert backend.get(b"fits") == fits
    with pytest.raises(ResultTooLargeError, match="its item size is 1,048,576 bytes"):
        backend.set(b"does-not", "x" * ((1 << 20) - 10))
