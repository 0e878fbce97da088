"""A lab host on this machine (outer), and one inside it (inner), where PID 1 is systemd."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from testinfra.host import Host

LAB = "/var/lib/taskmill-lab"
UNIT = "taskmill-lab-tm-inner-inner.service"
SSH = (
    f"ssh -i {LAB}/keys/id_ed25519 -o UserKnownHostsFile={LAB}/known_hosts/10.78.3.11"
    " -o BatchMode=yes -o StrictHostKeyChecking=yes root@10.78.3.11"
)
# The shell outlives the program and reports how it ended; ssh itself would only say 255.
TAKE_MEMORY = "python3 -c 'bytearray({mib} * 2**20)'; exit $?"
OVER_THE_LIMIT = {"outer": 3500, "inner": 600}
KILLED = 137


def ask(host: Host, where: str, command: str) -> str:
    """Return what a command says in the outer or in the inner lab host."""
    if where == "inner":
        return str(host.check_output(f"{SSH} %s", command))
    return str(host.check_output(command))


both = pytest.mark.parametrize("where", ["outer", "inner"])


@both
def test_host_boots_without_failed_units(host: Host, where: str) -> None:
    """A lab host is fully up, and nothing in it failed."""
    assert ask(host, where, "systemctl is-system-running") == "running"


@both
def test_host_runs_the_release_asked_for(host: Host, where: str) -> None:
    """The outer host follows MOLECULE_DISTRO, the inner one has the role's default."""
    suite = os.environ.get("MOLECULE_DISTRO") or "trixie"
    wanted = suite if where == "outer" else "trixie"
    assert ask(host, where, ". /etc/os-release; echo $VERSION_CODENAME") == wanted


@both
def test_host_knows_its_own_name(host: Host, where: str) -> None:
    """The name of a lab host resolves to its address on the bridge."""
    address = {"outer": "10.78.2.11", "inner": "10.78.3.11"}[where]
    assert ask(host, where, "getent hosts $(hostname)").split() == [address, where]


@both
def test_host_keeps_utc(host: Host, where: str) -> None:
    """Times of all hosts can be compared."""
    assert ask(host, where, "date +%Z") == "UTC"


@both
def test_mtu_is_that_of_this_machines_way_out(host: Host, where: str) -> None:
    """Large packets get through where the machine's own network takes less than 1500 bytes."""
    for line in Path("/proc/net/route").read_text().splitlines():
        interface, destination, *_ = line.split()
        if destination == "00000000":
            break
    else:
        pytest.skip("this machine has no default route")
    wanted = Path(f"/sys/class/net/{interface}/mtu").read_text().strip()
    assert ask(host, where, "cat /sys/class/net/host0/mtu") == wanted


@both
def test_host_reaches_the_package_mirror(host: Host, where: str) -> None:
    """Package lists can be fetched: names resolve, and packets find their way out and back."""
    ask(host, where, "apt-get -q update")


@both
def test_host_trusts_this_machines_certificates(host: Host, where: str) -> None:
    """Certificates that were added to this machine are in the lab host's bundle."""
    bundle = ask(host, where, "cat /etc/ssl/certs/ca-certificates.crt")
    for path in Path("/usr/local/share/ca-certificates").rglob("*.crt"):
        assert path.read_text().strip() in bundle


@both
def test_memory_limit_holds(host: Host, where: str) -> None:
    """A process that takes more than its lab host may use is killed, and the host lives on."""
    greedy = TAKE_MEMORY.format(mib=OVER_THE_LIMIT[where])
    done = host.run(f"{SSH} %s", greedy) if where == "inner" else host.run(greedy)
    assert done.rc == KILLED
    assert ask(host, where, "echo alive") == "alive"


def test_cores_are_those_asked_for(host: Host) -> None:
    """lab_host_cores "0" leaves one core."""
    assert ask(host, "inner", "nproc") == "1"


def test_systemd_runs_the_inner_host_as_a_unit(host: Host) -> None:
    """Where PID 1 is systemd, a lab host is a unit of its own, with the limit as its property."""
    assert host.service(UNIT).is_running
    assert host.check_output(f"systemctl show --value --property=MemoryMax {UNIT}") == str(512 * 2**20)


def test_guard_route_is_behind_the_bridge(host: Host) -> None:
    """With the bridge gone, packets for the lab are refused here."""
    routes = host.check_output("ip route show 10.78.3.0/24 type unreachable")
    assert "unreachable 10.78.3.0/24" in routes


def test_private_key_is_roots_alone(host: Host) -> None:
    """Nobody else reads the key that opens the lab's hosts."""
    key = host.file(f"{LAB}/keys/id_ed25519")
    assert (key.user, key.mode) == ("root", 0o600)


def test_the_switch_for_the_whole_machine_is_left_to_others(host: Host) -> None:
    """Interfaces forward for the lab alone, and ip_forward is not touched."""
    assert host.check_output("cat /proc/sys/net/ipv4/ip_forward") == "0"
    for interface in ("host0", "tm-inner"):
        assert host.check_output(f"cat /proc/sys/net/ipv4/conf/{interface}/forwarding") == "1"
    rules = host.check_output("nft list table ip taskmill-forwarding")
    assert "iifname @others oifname @others drop" in rules
    assert '"host0"' in rules
    assert "tm-inner" not in rules
