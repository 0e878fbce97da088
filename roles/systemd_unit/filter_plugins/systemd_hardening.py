"""Ansible filter: the directives that confine a service, written once for all units."""

from __future__ import annotations

from typing import Any

from ansible.errors import AnsibleFilterError

DOCUMENTATION = """
name: systemd_hardening
short_description: Write the directives that confine a service
description:
  - Returns the lines of a unit's section C([Service]) that confine its processes, one directive a line.
  - What a service needs otherwise is given by directive. It takes the place of the value below, or is added at the end.
  - Pass the unit on to P(for_systemd#filter), which leaves out what an older systemd does not know.
options:
  _input:
    description:
      - Directives of this service by name.
      - A list stands for one line for each of its values, true and false are written as systemd does, and null leaves
        the directive out.
    type: dict
    required: true
  level:
    description:
      - C(full) is for a service that talks to the network and to nothing else of the host.
      - C(basic) is for a program that has to look at the whole host. It has no capability, gets no new privilege, and
        finds the file system read-only.
    type: str
    choices: [full, basic]
    default: full
"""

EXAMPLES = """
# In a template, in the section [Service]:
#   {{ {'RestrictAddressFamilies': 'AF_UNIX', 'ReadWritePaths': ['/var/lib/one', '/var/lib/two']} | systemd_hardening }}
"""

BASIC: dict[str, str | list[str]] = {
    "NoNewPrivileges": "yes",
    "CapabilityBoundingSet": "",
    "ProtectSystem": "strict",
    "ProtectHome": "yes",
    "PrivateTmp": "yes",
}

FULL: dict[str, str | list[str]] = {
    "UMask": "0077",
    **BASIC,
    "AmbientCapabilities": "",
    "PrivateDevices": "yes",
    "PrivateUsers": "yes",
    "ProtectProc": "invisible",
    "ProtectClock": "yes",
    "ProtectControlGroups": "yes",
    "ProtectHostname": "yes",
    "ProtectKernelLogs": "yes",
    "ProtectKernelModules": "yes",
    "ProtectKernelTunables": "yes",
    "RemoveIPC": "yes",
    "RestrictAddressFamilies": "AF_INET AF_INET6 AF_UNIX",
    "RestrictNamespaces": "yes",
    "RestrictRealtime": "yes",
    "RestrictSUIDSGID": "yes",
    "LockPersonality": "yes",
    "KeyringMode": "private",
    "SystemCallArchitectures": "native",
    "SystemCallFilter": ["@system-service", "~@privileged @resources"],
    "SystemCallErrorNumber": "EPERM",
}

#: How systemd writes what YAML takes for true and false.
AS_WRITTEN = {"True": "yes", "False": "no"}

LEVELS = {"full": FULL, "basic": BASIC}


def systemd_hardening(own: dict[str, Any], level: str = "full") -> str:
    """Return the lines that confine a service, with its `own` directives in the place of those of the level.

    Raises:
        AnsibleFilterError: There is no such level, or `own` is no dictionary.

    """
    if level not in LEVELS or not isinstance(own, dict):
        expected = f"a dictionary and one of the levels {', '.join(LEVELS)}"
        raise AnsibleFilterError(f"systemd_hardening takes {expected}, not {own!r} and {level!r}")
    lines = []
    for name, value in {**LEVELS[level], **own}.items():
        values = value if isinstance(value, list) else [] if value is None else [value]
        lines += [f"{name}={AS_WRITTEN.get(str(item), item)}" for item in values]
    return "\n".join(lines)


class FilterModule:
    """What Ansible looks for."""

    def filters(self) -> dict[str, object]:
        """Return the filters by name."""
        return {"systemd_hardening": systemd_hardening}
