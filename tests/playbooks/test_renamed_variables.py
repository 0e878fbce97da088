"""A variable of an old name is refused with its new one, wherever it is set; and the repository itself sets none."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from ansible_playbook import ROOT, run_playbook

RENAMED: dict[str, str] = yaml.safe_load((ROOT / "playbooks/vars/renamed-variables.yml").read_text())[
    "renamed_variables"
]
#: Where a variable may be set, and the one that is set there.
WHERE = {
    "a host of the play": "old_of_a_host",
    "another host": "old_of_another",
    "the play": "old_of_the_play",
    "-e": "old_extra",
}
CHECK = "preflight : renamed-variables | Fail if a variable has an old name"


@pytest.fixture(scope="module")
def played(play_cases: Callable[..., Any]) -> Any:
    """Play the check over two hosts, the first of which has no old name, with a third one beside them."""
    renamed = {name: name.replace("old", "new") for name in [*WHERE.values(), "old_unset"]}
    play = {
        "hosts": "all:!three",
        "gather_facts": False,
        "vars": {"preflight_renamed_variables": renamed, "old_of_the_play": 1},
        "tasks": [{"import_role": {"name": "preflight"}}],
    }
    cases = {"one": {}, "two": {"old_of_a_host": ""}, "three": {"old_of_another": 1, "new_of_a_host": 1}}
    return play_cases([play], cases, "--extra-vars", "old_extra=1")


@pytest.mark.parametrize("where", WHERE)
def test_an_old_name_is_refused_with_the_new_one(played: Any, where: str) -> None:
    """By one message, whether a host of the inventory, the play or the command line sets it."""
    name = WHERE[where]
    assert f"{name} is now {name.replace('old', 'new')}" in played.cases["one"].said
    assert played.cases["one"].said.count("is now") == len(WHERE)
    assert not played.cases["two"].said
    assert CHECK in played.cases["one"].failed


def test_a_name_that_nobody_sets_is_not_spoken_of(played: Any) -> None:
    """Nor is the new one of another variable."""
    assert "unset" not in played.output


def test_new_names_are_let_through(play_cases: Callable[..., Any]) -> None:
    """With the names of the repository, a host that sets every new one passes."""
    play = {
        "hosts": "all",
        "gather_facts": False,
        "vars": {"preflight_renamed_variables": RENAMED},
        "tasks": [{"import_role": {"name": "preflight"}}],
    }
    case = play_cases([play], {"one": dict.fromkeys(RENAMED.values(), 1)}).cases["one"]
    assert not case.failed
    assert CHECK in case.passed


@pytest.mark.parametrize("name", ["load_n", "load_require"])
def test_a_playbook_refuses_an_old_name_in_its_first_play(play_cases: Callable[..., Any], name: str) -> None:
    """With what `-e` gives it."""
    inventory = {"one": {}}
    groups = {group: ["one"] for group in ("client", "workers", "broker", "results")}
    played = play_cases(ROOT / "run-load.yml", inventory, "--extra-vars", f"{name}=1", groups=groups)
    assert f"{name} is now {RENAMED[name]}" in played.cases["one"].refusal("^preflight : ")
    assert played.output.count("PLAY [") == 1


def test_the_passwords_of_a_renamed_inventory_are_not_left_behind(tmp_path: Path) -> None:
    """Where they are at the old place alone, the first play says how to move them, and makes no new ones."""
    old, new = tmp_path / "lab-2017/.secrets", tmp_path / "lab-celery31/.secrets"
    old.mkdir(parents=True)
    new.parent.mkdir()
    (new.parent / "hosts.yml").write_text("all: {children: {broker: {hosts: {one: {ansible_host: 127.0.0.1}}}}}")
    refused = run_playbook("-i", str(new.parent), "site.yml")
    assert refused.returncode != 0
    assert f"mv{old}{new}" in "".join(refused.stdout.split())
    assert refused.stdout.count("PLAY [") == 1
    assert not new.exists()
    old.rename(new)
    taken = run_playbook("-i", str(new.parent), "site.yml")
    assert "no host in the group 'results'" in taken.stdout.replace("''", "'")


def test_the_repository_sets_no_old_name() -> None:
    """Neither wiring, inventories nor roles: each of their playbooks would be refused."""
    files = [
        *(ROOT / "playbooks/group_vars").rglob("*.yml"),
        *(ROOT / "inventory").glob("*/group_vars/**/*.yml"),
        *(ROOT / "inventory").glob("*/host_vars/*.yml"),
        *(ROOT / "roles").glob("*/defaults/*.yml"),
    ]
    assert len(files) > 20
    set_there = {name: str(file) for file in files for name in yaml.safe_load(file.read_text()) or {}}
    assert {name: set_there[name] for name in RENAMED if name in set_there} == {}
    assert set(RENAMED) & set(RENAMED.values()) == set()


def test_no_scenario_hands_over_an_old_name() -> None:
    """A role alone has nobody who refuses it, and would go by its default."""
    files = [path for folder in ("molecule", "benchmarks") for path in (ROOT / folder).rglob("*.yml")]
    assert len(files) > 50
    old = re.compile(rf"^ *(- )?({'|'.join(RENAMED)}):", re.MULTILINE)
    assert [f"{path}: {match[2]}" for path in files for match in old.finditer(path.read_text())] == []
