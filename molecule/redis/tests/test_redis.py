"""Redis as it answers: first with its password alone given, then, after side_effect.yml, with every option changed."""

from __future__ import annotations

from typing import Any

import pytest

PASSWORD = "ScenarioPassword1"
#: Writes 64 values of a MiB, and then asks for the first: all that Redis answers, line by line.
FILL = """
import socket
s = socket.create_connection(("127.0.0.1", 6380), 10)
lines = s.makefile("rb")
def ask(*words):
    s.sendall(b"*%d\\r\\n" % len(words) + b"".join(b"$%d\\r\\n%s\\r\\n" % (len(word), word) for word in words))
    line = lines.readline().strip()
    return line.lstrip(b"+") if line[:1] != b"$" else lines.read(int(line[1:]) + 2).strip()
print(ask(b"AUTH", b"ScenarioPassword1").decode())
for number in range(64):
    print(ask(b"SET", b"filled-%d" % number, b"x" * 2**20).decode())
print(len(ask(b"GET", b"filled-0")))
"""


def ask(host: Any, command: str, password: str = PASSWORD, address: str = "127.0.0.1") -> str:
    """Return what Redis answers to a command of someone who says this password, or none."""
    known = f"REDISCLI_AUTH={password} " if password else ""
    # A refusal of the password goes to the other stream.
    return str(host.check_output(f"{known}redis-cli -h {address} -p 6380 {command} 2>&1"))


@pytest.mark.parametrize("address", ["127.0.0.1", "10.78.33.11"])
def test_it_answers_those_who_know_the_password(host: Any, address: str) -> None:
    """At each address that was given."""
    assert ask(host, "ping", address=address) == "PONG"


@pytest.mark.parametrize("address", ["127.0.0.1", "10.78.33.11"])
def test_it_refuses_those_who_do_not(host: Any, address: str) -> None:
    """Without a password, and with another one."""
    assert "NOAUTH" in ask(host, "ping", password="", address=address)
    wrong = ask(host, "ping", password="AnotherPassword1", address=address)
    assert "WRONGPASS" in wrong
    assert "PONG" not in wrong


def test_it_listened_on_the_loopback_alone_with_the_required_input(host: Any) -> None:
    """One address, the usual port, 512 MiB: the defaults that the README names."""
    listening, *said = host.file("/root/as-it-comes").content_string.splitlines()
    assert listening.split()[3] == "127.0.0.1:6379"
    assert said == ["maxmemory", str(512 * 2**20), "OK"]


def test_it_listens_where_it_should_and_nowhere_else(host: Any) -> None:
    """Both addresses on the new port; no wildcard, no IPv6, and the old port is given up."""
    said = host.check_output("ss --tcp --listening --numeric --processes --no-header | grep redis-server")
    assert sorted(line.split()[3] for line in said.splitlines()) == ["10.78.33.11:6380", "127.0.0.1:6380"]
    assert not host.socket("tcp://127.0.0.1:6379").is_listening


def test_a_write_that_does_not_fit_is_refused_and_nothing_is_dropped(host: Any) -> None:
    """Past the bound Redis says so; what was there before is still there, and none was evicted."""
    said = host.check_output("python3 -c %s", FILL).splitlines()
    assert said[0] == "OK"
    stored = said[1:-1].count("OK")
    assert 4 <= stored < 16
    assert all(line.startswith("-OOM") for line in said[1 + stored : -1])
    assert said[-1] == str(2**20)
    assert "evicted_keys:0" in ask(host, "info stats")
    assert ask(host, "config get maxmemory").splitlines()[1] == str(16 * 2**20)
    ask(host, "flushall")


def test_nothing_is_kept_on_disk(host: Any) -> None:
    """What was set before the restart is gone, and that wrote neither a dump nor a log of writes."""
    assert ask(host, "exists kept-in-memory") == "0"
    assert ask(host, "config get save").splitlines()[1:] in ([], [""])
    assert ask(host, "config get appendonly").splitlines()[1] == "no"
    # The package starts Redis before its configuration is ours: that first one has left an empty dump when it ended.
    assert host.check_output("find /var/lib/redis -type f -newer /etc/redis/redis.conf") == ""


def test_the_password_is_for_the_service_alone(host: Any) -> None:
    """Nobody else reads the file, and it stands in no list of processes."""
    assert host.run("setpriv --reuid=nobody --clear-groups cat /etc/redis/password.conf").rc != 0
    assert PASSWORD not in host.check_output("cat /proc/$(pidof redis-server)/cmdline")


def test_it_comes_back_with_the_host(host: Any) -> None:
    """The service is enabled, and runs as its own user."""
    assert host.service("redis-server").is_enabled
    assert host.check_output("ps -o user= -C redis-server") == "redis"


def test_systemd_bounds_its_memory_and_lets_it_do_no_more_than_it_needs(host: Any) -> None:
    """A quarter more than the values, and what connections take; the service asks for no further right."""
    assert host.check_output("systemctl show --property=MemoryMax --value redis-server") == str(276 * 2**20)
    assert host.check_output("systemctl show --property=NoNewPrivileges --value redis-server") == "yes"
    assert host.check_output("systemctl show --property=MemoryDenyWriteExecute --value redis-server") == "yes"
