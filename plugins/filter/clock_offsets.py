"""Ansible filter: clocks of hosts, compared with that of one of them."""

from __future__ import annotations

from typing import Any

DOCUMENTATION = """
name: clock_offsets
short_description: Compare the clocks of hosts with that of one of them
description:
  - What each clock was less the controller's, as M(read_clock) says, becomes what it was less the client's.
  - The errors of both readings add up. The client's own clock has no offset and no error.
options:
  _input:
    description: By host, C(offset_s) and C(error_s), in seconds. Other keys are left out.
    type: dict
    required: true
  client:
    description: Host whose clock the others are compared with.
    type: str
    required: true
"""

RETURN = """
_value:
  description: By host, C(offset_s) and C(error_s), in seconds.
  type: dict
"""


def clock_offsets(read: dict[str, dict[str, float]], client: str) -> dict[str, dict[str, float]]:
    """Return every host's clock less the client's, from what each was less the controller's.

    The errors of both add up; the client's own clock has none.
    """
    zero, offsets = read[client], {}
    for host, clock in read.items():
        same = host == client
        offsets[host] = {
            "offset_s": round(clock["offset_s"] - zero["offset_s"], 6),
            "error_s": 0.0 if same else round(clock["error_s"] + zero["error_s"], 6),
        }
    return offsets


class FilterModule:
    """What Ansible looks for."""

    def filters(self) -> dict[str, Any]:
        """Return the filters by name."""
        return {"clock_offsets": clock_offsets}
