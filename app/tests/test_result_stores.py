"""Results are fetched from memcached, Redis and Celery's other backends, with one and the same accounting."""

from __future__ import annotations

import io
import json
import pickle
import subprocess
import threading
import uuid
from collections.abc import Callable
from datetime import date, datetime, timezone
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from celery import Celery
from celery.backends.database.models import Task
from celery.exceptions import Retry
from click.testing import CliRunner

from conftest import Taskmill
from services import CLIENT, OTHER_VHOST, Mark, Memcached, RabbitMQ, Redis, running
from taskmill.cli import cli
from taskmill.model.errors import TaskmillError
from taskmill.model.plan import Plan, Route
from taskmill.progress import Reporter
from taskmill.publishing import journal
from taskmill.results import store
from taskmill.results.collected import Collected
from taskmill.results.collector import Collector
from taskmill.results.redis_store import ENTRY, META_BYTES
from taskmill.results.values import carried

BACKENDS = ("memcached", "redis", "file", "db")
#: Values of tasks that plain JSON does not carry, and another value of the same kind.
VALUES = {
    "datetime": (
        datetime(2026, 11, 30, 7, 21, 13, 5, timezone.utc),
        datetime(2026, 11, 30, 7, 21, 13, 6, timezone.utc),
    ),
    "date": (date(2026, 11, 30), date(2026, 12, 1)),
    "uuid": (uuid.UUID(int=5), uuid.UUID(int=6)),
    "decimal": (Decimal("1.10"), Decimal("1.11")),
    "bytes": (b"plain", b"other"),
    "bytes that are no text": (b"\xff\x00", b"\xff\x01"),
    "tuple": ((1, (2, "x")), (1, (2, "y"))),
    "all of them, deep": ({"a": [(Decimal(1), b"x")]}, {"a": [(Decimal(2), b"x")]}),
    "what only looks like one": ({"__type__": "strange", "__value__": 1}, {"__type__": "strange", "__value__": 2}),
    "none": (None, False),
}


@pytest.fixture(params=BACKENDS)
def url(request: pytest.FixtureRequest, memcached: Memcached, redis: Redis, tmp_path: Path) -> str:
    """Return the address of each kind of result backend."""
    (tmp_path / "results").mkdir()
    addresses = {
        "memcached": memcached.url,
        "redis": redis.url(),
        "file": f"file://{tmp_path / 'results'}",
        "db": f"db+sqlite:///{tmp_path / 'results.db'}",
    }
    return addresses[request.param]


def app_at(url: str) -> Celery:
    """Return a worker's app with this result backend."""
    app = Celery("worker", backend=url, set_as_current=False)
    app.loader.override_backends = {"cache": "taskmill_worker.memcached_backend:MemcachedBackend"}
    return app


def collect(folder: Path, ids: list[bytes], results: str | store.ResultStore, expect: Any) -> Collected:
    """Collect ids that were posted to red."""
    (folder / "ids").mkdir(exist_ok=True)
    one = journal.Journal(folder / "ids", 0, 0)
    one.write(b"".join(identifier + b" red\n" for identifier in ids), len(ids), 1795388520.25)
    one.confirm(len(ids))
    one.close()
    plan = Plan("p", (Route("a", "red"),), len(ids), (), check=True, expect=expect, deadline=0.2)
    plan.save(folder)
    there = store.of_url(results) if isinstance(results, str) else results
    return Collector(Plan.load(folder), folder, there, threading.Event(), Reporter(io.StringIO())).run()


def test_every_outcome_is_told_apart(url: str, tmp_path: Path) -> None:
    """Correct, wrong, failed, revoked, not final and not there, wherever results are kept."""
    backend = app_at(url).backend
    correct, wrong, failed, revoked, stuck, gone = (identifier.decode() for identifier in journal.new_ids(6))
    backend.store_result(correct, 5, "SUCCESS")
    backend.store_result(wrong, 6, "SUCCESS")
    backend.store_result(failed, ValueError("no five"), "FAILURE", traceback="...")
    backend.store_result(revoked, ValueError("revoked"), "REVOKED")
    backend.store_result(stuck, Retry("again"), "RETRY")
    outcome = collect(tmp_path, [one.encode() for one in (correct, wrong, failed, revoked, stuck, gone)], url, 5)
    assert (outcome.correct, outcome.wrong, outcome.failed, outcome.lost) == (1, 1, 2, 2)
    faults = [json.loads(line) for line in (tmp_path / "faults.jsonl").read_text().splitlines()]
    by_id = {fault["id"]: (fault["outcome"], fault["detail"]) for fault in faults}
    assert by_id[wrong] == ("wrong", "the result is 6, not 5")
    assert by_id[failed] == ("failed", "FAILURE: ValueError: no five")
    assert by_id[revoked][1].startswith("REVOKED: ")
    assert by_id[stuck][0] == by_id[gone][0] == "lost"


@pytest.mark.parametrize("value", VALUES)
def test_values_beyond_plain_json_compare_right(url: str, tmp_path: Path, value: str) -> None:
    """A result is compared as the task made it, through the plan on disk and the result in the store."""
    right, other = VALUES[value]
    backend = app_at(url).backend
    ids = journal.new_ids(2)
    backend.store_result(ids[0].decode(), right, "SUCCESS")
    backend.store_result(ids[1].decode(), other, "SUCCESS")
    outcome = collect(tmp_path, ids, url, right)
    assert (outcome.correct, outcome.wrong) == (1, 1)


@pytest.mark.parametrize("serializer", ["msgpack", "yaml"])
@pytest.mark.parametrize("kind", ["memcached", "redis", "file"])
def test_results_of_another_serializer_are_read(
    memcached: Memcached, redis: Redis, tmp_path: Path, kind: str, serializer: str
) -> None:
    """From every store that keeps a result as one text: right, wrong and failed ones."""
    (tmp_path / "results").mkdir()
    url = {"memcached": memcached.url, "redis": redis.url(), "file": f"file://{tmp_path / 'results'}"}[kind]
    app = app_at(url)
    app.conf.result_serializer = serializer
    ids = journal.new_ids(3)
    right, other = (1, [b"x", {"a": 1.5}]), (1, [b"y", {"a": 1.5}])
    app.backend.store_result(ids[0].decode(), right, "SUCCESS")
    app.backend.store_result(ids[1].decode(), other, "SUCCESS")
    app.backend.store_result(ids[2].decode(), ValueError("no five"), "FAILURE")
    outcome = collect(tmp_path, ids, url, right)
    assert (outcome.correct, outcome.wrong, outcome.failed) == (1, 1, 1)


def test_right_value_is_given_on_the_command_line_as_messages_have_it() -> None:
    """The marks of Celery's JSON are read in what is expected, too."""
    text = {"__type__": "decimal", "__value__": "1.10"}
    assert carried(text) == Decimal("1.1") == carried(Decimal("1.10"))


def test_many_ids_are_asked_for_at_once(start_redis: Callable[..., Redis]) -> None:
    """A batch of a thousand is one MGET."""
    server = start_redis()
    backend = app_at(server.url()).backend
    ids = journal.new_ids(store.BATCH)
    for identifier in ids:
        backend.store_result(identifier.decode(), 5, "SUCCESS")
    found = store.of_url(server.url()).get(ids)
    assert set(found) == set(ids)
    said = backend.client.info("commandstats")
    assert said["cmdstat_mget"]["calls"] == 1


def test_password_and_database_are_those_of_the_address(redis: Redis) -> None:
    """Another database has other results; a wrong password is told without it, and without the right one."""
    [identifier] = journal.new_ids(1)
    app_at(redis.url(3)).backend.store_result(identifier.decode(), 5, "SUCCESS")
    assert set(store.of_url(redis.url(3)).get([identifier])) == {identifier}
    assert store.of_url(redis.url(0)).get([identifier]) == {}
    one = store.of_url(redis.url(0, "wrong-secret"))
    assert one.get([identifier]) == {}
    with pytest.raises(TaskmillError, match=rf"redis at 127.0.0.1:{redis.port}/0 \(.*cannot be reached") as caught:
        one.figures()
    assert "secret" not in str(caught.value) + str(one)


def test_certificate_is_checked(start_redis: Callable[..., Redis], tmp_path: Path) -> None:
    """Over TLS results come; from a server whose certificate no known authority has signed, none does."""
    files = (tmp_path / "certificate.pem", tmp_path / "key.pem")
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2",
         "-subj", "/CN=redis", "-addext", "subjectAltName=IP:127.0.0.1", "-out", files[0], "-keyout", files[1]],
        check=True, capture_output=True,
    )  # fmt: skip
    url = start_redis(certificate=files).url()
    [identifier] = journal.new_ids(1)
    app_at(url).backend.store_result(identifier.decode(), 5, "SUCCESS")
    assert set(store.of_url(url).get([identifier])) == {identifier}
    stranger = store.of_url(url.partition("&")[0])
    assert stranger.get([identifier]) == {}
    assert "CERTIFICATE_VERIFY_FAILED" in stranger.unreachable()[0]


def test_redis_that_is_too_small_is_told_before_posting(start_redis: Callable[..., Redis]) -> None:
    """What preflight lets pass fits; what needs twice as much does not, and the message has the setting."""
    server = start_redis(options=("--maxmemory", "12mb"))
    one, backend = store.of_url(server.url()), app_at(server.url()).backend
    free = 12 * 2**20 - one.figures()["used_bytes"]
    # Its own needs vary a little from one moment to the next.
    tasks = int(0.95 * free) // (ENTRY + META_BYTES + 1)
    before = one.preflight(tasks, None, 5)
    with pytest.raises(TaskmillError, match=r"too small for this run: .*maxmemory \(redis_memory_mb\)"):
        one.preflight(2 * tasks, None, 5)
    value = b"x" * META_BYTES
    with backend.client.pipeline(transaction=False) as pipeline:
        for identifier in journal.new_ids(tasks):
            pipeline.set(backend.get_key_for_task(identifier.decode()), value, ex=86400)
        pipeline.execute()
    after = one.figures()
    assert (after["items"], after["evictions"]) == (tasks, 0)
    # The estimate is not far off, either: a run that would fit is not refused.
    assert after["used_bytes"] - before["used_bytes"] > 0.7 * free


def test_store_that_goes_away_is_no_loss(start_redis: Callable[..., Redis], tmp_path: Path) -> None:
    """What cannot be fetched is not called lost; the message says of which store it is, and how to go on."""
    server = start_redis()
    url = server.url()
    server.stop()
    with pytest.raises(TaskmillError, match=r"redis at .*: 3 results are not fetched yet.*taskmill collect"):
        collect(tmp_path, journal.new_ids(3), url, 5)


def test_database_that_goes_away_is_no_loss(tmp_path: Path) -> None:
    """The same through Celery's own API, whose backends each raise errors of their own."""
    home = tmp_path / "home"
    home.mkdir()
    database = store.of_url(f"db+sqlite:///{home / 'results.db'}")
    database.figures()
    home.rename(tmp_path / "elsewhere")
    with pytest.raises(TaskmillError, match=r"db\+sqlite at .*: 3 results are not fetched yet.*taskmill collect"):
        collect(tmp_path, journal.new_ids(3), database, 5)
    with pytest.raises(TaskmillError, match="unable to open database file"):
        database.figures()


def test_pickle_in_a_database_is_refused(tmp_path: Path) -> None:
    """As Celery before 5.7 wrote it: reading it would run what is in it."""
    url = f"db+sqlite:///{tmp_path / 'results.db'}"
    [identifier] = journal.new_ids(1)
    backend = app_at(url).backend
    backend.store_result(identifier.decode(), 5, "SUCCESS")
    session = backend.ResultSession()
    session.query(Task).update({"result": pickle.dumps(Mark(tmp_path / "ran"))})
    session.commit()
    session.close()
    assert collect(tmp_path, [identifier], url, 5).wrong == 1
    assert not (tmp_path / "ran").exists()


def test_compressed_results_are_read(redis: Redis, tmp_path: Path) -> None:
    """What compressed a result stands in front of it, so the client needs no setting."""
    app = app_at(redis.url())
    app.conf.result_compression = "gzip"
    [identifier] = journal.new_ids(1)
    app.backend.store_result(identifier.decode(), 5, "SUCCESS")
    assert collect(tmp_path, [identifier], redis.url(), 5).correct == 1


def test_dead_letter_is_counted_anew(redis: Redis) -> None:
    """Requeued, a task may begin as often again as a new one: the count goes where the workers keep it."""
    backend = app_at(redis.url()).backend
    [identifier] = journal.new_ids(1)
    key = backend.get_key_for_task(identifier.decode()) + b"-redelivered"
    backend.client.set(key, 3)
    store.of_url(redis.url()).forget_redeliveries(identifier.decode())
    assert backend.client.get(key) is None


def test_dead_letter_of_a_store_that_is_away_is_requeued_all_the_same(
    start_redis: Callable[..., Redis], tmp_path: Path
) -> None:
    """The count stays as it is; an error would leave the message both in its queue and among the dead letters."""
    server = start_redis()
    redis = store.of_url(server.url())
    server.stop()
    redis.forget_redeliveries("some-id")
    (tmp_path / "home").mkdir()
    files: Any = store.of_url(f"file://{tmp_path / 'home'}")
    files._backend.implements_incr = True
    (tmp_path / "home").rmdir()
    files.forget_redeliveries("some-id")


def test_store_that_keeps_nothing_is_not_offered_for_results() -> None:
    """Whoever cannot have results from one store is told of those that have some."""
    with pytest.raises(TaskmillError) as caught:
        store.of_url("rpc://")
    assert "one of cache+memcached, redis, rediss, redis+socket, db+..." in str(caught.value)


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("rpc://", "can read each of them once"),
        ("sentinel://127.0.0.1:26379", "does not ask Redis Sentinel"),
        ("cache+memory://", "the worker's own memory"),
        ("cache://127.0.0.1/", r"cache\+memcached://HOST:11211/"),
        ("rediss://127.0.0.1:6379/0", "ssl_cert_reqs"),
        ("redis://127.0.0.1:many/0", "redis://:PASSWORD@HOST:6379/0"),
        ("strange://127.0.0.1/", "Celery cannot read results from strange://"),
        ("elasticsearch://127.0.0.1/", "packages that this backend needs"),
    ],
)
def test_store_that_is_not_to_be_had_is_told_at_once(url: str, words: str) -> None:
    """Before anything is published; with what there is in its place, or what is missing."""
    with pytest.raises(TaskmillError, match=words) as caught:
        store.of_url(url)
    assert "CELERY_RESULT_BACKEND" in str(caught.value)
    done = CliRunner().invoke(
        cli,
        ["run", "--task=a=b", "--tasks=1", "--n=1"],
        env={"CELERY_BROKER_URL": "amqp://127.0.0.1:1/", "CELERY_RESULT_BACKEND": url},
    )
    assert isinstance(done.exception, TaskmillError)


@pytest.mark.parametrize("url", ["redis://:to-be/hidden@192.0.2.1:6379/0", "db+postgresql://u:to-be#hidden@host/x"])
def test_password_that_is_not_quoted_is_not_shown(url: str) -> None:
    """Not the piece that was taken for a port either; how to write it is."""
    with pytest.raises(TaskmillError) as caught:
        store.of_url(url)
    assert "the characters / ? # @ of a password are written as %2F %3F %23 %40" in str(caught.value)
    assert "to-be" not in str(caught.value)


@pytest.mark.parametrize(
    "url",
    ["memcached", "redis", *(pytest.param(name, marks=pytest.mark.thorough) for name in ("file", "db"))],
    indirect=True,
)
def test_whole_run_with_results_elsewhere(
    taskmill: Taskmill, rabbitmq: RabbitMQ, memcached: Memcached, url: str, tmp_path: Path
) -> None:
    """A real worker stores them there, the client fetches them there, and the record says where that was."""
    taskmill.environment["CELERY_BROKER_URL"] = rabbitmq.url(CLIENT, vhost=OTHER_VHOST)
    taskmill.environment["CELERY_RESULT_BACKEND"] = url
    log = tmp_path / "worker"
    log.mkdir()
    with running(rabbitmq, memcached, log, "--include=taskmill_worker", CELERY_RESULT_BACKEND=url):
        done = taskmill("run", "--task=fibonacci.tasks.red=red", "--tasks=120", "--n=3", "--expect=2", "--no-profile")
    assert done.code == 0, done.out + done.err
    data = json.loads((taskmill.latest / "run.json").read_text())
    assert (data["counts"]["correct"], data["counts"]["lost"]) == (120, 0)
    kind = url.partition(":")[0].removeprefix("cache+")
    assert data["result_store"]["kind"] == kind
    assert ("limit_bytes" in data["memcached"]) == (kind == "memcached")
    assert "redis-secret" not in (taskmill.latest / "run.json").read_text() + done.out + done.err
