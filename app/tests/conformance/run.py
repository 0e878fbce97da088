"""Run both workers with a pool and a result backend, side by side, and return what was seen of each."""

from __future__ import annotations

import dataclasses
import json
import os
import subprocess
import sys
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from conformance.drive import OURS, STOCK, Job, Seen
from services import ADMIN, OTHER_VHOST, VHOST, Memcached, RabbitMQ, Redis, channel

TESTS = Path(__file__).parents[1]
BACKENDS = ("memcached", "redis", "rpc", "database", "none")
POOLS = ("prefork", "threads", "solo", "gevent")


@dataclass
class Services:
    """The private services of the comparison."""

    rabbitmq: RabbitMQ
    memcached: Memcached
    #: It may be absent where nothing asks for it.
    redis: Redis | None
    folder: Path

    def backend(self, name: str, number: int, folder: Path) -> str:
        """Return the URL of a result backend; `number` tells the workers apart."""
        urls: dict[str, Callable[[], str]] = {
            "memcached": lambda: self.memcached.url,
            "redis": lambda: self.redis.url(number) if self.redis else "",
            "rpc": lambda: "rpc://",
            "database": lambda: f"db+sqlite:///{folder / 'results.sqlite'}",
            "none": lambda: "disabled://",
        }
        return urls[name]()


def both(
    services: Services, pool: str, backend: str, features: list[str], source: Path | None = None
) -> dict[str, Seen]:
    """Run both workers at the same time; raise ``RuntimeError`` with what a driver said when it could not."""
    begun = {
        which: begin(services, pool, backend, features, which, number, source)
        for number, which in enumerate((STOCK, OURS))
    }
    seen = {}
    for which, (process, folder) in begun.items():
        code = process.wait(600)
        if code:
            raise RuntimeError(f"{which}: {(folder / 'driver.log').read_text()[-4000:]}")
        seen[which] = Seen(**json.loads((folder / "seen.json").read_text()))
    for vhost in (VHOST, OTHER_VHOST):
        delete_traces(services.rabbitmq, vhost)
    return seen


def delete_traces(rabbitmq: RabbitMQ, vhost: str) -> None:
    """Delete queues and exchanges of the comparison, which other tests of the same broker do not expect."""
    broker = channel(rabbitmq, vhost=vhost)
    for kind, delete in (("queues", broker.queue_delete), ("exchanges", broker.exchange_delete)):
        for name in rabbitmq.ctl(f"list_{kind}", "-p", vhost, "name").split():
            if name.startswith("conformance"):
                delete(name)
    broker.connection.close()


def begin(
    services: Services, pool: str, backend: str, features: list[str], which: str, number: int, source: Path | None
) -> tuple[subprocess.Popen[bytes], Path]:
    """Start the driver of one worker; return it with its folder."""
    folder = services.folder / f"{pool}-{backend}-{which}-{uuid.uuid4().hex[:6]}"
    folder.mkdir()
    addresses = {
        "CONFORMANCE_BROKER": services.rabbitmq.url(ADMIN, (VHOST, OTHER_VHOST)[number]),
        "CONFORMANCE_BACKEND": services.backend(backend, number, folder),
        "CONFORMANCE_FOLDER": str(folder),
    }
    modules = {"PYTHONPATH": os.pathsep.join(map(str, [source or TESTS.parent / "src", TESTS]))}
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
