"""What gets in, tried from a friend, a stranger and the machine that the hosts are on."""

from __future__ import annotations

import socket

import pytest
from testinfra.host import Host

SERVER = "10.78.27.11"
#: Port -> who reaches it.
OPEN = {22: {"friend", "stranger", "outside", "server"}, 8001: {"friend", "server"}, 8002: {"server"}, 8003: {"server"}}
KNOCK = "import socket; socket.create_connection(('{}', {}), 2)"


@pytest.mark.parametrize("port", OPEN)
def test_a_port_answers_those_who_need_it_and_nobody_else(host: Host, port: int) -> None:
    """From every host; the server's own is loopback's business."""
    name = host.check_output("hostname")
    answered = host.run("python3 -c %s", KNOCK.format(SERVER, port)).rc == 0
    assert answered == (name in OPEN[port])


@pytest.mark.parametrize("port", OPEN)
def test_the_machine_around_is_a_stranger_too(port: int) -> None:
    """Nothing but SSH from here."""
    try:
        socket.create_connection((SERVER, port), 2).close()
        answered = True
    except OSError:
        answered = False
    assert answered == ("outside" in OPEN[port])


def test_hosts_answer_pings_and_get_out(host: Host) -> None:
    """Replies to what a host began come in, and so does ICMP."""
    other = SERVER if host.check_output("hostname") != "server" else "10.78.27.12"
    assert host.run("python3 -c %s", KNOCK.format(other, 22)).rc == 0


def test_the_rules_are_there_after_a_boot(host: Host) -> None:
    """The unit is enabled and has loaded them."""
    service = host.service("incoming-firewall")
    assert service.is_enabled
    assert service.is_running
    assert "policy drop" in host.check_output("nft list table inet incoming")


def test_the_table_of_somebody_else_is_still_there(host: Host) -> None:
    """Only our own was loaded anew."""
    if host.check_output("hostname") != "server":
        pytest.skip("the other table is the server's")
    assert host.run("nft list table inet other").rc == 0
