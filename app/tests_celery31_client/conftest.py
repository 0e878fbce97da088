"""A private RabbitMQ, a memcached and a Celery 3.1 worker for these tests; the client under test runs on Python 2.7."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent / "tests"))

from services import ADMIN, CLIENT, Memcached, RabbitMQ, end, wait_until  # noqa: E402  # found by the line above

#: The Python 2.7 of an environment with requirements/celery31/client.txt.
PYTHON = os.environ.get("CELERY31_PYTHON", "")


@dataclass
class Result:
    """What a command left behind."""

    code: int
    out: str
    err: str

    @property
    def folder(self) -> Path:
        """The run's folder, as the command named it."""
        return Path(next(line for line in self.err.splitlines() if line.startswith("run folder ")).split(" ", 2)[2])

    @property
    def record(self) -> dict[str, Any]:
        """The run's record."""
        found: dict[str, Any] = json.loads((self.folder / "run.json").read_text())
        return found


@dataclass
class Client:
    """Runs the client with an environment and a directory of runs of its own."""

    environment: dict[str, str]
    runs: Path

    def popen(self, *arguments: str) -> subprocess.Popen[str]:
        """Start the command."""
        command = [PYTHON, "-m", "celery31_client", *arguments]
        if arguments[0] == "run":
            command += ["--runs-directory", str(self.runs)]
        environment = {
            "PATH": os.environ["PATH"],
            "PYTHONPATH": str(HERE.parent / "src"),
            "PYTHONDONTWRITEBYTECODE": "1",
        }
        return subprocess.Popen(
            command, env=environment | self.environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )

    def __call__(self, *arguments: str) -> Result:
        """Run the command to its end."""
        return self.finish(self.popen(*arguments))

    def finish(self, process: subprocess.Popen[str]) -> Result:
        """Wait for the end of a command that was started."""
        try:
            out, err = process.communicate(timeout=60)
        finally:
            process.kill()
        return Result(process.returncode, out, err)


@pytest.fixture(scope="session")
def rabbitmq(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RabbitMQ]:
    """Yield a private RabbitMQ."""
    assert PYTHON, "CELERY31_PYTHON has to name the Python 2.7 of an environment with requirements/celery31/client.txt"
    server = RabbitMQ(tmp_path_factory.mktemp("rabbitmq"))
    try:
        server.start()
        yield server
    finally:
        server.stop()


@pytest.fixture(scope="session")
def memcached() -> Iterator[Memcached]:
    """Yield a private memcached."""
    server = Memcached()
    try:
        server.start()
        yield server
    finally:
        server.stop()


@pytest.fixture(scope="session")
def environment(rabbitmq: RabbitMQ, memcached: Memcached) -> dict[str, str]:
    """Return the variables that tell the client where the services are, with the permissions of a client."""
    return {"CELERY_BROKER_URL": rabbitmq.url(CLIENT), "CELERY_RESULT_BACKEND": memcached.url}


@pytest.fixture(scope="session", autouse=True)
def worker(
    rabbitmq: RabbitMQ, environment: dict[str, str], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[subprocess.Popen[bytes]]:
    """Yield a worker w1 on the three queues; it may declare what it consumes, as celery 3.1 does."""
    log = tmp_path_factory.mktemp("worker") / "w1.log"
    command = [PYTHON, "-m", "celery", "--app=work", "worker", "--queues=red,green,blue", "--hostname=w1@%h"]
    with log.open("wb") as stream:
        process = subprocess.Popen(
            [*command, "--concurrency=2", "--loglevel=info"],
            cwd=HERE,
            env={"PATH": os.environ["PATH"], **environment, "CELERY_BROKER_URL": rabbitmq.url(ADMIN)},
            stdout=stream,
            stderr=stream,
            start_new_session=True,
        )
    try:
        wait_until(lambda: " ready." in log.read_text(), 60, f"worker ready (see {log})")
        yield process
    finally:
        end(process)


@pytest.fixture
def client(environment: dict[str, str], tmp_path: Path) -> Client:
    """Return the client, with a directory of runs of its own."""
    return Client(environment, tmp_path / "runs")


@pytest.fixture
def double(client: Client) -> Callable[..., Result]:
    """Return a function that runs so many tasks that are right, spread over the three queues."""

    def run(tasks: int, *options: str) -> Result:
        return client(
            "run",
            f"--tasks={tasks}",
            "--n=21",
            "--task=work.double=red",
            "--task=work.wait=green",
            "--expect=42",
            *options,
        )

    return run
