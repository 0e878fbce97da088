"""The command that does a run again."""

from __future__ import annotations

import json
import shlex
from typing import Any

from ansible.parsing.dataloader import DataLoader
from ansible.utils.vars import load_extra_vars


def from_command_line(names: list[str]) -> dict[str, Any]:
    """Return those of the variables that this ansible-playbook was given as extra variables."""
    given = load_extra_vars(DataLoader())
    return {name: given[name] for name in names if name in given}


def repeat_command(
    values: list[Any], names: list[str], defaults: dict[str, Any], inventory: str, always: dict[str, Any]
) -> str:
    """Return `ansible-playbook` with every knob, by its name, whose value is not the default, and what is given always.

    A value from the command line is text where the default is a number: what reads the same is the same.
    """
    given = {
        name: value
        for name, value in zip(names, values, strict=True)
        if str(value).lower() != str(defaults[name]).lower()
    } | always
    command = ["ansible-playbook", "-i", inventory, "run-load.yml"]
    return shlex.join(command + (["-e", json.dumps(given, default=str)] if given else []))


class FilterModule:
    """What Ansible looks for."""

    def filters(self) -> dict[str, Any]:
        """Return the filters by name."""
        return {"from_command_line": from_command_line, "repeat_command": repeat_command}
