"""Ansible filter: the extra variables of this ansible-playbook."""

from __future__ import annotations

from typing import Any

from ansible.parsing.dataloader import DataLoader
from ansible.utils.vars import load_extra_vars

DOCUMENTATION = """
name: from_command_line
short_description: Return the variables that ansible-playbook was given as extra variables
description:
  - A variable of the inventory or of a play is none of them, whatever its name.
options:
  _input:
    description: Names of variables.
    type: list
    elements: str
    required: true
"""

RETURN = """
_value:
  description: The values by name, of those names that were given.
  type: dict
"""


def from_command_line(names: list[str]) -> dict[str, Any]:
    """Return those of the variables that this ansible-playbook was given as extra variables."""
    given = load_extra_vars(DataLoader())
    return {name: given[name] for name in names if name in given}


class FilterModule:
    """What Ansible looks for."""

    def filters(self) -> dict[str, Any]:
        """Return the filters by name."""
        return {"from_command_line": from_command_line}
