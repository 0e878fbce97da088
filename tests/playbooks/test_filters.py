"""The playbooks' own filters."""

from __future__ import annotations

import importlib.util
import shlex
from pathlib import Path
from typing import Any

import pytest
from ansible.utils.vars import load_extra_vars

FILTERS = Path(__file__).parents[2] / "playbooks" / "filter_plugins"


def load(name: str) -> Any:
    """Import a filter's module from where Ansible finds it."""
    specification = importlib.util.spec_from_file_location(name, FILTERS / f"{name}.py")
    assert specification is not None
    assert specification.loader is not None
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    return module


DEFAULTS = {"load_tasks": 1000000, "load_profile": True, "load_name": "fibonacci", "load_require": []}


def repeat(always: dict[str, Any] | None = None, **knobs: Any) -> list[str]:
    """Return the command for knobs that are set, the others as they are, in words."""
    values = list((DEFAULTS | knobs).values())
    command = load("repeat_command").repeat_command(values, list(DEFAULTS), DEFAULTS, "inventory/lab", always or {})
    return shlex.split(command)


def test_a_run_as_it_comes_is_repeated_without_knobs() -> None:
    """What was given as it is anyway, as text or not, is not repeated."""
    plain = ["ansible-playbook", "-i", "inventory/lab", "run-load.yml"]
    assert repeat() == repeat(load_tasks="1000000", load_profile="true") == plain


def test_every_knob_that_differs_is_repeated() -> None:
    """Values keep their kind and their quotes."""
    words = repeat(load_tasks="5000", load_profile=False, load_name="it's", load_require=["lost==0"])
    assert words[-2] == "-e"
    assert (
        words[-1] == '{"load_tasks": "5000", "load_profile": false, "load_name": "it\'s", "load_require": ["lost==0"]}'
    )


def test_a_stack_of_the_command_line_is_repeated(monkeypatch: pytest.MonkeyPatch) -> None:
    """As it was given, alone or among others; one of the inventory is not."""
    given = load("repeat_command").from_command_line
    arguments = {"extra_vars": ["stack=post2017 load_tasks=5", '{"load_n": 3}']}
    monkeypatch.setattr("ansible.utils.vars.context.CLIARGS", arguments)
    monkeypatch.setattr(load_extra_vars, "extra_vars", {}, raising=False)
    assert given(["stack"]) == {"stack": "post2017"}
    assert repeat(always=given(["stack"]))[-1] == '{"stack": "post2017"}'
    assert given(["side"]) == {}


def test_clocks_are_compared_with_the_clients() -> None:
    """The controller's own clock drops out, and both errors count; the client's clock is its own measure."""
    read = {
        "client1": {"offset_s": 10.0, "error_s": 0.01, "changed": False},
        "worker1": {"offset_s": 7.5, "error_s": 0.02},
    }
    assert load("clocks").against(read, "client1") == {
        "client1": {"offset_s": 0.0, "error_s": 0.0},
        "worker1": {"offset_s": -2.5, "error_s": 0.03},
    }
