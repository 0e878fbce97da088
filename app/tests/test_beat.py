"""The program of the role celery_beat: what it tells systemd, and what it writes where beat cannot start."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType

import pytest

from services import ADMIN, WORKER, RabbitMQ, depth, end, free_port, purge_queue, wait_until
from test_worker_causes import FACTS

PROGRAM = Path(__file__).parents[2] / "roles" / "celery_beat" / "files" / "run_beat.py"
APP = """from celery import Celery
app = Celery("proj")
app.conf.task_default_queue = "yellow"
app.conf.beat_schedule = {"often": {"task": "proj.add", "schedule": 0.2, "args": [2, 3]}}
"""


@dataclass
class Beat:
    """A beat with a socket of systemd's, and what it writes."""

    folder: Path
    processes: list[subprocess.Popen[bytes]] = field(default_factory=list)

    def start(self, broker: str, *options: str) -> subprocess.Popen[bytes]:
        """Start beat with a broker's URL and further options."""
        (self.folder / "proj.py").write_text(APP)
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.bind(str(self.folder / "notify"))
        (self.folder / "more.py").write_text("print('more is loaded', flush=True)\n")
        environment = {"CELERY_BROKER_URL": broker, "NOTIFY_SOCKET": str(self.folder / "notify")}
        environment |= {"CELERY_BEAT_INCLUDE": "more", "PYTHONPATH": str(self.folder)}
        command = [sys.executable, str(PROGRAM), "--app=proj", "beat", "--pidfile=", "--loglevel=info", *options]
        with (self.folder / "log").open("wb") as log:
            process = subprocess.Popen(
                command, env=os.environ | environment, cwd=self.folder, stdout=log, stderr=log, start_new_session=True
            )
        self.processes.append(process)
        return process

    def told(self, seconds: float) -> bytes:
        """Return what it tells systemd within so many seconds."""
        self.socket.settimeout(seconds)
        return self.socket.recv(100)

    def silent(self) -> bool:
        """Return whether it has told systemd nothing so far."""
        self.socket.setblocking(False)
        try:
            self.socket.recv(100)
        except BlockingIOError:
            return True
        return False

    @property
    def log(self) -> str:
        """What it has written."""
        return (self.folder / "log").read_text()


@pytest.fixture
def beat(tmp_path: Path) -> Iterator[Beat]:
    """Yield a beat that is not started yet; it is ended afterwards."""
    one = Beat(tmp_path)
    yield one
    for process in one.processes:
        end(process)
    one.socket.close()


def test_beat_has_started_when_its_schedule_is_read_and_the_broker_is_reached(rabbitmq: RabbitMQ, beat: Beat) -> None:
    """It tells systemd so, keeps the schedule where it is told to, and sends what is due."""
    beat.start(rabbitmq.url(ADMIN), f"--schedule={beat.folder}/schedule")
    assert beat.told(120) == b"READY=1"
    assert list(beat.folder.glob("schedule*"))
    assert "more is loaded" in beat.log
    wait_until(lambda: depth(rabbitmq, "yellow") > 0, 60, "a message of beat's")
    end(beat.processes[0])
    purge_queue(rabbitmq, "yellow")


def test_beat_waits_for_a_broker_that_is_away(beat: Beat, causes: ModuleType) -> None:
    """It has not started meanwhile, and its log tells the cause."""
    process = beat.start(f"amqp://worker:x@127.0.0.1:{free_port()}/")
    wait_until(lambda: "Trying again" in beat.log, 60, "the second attempt")
    assert beat.silent()
    assert "more is loaded" in beat.log
    assert process.poll() is None
    said = causes.explain_cause(beat.log.splitlines(), {}, FACTS)
    assert (said["cause"], said["state"]) == ("broker", "tries")
    assert "the broker at 10.0.0.5:5672 cannot be reached: Connection refused. It does not run" in said["why"]


def test_a_login_that_the_broker_refuses_ends_beat(rabbitmq: RabbitMQ, beat: Beat, causes: ModuleType) -> None:
    """Celery alone would go on until something is due."""
    process = beat.start(rabbitmq.url(WORKER, password="not-it"))
    assert process.wait(120) == 1
    assert beat.silent()
    assert causes.explain_cause(beat.log.splitlines(), {}, FACTS)["cause"] == "login"


def test_a_schedule_that_cannot_be_read_ends_beat(rabbitmq: RabbitMQ, beat: Beat, causes: ModuleType) -> None:
    """Here for a scheduler whose package is not there."""
    process = beat.start(rabbitmq.url(ADMIN), "--scheduler=nowhere.schedulers:DatabaseScheduler")
    assert process.wait(120) == 1
    assert beat.silent()
    said = causes.explain_cause(beat.log.splitlines(), {}, FACTS)
    assert (said["cause"], "the app imports nowhere, and" in said["why"]) == ("dependency", True)
