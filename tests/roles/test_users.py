"""Users that roles add to a host, played here in check mode: nothing is changed."""

from __future__ import annotations

import pwd
import sys
from collections.abc import Callable
from typing import Any

import pytest
import yaml
from ansible_playbook import ROOT

#: The tasks of each role that are about its user, by the role's name.
ADDING = {
    file.parents[1].name: [
        task
        for task in yaml.safe_load(file.read_text())
        if {"ansible.builtin.user", "ansible.builtin.getent"} & set(task)
    ]
    for file in sorted(ROOT.glob("roles/*/tasks/install.yml"))
    if "ansible.builtin.user:" in file.read_text()
}
#: One with a home and a shell of its own, and one that is not there.
PERSON, NOBODY = pwd.getpwuid(0).pw_name, "no-such-user-here"


@pytest.fixture(scope="module")
def added(play_cases: Callable[..., Any]) -> Any:
    """What became of every role's user, where it is a person's and where there is none."""
    this = {"ansible_connection": "local", "ansible_python_interpreter": sys.executable}
    tasks = [
        {
            **task,
            "name": f"{role}: {task['name']}",
            "when": [f"{role}_user is defined", *([task["when"]] if "when" in task else [])],
        }
        for role, tasks in ADDING.items()
        for task in tasks
    ]
    cases = {
        f"{role}-{user}": {**this, f"{role}_user": user, f"{role}_home": "/opt/of-the-role"}
        for role in ADDING
        for user in (PERSON, NOBODY)
    }
    return play_cases([{"hosts": "all", "gather_facts": False, "tasks": tasks}], cases, "--check")


@pytest.mark.parametrize("role", ADDING)
def test_a_user_that_is_there_stays_as_it_is(added: Any, role: str) -> None:
    """Home and shell of a person's account would be others; of no user at all, one is made."""
    add = f"{role}: install | Add the user"
    for user, happens in ((PERSON, "skipping"), (NOBODY, "changed")):
        assert added.cases[f"{role}-{user}"].failed == [], added.cases[f"{role}-{user}"].said
        assert f"{happens}: [{role}-{user}]" in added.output.partition(f"TASK [{add}]")[2].partition("TASK [")[0]


def test_the_roles_with_users_are_known() -> None:
    """Each looks before it adds one."""
    assert {role: len(tasks) for role, tasks in ADDING.items()} == dict.fromkeys(
        ["browser", "celery_app", "flower", "load_client"], 2
    )
