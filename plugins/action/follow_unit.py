"""Follow a systemd unit on the target until it ends, showing its journal while it runs.

A module only speaks when it is done, and a load takes minutes: this action reads the unit's new
journal lines every few seconds and displays them at once. The unit belongs to systemd, so a broken
SSH connection or an interrupted ansible-playbook leaves it running, and following can be taken up
again.
"""

from __future__ import annotations

import shlex
import time

from ansible.errors import AnsibleActionFail
from ansible.plugins.action import ActionBase
from ansible.utils.display import Display

display = Display()

# What `systemctl show` calls a unit whose process has ended; `exited` is RemainAfterExit's.
ENDED = {"exited", "failed", "dead"}
# Ansible gives commands a terminal, where a pager would wait for a key; and times are read again as they are printed.
UNPAGED = ["env", "SYSTEMD_PAGER=", "TZ=UTC"]


class ActionModule(ActionBase):
    """Arguments: `unit`; `interval`, seconds between two looks (5); `timeout`, in seconds (86400).

    Returns `exit_code`, that of the unit's main process; `result`, what systemd says of it
    (`success`, `exit-code`, `oom-kill`, `timeout` ...); and `lines`, all that it wrote.
    """

    TRANSFERS_FILES = False
    _supports_check_mode = False
    _supports_async = False

    def run(self, tmp=None, task_vars=None):
        """Follow the unit; fails when it does not exist or does not end within `timeout`."""
        result = super().run(tmp, task_vars)
        _, arguments = self.validate_argument_spec(
            {
                "unit": {"type": "str", "required": True},
                "interval": {"type": "float", "default": 5.0},
                "timeout": {"type": "float", "default": 86400.0},
            }
        )
        unit, host = arguments["unit"], task_vars["inventory_hostname"]
        deadline = time.monotonic() + arguments["timeout"]
        shown: list[str] = []
        while True:
            # The state first: once the unit has ended, the journal read after it is complete.
            state = self._state(unit)
            lines = self._journal(unit, state)
            for line in lines[len(shown) :]:
                display.display(f"  {host} | {line}")
            shown = lines
            if state["SubState"] in ENDED:
                break
            if time.monotonic() > deadline:
                raise AnsibleActionFail(
                    f"{unit} on {host} goes on after {arguments['timeout']:.0f} s. "
                    f"See it there with: journalctl --follow --unit {unit}"
                )
            time.sleep(arguments["interval"])
        exit_code = int(state["ExecMainStatus"])
        result.update(changed=False, exit_code=exit_code, result=state["Result"], lines=shown)
        return result

    def _state(self, unit: str) -> dict[str, str]:
        wanted = "LoadState,SubState,Result,ExecMainStatus,ExecMainStartTimestamp,InvocationID"
        reply = self._execute([*UNPAGED, "systemctl", "show", "--property", wanted, unit])
        state = dict(line.split("=", 1) for line in reply.splitlines() if "=" in line)
        if state.get("LoadState") != "loaded":
            raise AnsibleActionFail(f"there is no unit {unit} to follow: {reply}")
        return state

    def _journal(self, unit: str, state: dict[str, str]) -> list[str]:
        own_lines = [f"_SYSTEMD_INVOCATION_ID={state.get('InvocationID')}"]
        if "InvocationID" not in state:
            # Before systemd 232: what the unit wrote since its process began, as in `Mon 2026-11-23 05:03:05 UTC`.
            began = " ".join(state["ExecMainStartTimestamp"].split()[1:3])
            own_lines = [f"_SYSTEMD_UNIT={unit}", f"--since={began}"]
        return self._execute([*UNPAGED, "journalctl", "--quiet", "--output", "cat", *own_lines]).splitlines()

    def _execute(self, command: list[str]) -> str:
        reply = self._low_level_execute_command(shlex.join(command))
        if reply["rc"] != 0:
            said = reply["stderr"] or reply["stdout"]
            raise AnsibleActionFail(f"{' '.join(command)} failed: {said}")
        return str(reply["stdout"])
