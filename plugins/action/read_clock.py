"""Read a host's clock from the controller."""

from __future__ import annotations

import time

from ansible.errors import AnsibleActionFail
from ansible.plugins.action import ActionBase


class ActionModule(ActionBase):
    """Argument: `exchanges`, how often the clock is asked (7); the answer that took the shortest counts.

    Returns `offset_s`, the host's clock less the controller's, and `error_s`, half of the time that the answer took:
    the offset may be wrong by that much.
    """

    TRANSFERS_FILES = False
    _supports_check_mode = True
    _supports_async = False

    def run(self, tmp=None, task_vars=None):
        """Ask; fails when the host has no answer."""
        result = super().run(tmp, task_vars)
        _, arguments = self.validate_argument_spec({"exchanges": {"type": "int", "default": 7}})
        took, offset = min(self._exchange() for _ in range(max(1, arguments["exchanges"])))
        result.update(changed=False, offset_s=round(offset, 6), error_s=round(took / 2, 6))
        return result

    def _exchange(self) -> tuple[float, float]:
        """Return the seconds that one answer took, and the offset that it tells."""
        # Wall clock on both sides; how long it took by a clock that nobody sets.
        asked, began = time.time(), time.monotonic()
        reply = self._low_level_execute_command("date +%s.%N", sudoable=False)
        took = time.monotonic() - began
        try:
            there = float(str(reply["stdout"]).strip())
        except ValueError:
            said = reply["stderr"] or reply["stdout"]
            raise AnsibleActionFail(f"the host's clock cannot be read by `date +%s.%N`: {said}") from None
        return took, there - (asked + took / 2)
