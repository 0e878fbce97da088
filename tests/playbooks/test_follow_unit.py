"""The action that follows a unit: which lines of the host's journal are the unit's own."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from python_file import load

FILE = Path(__file__).parents[2] / "plugins" / "action" / "follow_unit.py"
STATE = {"LoadState": "loaded", "SubState": "exited", "Result": "success", "ExecMainStatus": "1"}


@pytest.fixture(scope="module")
def plugin() -> ModuleType:
    """The action plugin."""
    return load(FILE)


@pytest.mark.parametrize(
    ("shown", "own"),
    [
        ({"InvocationID": "8f3a"}, ["_SYSTEMD_INVOCATION_ID=8f3a"]),
        (
            {"ExecMainStartTimestamp": "Mon 2026-11-23 05:03:05 UTC"},
            ["_SYSTEMD_UNIT=a.service", "--since=2026-11-23 05:03:05"],
        ),
    ],
    ids=["since 232", "229"],
)
def test_only_the_lines_of_this_start_are_followed(
    plugin: ModuleType, monkeypatch: pytest.MonkeyPatch, shown: dict[str, str], own: list[str]
) -> None:
    """By the invocation where systemd knows it, or else by the unit and the time of its start, in UTC on both sides."""
    asked = []

    class Connection:
        _shell = type("Shell", (), {"tmpdir": None})

    action: Any = plugin.ActionModule.__new__(plugin.ActionModule)
    action._task = type("Task", (), {"args": {"unit": "a.service"}, "async_val": 0, "check_mode": False, "diff": False})
    action._connection = Connection()

    def execute(command: list[str]) -> str:
        asked.append(command)
        return "posted\n" if "journalctl" in command else "".join(f"{k}={v}\n" for k, v in {**STATE, **shown}.items())

    monkeypatch.setattr(action, "_execute", execute)
    outcome = action.run(task_vars={"inventory_hostname": "client1"})
    assert (outcome["exit_code"], outcome["lines"]) == (1, ["posted"])
    # Without a pager: in the terminal that Ansible gives it, one would wait for a key.
    assert [command[:3] for command in asked] == [["env", "SYSTEMD_PAGER=", "TZ=UTC"]] * 2
    assert asked[1][-len(own) :] == own
