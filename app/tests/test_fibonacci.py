"""The Celery app: settings, results and how its workers behave."""

import io
import json
import os
import pickle
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import celery
import memcache
import pytest
from celery.exceptions import ImproperlyConfigured

from conftest import TASKS, Taskmill
from fibonacci import expected, recursion
from fibonacci.settings import from_environment
from services import (
    DEAD,
    FLOWER,
    IDLE,
    OTHER_VHOST,
    QUEUES,
    SOURCE,
    VHOST,
    WORKER,
    Memcached,
    RabbitMQ,
    Worker,
    wait_until,
)
from taskmill_worker.memcached_backend import MemcachedBackend, RefusingUnpickler

ADDRESSES = {"CELERY_BROKER_URL": "amqp://u:p@h/v", "CELERY_RESULT_BACKEND": "cache+memcached://h:11211/"}


def run(code: str, environment: dict[str, str], timeout: float = 120) -> subprocess.CompletedProcess[str]:
    """Run Python code as a client of the app."""
    return subprocess.run(
        [sys.executable, "-c", code],
        env={"PATH": os.environ["PATH"], "PYTHONPATH": str(SOURCE)} | environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=timeout,
    )


def test_recursion_and_iteration_agree() -> None:
    """The task's function and the one that checks it give the known numbers."""
    numbers = [0, 1, 1, 2, 3, 5, 8, 13, 21, 34, 55]
    assert [recursion.fibonacci(n) for n in range(11)] == numbers
    assert [expected.fibonacci(n) for n in range(11)] == numbers
    assert recursion.fibonacci(20) == expected.fibonacci(20) == 6765


def test_each_task_is_routed_to_the_queue_of_its_name() -> None:
    """One task per queue, by settings alone; the queues are plain durable ones that nobody here declares."""
    settings = from_environment(ADDRESSES)
    assert settings["task_routes"] == {f"fibonacci.tasks.{name}": {"queue": name} for name in QUEUES}
    assert [
        (queue.name, queue.durable, queue.queue_arguments, queue.no_declare) for queue in settings["task_queues"]
    ] == [(name, True, None, True) for name in QUEUES]


@pytest.mark.parametrize("name", list(ADDRESSES))
def test_missing_setting_names_its_file(name: str) -> None:
    """The app imports without an environment and says what is missing when it is needed."""
    with pytest.raises(ImproperlyConfigured, match=rf"{name} is not set.*/etc/celery/"):
        from_environment({key: value for key, value in ADDRESSES.items() if key != name})
    done = run("from fibonacci.celery import app; print('imported', flush=True); app.conf.task_routes", {})
    assert done.stdout == "imported\n"
    assert "CELERY_BROKER_URL is not set" in done.stderr


@pytest.mark.parametrize("value", ["0", "-1", "soon", "1.5"])
def test_expiry_must_be_whole_and_positive(value: str) -> None:
    """CELERY_RESULT_EXPIRES takes seconds."""
    with pytest.raises(ImproperlyConfigured, match="CELERY_RESULT_EXPIRES"):
        from_environment(ADDRESSES | {"CELERY_RESULT_EXPIRES": value})


def test_result_backend_of_another_kind_is_refused() -> None:
    """Only memcached is spoken to."""
    app = celery.Celery("x", set_as_current=False)
    with pytest.raises(ImproperlyConfigured, match=r"cache\+memcached://"):
        MemcachedBackend(app, url="memory://")


def test_unpickler_never_unpickles() -> None:
    """The stand-in raises whatever it is given."""
    with pytest.raises(pickle.UnpicklingError, match="refused"):
        RefusingUnpickler(io.BytesIO(pickle.dumps(5))).load()


def test_worker_with_an_unknown_queue_does_not_start(rabbitmq: RabbitMQ, memcached: Memcached, tmp_path: Path) -> None:
    """A mistyped queue is an error at the start, not a new queue."""
    log = tmp_path / "log"
    one = Worker(
        "typo",
        {"CELERY_BROKER_URL": rabbitmq.url(WORKER), "CELERY_RESULT_BACKEND": memcached.url},
        log,
        queues=("rde",),
    )
    one.start()
    assert one.process is not None
    try:
        assert one.process.wait(60) != 0
    finally:
        one.stop()
    assert "rde" in log.read_text()
    assert "rde" not in rabbitmq.ctl("list_queues", "-p", VHOST, "name")


def test_workers_add_no_queue_and_no_exchange_of_their_own(rabbitmq: RabbitMQ, worker: Worker) -> None:
    """Beside remote control and events, the broker holds what its role declares and nothing more."""
    assert worker.process is not None
    queues = set(rabbitmq.ctl("list_queues", "-p", VHOST, "--no-table-headers", "name").split())
    ours = {name for name in queues if "pidbox" not in name and not name.startswith("celeryev")}
    assert ours == {*QUEUES, *IDLE, DEAD}
    exchanges = set(rabbitmq.ctl("list_exchanges", "-p", VHOST, "--no-table-headers", "name").split())
    assert {name for name in exchanges if not name.startswith("amq.")} == {
        "celeryev",
        "celery.pidbox",
        "reply.celery.pidbox",
    }


MONITOR = """
import json, threading
from celery import Celery
app = Celery(broker="{url}")
seen = []
control = {{}}
def ask():
    control.update(app.control.inspect(timeout=60, limit=1).stats() or {{}})
thread = threading.Thread(target=ask)
thread.start()
with app.connection() as connection:
    beat = lambda event: seen.append(event["hostname"])
    receiver = app.events.Receiver(connection, handlers={{"worker-heartbeat": beat}})
    try:
        receiver.capture(limit=1, timeout=60, wakeup=True)
    except TimeoutError:
        pass
thread.join()
print(json.dumps([seen, list(control)]))
"""


def test_monitor_needs_no_more_than_its_permissions(rabbitmq: RabbitMQ, worker: Worker) -> None:
    """With Flower's permissions events arrive and workers answer; the task queues stay closed to it."""
    done = run(MONITOR.format(url=rabbitmq.url(FLOWER)), {})
    assert done.returncode == 0, done.stderr
    assert done.stdout.count(f"{worker.name}@") == 2, done.stdout + done.stderr
    theirs = (
        "import amqp; c = amqp.Connection('127.0.0.1:{port}', '{name}', '{password}', virtual_host='taskmill'); "
        "c.connect(); c.channel().basic_get('red')"
    )
    done = run(theirs.format(port=rabbitmq.port, name=FLOWER.name, password=FLOWER.password), {})
    assert "ACCESS_REFUSED" in done.stderr


@pytest.mark.usefixtures("worker")
def test_task_of_a_killed_pool_process_is_done_again(taskmill: Taskmill, worker: Worker) -> None:
    """Late acknowledgement and reject on loss: kill -9 of a pool process loses no task."""
    process = taskmill.popen("run", *TASKS, "--tasks=300", "--n=24", "--expect=46368", "--no-profile", "--deadline=30")
    wait_until(lambda: (taskmill.runs / "latest" / ".faults.jsonl").exists(), 60, "collecting")
    assert worker.process is not None
    children = Path(f"/proc/{worker.process.pid}/task/{worker.process.pid}/children").read_text().split()
    os.kill(int(children[0]), signal.SIGKILL)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 0, out + err
    assert "All 300 results are there and right." in out


@pytest.fixture
def fragile(rabbitmq: RabbitMQ, tmp_path: Path) -> Iterator[tuple[Worker, Memcached]]:
    """Yield a worker on red alone, with a memcached of its own, that a test may stop."""
    store = Memcached()
    store.start()
    one = Worker(
        "fragile",
        {"CELERY_BROKER_URL": rabbitmq.url(WORKER, vhost=OTHER_VHOST), "CELERY_RESULT_BACKEND": store.url},
        tmp_path / "log",
        queues=("red",),
        concurrency=1,
    )
    one.start()
    try:
        wait_until(one.ready, 60, "worker ready")
        yield one, store
    finally:
        one.stop()
        store.stop()


POST_AND_WAIT = """
import sys
from fibonacci.celery import app
from fibonacci.tasks import red
app.set_current()
results = [red.apply_async((3,)) for _ in range(20)]
print("\\n".join(result.id for result in results), flush=True)
"""


def test_result_that_memcached_did_not_take_is_stored_later(fragile: tuple[Worker, Memcached]) -> None:
    """memcached is away while tasks end: their results are tried again and none is lost, nor are their times."""
    one, store = fragile
    store.stop()
    done = run(POST_AND_WAIT, one.environment)
    ids = done.stdout.split()
    assert len(ids) == 20, done.stderr
    wait_until(lambda: one.log.read_text().count("did not store a result") > 2, 60, "failed writes in the log")
    store.start()
    client: Any = memcache.Client([f"127.0.0.1:{store.port}"], dead_retry=1)
    keys = [f"celery-task-meta-{identifier}" for identifier in ids]
    wait_until(lambda: len(client.get_multi(keys)) == 20, 60, "20 results", 0.2)
    metas = [json.loads(value) for value in client.get_multi(keys).values()]
    assert {meta["status"] for meta in metas} == {"SUCCESS"}
    assert [len(meta.get("taskmill", [])) for meta in metas] == [4] * 20
