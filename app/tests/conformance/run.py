"""Run both workers with a pool and a result backend, side by side, and return what was seen of each."""

from __future__ import annotations

import dataclasses
import json
import os
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from conformance.drive import ALL, BESIDE, Job, Seen
from services import ADMIN, OTHER_VHOST, OURS, STOCK, VHOST, Memcached, RabbitMQ, Redis, channel

TESTS = Path(__file__).parents[1]
BACKENDS = ("memcached", "redis", "rpc", "database", "none")
#: Seconds that a driver which is told to end has to stop its worker.
END = 40.0


@dataclass
class Services:
    """The private services of the comparison."""

    rabbitmq: RabbitMQ
    memcached: Memcached
    redis: Redis
    folder: Path

    def backend(self, name: str, number: int, folder: Path) -> str:
        """Return the URL of a result backend; `number` tells the workers apart."""
        urls: dict[str, Callable[[], str]] = {
            "memcached": lambda: self.memcached.url,
            "redis": lambda: self.redis.url(number),
            "rpc": lambda: "rpc://",
            "database": lambda: f"db+sqlite:///{folder / 'results.sqlite'}",
            "none": lambda: "disabled://",
        }
        return urls[name]()


def both(services: Services, pool: str, backend: str, features: list[str]) -> dict[str, Seen]:
    """Run both workers at the same time; raise ``RuntimeError`` with what a driver said when it could not.

    Whatever becomes of it, no driver runs afterwards, and nothing of the comparison is left in the broker.
    """
    begun: dict[str, tuple[subprocess.Popen[bytes], Path]] = {}
    end = time.monotonic() + ALL + BESIDE
    try:
        for number, which in enumerate((STOCK, OURS)):
            begun[which] = begin(services, pool, backend, features, which, number)
        return {which: outcome(which, *one, end - time.monotonic()) for which, one in begun.items()}
    finally:
        stop([process for process, _ in begun.values()])
        for vhost in (VHOST, OTHER_VHOST):
            delete_traces(services.rabbitmq, vhost)


def outcome(which: str, process: subprocess.Popen[bytes], folder: Path, seconds: float) -> Seen:
    """Wait so long for a driver and return what it saw; raise ``RuntimeError`` with what it said where it failed."""
    try:
        code = process.wait(max(0.0, seconds))
    except subprocess.TimeoutExpired:
        code = None
    if code != 0:
        how = "did not come to its end" if code is None else f"ended with code {code}"
        raise RuntimeError(f"{which} {how}: {(folder / 'driver.log').read_text()[-4000:]}")
    return Seen(**json.loads((folder / "seen.json").read_text()))


def stop(processes: list[subprocess.Popen[bytes]]) -> None:
    """Have drivers that run stop their workers and end."""
    running = [process for process in processes if process.poll() is None]
    for process in running:
        process.send_signal(signal.SIGINT)
    for process in running:
        try:
            process.wait(END)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait(END)


def delete_traces(rabbitmq: RabbitMQ, vhost: str) -> None:
    """Delete queues and exchanges of the comparison, which other tests of the same broker do not expect."""
    broker = channel(rabbitmq, vhost=vhost)
    for kind, delete in (("queues", broker.queue_delete), ("exchanges", broker.exchange_delete)):
        for name in rabbitmq.ctl(f"list_{kind}", "-p", vhost, "name").split():
            if name.startswith("conformance"):
                delete(name)
    broker.connection.close()


def begin(
    services: Services, pool: str, backend: str, features: list[str], which: str, number: int
) -> tuple[subprocess.Popen[bytes], Path]:
    """Start the driver of one worker; return it with its folder."""
    folder = services.folder / f"{pool}-{backend}-{which}-{uuid.uuid4().hex[:6]}"
    folder.mkdir()
    addresses = {
        "CONFORMANCE_BROKER": services.rabbitmq.url(ADMIN, (VHOST, OTHER_VHOST)[number]),
        "CONFORMANCE_BACKEND": services.backend(backend, number, folder),
        "CONFORMANCE_FOLDER": str(folder),
    }
    modules = {"PYTHONPATH": os.pathsep.join(map(str, [TESTS.parent / "src", TESTS]))}
    job = Job(
        str(folder / "seen.json"), pool, which, features, environment=addresses | modules,
    )  # fmt: skip
    (folder / "job.json").write_text(json.dumps(dataclasses.asdict(job)))
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("CELERY_", "TASKMILL_"))}
    with (folder / "driver.log").open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "conformance.drive", str(folder / "job.json")],
            env=clean | addresses | modules, cwd=TESTS, stdout=log, stderr=log,
        )  # fmt: skip
    return process, folder
