"""What the lab's checks say of bad settings: these tests need no lab and change nothing."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
from ansible_playbook import ROOT
from python_file import load

LAB = {"broker1": "10.250.77.11", "worker1": "10.250.77.12"}
TIB = 2**40


@pytest.fixture(scope="module")
def problems(lab_utils: Callable[[str], ModuleType]) -> ModuleType:
    """The role's checks."""
    return lab_utils("taskmill_lab_problems")


def settings(tmp_path: Path, **changed: Any) -> dict[str, Any]:
    """Return the settings of a lab that any machine can hold, but for what is changed."""
    good = {
        "directory": str(tmp_path / "lab"),
        "bridge": "tm-test",
        "subnet": "10.250.77.0/24",
        "suite": "trixie",
        "cores": "",
        "addresses": LAB,
        "memory": dict.fromkeys(LAB, "64M"),
        "disk_per_host": "1K",
    }
    return {**good, **changed}


def test_good_settings_have_no_problem(problems: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A lab that fits is let through."""
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=TIB))
    assert problems.of_lab(settings(tmp_path)) == []


def test_a_user_without_root_is_told_so(problems: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    """The lab says that it takes root, and how to get there."""
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    assert "run the command as root" in problems.of_machine()[0]


def test_another_distribution_is_refused(problems: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where there is no apt, the lab points to machines of one's own."""
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setattr(problems, "os_release", lambda: {"ID": "fedora"})
    assert "-i inventory/vms" in problems.of_machine()[0]


@pytest.mark.parametrize("address", ["10.250.77.1", "10.250.78.11", "10.250.77.255", "broker", ""])
def test_an_address_outside_the_subnet_is_named(problems: ModuleType, tmp_path: Path, address: str) -> None:
    """The bridge's address, another network's and no address at all are refused by host."""
    given = settings(tmp_path, addresses={**LAB, "worker1": address})
    [said] = problems.of_addresses(given["bridge"], given["subnet"], given["addresses"])
    assert said.startswith(f"The address of lab host worker1 is {address!r}")
    assert "between 10.250.77.2 and 10.250.77.254" in said


def test_two_hosts_with_one_address_are_named(problems: ModuleType) -> None:
    """An address that is given twice is refused once, with both names."""
    twins = {**LAB, "client1": LAB["worker1"]}
    [said] = problems.of_addresses("tm-test", "10.250.77.0/24", twins)
    assert "worker1 and client1 have the same address, 10.250.77.12" in said


@pytest.mark.parametrize("subnet", ["10.250.77.1/24", "lab", "10.250.77.0/40"])
def test_a_subnet_that_is_none_is_refused(problems: ModuleType, subnet: str) -> None:
    """A subnet has to be a network in CIDR notation."""
    [said] = problems.of_addresses("tm-test", subnet, LAB)
    assert "lab_host_subnet has to be an IPv4 network" in said


def test_a_subnet_in_use_on_this_machine_is_refused(problems: ModuleType) -> None:
    """A lab may not hide a network that the machine is in."""
    said = problems.of_addresses("tm-test", "127.0.0.0/24", {"broker1": "127.0.0.11"})
    if shutil.which("ip"):
        assert "is in use on this machine's lo" in said[0]


@pytest.mark.parametrize("cores", ["9999", "0-9999", "two", "1-0", "0,,1", "-1"])
def test_cores_that_are_not_there_are_refused(problems: ModuleType, cores: str) -> None:
    """A list of cores has to be one, of this machine's."""
    [said] = problems.of_cores(cores)
    assert said.startswith(f"lab_host_cores is {cores!r}")


def test_cores_of_this_machine_are_let_through(problems: ModuleType) -> None:
    """A core that this process may use is one a lab host may use."""
    assert problems.of_cores(str(min(os.sched_getaffinity(0)))) == []


def test_too_much_memory_for_the_machine_is_added_up(problems: ModuleType) -> None:
    """The hosts' memory together is compared with the machine's, and the message shows the sum."""
    [said] = problems.of_memory({"broker1": "100T", "worker1": "100T"})
    assert "broker1 100T, worker1 100T" in said
    assert "lower lab_host_memory" in said


def test_memory_that_is_no_size_is_named(problems: ModuleType) -> None:
    """A size has a number and a unit."""
    [said] = problems.of_memory({"broker1": "much", "worker1": "1G"})
    assert said.startswith("lab_host_memory of broker1 is 'much'")


def test_too_little_disk_space_is_added_up(problems: ModuleType, tmp_path: Path) -> None:
    """The space for all hosts that are still to be made is compared with what is free."""
    [said] = problems.of_disk(settings(tmp_path, disk_per_host="1000T"))
    assert "(2 new hosts)" in said
    assert "lab_host_directory" in said


@pytest.mark.parametrize("name", ["my_worker", "Broker", "-x", "w" * 64])
def test_a_name_that_no_host_can_have_is_refused(problems: ModuleType, name: str) -> None:
    """A name of the inventory becomes a host name, which has fewer characters to choose from."""
    [said] = problems.of_names("tm-test", [name])
    assert repr(name) in said


def test_a_bridge_name_is_as_short_as_the_kernel_wants(problems: ModuleType) -> None:
    """Sixteen characters are one too many for a network interface."""
    assert "at most 15" in problems.of_names("tm-0123456789012", [])[0]


@pytest.mark.usefixtures("lab_utils")
@pytest.mark.parametrize(("machine", "interface"), [("1", "1"), ("0", "0")])
def test_forwarding_that_others_have_come_to_need_is_left_to_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, machine: str, interface: str
) -> None:
    """A container engine turns it on for the whole machine while a lab is up; else the lab's end sets it back."""
    network = load(ROOT / "roles/lab_host/library/lab_host_network.py")
    for name, value in (("all", machine), ("eth0", "1")):
        (tmp_path / name).mkdir()
        (tmp_path / name / "forwarding").write_text(value)
    (tmp_path / "forwarding.json").write_text('{"interfaces": ["eth0"]}')
    monkeypatch.setattr(network, "SETTINGS", tmp_path)
    monkeypatch.setattr(network, "succeeds", lambda *_: False)
    network.Forwarding(tmp_path).turn_off()
    assert (tmp_path / "all" / "forwarding").read_text() == machine
    assert (tmp_path / "eth0" / "forwarding").read_text() == interface
    assert not (tmp_path / "forwarding.json").exists()
