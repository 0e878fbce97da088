"""Where results are kept, by `result_store` alone: what is set up, who is told the address, and what is refused."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import wiring
import yaml
from ansible_playbook import ROOT

from taskmill.results import store
from taskmill.results.redis_store import ENTRY, MEBIBYTE, META_BYTES

PASSWORD = 'not-to/be#seen?%"\\@:'
SECRET = "not-to"
URL = "redis://:secret%2Fnot-to-be-seen@192.0.2.7/3"
DATABASE = "db+postgresql+psycopg2://user:not-to-be-seen@db.example.org/results"
SEVERAL = "cache+memcached://192.0.2.7:11212;[2001:db8::7];192.0.2.8/"
STORES = {
    "memcached": "memcached",
    "redis": "redis",
    "url": URL,
    "database": DATABASE,
    "several": SEVERAL,
    "nothing": "disabled://",
}
SHOWN = [
    "celery_worker_result_backend", "load_client_result_backend", "firewall_services", "load_settings",
    "results_servers", "break_known", "break_hosts", "break_store",
]  # fmt: skip


@pytest.fixture(scope="module")
def wired(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, Any]]:
    """Return what the wiring makes of each store."""
    folder = tmp_path_factory.mktemp("stores")
    values = "{{ dict(names | zip(query('ansible.builtin.vars', *names))) | to_json }}"
    show = {"copy": {"content": values, "dest": f"{folder}/{{{{ inventory_hostname }}}}"}}
    hosts = {name: {"result_store": kind} for name, kind in STORES.items()}
    told = {"broker_passwords": {"worker": "w", "client": "c", "monitor": "m"}, "redis_password": PASSWORD}
    wiring.play(folder, wiring.landscape(hosts, **told), [show], names=SHOWN, break_gone=[])
    return {name: json.loads((folder / name).read_text()) for name in STORES}


def test_workers_and_client_are_told_one_address(wired: dict[str, dict[str, Any]]) -> None:
    """That of the store on the group results, or the URL as it is."""
    found = {name: values["celery_worker_result_backend"] for name, values in wired.items()}
    assert found == {name: values["load_client_result_backend"] for name, values in wired.items()}
    assert found["memcached"] == "cache+memcached://127.0.0.1:11211/"
    assert {name: url for name, url in found.items() if name not in {"memcached", "redis"}} == {
        name: url for name, url in STORES.items() if name not in {"memcached", "redis"}
    }


def test_a_password_of_any_characters_is_read_from_the_address(wired: dict[str, dict[str, Any]]) -> None:
    """By Celery, as the client uses it; what is shown of the address has no part of it."""
    there: Any = store.of_url(wired["redis"]["load_client_result_backend"])
    assert there._backend.connparams["password"] == PASSWORD
    assert str(there) == "127.0.0.1:6379/0"


def test_the_port_of_the_chosen_store_alone_is_opened(wired: dict[str, dict[str, Any]]) -> None:
    """To workers and client; of a store that is there already none."""
    opened = {
        name: [
            (one["name"], one["port"]) for one in values["firewall_services"] if one["name"] not in {"AMQP", "Flower"}
        ]
        for name, values in wired.items()
    }
    assert opened == {"memcached": [("memcached", 11211)], "redis": [("redis", 6379)]} | {
        name: [] for name in STORES if name not in {"memcached", "redis"}
    }


def test_the_record_says_the_kind_and_no_password(wired: dict[str, dict[str, Any]]) -> None:
    """With the memory that it was given, where that is known."""
    settings = {name: values["load_settings"] for name, values in wired.items()}
    assert {name: (one["result_store"], one["result_store_memory_mb"]) for name, one in settings.items()} == {
        "memcached": ("memcached", 477),
        "redis": ("redis", 716),
        "url": ("redis", "not known"),
        "database": ("db+postgresql+psycopg2", "not known"),
        "several": ("cache+memcached", "not known"),
        "nothing": ("disabled", "not known"),
    }
    assert SECRET not in json.dumps(settings)


def test_room_is_made_for_what_the_client_asks_for(wired: dict[str, dict[str, Any]]) -> None:
    """What preflight would refuse is not set up."""
    assert wired["redis"]["load_settings"]["result_store_memory_mb"] * MEBIBYTE > 1_000_000 * (ENTRY + META_BYTES + 20)


def test_the_servers_of_a_store_that_is_there_are_known(wired: dict[str, dict[str, Any]]) -> None:
    """Without user and password, with the usual port where none is named."""
    assert {name: values["results_servers"] for name, values in wired.items()} == {
        "memcached": [],
        "redis": [],
        "url": ["192.0.2.7:6379"],
        "database": ["db.example.org:5432"],
        "several": ["192.0.2.7:11212", "[2001:db8::7]:11211", "192.0.2.8:11211"],
        "nothing": [],
    }


def test_a_store_that_is_there_is_not_broken(wired: dict[str, dict[str, Any]]) -> None:
    """The faults of the store are those of its own unit, and are left out where it is not ours."""
    for name, values in wired.items():
        ours = name in {"memcached", "redis"}
        assert ("stop-result-store" in values["break_known"]) == ours
        assert bool(values["break_hosts"]["results"]) == ours
        assert values["break_store"]["unit"] == {
            "memcached": "memcached.service",
            "redis": "redis-server.service",
        }.get(name, "")


NEITHER = (
    "result_store is neither memcached nor redis, which site.yml sets up on the group 'results', nor the URL of a "
    "store that is there already, such as redis://:PASSWORD@HOST:6379/0. "
    "(What it holds may be a secret, and is not shown.)"
)
UNQUOTED = (
    "result_store has the character '/', '?' or '#' before its '@': in a URL, those of a password are written as %2F, "
    "%3F and %23, as the filter urlencode does. (What it holds may be a secret, and is not shown.)"
)
BAD = {
    "another-name": ("postgres:not-to-be-seen", NEITHER),
    "nothing-at-all": (None, NEITHER),
    "a-list": (["memcached"], NEITHER),
    "a-slash": ("redis://:not-to-be/seen@192.0.2.7:6379/0", UNQUOTED),
    "a-hash": ("db+postgresql://user:not-to-be#seen@192.0.2.7/results", UNQUOTED),
}


CHECKS = yaml.safe_load((ROOT / "roles/preflight/tasks/result-store.yml").read_text())
AGREE = "result-store | Fail if hosts name different stores"


@pytest.fixture(scope="module")
def judge(play_cases: Callable[..., Any], tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Any]:
    """Return a function that plays checks over hosts with these stores, and returns what became of each."""

    def play(checks: list[dict[str, Any]], **stores: Any) -> Any:
        folder = tmp_path_factory.mktemp("judged") / "playbooks"
        folder.mkdir()
        (folder / "group_vars").symlink_to(ROOT / "playbooks/group_vars")
        (folder / "play.json").write_text(json.dumps([{"hosts": "all", "gather_facts": False, "tasks": checks}]))
        hosts = {name: {**wiring.HERE, "result_store": value} for name, value in stores.items()}
        return play_cases(folder / "play.json", hosts)

    return play


@pytest.fixture(scope="module")
def judged(judge: Callable[..., Any]) -> Any:
    """What the checks of one host alone say of each store."""
    alone = [check for check in CHECKS if check["name"] != AGREE]
    assert len(alone) == len(CHECKS) - 1
    return judge(alone, **{name: value for name, (value, _) in BAD.items()}, **STORES)


@pytest.mark.parametrize("name", BAD)
def test_what_is_no_store_is_refused_and_not_shown(judged: Any, name: str) -> None:
    """With what to give instead."""
    assert judged.cases[name].refusal(r"^result-store \|").endswith(BAD[name][1])
    assert SECRET not in judged.output


@pytest.mark.parametrize("name", STORES)
def test_every_kind_of_store_is_taken(judged: Any, name: str) -> None:
    """The two that are set up, and any URL."""
    assert judged.cases[name].failed == [], judged.cases[name].said


def test_one_store_is_for_all_hosts(judge: Callable[..., Any]) -> None:
    """Or the client would look where workers do not write."""
    assert judge(CHECKS, one="memcached", other="redis").cases["one"].said == (
        "result_store is not the same for all of one, other, and results would be looked for where they are not. "
        "Set it for all hosts, in group_vars/all of the inventory."
    )
    assert judge(CHECKS, one="redis", other="redis").cases["other"].failed == []


def test_site_sets_up_the_chosen_store_alone() -> None:
    """Each role of a store has the condition of its own, and there is one for each that break-things knows."""
    plays = yaml.safe_load((ROOT / "playbooks/site.yml").read_text())
    [play] = [play for play in plays if play.get("hosts") == "results"]
    assert {role["role"]: role["when"] for role in play["roles"]} == {
        kind: f"result_store == '{kind}'" for kind in ("memcached", "redis")
    }
    faults = yaml.safe_load((ROOT / "playbooks/group_vars/all/faults.yml").read_text())
    assert set(faults["break_stores"]) == {role["role"] for role in play["roles"]}


def test_a_password_is_quoted_in_the_configuration(render: Callable[[Path, dict[str, Any]], str]) -> None:
    """As Redis reads it: within quotes, a quote and a backslash have a backslash before them."""
    text = render(ROOT / "roles/redis/templates/password.conf.j2", {"redis_password": PASSWORD, "ansible_managed": "x"})
    assert text.splitlines()[-1] == 'requirepass "not-to/be#seen?%\\"\\\\@:"'
