"""Whether hosts can be reached by their service addresses, as site.yml looks at it before it changes anything."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from ansible_playbook import ROOT, run_playbook
from wiring import HERE

LOCAL = {name: value for name, value in HERE.items() if name != "service_address"}
#: What each worker host has, and what is said of it; each has the addresses 10.0.0.1 and fd00::1.
HOSTS: dict[str, tuple[dict[str, Any], str]] = {
    "by-name": ({}, "by-name has by-name, which is a name"),
    "nat": ({"service_address": "203.0.113.5"}, "nat has 203.0.113.5, which is none of its addresses"),
    "forwarded": (
        {"service_address": "127.0.0.1"},
        "forwarded has 127.0.0.1, which is its own loopback, where no other host reaches it",
    ),
    "six": ({"service_address": "fd00::1"}, "six has fd00::1, which is an IPv6 address"),
}
RIGHT = {**LOCAL, "service_address": "10.0.0.1"}
#: Nobody answers there.
NOWHERE = {
    "ansible_host": "127.0.0.1",
    "ansible_port": 1,
    "ansible_connection": "ssh",
    "service_address": "10.0.0.2",
}


@pytest.fixture
def look(tmp_path: Path) -> Callable[..., str]:
    """Return a function that plays what site.yml does on the hosts of a landscape, and then one task on each."""
    playbooks = tmp_path / "playbooks"
    playbooks.mkdir()
    (playbooks / "group_vars").symlink_to(ROOT / "playbooks/group_vars")
    site = yaml.safe_load((ROOT / "playbooks/site.yml").read_text())
    plays = [play for play in site if play["name"] == "Check the addresses of the hosts"]
    assert len(plays) == 1
    plays.append({"name": "Go on", "hosts": "all", "gather_facts": False, "tasks": [{"meta": "noop"}, {"ping": None}]})
    (playbooks / "play.json").write_text(json.dumps(plays))
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin/hostname").write_text("#!/bin/sh\necho 10.0.0.1 fd00::1\n")
    (tmp_path / "bin/hostname").chmod(0o755)

    def run(
        workers: dict[str, dict[str, Any]],
        broker: dict[str, Any],
        name: str = "broker1",
        groups: tuple[str, ...] = ("broker", "results", "client"),
    ) -> str:
        children = {group: {"hosts": {name: broker}} for group in groups}
        children["workers"] = {"hosts": workers}
        (tmp_path / "hosts.json").write_text(json.dumps({"all": {"children": children}}))
        path = f"{tmp_path}/bin:{os.environ['PATH']}"
        done = run_playbook("-i", tmp_path / "hosts.json", playbooks / "play.json", PATH=path)
        return re.sub(r"\s+", " ", done.stdout)

    return run


def test_an_address_that_is_not_the_hosts_own_is_refused_before_anything_is_changed(look: Callable[..., str]) -> None:
    """Every such host is named with its address, why it is none, and what to set; the others are not."""
    said = look({name: LOCAL | given for name, (given, _) in HOSTS.items()}, RIGHT)
    faults = "; ".join(f"{words} (its IPv4 addresses: 10.0.0.1)" for _, words in HOSTS.values())
    assert (
        "The service address of a host has to be an IPv4 address of its own, at which the other hosts reach it: "
        f"{faults}. Nothing was changed. Set service_address in the inventory for these hosts, beside ansible_host."
    ) in said
    assert "PLAY [Go on]" not in said


@pytest.mark.thorough
def test_a_landscape_of_one_host_needs_no_address(look: Callable[..., str]) -> None:
    """On this machine all parts of it reach each other by the loopback."""
    said = look({"localhost": LOCAL}, LOCAL, "localhost")
    assert "failed=0" in said
    assert "PLAY [Go on]" in said


@pytest.mark.thorough
def test_a_store_that_is_there_already_needs_no_host(look: Callable[..., str]) -> None:
    """With a URL in result_store nothing has to be in the group results."""
    there = {**LOCAL, "result_store": "redis://:password@192.0.2.7/0"}
    said = look({"localhost": there}, there, "localhost", groups=("broker", "client"))
    assert "failed=0" in said
    assert "PLAY [Go on]" in said


def test_a_worker_host_that_is_down_leaves_the_others_to_go_on(look: Callable[..., str]) -> None:
    """It is named as unreachable, and nobody is refused."""
    said = look({"down": NOWHERE, "up": RIGHT}, RIGHT)
    assert re.search(r"down : ok=0 changed=0 unreachable=1 failed=0", said)
    assert "ok: [up]" in said.partition("PLAY [Go on]")[2]


def test_a_broker_that_is_down_is_waited_for_by_nobody(look: Callable[..., str]) -> None:
    """No worker is set up that would have no broker."""
    said = look({"up": RIGHT}, NOWHERE)
    assert (
        "broker1 cannot be reached, and the other hosts need it: nothing was changed. See above what Ansible says, and "
        "mend the host, or how the inventory has it reached (ansible_host, ansible_user, ansible_port)."
    ) in said
    assert "PLAY [Go on]" not in said
