"""The command that does a run again."""

from __future__ import annotations

import json
import shlex
from typing import Any


def repeat_command(values: list[Any], names: list[str], defaults: dict[str, Any], inventory: str) -> str:
    """Return `ansible-playbook` with every knob, by its name, whose value is not the default.

    A value from the command line is text where the default is a number: what reads the same is the same.
    """
    given = {
        name: value
        for name, value in zip(names, values, strict=True)
        if str(value).lower() != str(defaults[name]).lower()
    }
    command = ["ansible-playbook", "-i", inventory, "run-load.yml"]
    return shlex.join(command + (["-e", json.dumps(given, default=str)] if given else []))


class FilterModule:
    """What Ansible looks for."""

    def filters(self) -> dict[str, Any]:
        """Return the filters by name."""
        return {"repeat_command": repeat_command}
