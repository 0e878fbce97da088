"""The sampler of units, without a host: processes, groups and a broker's API that are made up."""

from __future__ import annotations

import base64
import json
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest
from python_file import load

PROGRAM = Path(__file__).parents[2] / "roles" / "host_stats" / "files" / "sample_units.py"
WORKER = "/system.slice/system-celery\\x2dworker.slice/celery-worker@w1.service"


sampler = load(PROGRAM)


class Machine:
    """A /proc and a /sys/fs/cgroup in a directory."""

    def __init__(self, directory: Path) -> None:
        self.proc, self.groups = directory / "proc", directory / "cgroup"
        self.proc.mkdir()
        self.groups.mkdir()
        self.units = sampler.Units(str(self.proc), str(self.groups))

    def run(self, pid: int, unit: str, cpu: float, *, ended: float = 0.0, parent: int = 1, start: int = 100) -> None:
        """Let a process have used `cpu` seconds by itself, and children that it waited for `ended`."""
        own, waited = (int(seconds * sampler.TICK) for seconds in (cpu, ended))
        directory = self.proc / str(pid)
        directory.mkdir(exist_ok=True)
        (directory / "stat").write_text(
            f"{pid} (a (strange) name) S {parent} 1 1 0 -1 64 0 0 0 0 {own} 0 {waited} 0 20 0 1 0 {start} 4096 10 0\n"
        )
        (directory / "cgroup").write_text(f"9:name=systemd:{unit}\n0::{unit}\n")

    def end(self, pid: int) -> None:
        """End a process."""
        shutil.rmtree(self.proc / str(pid))

    def sample(self) -> dict[str, tuple[float, int, int]]:
        """Return what each unit used, by its name."""
        return {name: (round(cpu, 6), rss, processes) for name, cpu, rss, processes in self.units.sample()}

    def cpu(self, unit: str = "celery-worker@w1.service") -> float:
        """Return a unit's CPU seconds."""
        return self.sample()[unit][0]


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    """A machine on which nothing runs yet."""
    return Machine(tmp_path)


def test_processes_are_summed_by_unit_under_its_full_name(machine: Machine) -> None:
    """Instances are kept apart, a group within a unit is the unit's, and what has no unit is other."""
    machine.run(10, WORKER, 2.0)
    machine.run(11, f"{WORKER}/inner", 1.0, parent=10)
    machine.run(12, WORKER.replace("w1", "w2"), 4.0)
    machine.run(13, "/", 8.0)
    page = sampler.PAGE
    assert machine.sample() == {
        "celery-worker@w1.service": (3.0, 20 * page, 2),
        "celery-worker@w2.service": (4.0, 10 * page, 1),
        "other": (8.0, 10 * page, 1),
    }


def test_the_groups_own_count_is_taken_where_there_is_one(machine: Machine) -> None:
    """Version 2 counts a unit's CPU exactly, with or without its controller."""
    machine.run(10, WORKER, 2.0)
    group = Path(f"{machine.groups}{WORKER}")
    group.mkdir(parents=True)
    (group / "cpu.stat").write_text("usage_usec 2345678\nuser_usec 2000000\nsystem_usec 345678\n")
    assert machine.cpu() == 2.345678


def test_version_2_beside_version_1_is_found(tmp_path: Path) -> None:
    """On a host with both, the count comes from the folder in which version 2 is mounted."""
    (tmp_path / "cgroup" / "unified").mkdir(parents=True)
    assert sampler.Units("/proc", str(tmp_path / "cgroup")).groups.endswith("/unified")


def test_a_child_that_was_waited_for_is_counted_once(machine: Machine) -> None:
    """Its parent's count of ended children takes over from its own."""
    machine.run(10, WORKER, 1.0)
    machine.run(11, WORKER, 5.0, parent=10)
    assert machine.cpu() == 6.0
    machine.end(11)
    machine.run(10, WORKER, 1.0, ended=5.5)
    assert machine.cpu() == 6.5


def test_a_process_that_nobody_in_its_unit_waited_for_is_not_forgotten(machine: Machine) -> None:
    """What init reaps stays with the unit, as it was seen last."""
    machine.run(1, "/init.scope", 1.0)
    machine.run(10, WORKER, 1.0)
    machine.run(11, WORKER, 5.0, parent=1)
    assert machine.cpu() == 6.0
    machine.end(11)
    machine.run(1, "/init.scope", 1.0, ended=5.0)
    sample = machine.sample()
    assert sample["celery-worker@w1.service"][0] == 6.0
    assert sample["init.scope"][0] == 1.0


def test_a_number_that_another_process_got_is_another_process(machine: Machine) -> None:
    """A process number that is used again neither loses nor inherits what was counted under it."""
    machine.run(1, "/init.scope", 0.0)
    machine.run(10, WORKER, 3.0, start=100)
    machine.sample()
    machine.run(10, WORKER, 0.5, start=900)
    assert machine.cpu() == 3.5


def test_a_restart_is_counted_once_and_only_of_what_ran_at_the_beginning(machine: Machine) -> None:
    """A service that was away for some looks has restarted once; pool processes and late services do not count."""
    service = "/system.slice/memcached.service"
    machine.run(10, service, 1.0, start=100)
    machine.run(11, service, 1.0, parent=10, start=110)
    machine.sample()
    machine.run(12, service, 1.0, parent=10, start=200)
    machine.end(11)
    machine.run(20, "/system.slice/backup.service", 1.0, start=210)
    machine.sample()
    assert machine.units.restarts == {"memcached.service": 0}
    for pid in (10, 12, 20):
        machine.end(pid)
    machine.sample()
    machine.run(30, service, 0.0, start=300)
    machine.run(31, "/system.slice/backup.service", 1.0, start=310)
    machine.sample()
    machine.sample()
    assert machine.units.restarts == {"memcached.service": 1}


def kills(tmp_path: Path, container: bool) -> Any:
    """Return the count of kills on a machine that has had three before."""
    (tmp_path / "memory" / "inner").mkdir(parents=True)
    (tmp_path / "vmstat").write_text("nr_free_pages 5\noom_kill 3\n")
    (tmp_path / "container").touch()
    flag = tmp_path / ("container" if container else "none")
    return sampler.Kills(str(tmp_path), str(tmp_path / "vmstat"), str(flag))


def test_only_kills_since_the_beginning_count(tmp_path: Path) -> None:
    """The kernel counts since its boot; the sampling since its own start."""
    counter = kills(tmp_path, container=False)
    assert counter.count() == 0
    (tmp_path / "vmstat").write_text("nr_free_pages 5\noom_kill 5\n")
    assert counter.count() == 2


def test_a_containers_kills_are_its_own(tmp_path: Path) -> None:
    """In a container the groups count, not the machine; version 1's each for itself, and those that come later too."""
    (tmp_path / "memory").mkdir(exist_ok=True)
    (tmp_path / "memory" / "memory.oom_control").write_text("oom_kill_disable 0\nunder_oom 0\noom_kill 1\n")
    counter = kills(tmp_path, container=True)
    (tmp_path / "vmstat").write_text("oom_kill 9\n")
    assert counter.count() == 0
    (tmp_path / "memory" / "memory.oom_control").write_text("oom_kill 2\n")
    (tmp_path / "memory" / "inner" / "memory.oom_control").write_text("oom_kill 4\n")
    assert counter.count() == 5


def test_a_kernel_that_does_not_count_kills_says_nothing(tmp_path: Path) -> None:
    """Unknown is not none."""
    assert sampler.Kills(str(tmp_path), str(tmp_path / "vmstat"), str(tmp_path / "none")).count() is None


@pytest.fixture
def api() -> Iterator[tuple[str, dict[str, Any], list[str]]]:
    """A management API: its URL with a login, what it answers, and the logins that it was asked with."""
    answers: dict[str, Any] = {}
    logins: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            logins.append(str(self.headers["Authorization"]))
            body = json.dumps(answers[self.path.split("?")[0]]).encode()
            self.send_response(200)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: Any) -> None:
            """Keep quiet."""

    server = HTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://monitor:a%40b@127.0.0.1:{server.server_port}/api/", answers, logins
    server.shutdown()
    server.server_close()


def test_the_brokers_alarms_and_connections_are_noted_as_they_change(
    api: tuple[str, dict[str, Any], list[str]],
) -> None:
    """An alarm is noted when it is set and when it is cleared; flow and blocked at every look that sees them."""
    url, answers, logins = api
    node = {"name": "rabbit@localhost", "mem_alarm": False, "disk_free_alarm": False}
    answers["/api/nodes"], answers["/api/connections"] = [node], [{"state": "running"}]
    moments = iter([10.0, 20.0, 30.0])
    broker = sampler.Broker(url, clock=lambda: next(moments))
    broker.look()
    assert broker.events == {"alarms": [], "flow": [], "blocked": []}
    answers["/api/nodes"] = [{**node, "mem_alarm": True}]
    answers["/api/connections"] = [{"state": state} for state in ("flow", "blocked", "blocking", "running")] + [{}]
    broker.look()
    answers["/api/nodes"], answers["/api/connections"] = [node], []
    broker.look()
    assert broker.events == {
        "alarms": [{"unix": 20.0, "what": "memory", "set": True}, {"unix": 30.0, "what": "memory", "set": False}],
        "flow": [{"unix": 20.0, "connections": 1}],
        "blocked": [{"unix": 20.0, "connections": 2}],
    }
    assert set(logins) == {"Basic " + base64.b64encode(b"monitor:a@b").decode()}


def test_a_broker_without_an_answer_is_told_once_until_it_answered_again(
    api: tuple[str, dict[str, Any], list[str]], capsys: pytest.CaptureFixture[str]
) -> None:
    """Neither silence nor nonsense ends the looking, and what was seen stays."""
    url, answers, _ = api
    broker = sampler.Broker(url)
    told = []
    for nodes in ({"error": "no"}, {"error": "no"}, [], {"error": "no"}):
        answers["/api/nodes"], answers["/api/connections"] = nodes, []
        broker.try_to_look()
        told.append(capsys.readouterr().err.count("does not answer"))
    assert told == [1, 0, 0, 1]
    assert broker.events == {"alarms": [], "flow": [], "blocked": []}


@pytest.fixture(params=["python3", "python2.7"])
def program(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Callable[[], subprocess.Popen[str]]]:
    """Start the program under an interpreter, as the service does."""
    found = sys.executable if request.param == "python3" else shutil.which(request.param)
    if found is None or subprocess.run([found, "-c", ""], capture_output=True, check=False).returncode:
        pytest.skip(f"there is no {request.param} here")
    (tmp_path / "broker.url").write_text("http://monitor:not-to-be-seen@127.0.0.1:1/api/\n")
    running = []

    def start() -> subprocess.Popen[str]:
        command = [found, str(PROGRAM), str(tmp_path), "0.2", str(tmp_path / "broker.url")]
        running.append(subprocess.Popen(command, stderr=subprocess.PIPE, text=True))
        return running[-1]

    yield start
    for process in running:
        process.kill()
        process.wait()


def test_the_program_writes_both_files_and_hides_the_password(
    program: Callable[[], subprocess.Popen[str]], tmp_path: Path
) -> None:
    """What it writes is whole at any time; a broker that does not answer leaves no key, and is said."""
    process = program()
    deadline = time.monotonic() + 10
    times: set[str] = set()
    while len(times) < 3 and time.monotonic() < deadline:
        time.sleep(0.1)
        lines = (tmp_path / "units.csv").read_text().splitlines() if (tmp_path / "units.csv").exists() else []
        times = {line.split(",")[0] for line in lines[1:]}
    process.terminate()
    said = process.communicate(timeout=10)[1]
    assert lines[0] == "unix,unit,cpu_s,rss_bytes,processes"
    assert len(times) >= 3
    assert all(len(line.split(",")) == 5 for line in lines)
    assert "broker" not in json.loads((tmp_path / "limits.json").read_text())
    assert "does not answer" in said
    assert "not-to-be-seen" not in said
