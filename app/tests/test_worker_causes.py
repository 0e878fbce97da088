"""The role celery_worker's words for why a worker does not come up: of real workers, and of what these wrote once.

`worker_causes/` has what each worker of `broken_apps.py` wrote (.log) and what is said of it, whole (.txt). Where
Celery's words have changed, RECORD_WORKER_CAUSES=1 has the tests of real workers write both anew: read what changed.
"""

from __future__ import annotations

import contextlib
import os
import re
import socket
import ssl
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import amqp
import pytest

from broken_apps import BROKEN, Broken
from services import ADMIN, DEAD, OTHER_VHOST, SOURCE, VHOST, WORKER, RabbitMQ, channel, end, wait_until
from task_messages import message

RECORDED = Path(__file__).parent / "worker_causes"
FACTS = {
    "name": "w1",
    "unit": "celery-worker@w1.service",
    "host": "worker1",
    "app": "proj",
    "directory": "/opt/shop/src",
    "virtualenv": "/opt/shop/venv",
    "user": "celery",
    "login": "worker",
    "broker": "10.0.0.5:5672",
}


def told(causes: ModuleType, lines: list[str], systemd: dict[str, str] | None = None, **facts: str) -> str:
    """Return all that is said of a worker that left these lines."""
    said = causes.explain_cause(lines, systemd or {}, FACTS | facts)
    return "".join(f"{key}: {said[key]}\n" for key in ("cause", "state", "why", "said", "next"))


@pytest.mark.parametrize("broken", BROKEN, ids=lambda broken: broken.name)
def test_what_a_worker_wrote_tells_its_cause(causes: ModuleType, broken: Broken) -> None:
    """Of what real workers wrote: the cause, what mends it, the line that tells it, and the next command."""
    log = (RECORDED / f"{broken.name}.log").read_text()
    assert told(causes, log.splitlines(), app=broken.app) == (RECORDED / f"{broken.name}.txt").read_text()


KILLED = (
    "it took more memory than it may, and the kernel killed it. Raise its memory_max (or celery_worker_memory_max), or "
    "give it fewer pool processes (concurrency)."
)
LATE = (
    "it had not started when the unit's time was up, and systemd killed it. The host is overloaded, or a drop-in of "
    "the unit waits for something."
)
UNCONFINED = (
    "systemd could not confine it (226/NAMESPACE): a path of celery_worker_writable_paths is not on the host, or the "
    "host, itself a container perhaps, does not allow namespaces. Make the paths; where it is the host, allow them "
    "there."
)
NO_PATH = (
    "the unit names /var/lib/proj, which is not on the host. Make the directory, owned by celery, or take it from "
    "celery_worker_writable_paths."
)
NO_PROGRAM = (
    "its program /opt/shop/venv/bin/celery cannot be executed: the virtual environment is not there or is not whole, "
    "it holds no Celery, or the Python that it was made with is gone."
)
NO_USER = "there is no user celery on this host, or no group of that name (celery_worker_user)."
NO_DIRECTORY = "its directory /opt/shop/src is not on the host, or closed to the user celery."
UNIT = "celery-worker@w1.service"
MOUNT = f"{UNIT}: Failed to set up mount namespacing: /run/systemd/unit-root/var/lib/proj: No such file or directory"
OOM = f"{UNIT}: A process of this unit has been killed by the OOM killer."
SYSTEMD = [
    ({"ExecMainStatus": "226"}, [], "namespaces", UNCONFINED),
    ({"ExecMainStatus": "226"}, [MOUNT], "writable path missing", NO_PATH),
    ({"ExecMainStatus": "203"}, [], "program missing", NO_PROGRAM),
    ({"ExecMainStatus": "216"}, [], "user missing", NO_USER),
    ({"ExecMainStatus": "217"}, [], "user missing", NO_USER),
    ({"ExecMainStatus": "200"}, [], "directory missing", NO_DIRECTORY),
    ({"Result": "oom-kill", "ExecMainStatus": "9"}, [], "memory", KILLED),
    ({"Result": "signal", "ExecMainStatus": "9"}, [OOM], "memory", KILLED),
    ({"Result": "timeout", "ExecMainStatus": "0"}, [], "start timeout", LATE),
]


@pytest.mark.parametrize(("properties", "lines", "name", "why"), SYSTEMD)
def test_what_systemd_alone_knows_is_told(
    causes: ModuleType, properties: dict[str, str], lines: list[str], name: str, why: str
) -> None:
    """By the unit's properties, or by what systemd writes to its log."""
    said = causes.explain_cause(lines, properties, FACTS)
    assert (said["cause"], said["why"]) == (name, why)


def test_every_cause_has_a_worker_that_has_it(causes: ModuleType) -> None:
    """No text is there that no test has seen."""
    recorded = {(RECORDED / f"{broken.name}.txt").read_text().split("\n")[0] for broken in BROKEN}
    seen = {line.removeprefix("cause: ") for line in recorded} | {name for _, _, name, _ in SYSTEMD}
    assert sorted(cause.name for cause in causes.CAUSES) == sorted(seen)


@pytest.mark.parametrize(
    ("library", "package"), [("libpq.so.5", "libpq5"), ("libmariadb.so.3", "libmariadb3"), ("libGL.so.1", "libgl1")]
)
def test_a_system_library_has_its_debian_package(causes: ModuleType, library: str, package: str) -> None:
    """In the words of the interpreter when it imports what was compiled against the library."""
    line = f"ImportError: {library}: cannot open shared object file: No such file or directory"
    assert told(causes, [line]) == (
        "cause: system library\n"
        "state: ended\n"
        f"why: a Python package needs the system library {library}, which is not on the host. Debian has it in the "
        f"package {package}: add that to app_system_packages.\n"
        f"said: {line}\n"
        f"next: worker1: apt-get install {package}\n"
    )


OWN = (
    "Have the app write to a directory of its own, such as /var/lib/proj or /var/log/proj, and add that to "
    "celery_worker_writable_paths, which has it made; or, if it is a log, to stderr, which the journal keeps."
)
REPLACED = "can be made writable, since a deployment replaces it."


@pytest.mark.parametrize(
    ("code", "path", "told_path", "mends"),
    [
        ("open('/srv/data/x')", "/srv/data/x", "/srv/data/x", "Add /srv/data to celery_worker_writable_paths."),
        ("os.mkdir('/srv/data')", "/srv/data", "/srv/data", "Add /srv/data to celery_worker_writable_paths."),
        ("os.mkdir('log')", "log", "/opt/shop/src/log", f"Nothing below /opt/shop/src {REPLACED} {OWN}"),
        (
            "open(path)",
            "/opt/shop/venv/lib/x.json",
            "/opt/shop/venv/lib/x.json",
            f"Nothing below /opt/shop/venv {REPLACED} {OWN}",
        ),
        ("open(path)", "/var/log/shop.log", "/var/log/shop.log", OWN),
        ("open(path)", "/opt/shop/.shoprc", "/opt/shop/.shoprc", OWN),
    ],
)
def test_what_is_read_only_has_a_way_that_the_role_takes(
    causes: ModuleType, code: str, path: str, told_path: str, mends: str
) -> None:
    """A directory that is made for the app alone: not one of all, nor what a deployment replaces."""
    lines = [f"    {code}", "    ^^^^^^", f"OSError: [Errno 30] Read-only file system: '{path}'"]
    said = causes.explain_cause(lines, {}, FACTS)
    assert said["why"] == f"the app writes {told_path}, and all but /tmp is read-only to a worker. {mends}"


def test_what_is_read_only_to_beat_has_its_own_variable(causes: ModuleType) -> None:
    """The role celery_beat makes what its variable names."""
    line = "OSError: [Errno 30] Read-only file system: '/srv/data/x'"
    said = causes.explain_cause([line], {}, FACTS | {"name": "celery-beat"})
    assert said["why"].endswith("Add /srv/data to celery_beat_writable_paths.")


def test_a_cause_that_nobody_knows_is_the_last_line(causes: ModuleType) -> None:
    """Nothing is made up: there is what Celery said, and no cause."""
    lines = ["Traceback (most recent call last):", '  File "proj.py", line 3, in <module>', "ValueError: never", ""]
    lines += [f"{UNIT}: Main process exited, code=exited, status=1/FAILURE", f"{UNIT}: Failed with result 'exit-code'."]
    assert told(causes, lines) == "cause: \nstate: ended\nwhy: \nsaid: ValueError: never\nnext: \n"
    assert told(causes, []) == "cause: \nstate: ended\nwhy: \nsaid: \nnext: \n"


@pytest.fixture(scope="module")
def untrusted(tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    """Yield the port of a TLS server whose certificate is its own authority."""
    folder = tmp_path_factory.mktemp("untrusted")
    options = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2", "-subj", "/CN=h"]
    files = ["-keyout", str(folder / "key"), "-out", str(folder / "certificate")]
    subprocess.run(["openssl", "req", "-x509", *options, *files], check=True, capture_output=True)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(folder / "certificate", folder / "key")
    listener = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        while True:
            try:
                near, _ = listener.accept()
            except OSError:
                return
            try:
                context.wrap_socket(near, server_side=True).close()
            except OSError:
                near.close()

    threading.Thread(target=serve, daemon=True).start()
    yield listener.getsockname()[1]
    listener.shutdown(socket.SHUT_RDWR)
    listener.close()


@pytest.fixture(scope="module")
def addresses(rabbitmq: RabbitMQ, untrusted: int) -> dict[str, Any]:
    """Return what stands for addresses in the texts of the broken apps."""
    rabbitmq.ctl("add_vhost", "closed")
    return {
        "worker": rabbitmq.url(WORKER, OTHER_VHOST),
        "admin": rabbitmq.url(ADMIN, OTHER_VHOST),
        "wrong": rabbitmq.url(WORKER, OTHER_VHOST, password="not-to-be-seen"),
        "nowhere": rabbitmq.url(WORKER, vhost="nowhere"),
        "closed": rabbitmq.url(WORKER, vhost="closed"),
        "tls": f"amqps://worker:not-to-be-seen@127.0.0.1:{untrusted}/shop",
        "port": rabbitmq.port,
    }


def run(broken: Broken, folder: Path, addresses: dict[str, Any], log: Path) -> None:
    """Have the worker write to `log` until it ends or has said all."""
    for name, text in broken.files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text.format(**addresses) if "{port}" in text or "{{" in text else text)
    program = ["env", broken.program] if broken.program else [sys.executable, "-m", "celery"]
    own = {
        "LC_ALL": "C.UTF-8",
        "CELERY_BROKER_URL": broken.broker.format(**addresses),
        "PYTHONPATH": f"{folder}:{SOURCE}",
    }
    with log.open("wb") as stream:
        process = subprocess.Popen(
            [*broken.before, *program, f"--app={broken.app}", "worker", "--hostname=w1@h", "--concurrency=1",
             f"--queues={broken.queue}", "--without-gossip", *broken.options],
            env=os.environ | own | ({"CELERY_RESULT_BACKEND": broken.backend} if broken.backend else {}),
            cwd=folder, stdout=stream, stderr=stream, start_new_session=True,
        )  # fmt: skip
    try:
        wait_until(
            lambda: process.poll() is not None or bool(broken.until and broken.until in log.read_text()),
            120,
            "the end of the worker",
        )
    except TimeoutError as error:
        raise TimeoutError(f"{error}: it said {log.read_text()[-3000:]}") from None
    finally:
        end(process)


def empty(one: amqp.Channel) -> None:
    """Empty the queues that a worker here may have to do with."""
    for queue in ("red", DEAD):
        one.queue_purge(queue)


@contextlib.contextmanager
def emptied(rabbitmq: RabbitMQ) -> Iterator[amqp.Channel]:
    """Yield a channel, with no message in the queues before, nor after but what the broker has yet to take back."""
    # Where the worker of other tests does not take the messages.
    one = channel(rabbitmq, vhost=OTHER_VHOST)
    try:
        empty(one)
        yield one
        empty(one)
    finally:
        one.connection.close()


def neutral(text: str, folder: Path, port: int, tls: int) -> str:
    """Return a log as a worker on the host of FACTS would have written it."""
    packages = re.search(r"(/\S+?)/celery/", text)
    if packages:
        text = text.replace(packages[1], "/opt/shop/venv/lib/python3.11/site-packages")
    text = re.sub(r'"/\S+?/lib/python3[.]\d+/', '"/usr/lib/python3.11/', text)
    text = text.replace(str(SOURCE), "/usr/local/lib/celery-worker").replace(str(folder), FACTS["directory"])
    text = text.replace(str(folder.parent), str(Path(FACTS["directory"]).parent))
    text = text.replace("/nowhere/venv", FACTS["virtualenv"])
    text = re.sub(rf"127\.0\.0\.1(?::|', )({port}|{tls}|1)\b", FACTS["broker"], text)
    text = text.replace(f"vhost '{OTHER_VHOST}'", f"vhost '{VHOST}'")
    # When and on which kernel it was, and where the app stood in memory.
    text = re.sub(r"Linux-\S+", "Linux-6.1.0-x86_64", text)
    text = re.sub(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d,\d{3}", "2026-11-30 09:00:00,000", text)
    return re.sub(r"0x[0-9a-f]{8,}", "0x7f0000000000", text)


def without_words(told: str) -> str:
    """Return what is told but for the line that is quoted."""
    return re.sub(r"^said: .+\n", "", told, flags=re.MULTILINE)


@pytest.mark.thorough
@pytest.mark.parametrize("broken", BROKEN, ids=lambda broken: broken.name)
def test_a_real_worker_tells_its_cause(
    causes: ModuleType, rabbitmq: RabbitMQ, addresses: dict[str, Any], untrusted: int, tmp_path: Path, broken: Broken
) -> None:
    """What the Celery that is installed writes tells the same as the recorded log."""
    source, log = tmp_path / "src", tmp_path / "log"
    source.mkdir()
    with emptied(rabbitmq) as one:
        for text, fields, kind in broken.messages:
            one.basic_publish(message(text, fields, kind), routing_key=broken.queue)
        run(broken, source, addresses, log)
    text = neutral(log.read_text(), source, rabbitmq.port, untrusted)
    said = told(causes, text.splitlines(), app=broken.app)
    if os.environ.get("RECORD_WORKER_CAUSES"):
        (RECORDED / f"{broken.name}.log").write_text(text)
        (RECORDED / f"{broken.name}.txt").write_text(said)
    # Each release of Celery and of RabbitMQ says it in words of its own.
    assert without_words(said) == without_words((RECORDED / f"{broken.name}.txt").read_text())
