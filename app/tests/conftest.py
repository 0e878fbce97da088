"""Services that live as long as the test session, and the command as a user runs it."""

from __future__ import annotations

import importlib.util
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any, TypeVar

import amqp
import pytest

from services import (
    CLIENT,
    OTHER_VHOST,
    QUEUES,
    SOURCE,
    WORKER,
    Memcached,
    RabbitMQ,
    Redis,
    Worker,
    channel,
    depth,
    purge_queue,
    wait_until,
)

Server = TypeVar("Server", RabbitMQ, Memcached, Redis)
TASKS = tuple(f"--task=fibonacci.tasks.{name}={name}" for name in ("red", "green", "blue"))
#: What a test asks for, by itself or by a fixture of its, when it needs RabbitMQ, memcached, Redis or a worker.
SERVICES = frozenset({"rabbitmq", "memcached", "start_memcached", "redis", "start_redis"})


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark what needs a service or a browser, before tests are selected by their marks."""
    for item in items:
        names = set(getattr(item, "fixturenames", ()))
        if names & SERVICES:
            item.add_marker(pytest.mark.service)
        if "browser" in names:
            item.add_marker(pytest.mark.browser)


@contextmanager
def up(server: Server) -> Iterator[Server]:
    """Yield a service that runs meanwhile."""
    try:
        server.start()
        yield server
    finally:
        server.stop()


@pytest.fixture(scope="session")
def causes() -> ModuleType:
    """Return the part of the role celery_worker's script that knows why a worker does not come up."""
    path = SOURCE.parents[1] / "roles" / "celery_worker" / "files" / "worker_causes.py"
    specification = importlib.util.spec_from_file_location("role_worker_causes", path)
    assert specification is not None
    assert specification.loader is not None
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    return module


@pytest.fixture(scope="session")
def rabbitmq(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RabbitMQ]:
    """Yield a private RabbitMQ."""
    with up(RabbitMQ(tmp_path_factory.mktemp("rabbitmq"))) as server:
        yield server


@pytest.fixture(scope="session")
def memcached() -> Iterator[Memcached]:
    """Yield a private memcached of 64 MiB."""
    with up(Memcached()) as server:
        yield server


@pytest.fixture
def start_memcached() -> Iterator[Callable[..., Memcached]]:
    """Yield what starts a memcached of so many megabytes for one test, that may stop it."""
    with ExitStack() as started:
        yield lambda megabytes=64: started.enter_context(up(Memcached(megabytes)))


@pytest.fixture(scope="session")
def redis(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Redis]:
    """Yield a private Redis."""
    with up(Redis(tmp_path_factory.mktemp("redis"))) as server:
        yield server


@pytest.fixture
def send(rabbitmq: RabbitMQ) -> Iterator[Callable[[amqp.Message], None]]:
    """Return what puts a message into the queue red of the virtual host that no shared worker serves."""
    one = channel(rabbitmq, vhost=OTHER_VHOST)
    yield lambda what: one.basic_publish(what, routing_key="red")
    one.connection.close()


@pytest.fixture
def start_redis(tmp_path: Path) -> Iterator[Callable[..., Redis]]:
    """Yield what starts a Redis for one test, that may stop it; options are those of :class:`Redis`."""
    with ExitStack() as started:
        yield lambda **options: started.enter_context(up(Redis(tmp_path, **options)))


@pytest.fixture(scope="session")
def worker(rabbitmq: RabbitMQ, memcached: Memcached, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Worker]:
    """Yield a worker of the app fibonacci, w1, on all three queues."""
    log = tmp_path_factory.mktemp("worker") / "w1.log"
    one = Worker("w1", {"CELERY_BROKER_URL": rabbitmq.url(WORKER), "CELERY_RESULT_BACKEND": memcached.url}, log)
    try:
        one.start()
        wait_until(one.ready, 60, "worker w1 ready")
        yield one
    finally:
        one.stop()


@dataclass
class Result:
    """What a command left behind."""

    code: int
    out: str
    err: str


@dataclass
class Taskmill:
    """Runs ``python -m taskmill`` with an environment and a directory of runs of its own."""

    environment: dict[str, str]
    runs: Path

    def popen(self, *arguments: str, **options: Any) -> subprocess.Popen[str]:
        """Start the command; ``run`` and ``publish`` get their directory of runs."""
        command = [sys.executable, "-m", "taskmill", *arguments]
        if arguments and arguments[0] in {"run", "publish"}:
            command += ["--runs-directory", str(self.runs)]
        base = {name: value for name, value in os.environ.items() if not name.startswith("CELERY_")}
        options = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True, **options}
        return subprocess.Popen(command, env=base | {"PYTHONPATH": str(SOURCE)} | self.environment, **options)

    def __call__(self, *arguments: str, timeout: float = 60) -> Result:
        """Run the command to its end."""
        process = self.popen(*arguments)
        try:
            out, err = process.communicate(timeout=timeout)
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGKILL)
            out, err = process.communicate()
            raise AssertionError(f"still running after {timeout} s:\n{out}\n{err}") from None
        return Result(process.returncode, out, err)

    @property
    def latest(self) -> Path:
        """The folder of the latest run."""
        return (self.runs / "latest").resolve(strict=True)

    def ids_written(self) -> int:
        """How many ids are on disk."""
        if not (self.runs / "latest").exists():
            return 0
        return sum(path.read_bytes().count(b"\n") for path in (self.latest / "ids").glob("*.ids"))


@pytest.fixture
def taskmill(rabbitmq: RabbitMQ, memcached: Memcached, tmp_path: Path) -> Taskmill:
    """Return the command for the private services, as the user that only posts and asks.

    What a test before left to the worker, such as messages that were posted twice, is worked off first.
    """
    wait_until(lambda: not any(depth(rabbitmq, queue) for queue in QUEUES), 60, "empty queues")
    return Taskmill(
        {"CELERY_BROKER_URL": rabbitmq.url(CLIENT), "CELERY_RESULT_BACKEND": memcached.url}, tmp_path / "runs"
    )


@pytest.fixture
def purge(rabbitmq: RabbitMQ) -> Iterator[Callable[[str], None]]:
    """Return what empties a queue; every queue asked for is emptied again at the end."""
    asked: list[str] = []

    def empty(queue: str) -> None:
        asked.append(queue)
        purge_queue(rabbitmq, queue)

    yield empty
    for queue in asked:
        purge_queue(rabbitmq, queue)
