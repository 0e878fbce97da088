"""Pipes on the controller, whose first command may fail, and requests on a host, which has a proxy perhaps."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from ansible.errors import AnsibleError
from ansible.parsing.dataloader import DataLoader
from ansible.plugins.loader import lookup_loader
from ansible_playbook import ROOT


def test_every_pipe_fails_with_any_of_its_commands() -> None:
    """The lookup takes the shell of the controller, which knows no pipefail everywhere."""
    found = [
        command
        for folder in ("roles", "playbooks", "benchmarks")
        for file in (ROOT / folder).rglob("*.yml")
        for command in re.findall(r"builtin\.pipe',\s*(.*)", file.read_text())
    ]
    assert len(found) >= 2
    assert [command for command in found if not command.startswith("'bash -o pipefail -c ' ~ ")] == []


@pytest.fixture
def digest(resolve: Callable[[Any, dict[str, Any]], Any]) -> Callable[[Path], str]:
    """Return a function that gives what stands for an environment with one wheel."""
    role = ROOT / "roles/python_venv"
    lookup_loader.add_directory(str(role / "lookup_plugins"))
    known: dict[str, Any] = {"python_venv_requirements": ""}
    for folder in ("defaults", "vars"):
        known |= DataLoader().load_from_file(str(role / folder / "main.yml"), trusted_as_template=True)
    known["python_venv_requirements"] = ""
    return lambda wheel: str(resolve("{{ __python_venv_digest }}", known | {"python_venv_wheels": [str(wheel)]}))


def test_a_wheel_that_cannot_be_read_is_no_empty_one(digest: Callable[[Path], str], tmp_path: Path) -> None:
    """Its digest would be that of nothing, whatever it holds."""
    wheel = tmp_path / "it's one-1-py3-none-any.whl"
    wheel.write_text("one")
    one = digest(wheel)
    wheel.write_text("two")
    assert digest(wheel) != one
    wheel.unlink()
    with pytest.raises(AnsibleError, match="pipe"):
        digest(wheel)


def test_no_request_to_a_service_of_the_host_goes_by_its_proxy() -> None:
    """Which /etc/environment may name, and which knows nothing of these services."""
    tasks = [
        task
        for file in [*ROOT.glob("roles/*/tasks/*.yml"), *ROOT.glob("playbooks/*.yml")]
        for task in yaml.safe_load(file.read_text()) or []
        if "ansible.builtin.uri" in task
    ]
    assert len(tasks) >= 3
    assert [task["name"] for task in tasks if task["ansible.builtin.uri"].get("use_proxy") is not False] == []
