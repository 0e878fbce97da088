"""The documentation of the action `follow_unit`, which works on the controller (plugins/action/follow_unit.py)."""

from __future__ import annotations

DOCUMENTATION = """
module: follow_unit
short_description: Follow a systemd unit until it ends, and show its journal while it runs
description:
  - An action of the controller. It reads the unit's new lines in the journal every few seconds, and shows them at once.
  - The unit goes on when ansible-playbook is interrupted, and can be followed again.
  - It fails when there is no such unit, and when the unit does not end in time.
  - A unit that ends with an error is no failure.
options:
  unit:
    description: Name of the unit.
    type: str
    required: true
  interval:
    description: Seconds between two looks.
    type: float
    default: 5
  timeout:
    description: Seconds after which following fails.
    type: float
    default: 86400
author: taskmill
"""

EXAMPLES = """
- name: Follow the load to its end
  follow_unit:
    unit: taskmill-load.service
  register: outcome
"""

RETURN = """
exit_code:
  description: Exit code of the unit's main process.
  type: int
  returned: success
result:
  description: What systemd says of the unit, such as V(success), V(exit-code), V(oom-kill) or V(timeout).
  type: str
  returned: success
lines:
  description: All lines that the unit wrote.
  type: list
  elements: str
  returned: success
"""
