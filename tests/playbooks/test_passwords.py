"""A fresh clone generates passwords for hosts that have none, and for no others."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from ansible_playbook import ROOT, run_playbook
from wiring import HERE

USERS = ["worker", "client", "monitor"]
#: What a node says that has these users and some that no inventory speaks of.
LISTED = "user\\ttags\\nstranger\\t[]\\nworker\\t[]\\nclient\\t[]\\nmonitor\\t[monitoring]\\n"
VAULT: dict[str, Any] = {
    "broker_passwords": dict.fromkeys(USERS, "not-to-be-seen"),
    "redis_password": "not-to-be-seen",
    "flower_basic_auth_password": "not-to-be-seen",
}
#: Nobody answers there.
NOWHERE = {"ansible_host": "127.0.0.1", "ansible_port": 1, "ansible_connection": "ssh"}
FILES = {"broker_worker", "broker_client", "broker_monitor", "redis", "flower"}
CHECK = "Check that the passwords and the authority of what runs already are here"
REPLACE = "Replace the passwords"
#: Options that change nothing of what is asked and refused.
CHECK_MODE, LIMIT, TAGS = (
    pytest.param(options, marks=pytest.mark.thorough)
    for options in (("--check",), ("--limit", "workers"), ("--tags", "flower"))
)


def plays_of(book: str, name: str) -> list[dict[str, Any]]:
    """Return the play of that name."""
    found = [play for play in yaml.safe_load((ROOT / "playbooks" / book).read_text()) if play["name"] == name]
    assert len(found) == 1
    return found


class Clone:
    """A clone of the repository whose every host is this machine."""

    def __init__(self, folder: Path) -> None:
        self.hosts = folder / "hosts"
        self.secrets = folder / "inventory" / ".secrets"
        self.playbooks = folder / "playbooks"
        self.inventory = self.secrets.with_name("hosts.json")
        self.programs = folder / "bin"
        for made in (self.hosts, self.inventory.parent, self.playbooks, self.programs):
            made.mkdir()
        for name in ("group_vars", "vars"):
            (self.playbooks / name).symlink_to(ROOT / "playbooks" / name)
        self.services = yaml.safe_load((ROOT / "playbooks/group_vars/all/secrets.yml").read_text())["secrets_services"]
        for service in self.services:
            service["path"] = str(self.hosts / service["name"])

    def set_up(self, *services: str, rabbitmqctl: str = f"printf '{LISTED}'") -> None:
        """Let hosts have these services already; each call of rabbitmqctl is noted."""
        for name in services:
            (self.hosts / name).touch()
        program = self.programs / "rabbitmqctl"
        program.write_text(f'#!/bin/sh\necho "$*" >> {self.hosts}/calls\n{rabbitmqctl}\n')
        program.chmod(0o755)

    def play(
        self, *options: str, plays: list[dict[str, Any]] | None = None, away: str = "", **variables: Any
    ) -> tuple[bool, str]:
        """Play what site.yml does about passwords, and then use them; return whether it went on, and what was said."""
        groups = ["broker", "results", "workers", "client", "monitor"]
        children = {name: {"hosts": {f"{name}1": NOWHERE if name in away else {}}} for name in groups}
        known = {**HERE, "secrets_services": self.services, **variables}
        self.inventory.write_text(json.dumps({"all": {"vars": known, "children": children}}))
        whole = "broker_urls.values() | select('search', ':.{9,}@') | length == 3"
        use = {"name": "Go on", "assert": {"that": whole, "quiet": True}}
        then = [{"hosts": hosts, "gather_facts": False, "tasks": [use]} for hosts in ("all", "workers")]
        book = self.playbooks / "play.json"
        book.write_text(json.dumps([*(plays_of("site.yml", CHECK) if plays is None else plays), *then]))
        path = f"{self.programs}:{os.environ['PATH']}"
        done = run_playbook("-i", self.inventory, book, *options, PATH=path)
        said = re.sub(r"\s+", " ", done.stdout + done.stderr)
        assert "not-to-be-seen" not in said
        assert (done.returncode == 0) == ("TASK [Go on]" in said and "FAILED!" not in said), said
        return done.returncode == 0, said

    def files(self) -> dict[str, str]:
        """Return the passwords that the clone has, by file."""
        return {path.name: path.read_text() for path in self.secrets.glob("*")}

    def calls(self) -> list[str]:
        """Return with which arguments rabbitmqctl was called."""
        log = self.hosts / "calls"
        return log.read_text().splitlines() if log.exists() else []


@pytest.fixture
def clone(tmp_path: Path) -> Clone:
    """Return a fresh clone, whose hosts are blank."""
    return Clone(tmp_path)


@pytest.mark.parametrize("options", [(), CHECK_MODE, LIMIT, TAGS])
def test_a_fresh_clone_is_refused_where_another_has_set_up_the_broker(clone: Clone, options: tuple[str, ...]) -> None:
    """Before a password is generated; the users are named, and where their passwords are to be had."""
    clone.set_up("RabbitMQ", "Flower")
    went_on, said = clone.play(*options)
    assert not went_on
    assert (
        "RabbitMQ on broker1 has the users worker, client, monitor already; Flower on monitor1 has the user taskmill "
        f"already, and this clone has no passwords of these in {clone.secrets}: another clone has set them up. Nothing "
        "was changed. Copy that folder from the other clone"
    ) in said
    assert re.search(r"ansible-playbook -i \S+ playbooks/rotate-secrets\.yml", said)
    assert "stranger" not in said
    assert "TASK [Go on]" not in said
    assert not clone.secrets.exists()
    assert clone.calls() == ["-q list_users"]


@pytest.mark.parametrize("options", [(), CHECK_MODE])
def test_blank_hosts_get_passwords_once(clone: Clone, options: tuple[str, ...]) -> None:
    """Those that the inventory needs, which only their owner reads; once they are here, no host is asked."""
    clone.set_up()
    assert clone.play(*options)[0]
    first = clone.files()
    assert set(first) == FILES
    assert {len(password.strip()) for password in first.values()} == {24, 32}
    assert {path.stat().st_mode & 0o777 for path in clone.secrets.iterdir()} == {0o600}
    clone.set_up("RabbitMQ", "Flower")
    assert clone.play(*options)[0]
    assert clone.files() == first
    assert clone.calls() == []


@pytest.mark.thorough
def test_a_node_without_our_users_is_taken(clone: Clone) -> None:
    """As the package leaves it, or another app's."""
    clone.set_up("RabbitMQ", rabbitmqctl="printf 'guest\\t[administrator]\\nworkers\\t[]\\n'")
    assert clone.play()[0]
    assert set(clone.files()) == FILES


def test_a_password_that_alone_is_missing_is_named(clone: Clone) -> None:
    """The others are right."""
    clone.set_up()
    clone.play()
    (clone.secrets / "broker_client").unlink()
    clone.set_up("RabbitMQ", "Flower")
    went_on, said = clone.play()
    assert not went_on
    assert "RabbitMQ on broker1 has the user client already, and this clone" in said
    assert "broker_client" not in clone.files()


def test_a_node_that_does_not_answer_is_no_blank_one(clone: Clone) -> None:
    """Its users would be given new passwords when it starts."""
    clone.set_up("RabbitMQ", rabbitmqctl="echo 'unable to perform an operation on node' >&2; exit 69")
    went_on, said = clone.play()
    assert not went_on
    assert f"broker1 has data of RabbitMQ ({clone.hosts}/RabbitMQ), and does not say whether the users worker" in said
    assert "systemctl start rabbitmq-server" in said
    assert "It said: unable to perform an operation on node" in said
    assert not clone.secrets.exists()


@pytest.mark.parametrize("options", [("--limit", "workers"), pytest.param((), marks=pytest.mark.thorough)])
def test_a_broker_that_is_not_reached_ends_it(clone: Clone, options: tuple[str, ...]) -> None:
    """What it has is not known, so nothing is generated for any host."""
    clone.set_up("RabbitMQ", "Flower")
    went_on, said = clone.play(*options, away="broker")
    assert not went_on
    assert "TASK [Go on]" not in said
    assert not clone.secrets.exists()


def test_passwords_of_a_vault_are_taken_as_they_are(clone: Clone) -> None:
    """Nothing is generated, so no host is asked."""
    clone.set_up("RabbitMQ", "Redis", "Flower")
    assert clone.play(**VAULT)[0]
    assert not clone.secrets.exists()
    assert clone.calls() == []


@pytest.mark.parametrize("there", [True, pytest.param(False, marks=pytest.mark.thorough)])
def test_the_password_of_redis_is_looked_at_like_the_brokers(clone: Clone, there: bool) -> None:
    """Where results are in Redis, which may be the one service whose password no vault has."""
    clone.set_up(*["Redis"] if there else [])
    vault = {name: value for name, value in VAULT.items() if name != "redis_password"}
    went_on, said = clone.play(result_store="redis", **vault)
    assert went_on is not there
    assert ("Redis on results1 has the user default already" in said) is there
    assert set(clone.files()) == (set() if there else {"redis"})


def test_a_service_that_the_landscape_does_not_have_is_not_asked(clone: Clone) -> None:
    """Redis may be on a host for something else, where results are in memcached."""
    clone.set_up("Redis")
    vault = {name: value for name, value in VAULT.items() if name != "redis_password"}
    assert clone.play(**vault)[0]


def test_a_password_that_is_empty_is_refused(clone: Clone) -> None:
    """A file of one that was interrupted, or a vault that was not filled in."""
    clone.set_up()
    went_on, said = clone.play(**{**VAULT, "flower_basic_auth_password": ""})
    assert not went_on
    assert "The password of taskmill is empty." in said


def test_no_other_play_generates_a_password(clone: Clone) -> None:
    """A load from a fresh clone would otherwise leave files that site.yml takes for the hosts' own."""
    went_on, said = clone.play(plays=[])
    assert not went_on
    assert f"There is no password in {clone.secrets}/broker_worker. If these hosts are set up already, copy" in said
    assert not clone.secrets.exists()


def test_a_rotation_replaces_all_and_is_not_refused(clone: Clone) -> None:
    """The hosts have the former ones at the time; those of the app's own are made when they are used."""
    clone.set_up()
    clone.play()
    former = clone.files()
    (clone.secrets / "secret_key").write_text("of the app")
    clone.set_up("RabbitMQ", "Flower")
    assert clone.play(plays=plays_of("rotate-secrets.yml", REPLACE) + plays_of("site.yml", CHECK))[0]
    assert set(clone.files()) == FILES
    assert set(clone.files().values()) & set(former.values()) == set()


@pytest.mark.thorough
def test_a_rotation_is_the_way_out_where_passwords_are_lost(clone: Clone) -> None:
    """From a clone that has none."""
    clone.set_up("RabbitMQ", "Flower")
    assert clone.play(plays=plays_of("rotate-secrets.yml", REPLACE) + plays_of("site.yml", CHECK))[0]
    assert set(clone.files()) == FILES


@pytest.mark.thorough
def test_a_rotation_in_check_mode_changes_no_password(clone: Clone) -> None:
    """A file that it left would let site.yml through, which no longer knows then that the hosts have another one."""
    clone.set_up("RabbitMQ", "Flower")
    plays = plays_of("rotate-secrets.yml", REPLACE) + plays_of("site.yml", CHECK)
    went_on, said = clone.play("--check", plays=plays)
    assert not went_on
    assert "RabbitMQ on broker1 has the users worker, client, monitor already" in said
    assert not clone.secrets.exists()


def test_a_rotation_of_passwords_that_a_vault_has_is_refused(clone: Clone) -> None:
    """They are changed where they stand."""
    went_on, said = clone.play(plays=plays_of("rotate-secrets.yml", REPLACE), **VAULT)
    assert not went_on
    assert "No password of this inventory is generated, since it sets them all itself" in said


@pytest.mark.parametrize("options", [(), CHECK_MODE, LIMIT])
def test_a_fresh_clone_is_refused_where_another_has_signed_certificates(clone: Clone, options: tuple[str, ...]) -> None:
    """Although a vault has the passwords; the certificate is named, and where its authority is to be had."""
    clone.set_up("broker.pem")
    installed = [str(clone.hosts / name) for name in ("broker.pem", "flower.pem")]
    known: dict[str, Any] = {**VAULT, "tls": True, "tls_installed": installed}
    went_on, said = clone.play(*options, **known)
    assert not went_on
    assert (
        f"broker1 has the certificate {installed[0]} already; monitor1 has the certificate {installed[0]} already, and "
        f"this clone has no authority in {clone.secrets}/tls: another clone has signed it, or it came from elsewhere. "
        "Nothing was changed. Copy that folder from the other clone"
    ) in said
    assert re.search(r"ansible-playbook -i \S+ playbooks/renew-certificates\.yml -e tls_renew=authority", said)
    # With the authority, with certificates from elsewhere, or without TLS there is nothing to sign anew.
    pair = {"tls_certificate": "/mine.pem", "tls_key": "/mine.key", "tls_ca": "/ca.pem"}
    assert clone.play(*options, **known, **pair)[0]
    assert clone.play(*options, **known | {"tls": False})[0]
    (clone.secrets / "tls").mkdir(parents=True)
    (clone.secrets / "tls" / "authority.key").touch()
    assert clone.play(*options, **known)[0]


@pytest.mark.parametrize(
    ("options", "refused"),
    [
        (("-e", "tls_renew=authority"), False),
        pytest.param((), True, marks=pytest.mark.thorough),
        pytest.param(("-e", "tls_renew=authority", "--check"), True, marks=pytest.mark.thorough),
    ],
)
def test_another_authority_is_made_when_it_is_asked_for(clone: Clone, options: tuple[str, ...], refused: bool) -> None:
    """To renew certificates does not, nor does check mode, whose files would let site.yml through."""
    clone.set_up("broker.pem")
    checks = plays_of("renew-certificates.yml", "Check the inventory and its authority")
    known = {**VAULT, "tls": True, "tls_installed": [str(clone.hosts / "broker.pem")]}
    went_on, said = clone.play(*options, plays=checks, **known)
    assert went_on != refused
    assert (f"has no authority in {clone.secrets}/tls" in said) == refused


def test_site_looks_at_the_passwords_before_it_uses_one() -> None:
    """Every play before it checks or boots, and none has a role that sets up a host."""
    site = yaml.safe_load((ROOT / "playbooks/site.yml").read_text())
    names = [play["name"] for play in site]
    before = site[: names.index(CHECK)]
    assert "Set up the broker" in names[names.index(CHECK) :]
    assert [play["name"] for play in before if "roles" in play] == []
    used = {task["ansible.builtin.import_role"]["name"] for play in before for task in play.get("tasks", [])}
    assert used == {"preflight"}
