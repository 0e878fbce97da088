"""The broker's management API is asked where the inventory puts it, by all that ask it, and not where it is off."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from wiring import landscape, play

#: Each host is a broker of its own.
HOSTS: dict[str, dict[str, Any]] = {
    "usual": {},
    "other_port": {"rabbitmq_management_port": 15673},
    "address": {"rabbitmq_management_address": "192.0.2.1"},
    "every_address": {"rabbitmq_management_address": "0.0.0.0", "rabbitmq_management_port": "15673"},
    "six": {"rabbitmq_management_address": "fd00::1"},
    "every_six": {"rabbitmq_management_address": "::"},
    "off": {"rabbitmq_management": "false"},
    "no_broker": {"broker_host": "usual"},
}
ASKING = ("flower_broker_api_url", "host_stats_broker_api_url")


def test_the_api_is_asked_where_it_is(tmp_path: Path) -> None:
    """On every address, it is asked on the loopback; Flower and the samples of the broker log in."""
    hosts = {name: {"broker_host": name, **variables} for name, variables in HOSTS.items()}
    told = {"api": "{{ foreign_workers_api }}", "urls": [f"{{{{ {name} }}}}" for name in ASKING]}
    password = {"broker_passwords": dict.fromkeys(("worker", "client", "monitor"), "a/b")}
    write = {"copy": {"content": "{{ told | to_json }}", "dest": f"{tmp_path}/{{{{ inventory_hostname }}}}"}}
    play(tmp_path, landscape(hosts, **password), [write], told=told)
    found = {name: json.loads((tmp_path / name).read_text()) for name in hosts}
    apis = {
        "usual": "127.0.0.1:15672",
        "other_port": "127.0.0.1:15673",
        "address": "192.0.2.1:15672",
        "every_address": "127.0.0.1:15673",
        "six": "[fd00::1]:15672",
        "every_six": "[::1]:15672",
        "off": "",
        "no_broker": "",
    }
    assert {name: one["api"] for name, one in found.items()} == apis
    for name, one in found.items():
        assert one["urls"] == [f"http://monitor:a%2Fb@{apis[name]}/api/" if apis[name] else ""] * 2, name


def test_without_the_api_no_worker_is_looked_for(tmp_path: Path) -> None:
    """And site.yml goes on; nobody answers at the port."""
    find = {"include_role": {"name": "foreign_workers", "tasks_from": "find"}}
    then = {"assert": {"that": "__foreign_workers_connections == []"}}
    play(tmp_path, landscape({"one": {"rabbitmq_management": False}}), [find, then])
