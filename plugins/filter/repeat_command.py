"""Ansible filter: the command that does a run again."""

from __future__ import annotations

import json
import shlex
from typing import Any

DOCUMENTATION = """
name: repeat_command
short_description: Return the command that does a run again
description:
  - The command is C(ansible-playbook) with C(run-load.yml) and every option whose value is not its default.
  - A value of the command line is text where the default is a number. Values that read the same are the same.
positional: names, defaults, inventory, always
options:
  _input:
    description: Values of the options, in the order of O(names).
    type: list
    elements: raw
    required: true
  names:
    description: Names of the options, one for each value.
    type: list
    elements: str
    required: true
  defaults:
    description: Default of each option, by name.
    type: dict
    required: true
  inventory:
    description: What C(-i) is given.
    type: str
    required: true
  always:
    description: Further variables, which the command has whatever their value.
    type: dict
    required: true
"""

RETURN = """
_value:
  description: The command, quoted for a shell.
  type: str
"""


def repeat_command(
    values: list[Any], names: list[str], defaults: dict[str, Any], inventory: str, always: dict[str, Any]
) -> str:
    """Return `ansible-playbook` with every option whose value is not the default, and what is given always.

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
        return {"repeat_command": repeat_command}
