"""Apply a role to this machine, in a temporary directory: these tests need no lab, no network and no privilege."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from ansible_playbook import ROOT, run_playbook


@pytest.fixture
def play(tmp_path: Path) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Return a function that plays tasks on localhost with the given variables, and returns what ended."""

    def run(tasks: list[dict[str, Any]], variables: dict[str, Any], *options: str) -> subprocess.CompletedProcess[str]:
        playbook = tmp_path / "playbook.json"
        this = {"hosts": "localhost", "connection": "local", "vars": {"ansible_python_interpreter": sys.executable}}
        playbook.write_text(json.dumps([{**this, "gather_facts": False, "tasks": tasks}]))
        extra = tmp_path / "variables.json"
        extra.write_text(json.dumps(variables))
        return run_playbook("--inventory", "localhost,", "--extra-vars", f"@{extra}", *options, playbook)

    return run


@pytest.fixture(scope="session")
def lab_utils() -> Callable[[str], ModuleType]:
    """Return what loads a part of what lab_host's modules share, under the name that Ansible gives it on a host."""

    def load(name: str) -> ModuleType:
        path = ROOT / "roles" / "lab_host" / "module_utils" / f"{name}.py"
        spec = importlib.util.spec_from_file_location(f"ansible.module_utils.{name}", path)
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        sys.modules[spec.name] = module
        spec.loader.exec_module(module)
        return module

    # The others import it.
    load("taskmill_lab")
    return load
