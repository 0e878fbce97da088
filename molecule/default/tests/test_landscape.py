"""The landscape after site.yml and one small run of run-load.yml."""

from __future__ import annotations

import base64
import csv
import json
import os
import re
import shlex
import ssl
import subprocess
import sys
import urllib.request
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import pytest

SCENARIO = Path(os.environ["MOLECULE_EPHEMERAL_DIRECTORY"])
RUN = SCENARIO / "runs" / "latest"
BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
FLOWER = "https://10.78.1.11:5555"
SECRETS = SCENARIO / "inventory" / ".secrets"
AUTHORITY = SECRETS / "tls" / "ca.pem"
TASKS = 3000
HOSTS = {"broker1", "worker1", "client1"}


def newest(name: str) -> Path:
    """Return the newest folder of that name: Molecule keeps some files of the scenario before."""
    return max((SCENARIO / "runs").glob(f"*-{name}"))


@pytest.fixture(scope="module")
def run() -> dict[str, Any]:
    """The record that the run left on the controller."""
    record: dict[str, Any] = json.loads((RUN / "run.json").read_text())
    return record


def test_every_task_came_back_right(run: dict[str, Any]) -> None:
    """All tasks were published, retrieved and correct; none wrong, failed, lost or doubled."""
    assert run["counts"] == {
        **dict.fromkeys(["posted", "confirmed", "distinct", "retrieved", "correct"], TASKS),
        **dict.fromkeys(["wrong", "failed", "lost", "duplicates"], 0),
    }


def test_the_record_agrees_with_itself(run: dict[str, Any]) -> None:
    """Rates and efficiency follow from the counts and seconds of the same record."""
    total = run["seconds"]["total"]
    assert run["schema"] == 1
    assert run["workload"]["queues"] == ["red", "green", "blue"]
    assert total >= max(run["seconds"]["post"], run["seconds"]["collect"])
    assert run["rates"]["completed_per_s"] == pytest.approx(TASKS / total, rel=0.01)
    assert 0 < run["efficiency"] <= 1


def test_the_run_is_complete_on_the_controller() -> None:
    """Ids, profile, samples of every host and queue, and the report lie in the run's folder."""
    lines = [line for file in (RUN / "ids").glob("*.ids") for line in file.read_text().splitlines()]
    ids = [line.split()[0] for line in lines]
    assert len(set(ids)) == TASKS
    assert "function calls" in (RUN / "profile.txt").read_text()
    kinds = ("json", "units.csv", "limits.json")
    assert {file.name for file in (RUN / "hosts").iterdir()} == {
        "clocks.json",
        *(f"{host}.{kind}" for host in HOSTS for kind in kinds),
    }
    assert (RUN / "report.html").stat().st_size > 1000
    queues = (RUN / "queues.csv").read_text()
    assert all(queue in queues for queue in ("red", "green", "blue"))


def test_the_units_of_the_landscape_are_sampled(run: dict[str, Any]) -> None:
    """Every part of the landscape has a unit that was seen, under the pattern that the record has for it."""
    seen = {row["unit"] for host in HOSTS for row in csv.DictReader((RUN / "hosts" / f"{host}.units.csv").open())}
    for patterns in run["environment"]["parts"].values():
        assert any(fnmatch(unit, pattern) for unit in seen for pattern in patterns)


def test_limits_and_clocks_are_recorded() -> None:
    """The broker answered, nothing was killed or restarted, and clocks of one machine agree within their error."""
    for host in HOSTS:
        limits = json.loads((RUN / "hosts" / f"{host}.limits.json").read_text())
        assert limits["oom_kills"] == 0
        assert not any(limits["restarts"].values())
        assert ("broker" in limits) == (host == "broker1")
    clocks = json.loads((RUN / "hosts" / "clocks.json").read_text())
    assert clocks["client"] == "client1"
    for at in ("start", "end"):
        assert set(clocks[at]) == HOSTS
        assert all(abs(clock["offset_s"]) <= clock["error_s"] for clock in clocks[at].values())


def test_the_environment_tells_where_the_run_was_and_how_to_repeat_it(run: dict[str, Any]) -> None:
    """Hosts with their groups, on one machine all of them; and the command, with the options that were turned."""
    environment = run["environment"]
    assert set(environment["hosts"]) == HOSTS
    assert environment["hosts"]["broker1"]["groups"] == ["broker", "results", "monitor"]
    assert {host["boot_id"] for host in environment["hosts"].values()} == {BOOT_ID.read_text().strip()}
    assert all(host["cores"] >= 1 and host["memory_mb"] > 100 for host in environment["hosts"].values())
    words = shlex.split(environment["command"])
    assert words[:2] == ["ansible-playbook", "-i"]
    options = json.loads(words[-1])
    assert (int(options["load_tasks"]), options["app_arguments"], options["load_name"]) == (TASKS, [10], "molecule")
    assert "load_confirm_window" not in options


def test_a_run_that_fails_comes_home_with_the_list_of_its_faults() -> None:
    """The run of a task that no worker knows lies on the controller too, each of its tasks listed as failed."""
    failing = newest("failing")
    faults = [json.loads(line) for line in (failing / "faults.jsonl").read_text().splitlines()]
    assert [fault["outcome"] for fault in faults] == ["failed"] * 30
    assert "NotRegistered" in faults[0]["detail"]


def test_what_no_worker_could_run_is_kept_by_the_broker(host: Any) -> None:
    """The load of a task that the app does not have left its messages in the queue of the dead letters."""
    if host.backend.get_hostname() != "broker1":
        pytest.skip("no broker runs here")
    said = host.check_output("rabbitmqctl --quiet list_queues -p taskmill name messages --formatter json")
    waiting = {queue["name"]: queue["messages"] for queue in json.loads(said)}
    assert waiting["dead-letters"] >= 30
    assert waiting["red"] == waiting["green"] == waiting["blue"] == 0


def test_flower_shows_both_workers_online_with_three_queues() -> None:
    """Flower, asked through TLS with its password, knows w1 and w2 as online, each on all three queues."""
    password = (SECRETS / "flower").read_text().strip()
    context = ssl.create_default_context(cafile=AUTHORITY)
    credentials = base64.b64encode(f"taskmill:{password}".encode()).decode()
    headers = {"Authorization": f"Basic {credentials}"}

    def ask(path: str) -> Any:
        request = urllib.request.Request(FLOWER + path, headers=headers)
        with urllib.request.urlopen(request, timeout=30, context=context) as answer:
            return json.load(answer)

    workers = ask("/api/workers?refresh=true")
    queues = {name: {queue["name"] for queue in info["active_queues"]} for name, info in workers.items()}
    all_three = {"red", "green", "blue"}
    assert queues == {"w1@worker1": all_three, "w2@worker1": all_three}
    assert ask("/api/workers?status=true") == {"w1@worker1": True, "w2@worker1": True}


#: Port -> the hosts that reach it on the broker's host, which has all the services; `outside` is this machine.
REACHED = {
    22: {"broker1", "worker1", "client1", "outside"},
    5671: {"broker1", "worker1", "client1"},
    11211: {"broker1", "worker1", "client1"},
    5555: {"broker1", "worker1", "client1", "outside"},
    **{port: {"broker1"} for port in (4369, 5672, 15672, 25672, 6379, 80, 443)},
}
SCAN = """
import json, socket, sys
from concurrent.futures import ThreadPoolExecutor
def answers(port):
    with socket.socket() as one:
        one.settimeout(2)
        return one.connect_ex((sys.argv[1], port)) == 0
ports = list(map(int, sys.argv[2:]))
with ThreadPoolExecutor(len(ports)) as pool:
    print(json.dumps([port for port, there in zip(ports, pool.map(answers, ports)) if there]))
"""


def test_only_the_ports_that_somebody_needs_answer_and_only_to_them(host: Any) -> None:
    """A scan of the broker's host from every host of the landscape; Flower is open to the scenario's network."""
    name = host.backend.get_hostname()
    if name == "broker1":
        pytest.skip("a host reaches its own ports")
    answered = json.loads(host.check_output(f"python3 -c %s 10.78.1.11 {' '.join(map(str, REACHED))}", SCAN))
    assert set(answered) == {port for port, who in REACHED.items() if name in who}


def test_nothing_but_ssh_and_flower_answers_from_outside() -> None:
    """A scan of every host from this machine."""
    for address in ("10.78.1.11", "10.78.1.12", "10.78.1.13"):
        words = [sys.executable, "-c", SCAN, address, *map(str, REACHED)]
        answered = json.loads(subprocess.run(words, capture_output=True, check=True, text=True).stdout)
        outside = {port for port, who in REACHED.items() if "outside" in who}
        assert set(answered) == (outside if address == "10.78.1.11" else {22})


def test_every_connection_to_the_broker_is_encrypted(host: Any) -> None:
    """Those of workers and Flower, by the newest that both sides know."""
    if host.backend.get_hostname() != "broker1":
        pytest.skip("no broker runs here")
    said = json.loads(host.check_output("rabbitmqctl --quiet list_connections user ssl ssl_protocol --formatter json"))
    assert {connection["user"] for connection in said} >= {"worker", "monitor"}
    assert {(connection["ssl"], connection["ssl_protocol"]) for connection in said} == {(True, "tlsv1.3")}


def test_the_broker_shows_the_newest_certificate(host: Any) -> None:
    """That of the authority which side_effect.yml made, taken up without a restart."""
    if host.backend.get_hostname() != "broker1":
        pytest.skip("no broker runs here")
    code = "import ssl; print(ssl.get_server_certificate(('10.78.1.11', 5671)))"
    assert host.check_output("python3 -c %s", code).strip() in (SECRETS / "tls" / "broker1.pem").read_text()


#: What a client is told otherwise -> what it says then. The number is the broker's address, and not in its certificate.
REFUSALS = {
    "CELERY_BROKER_CA=/etc/ssl/certs/ca-certificates.crt": ("local issuer certificate",),
    'CELERY_BROKER_URL="$(echo "$CELERY_BROKER_URL" | sed s/@10.78.1.11/@172884235/)"': ("Hostname mismatch",),
    # The latter with the Erlang of Debian 12.
    'CELERY_BROKER_URL="$(echo "$CELERY_BROKER_URL" | sed s/amqps:/amqp:/)"': (
        "unexpectedly closed",
        "Connection reset by peer",
    ),
}
#: As a worker does it: the app first, then the role's module, where it is told to load that.
WORKER = """
from fibonacci.celery import app
app.set_current()
if app.conf.broker_url.startswith("amqps:"):
    import broker_tls
app.connection().connect()
"""
#: By host: whose environment, and what connects to the broker with it.
CLIENTS = {
    "client1": ("/etc/taskmill/taskmill.env", "cd /opt/taskmill/src; ../venv/bin/python -m taskmill dead-letters"),
    "worker1": ("/etc/celery/w1.env", f"cd /opt/fibonacci/src; ../venv/bin/python -c '{WORKER}'"),
}


@pytest.mark.parametrize("otherwise", ["", *REFUSALS])
def test_a_client_speaks_to_the_broker_it_trusts_and_to_no_other(host: Any, otherwise: str) -> None:
    """Load generator and workers refuse another authority and another name; without TLS nothing answers."""
    client = CLIENTS.get(host.backend.get_hostname())
    if client is None:
        pytest.skip("no client of the broker runs here")
    environment, command = client
    done = host.run(f"set -a; . {environment}; {otherwise}\nset +a; {command}")
    assert (done.rc == 0) is (not otherwise), done.stderr
    assert any(text in done.stderr for text in REFUSALS.get(otherwise, [""])), done.stderr


@pytest.fixture(scope="module")
def secrets() -> list[bytes]:
    """Every password of the inventory, and of every key a line that no other has."""
    keys = [path.read_bytes().splitlines()[1] for path in SECRETS.glob("tls/*.key")]
    return [*keys, *(path.read_bytes().strip() for path in SECRETS.iterdir() if path.is_file())]


def test_secrets_are_readable_by_their_owner_alone() -> None:
    """On this machine, where they are made."""
    assert {path.stat().st_mode & 0o777 for path in SECRETS.rglob("*") if path.is_file()} == {0o600}
    assert (SECRETS / "tls" / "authority.key").is_file()


def test_no_password_is_in_a_process_list_or_journal(host: Any, secrets: list[bytes]) -> None:
    """Of any host, whoever may read there."""
    seen = host.run("cat /proc/[0-9]*/cmdline; journalctl --quiet --no-pager --output=cat").stdout_bytes
    assert len(seen) > 1000
    assert not [secret for secret in secrets if secret in seen]


def test_no_password_is_in_what_runs_leave(secrets: list[bytes]) -> None:
    """Neither in the files of a run nor in its report."""
    files = [path for path in (SCENARIO / "runs").rglob("*") if path.is_file() and not path.is_symlink()]
    assert any(path.name == "report.html" for path in files)
    assert not [path for path in files if any(secret in path.read_bytes() for secret in secrets)]


#: Most exposure that `systemd-analyze security` may find, by unit and the host that it is on.
EXPOSURE = {
    "broker1": {"rabbitmq-server": 4.5, "memcached": 4.5, "flower": 3.0},
    "worker1": {"celery-worker@w1": 3.0, "celery-worker@w2": 3.0},
}


def test_services_are_closed_in(host: Any) -> None:
    """By systemd's own measure; each has a bound of memory and a user without a shell."""
    units = EXPOSURE.get(host.backend.get_hostname())
    if units is None:
        pytest.skip("no service of the landscape runs here")
    for unit, most in units.items():
        said = host.check_output(f"systemd-analyze --no-pager security {unit}.service | tail -n 1")
        assert float(re.search(r"([0-9.]+) [A-Z]+", said)[1]) <= most, said  # type: ignore[index]  # fails where it is none
        shown = host.check_output(f"systemctl show --property=MemoryMax,User {unit}.service")
        assert "MemoryMax=infinity" not in shown
        user = re.search("User=(.+)", shown)[1]  # type: ignore[index]  # the same
        assert host.user(user).shell in {"/usr/sbin/nologin", "/bin/false"}
