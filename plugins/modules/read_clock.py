"""The documentation of the action `read_clock`, which works on the controller (plugins/action/read_clock.py)."""

from __future__ import annotations

DOCUMENTATION = """
module: read_clock
short_description: Read a host's clock from the controller
description:
  - An action of the controller. It asks the host for its time, and takes the answer of several that came the fastest.
  - It fails when the host's C(date) does not say the time.
options:
  exchanges:
    description: How often the host is asked.
    type: int
    default: 7
author: taskmill
"""

EXAMPLES = """
- name: Read the clock
  read_clock:
  register: clock
"""

RETURN = """
offset_s:
  description: The host's clock less the controller's, in seconds.
  type: float
  returned: success
error_s:
  description: Half of the seconds that the answer took. The offset may be wrong by that much.
  type: float
  returned: success
"""
