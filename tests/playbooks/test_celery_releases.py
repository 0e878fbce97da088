"""Which release of Celery a host gets, and what is said when it cannot carry it, before anything is changed."""

from __future__ import annotations

import json
import os
import re
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from ansible_playbook import ROOT, run_playbook
from wiring import EXAMPLE

RELEASES = yaml.safe_load((ROOT / "playbooks" / "group_vars" / "all" / "celery_release.yml").read_text())[
    "celery_releases"
]
#: The first plays of site.yml that change anything.
CERTIFICATES, BROKER = "Create missing certificates, and check the others", "Set up the broker"


def script(path: Path, text: str) -> Path:
    """Write a shell script."""
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
    return path


def site(folder: Path, hosts: dict[str, dict[str, Any]], *options: str) -> str:
    """Return what site.yml says of a landscape on this machine, of hosts with these variables.

    `python` of a host is what its /usr/bin/python3 says of itself, and `candidate` which python2.7 its apt knows.
    """
    script(folder / "apt-cache", """echo "  Candidate: ${2#python2.7-}" """)
    script(folder / "apt-get", "exit 100")
    known = {}
    for name, variables in hosts.items():
        table = json.loads(json.dumps(RELEASES))
        table["celery5"]["python"] = str(script(folder / f"python3-{name}", f"echo {variables.get('python', '3.13')}"))
        table["celery31"]["python"] = str(folder / "python2.7")
        table["celery31"]["python_packages"] = [f"python2.7-{variables.get('candidate', '(none)')}"]
        known[name] = {"celery_releases": table, **variables}
    inventory = folder / "hosts.json"
    one = dict(list(known.items())[:1])
    groups = {
        "broker": {"hosts": one},
        "results": {"hosts": one},
        "workers": {"hosts": known},
        "client": {"hosts": known},
    }
    this = {
        **EXAMPLE,
        "ansible_connection": "local",
        "ansible_become": False,
        "ansible_python_interpreter": sys.executable,
    }
    inventory.write_text(json.dumps({"all": {"vars": this, "children": groups}}))
    done = run_playbook("-i", inventory, "site.yml", "--check", *options, PATH=f"{folder}:{os.environ['PATH']}")
    assert done.returncode != 0
    assert "changed=0" in done.stdout
    assert not re.search("changed=[1-9]", done.stdout)
    return re.sub(r"\s+", " ", done.stdout)


@pytest.fixture(scope="module")
def pythons(tmp_path_factory: pytest.TempPathFactory) -> str:
    """What is said of hosts with an old Python, a new one, or 2.7 at hand."""
    hosts: dict[str, dict[str, Any]] = {
        "without": {"celery_release": "celery31"},
        "new": {},
        "one": {"celery_release": "celery5", "python": "3.9"},
        "two": {"python": "3.9"},
        "old": {"celery_release": "celery31", "candidate": "2.7.18-8"},
    }
    return site(tmp_path_factory.mktemp("pythons"), hosts)


def test_a_host_without_python_2_7_cannot_have_the_articles_release(pythons: str) -> None:
    """It is named with what it needs and the way out; the hosts that can are not, and nobody is touched."""
    assert "without (celery31 needs Python 2.7, that is Debian 11, Ubuntu 16.04; the host has none)" in pythons
    assert "set celery_release to one of celery5, celery31" in pythons
    assert "new (" not in pythons
    assert BROKER not in pythons


def test_a_host_with_an_old_python_cannot_have_celery_5(pythons: str) -> None:
    """All such hosts are told at once, whether celery5 is chosen or nothing is."""
    assert "one (celery5 needs Python 3.10" in pythons
    assert "two (celery5 needs Python 3.10" in pythons
    assert "24.04; the host has 3.9)" in pythons
    assert "old (" not in pythons
    assert BROKER not in pythons


@pytest.mark.thorough
def test_the_release_of_the_command_line_outranks_the_inventorys(tmp_path: Path) -> None:
    """With -e celery_release=celery31 every host needs Python 2.7."""
    said = site(tmp_path, {"one": {"celery_release": "celery5"}}, "--extra-vars", "celery_release=celery31")
    assert "one (celery31 needs Python 2.7" in said


def test_a_release_that_there_is_not_is_refused_by_name(tmp_path: Path) -> None:
    """The host, the name and the right ones; the new name, where it is an old one."""
    releases = {"one": "celery32", "two": "modern", "three": "post2017"}
    said = site(tmp_path, {host: {"celery_release": name, "candidate": "2.7"} for host, name in releases.items()})
    for host, right in (("one", "one of: celery5, celery31"), ("two", "celery5"), ("three", "celery31")):
        wrong = f"{host} is to have the release '{releases[host]}', which there is not. Set celery_release to {right}"
        assert wrong in said


def test_the_articles_release_is_refused_where_tls_is_asked_for(tmp_path: Path) -> None:
    """Its AMQP library compares no name; the host is named, with both ways out, and that of Celery 5 is not."""
    hosts = {"old": {"celery_release": "celery31", "candidate": "2.7"}, "new": {"celery_release": "celery5"}}
    said = site(tmp_path, hosts, "--extra-vars", "tls=true")
    assert "old is to have the release 'celery31', whose AMQP library does not look at whose certificate" in said
    assert "Set tls: false" in said
    assert "new is to have" not in said
    assert CERTIFICATES not in said


def test_the_articles_release_is_refused_with_another_store_than_memcached(tmp_path: Path) -> None:
    """Its client fetches no other results; the host is named, and nothing is changed on the others either."""
    hosts = {"new": {"celery_release": "celery5"}, "old": {"celery_release": "celery31", "candidate": "2.7"}}
    said = site(tmp_path, hosts, "--extra-vars", "result_store=redis")
    assert (
        "old is to have the release 'celery31', whose client fetches results from memcached alone, and result_store "
        "names another store. Set result_store: memcached, or take the release celery5."
    ) in said
    assert "new is to have" not in said
    assert CERTIFICATES not in said


def test_the_plays_that_must_not_begin_are_there() -> None:
    """Under another name nothing would be looked for."""
    plays = [play["name"] for play in yaml.safe_load((ROOT / "playbooks/site.yml").read_text()) if "name" in play]
    assert {CERTIFICATES, BROKER} <= set(plays)


@pytest.mark.parametrize("name", sorted(RELEASES))
def test_both_releases_say_the_same_things(name: str) -> None:
    """A reader finds each difference in both columns, and every requirements file is there, hashed."""
    assert RELEASES[name].keys() == RELEASES["celery5"].keys()
    for file in [*RELEASES[name]["requirements"].values(), RELEASES[name]["virtualenv"] or "app.txt"]:
        pins = re.sub(r"\\\n", " ", (ROOT / "requirements" / file).read_text()).splitlines()
        assert [pin for pin in pins if not re.match(r"(#|$|\S+==\S+ .*--hash=sha256:)", pin)] == []


@pytest.mark.parametrize(
    ("part", "pins"),
    [
        ("app", ["celery==3.1.24", "python-memcached==1.58"]),
        ("flower", ["flower==0.9.1"]),
        ("client", ["celery==3.1.24"]),
    ],
)
def test_the_articles_release_has_the_articles_versions(part: str, pins: list[str]) -> None:
    """Those that the write-up names."""
    text = (ROOT / "requirements" / RELEASES["celery31"]["requirements"][part]).read_text()
    assert [pin for pin in pins if f"{pin} " not in text] == []


ADDRESSES = [("8.8.8.8", True), ("172.32.0.1", True), ("172.31.0.1", False)]


@pytest.fixture(scope="module")
def addresses(tmp_path_factory: pytest.TempPathFactory) -> str:
    """What is said of a host with the article's release on each address, and of one with Celery 5."""
    hosts = {f"old{n}": {"celery_release": "celery31", "service_address": at} for n, (at, _) in enumerate(ADDRESSES)}
    return site(tmp_path_factory.mktemp("addresses"), {**hosts, "new": {"service_address": "8.8.8.8"}})


@pytest.mark.parametrize(("address", "refused"), ADDRESSES)
def test_the_articles_release_is_refused_on_a_public_address(addresses: str, address: str, refused: bool) -> None:
    """Its versions have holes; a private address is let through."""
    host = f"old{ADDRESSES.index((address, refused))}"
    sentence = f"'celery31', whose versions have holes that nobody mends any more, on {address}"
    assert (f"{host} is to have the release {sentence}" in addresses) is refused
    assert re.findall(rf"{host} : ok=. changed=0 unreachable=0 failed=(.)", addresses) == [str(int(refused))]
    assert "new is to have" not in addresses
