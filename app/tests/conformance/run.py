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
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from conformance.app import DEAD, QUEUE
from conformance.drive import ALL, BESIDE, Job, Seen
from services import ADMIN, OTHER_VHOST, OURS, STOCK, VHOST, Memcached, RabbitMQ, Redis, channel

TESTS = Path(__file__).parents[1]
BACKENDS = ("memcached", "redis", "rpc", "database", "none")
#: Seconds that a driver which is told to end has to stop its worker.
END = 40.0


@contextmanager
def store(backend: str, folder: Path) -> Iterator[str]:
    """Yield the URL of a result backend that nobody else uses: some ids are the same with both workers."""
    server = Memcached() if backend == "memcached" else Redis(folder) if backend == "redis" else None
    if server is None:
        others = {"rpc": "rpc://", "database": f"db+sqlite:///{folder / 'results.sqlite'}", "none": "disabled://"}
        yield others[backend]
        return
    try:
        server.start()
        yield server.url if isinstance(server, Memcached) else server.url()
    finally:
        server.stop()


def both(rabbitmq: RabbitMQ, parent: Path, pool: str, backend: str, features: list[str]) -> dict[str, Seen]:
    """Run both workers at the same time; raise ``RuntimeError`` with what a driver said when it could not.

    Whatever becomes of it, no driver runs afterwards, and nothing of the comparison is left in the broker.
    """
    begun: dict[str, tuple[subprocess.Popen[bytes], Path]] = {}
    vhosts = {STOCK: VHOST, OURS: OTHER_VHOST}
    end = time.monotonic() + ALL + BESIDE
    with ExitStack() as stores:
        try:
            for which, vhost in vhosts.items():
                folder = parent / f"{pool}-{backend}-{which}-{uuid.uuid4().hex[:6]}"
                folder.mkdir()
                url = stores.enter_context(store(backend, folder))
                begun[which] = begin(rabbitmq.url(ADMIN, vhost), url, folder, pool, which, features), folder
            return {which: outcome(which, *one, end - time.monotonic()) for which, one in begun.items()}
        finally:
            stop([process for process, _ in begun.values()])
            for vhost in vhosts.values():
                delete_traces(rabbitmq, vhost)


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
    """Delete queues and exchange of the comparison, which other tests of the same broker do not expect."""
    broker = channel(rabbitmq, vhost=vhost)
    for name in (QUEUE, DEAD):
        broker.queue_delete(name)
    broker.exchange_delete(QUEUE)
    broker.connection.close()


def begin(
    broker: str, backend: str, folder: Path, pool: str, which: str, features: list[str]
) -> subprocess.Popen[bytes]:
    """Start the driver of one worker."""
    addresses = {"CONFORMANCE_BROKER": broker, "CONFORMANCE_BACKEND": backend, "CONFORMANCE_FOLDER": str(folder)}
    modules = {"PYTHONPATH": os.pathsep.join(map(str, [TESTS.parent / "src", TESTS]))}
    job = Job(
        str(folder / "seen.json"), pool, which, features, environment=addresses | modules,
    )  # fmt: skip
    (folder / "job.json").write_text(json.dumps(dataclasses.asdict(job)))
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("CELERY_", "TASKMILL_"))}
    with (folder / "driver.log").open("wb") as log:
        return subprocess.Popen(
            [sys.executable, "-m", "conformance.drive", str(folder / "job.json")],
            env=clean | addresses | modules, cwd=TESTS, stdout=log, stderr=log,
        )  # fmt: skip
