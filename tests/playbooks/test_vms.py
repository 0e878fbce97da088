"""The inventory to copy for machines of one's own."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from ansible_playbook import ROOT, run_playbook

EXAMPLE = ROOT / "inventory/vms"
TOPICS = [yaml.safe_load(path.read_text()) for path in (ROOT / "playbooks/group_vars/all").glob("*.yml")]


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """Return a copy of the inventory, as the documentation has one made."""
    return Path(shutil.copytree(EXAMPLE, tmp_path / "mine"))


def hosts(inventory: Path) -> dict[str, dict[str, Any]]:
    """Return the variables of each host, as Ansible reads them."""
    program = Path(sys.executable).with_name("ansible-inventory")
    done = subprocess.run(
        [program, "-i", inventory, "--list"], cwd=ROOT, capture_output=True, text=True, timeout=60, check=True
    )
    known: dict[str, dict[str, Any]] = json.loads(done.stdout)["_meta"]["hostvars"]
    return known


def test_a_copy_is_read_topic_by_topic(copy: Path) -> None:
    """Every file of group_vars/all holds for every host, but for the example of a vault."""
    topics = {path.name: yaml.safe_load(path.read_text()) for path in (copy / "group_vars/all").glob("*.yml")}
    assert set(topics) == {"app.yml", "network.yml", "load.yml"}
    known = hosts(copy)
    assert set(known) == {"rabbit1", "worker1", "client1"}
    for variables in known.values():
        assert [name for topic in topics.values() for name in topic if variables[name] != topic[name]] == []
        assert "broker_passwords" not in variables


def test_a_vault_is_read_once_it_has_its_name(copy: Path) -> None:
    """It has every password that the wiring would make otherwise, and nothing else."""
    vault = copy / "group_vars/all/vault.yml"
    shutil.copy(vault.with_name("vault.yml.example"), vault)
    known = hosts(copy)["worker1"]
    wired = {name: value for topic in TOPICS for name, value in topic.items()}
    assert set(yaml.safe_load(vault.read_text())) == {
        "broker_passwords",
        "flower_basic_auth_password",
        "redis_password",
    }
    assert set(known["broker_passwords"]) == set(wired["broker_passwords"])
    made = [name for name, value in wired.items() if re.search(r"lookup\('generated_password'", str(value))]
    assert sorted(made) == ["broker_passwords", "flower_basic_auth_password", "redis_password"]


def test_what_the_example_sets_is_a_variable_that_there_is() -> None:
    """A mistyped one would change nothing."""
    wired = {name for topic in TOPICS for name in topic}
    for file in (EXAMPLE / "group_vars/all").iterdir():
        assert set(yaml.safe_load(file.read_text())) - wired == set(), file.name


@pytest.mark.thorough
def test_the_playbooks_take_a_copy(copy: Path) -> None:
    """As they take the example."""
    for book in ("site.yml", "run-load.yml"):
        done = run_playbook("-i", copy, book, "--list-hosts")
        assert done.returncode == 0, done.stderr
        assert "worker1" in done.stdout
