"""memcached as its own protocol describes it, and the results it has room for."""

from __future__ import annotations

from typing import Any

import pytest

FILL = """
for i in range(200000):
    key = b"celery-task-meta-%036d" % i
    s.sendall(b"set %s 0 300 200 noreply\\r\\n%s\\r\\n" % (key, b"x" * 200))
"""


def ask(host: Any, command: str, before: str = "") -> dict[str, str]:
    """Return what memcached answers to a `stats` command, name by name; `before` is run first."""
    program = (
        "import socket\n"
        "s = socket.create_connection(('127.0.0.1', 11211), 10)\n"
        f"{before}\n"
        f"s.sendall(b'{command}\\r\\nquit\\r\\n')\n"
        "print(s.makefile().read())\n"
    )
    lines = host.check_output("python3 -c %s", program).splitlines()
    return {line.split()[1]: line.split()[-1] for line in lines if line.startswith("STAT")}


def test_it_has_the_memory_and_connections_asked_for(host: Any) -> None:
    """The running process, not only its file, has the settings."""
    settings = ask(host, "stats settings")
    assert settings["maxbytes"] == str(100 * 1024 * 1024)
    assert settings["maxconns"] == "4096"


def test_udp_is_off(host: Any) -> None:
    """Nothing answers on UDP."""
    assert ask(host, "stats settings")["udpport"] == "0"
    assert not host.socket("udp://11211").is_listening


@pytest.mark.parametrize("address", ["127.0.0.1", "10.78.5.11"])
def test_it_listens_on_the_addresses_given(host: Any, address: str) -> None:
    """Each address given is served."""
    assert host.socket(f"tcp://{address}:11211").is_listening


def test_it_listens_nowhere_else(host: Any) -> None:
    """No wildcard address is served."""
    assert not host.socket("tcp://0.0.0.0:11211").is_listening
    assert not host.socket("tcp://:::11211").is_listening


def test_the_expected_results_fit(host: Any) -> None:
    """As many results as were announced, of the size of Celery's, are stored and none is evicted."""
    stats = ask(host, "stats", before=FILL)
    assert int(stats["curr_items"]) >= 200000
    assert stats["evictions"] == "0"
