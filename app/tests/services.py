"""A private RabbitMQ, memcached and Redis for the tests: loopback, free ports, temporary directories, ended by pid."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
import uuid
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import amqp

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

SOURCE = Path(__file__).parents[1] / "src"
#: The apps of the tests, and what their workers load beside an app.
APPS = Path(__file__).parent / "apps"
#: A private runtime must not read what a system-wide RabbitMQ on this machine is configured with.
RABBITMQ_PREFIXES = ("RABBITMQ_", "ERL_")
VHOST = "taskmill"
#: The same once more, for tests that must not meet the session's worker.
OTHER_VHOST = "other"
QUEUES = ("red", "green", "blue")
#: Queues that no worker consumes.
IDLE = ("yellow", "doomed")
#: Where the broker puts what a worker rejects from any of these.
DEAD = "dead-letters"
#: The two kinds of worker that are compared; the second is the name of the module that it loads.
STOCK, OURS = "stock", "taskmill_worker"
#: Largest message that the broker takes, in bytes; more than a frame and less than a command line takes.
LARGEST = 131_000


@dataclass(frozen=True)
class User:
    """A RabbitMQ user of the vhost with its three permissions (regular expressions)."""

    name: str
    password: str
    configure: str
    write: str
    read: str


# What each party needs, as app/README.md names it; every test runs with just these. Remote control (pidbox) has the
# exchanges celery.pidbox and reply.celery.pidbox, a queue NODE.celery.pidbox of each worker and a queue
# ID.reply.celery.pidbox of whoever asks; events have the exchange celeryev and queues celeryev.ID.
ASK = r"((.+\.)?reply\.)?celery\.pidbox"
PIDBOX = r"(.+\.)?celery\.pidbox"
EVENTS = r"celeryev(\..+)?"
WORKER = User(
    "worker",
    "worker-secret",
    configure=f"^({PIDBOX}|{EVENTS})$",
    write=f"^(amq\\.default|{PIDBOX}|{EVENTS})$",
    read=f"^(red|green|blue|{PIDBOX}|{EVENTS})$",
)
CLIENT = User(
    "client",
    "client-secret",
    configure=f"^{ASK}$",
    write=f"^(amq\\.default|{ASK})$",
    read=rf"^((.+\.)?reply\.celery\.pidbox|{DEAD})$",
)
FLOWER = User(
    "flower",
    "flower-secret",
    configure=f"^({ASK}|{EVENTS})$",
    write=f"^({ASK}|{EVENTS})$",
    read=rf"^((.+\.)?reply\.celery\.pidbox|{EVENTS})$",
)
# A worker that declares its own queues and their exchanges, as any app's does (broker_workers_declare).
OWN_NAMES = "celery|default|images|mail|media"
OWN = User(
    "own",
    "own-secret",
    configure=f"^({PIDBOX}|{EVENTS}|{OWN_NAMES})$",
    write=f"^(amq\\.default|{PIDBOX}|{EVENTS}|{OWN_NAMES})$",
    read=f"^({OWN_NAMES}|{PIDBOX}|{EVENTS})$",
)
ADMIN = User("admin", "admin-secret", ".*", ".*", ".*")


def free_port() -> int:
    """Return a TCP port of 127.0.0.1 that nothing listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def wait_until(condition: Callable[[], bool], seconds: float, what: str, step: float = 0.05) -> None:
    """Wait for ``condition``; raise ``TimeoutError`` naming ``what`` after ``seconds``."""
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            raise TimeoutError(f"{what} did not happen within {seconds:g} s")
        time.sleep(step)


def answers(port: int) -> bool:
    """Say whether something accepts connections on the port of 127.0.0.1."""
    with socket.socket() as probe:
        probe.settimeout(1)
        return probe.connect_ex(("127.0.0.1", port)) == 0


def end(process: subprocess.Popen[bytes], grace: float = 10) -> None:
    """End a process that was started as the leader of a session of its own, and whatever it started there."""
    if process.poll() is None:
        process.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(grace)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait(10)


def program(names: Sequence[str], package: str) -> str:
    """Return the path of the first of the programs that is there; raise with the package to install when none is."""
    for name in names:
        found = shutil.which(name, path=os.pathsep.join(["/usr/lib/rabbitmq/bin", os.environ["PATH"], "/usr/sbin"]))
        if found:
            return found
    raise RuntimeError(
        f"the tests need {names[0]}: apt-get install {package} (tests need rabbitmq-server, memcached and redis-server)"
    )


@dataclass
class RabbitMQ:
    """One RabbitMQ node with a vhost, the queues and the users above."""

    directory: Path
    port: int = field(default_factory=free_port)
    dist_port: int = field(default_factory=free_port)
    epmd_port: int = field(default_factory=free_port)
    node: str = field(default_factory=lambda: f"taskmill-{uuid.uuid4().hex[:12]}@localhost")
    processes: list[subprocess.Popen[bytes]] = field(default_factory=list)

    @property
    def environment(self) -> dict[str, str]:
        """What the server and its command line tool are started with."""
        base = {name: value for name, value in os.environ.items() if not name.startswith(RABBITMQ_PREFIXES)}
        return base | {
            "HOME": str(self.directory),
            "ERL_EPMD_PORT": str(self.epmd_port),
            "ERL_EPMD_ADDRESS": "127.0.0.1",
            "RABBITMQ_NODENAME": self.node,
            "RABBITMQ_BASE": str(self.directory),
            "RABBITMQ_MNESIA_BASE": str(self.directory / "mnesia"),
            "RABBITMQ_LOG_BASE": str(self.directory / "log"),
            "RABBITMQ_CONFIG_FILE": str(self.directory / "rabbitmq.conf"),
            "RABBITMQ_ADVANCED_CONFIG_FILE": str(self.directory / "advanced.config"),
            "RABBITMQ_CONF_ENV_FILE": str(self.directory / "rabbitmq-env.conf"),
            "RABBITMQ_ENABLED_PLUGINS_FILE": str(self.directory / "enabled_plugins"),
            "RABBITMQ_NODE_IP_ADDRESS": "127.0.0.1",
            "RABBITMQ_NODE_PORT": str(self.port),
            "RABBITMQ_DIST_PORT": str(self.dist_port),
            "RABBITMQ_PID_FILE": str(self.directory / "pid"),
            # Loopback only, and light on the machine's cores.
            "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": "-kernel inet_dist_use_interface {127,0,0,1} "
            "+S 2:2 +sbwt none +sbwtdcpu none +sbwtdio none",
            "RABBITMQ_CTL_ERL_ARGS": "-kernel inet_dist_use_interface {127,0,0,1}",
        }

    def url(self, user: User = CLIENT, vhost: str = VHOST, password: str | None = None) -> str:
        """Return the AMQP URL for a user."""
        return f"amqp://{user.name}:{password or user.password}@127.0.0.1:{self.port}/{vhost}"

    def start(self) -> None:
        """Start epmd and the server, and wait until it takes connections."""
        epmd = program(["epmd"], "erlang-base")
        server = program(["rabbitmq-server"], "rabbitmq-server")
        self.directory.mkdir(parents=True, exist_ok=True)
        (self.directory / "enabled_plugins").write_text("[].\n")
        (self.directory / "rabbitmq-env.conf").touch()
        (self.directory / "advanced.config").write_text("[].\n")
        (self.directory / "definitions.json").write_text(json.dumps(self.definitions()))
        (self.directory / "rabbitmq.conf").write_text(
            f"load_definitions = {self.directory / 'definitions.json'}\n"
            f"max_message_size = {LARGEST}\n"
            "disk_free_limit.absolute = 50MB\nvm_memory_high_watermark.relative = 0.6\nlog.file.level = info\n"
        )
        cookie = self.directory / ".erlang.cookie"
        if not cookie.exists():
            cookie.write_text(uuid.uuid4().hex)
            cookie.chmod(0o400)
        log = (self.directory / "start.log").open("ab")
        if not self.processes:
            self.processes.append(
                subprocess.Popen([epmd], env=self.environment, stdout=log, stderr=log, start_new_session=True)
            )
            wait_until(lambda: answers(self.epmd_port), 60, "epmd answering")
        self.processes.append(
            subprocess.Popen([server], env=self.environment, stdout=log, stderr=log, start_new_session=True)
        )
        log.close()
        wait_until(self.up, 120, f"RabbitMQ answering (see {self.directory / 'start.log'})", 0.1)

    def up(self) -> bool:
        """Say whether the server has loaded its definitions and takes connections."""
        if self.processes[-1].poll() is not None:
            raise RuntimeError(f"RabbitMQ ended: {(self.directory / 'start.log').read_text()[-2000:]}")
        if not answers(self.port):
            return False
        try:
            one = channel(self)
            for queue in (*QUEUES, *IDLE, DEAD):
                one.queue_declare(queue, passive=True)
            one.connection.close()
        except (amqp.AMQPError, OSError):
            return False
        return True

    def definitions(self) -> dict[str, object]:
        """Return the vhost, users, permissions and queues, as RabbitMQ's definitions."""
        users = (WORKER, CLIENT, FLOWER, ADMIN, OWN)
        return {
            "vhosts": [{"name": vhost} for vhost in (VHOST, OTHER_VHOST)],
            "users": [
                {
                    "name": user.name,
                    "password_hash": password_hash(user.password),
                    "hashing_algorithm": "rabbit_password_hashing_sha256",
                    "tags": "",
                }
                for user in users
            ],
            "permissions": [
                {"user": user.name, "vhost": vhost, "configure": user.configure, "write": user.write, "read": user.read}
                for vhost in (VHOST, OTHER_VHOST)
                for user in users
            ],
            "queues": [
                {"name": name, "vhost": vhost, "durable": True, "auto_delete": False, "arguments": {}}
                for vhost in (VHOST, OTHER_VHOST)
                for name in (*QUEUES, *IDLE, DEAD)
            ],
            "policies": [
                {
                    "name": DEAD,
                    "vhost": vhost,
                    "pattern": f"^({'|'.join((*QUEUES, *IDLE))})$",
                    "apply-to": "queues",
                    "priority": 0,
                    "definition": {"dead-letter-exchange": "", "dead-letter-routing-key": DEAD},
                }
                for vhost in (VHOST, OTHER_VHOST)
            ],
        }

    def ctl(self, *arguments: str) -> str:
        """Run rabbitmqctl and return what it says."""
        tool = program(["rabbitmqctl"], "rabbitmq-server")
        done = subprocess.run(
            [tool, "--quiet", "--node", self.node, *arguments],
            env=self.environment,
            check=False,
            capture_output=True,
            text=True,
            timeout=60,
        )
        if done.returncode:
            raise RuntimeError(f"rabbitmqctl {' '.join(arguments)}: {done.stdout}{done.stderr}")
        return done.stdout

    def stop_server(self) -> None:
        """Stop the server and keep epmd, so that it can be started again."""
        end(self.processes.pop(), grace=20)

    def stop(self) -> None:
        """End everything."""
        while self.processes:
            end(self.processes.pop(), grace=20)


def password_hash(password: str) -> str:
    """Return RabbitMQ's salted SHA-256 form of a password."""
    salt = os.urandom(4)
    return base64.b64encode(salt + hashlib.sha256(salt + password.encode()).digest()).decode()


@dataclass
class Memcached:
    """One memcached."""

    megabytes: int = 64
    port: int = field(default_factory=free_port)
    process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        """Celery's form of the address."""
        return f"cache+memcached://127.0.0.1:{self.port}/"

    def start(self) -> None:
        """Start it and wait until it answers."""
        command = [
            program(["memcached"], "memcached"),
            "-l",
            "127.0.0.1",
            "-p",
            str(self.port),
            "-U",
            "0",
            "-m",
            str(self.megabytes),
        ]
        if os.geteuid() == 0:
            command += ["-u", "nobody"]
        self.process = subprocess.Popen(command, start_new_session=True)
        wait_until(self.up, 60, "memcached answering")

    def up(self) -> bool:
        """Say whether it takes connections; raise when it has ended."""
        assert self.process is not None
        if self.process.poll() is not None:
            raise RuntimeError(f"memcached with {self.megabytes} MB ended with code {self.process.returncode}")
        return answers(self.port)

    def stop(self) -> None:
        """End it."""
        if self.process is not None:
            end(self.process)
            self.process = None


@dataclass
class Redis:
    """One Redis that keeps nothing on disk: with a password unless that is ``None``, with TLS given its files."""

    directory: Path
    password: str | None = "redis-secret"
    #: The files of a certificate that is its own authority, and of its key.
    certificate: tuple[Path, Path] | None = None
    options: Sequence[str] = ()
    port: int = field(default_factory=free_port)
    process: subprocess.Popen[bytes] | None = None

    def url(self, database: int = 0, password: str | None = None) -> str:
        """Return Celery's form of the address of a database."""
        secret = password or self.password
        address = f"{f':{secret}@' if secret else ''}127.0.0.1:{self.port}/{database}"
        if self.certificate is None:
            return f"redis://{address}"
        return f"rediss://{address}?ssl_cert_reqs=CERT_REQUIRED&ssl_ca_certs={self.certificate[0]}"

    def start(self) -> None:
        """Start it and wait until it answers."""
        listen = ["--port", str(self.port)]
        if self.certificate is not None:
            certificate, key = map(str, self.certificate)
            listen = ["--port", "0", "--tls-port", str(self.port), "--tls-cert-file", certificate]
            listen += ["--tls-key-file", key, "--tls-auth-clients", "no"]
        command = [program(["redis-server"], "redis-server"), *listen, "--bind", "127.0.0.1", "--save", ""]
        command += ["--appendonly", "no", "--dir", str(self.directory), *self.options]
        if self.password is not None:
            command += ["--requirepass", self.password]
        with (self.directory / "redis.log").open("ab") as log:
            self.process = subprocess.Popen(command, stdout=log, stderr=log, start_new_session=True)
        wait_until(lambda: answers(self.port), 60, "Redis answering")

    def stop(self) -> None:
        """End it."""
        if self.process is not None:
            end(self.process)
            self.process = None


@dataclass
class Worker:
    """One ``celery worker`` process of an app."""

    name: str
    environment: dict[str, str]
    log: Path
    app: str = "fibonacci"
    queues: Sequence[str] = QUEUES
    concurrency: int = 2
    options: Sequence[str] = ("--task-events", "--include=taskmill_worker")
    directory: Path = SOURCE
    process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it; it is not waited for."""
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [
                    sys.executable,
                    "-m",
                    "celery",
                    "--app",
                    self.app,
                    "worker",
                    "--queues",
                    ",".join(self.queues),
                    "--hostname",
                    f"{self.name}@%h",
                    "--concurrency",
                    str(self.concurrency),
                    "--loglevel",
                    "INFO",
                    *self.options,
                ],
                env=os.environ | {"PYTHONPATH": f"{SOURCE}{os.pathsep}{APPS}"} | self.environment,
                cwd=self.directory,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    def ready(self) -> bool:
        """Say whether it has connected."""
        if self.process is None or self.process.poll() is not None:
            raise RuntimeError(f"worker {self.name} is not running: {self.log.read_text()[-3000:]}")
        return " ready." in self.log.read_text()

    @contextlib.contextmanager
    def paused(self) -> Iterator[None]:
        """Have it stand still, pool processes included: what it has not done by now is not done meanwhile."""
        assert self.process is not None
        os.killpg(self.process.pid, signal.SIGSTOP)
        try:
            yield
        finally:
            os.killpg(self.process.pid, signal.SIGCONT)

    def stop(self) -> None:
        """End it, pool processes included."""
        if self.process is not None:
            end(self.process)
            self.process = None


def channel(rabbitmq: RabbitMQ, user: User = ADMIN, vhost: str = VHOST) -> amqp.Channel:
    """Return a channel of a new connection; the caller closes its ``connection``."""
    connection = amqp.Connection(f"127.0.0.1:{rabbitmq.port}", user.name, user.password, virtual_host=vhost)
    connection.connect()
    return connection.channel()


def depth(rabbitmq: RabbitMQ, queue: str, vhost: str = VHOST) -> int:
    """Return how many messages wait in a queue."""
    one = channel(rabbitmq, vhost=vhost)
    waiting = int(one.queue_declare(queue, passive=True).message_count)
    one.connection.close()
    return waiting


def stored(identifier: bytes, result: Any, **fields: Any) -> str:
    """Return the text that a worker stores for a result, with other fields where they are given."""
    meta = {
        "status": "SUCCESS",
        "result": result,
        "traceback": None,
        "children": [],
        "date_done": "2026-11-22T09:30:00.123456+00:00",
        "task_id": identifier.decode(),
    }
    return json.dumps(meta | fields)


def purge_queue(rabbitmq: RabbitMQ, queue: str, vhost: str = VHOST) -> None:
    """Empty a queue."""
    one = channel(rabbitmq, vhost=vhost)
    one.queue_purge(queue)
    one.connection.close()


def take_all(rabbitmq: RabbitMQ, queue: str, vhost: str = VHOST) -> list[amqp.Message]:
    """Take every message out of a queue."""
    one = channel(rabbitmq, vhost=vhost)
    messages = []
    while (message := one.basic_get(queue, no_ack=True)) is not None:
        messages.append(message)
    one.connection.close()
    return messages


class Mark:
    """Makes a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        """Take the file."""
        self.path = path

    def __reduce__(self) -> Any:
        """Have the file made."""
        return os.mknod, (str(self.path),)


@contextlib.contextmanager
def running(
    rabbitmq: RabbitMQ, memcached: Memcached, folder: Path, *options: str,
    name: str = "other", app: str = "fibonacci", **environment: str,
) -> Iterator[Worker]:  # fmt: skip
    """Yield a worker of an app on red, in the virtual host where the session's is not; empty it afterwards.

    What waits in red before stays; dead letters do not.
    """
    purge_queue(rabbitmq, DEAD, OTHER_VHOST)
    addresses = {"CELERY_BROKER_URL": rabbitmq.url(WORKER, vhost=OTHER_VHOST), "CELERY_RESULT_BACKEND": memcached.url}
    one = Worker(name, addresses | environment, folder / "log", app=app, queues=("red",), options=options)
    one.start()
    try:
        wait_until(one.ready, 60, "worker ready")
        yield one
    finally:
        one.stop()
        for queue in ("red", DEAD):
            take_all(rabbitmq, queue, OTHER_VHOST)


class Proxy:
    """A TCP relay to a port of 127.0.0.1 that can be cut like a cable."""

    def __init__(self, target: int) -> None:
        """Listen on a free port."""
        self._target = target
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._listener.getsockname()[1])
        self._sockets: list[socket.socket] = []
        self._open = True
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        while self._open:
            try:
                near, _ = self._listener.accept()
                far = socket.create_connection(("127.0.0.1", self._target))
            except OSError:
                return
            self._sockets += [near, far]
            for one, other in ((near, far), (far, near)):
                threading.Thread(target=self._relay, args=(one, other), daemon=True).start()

    @staticmethod
    def _relay(one: socket.socket, other: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := one.recv(65536):
                other.sendall(data)
        for end_ in (one, other):
            with contextlib.suppress(OSError):
                end_.shutdown(socket.SHUT_RDWR)

    def cut(self) -> None:
        """End all connections and take no new ones."""
        self._open = False
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for one in self._sockets:
            with contextlib.suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
            one.close()
