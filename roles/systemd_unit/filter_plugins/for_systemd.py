"""Ansible filter: a unit file as the systemd of the host knows it."""

from __future__ import annotations

import re

from ansible.errors import AnsibleFilterError

DOCUMENTATION = """
name: for_systemd
short_description: Leave out of a unit file what the host's systemd does not know
description:
  - A directive that is newer than the host's systemd is left out, or written under its older name.
  - A directive that the table below does not have is an error, so that the table stays whole.
options:
  _input:
    description: The unit file, or a piece of one.
    type: str
    required: true
  version:
    description: What C(systemctl --version) prints.
    type: str
    required: true
"""

#: Since which version systemd has a directive, or a value of it; 0 for what is older than all that we meet.
SINCE = {
    **dict.fromkeys(("After", "Before", "Conflicts", "DefaultDependencies", "Description", "Documentation"), 0),
    **dict.fromkeys(("PartOf", "Wants", "WantedBy"), 0),
    **dict.fromkeys(("Environment", "EnvironmentFile", "ExecStart", "ExecStartPre", "Group", "User"), 0),
    **dict.fromkeys(("ExecReload", "ExecStop", "RemainAfterExit"), 0),
    **dict.fromkeys(
        ("KillMode", "Nice", "Restart", "RestartSec", "TimeoutStartSec", "TimeoutStopSec", "Type", "UMask"), 0
    ),
    **dict.fromkeys(("LimitNOFILE", "ListenStream", "StandardOutput", "StartLimitBurst", "WorkingDirectory"), 0),
    **dict.fromkeys(("CapabilityBoundingSet", "NoNewPrivileges", "PrivateDevices", "PrivateTmp"), 0),
    **dict.fromkeys(("ProtectHome", "ProtectSystem", "RestrictAddressFamilies"), 0),
    "SupplementaryGroups": 0,
    **dict.fromkeys(("SystemCallArchitectures", "SystemCallErrorNumber", "SystemCallFilter"), 0),
    "AmbientCapabilities": 229,
    "RuntimeMaxSec": 229,
    "StartLimitIntervalSec": 230,
    "MemoryDenyWriteExecute": 231,
    "MemoryMax": 231,
    "ReadWritePaths": 231,
    "RestrictRealtime": 231,
    "MemorySwapMax": 232,
    "PrivateUsers": 232,
    "ProtectControlGroups": 232,
    "ProtectKernelModules": 232,
    "ProtectKernelTunables": 232,
    "ProtectSystem=strict": 232,
    "RemoveIPC": 232,
    "RestrictNamespaces": 233,
    "KeyringMode": 235,
    "LockPersonality": 235,
    # The group @system-service, and with it ours.
    "SystemCallFilter=@system-service": 239,
    "SystemCallFilter=~@privileged @resources": 239,
    "SystemCallFilter=~@privileged": 239,
    "SystemCallFilter=@chown": 239,
    "Type=exec": 240,
    "ProtectHostname": 242,
    "RestrictSUIDSGID": 242,
    "OOMPolicy": 243,
    "ProtectKernelLogs": 244,
    "ProtectClock": 245,
    "ProcSubset": 247,
    "ProtectProc": 247,
}

#: What stands in for it before; where nothing does, it is left out.
BEFORE = {
    "StartLimitIntervalSec": "StartLimitInterval",
    "MemoryMax": "MemoryLimit",
    "ReadWritePaths": "ReadWriteDirectories",
    "ProtectSystem=strict": "ProtectSystem=full",
    "Type=exec": "Type=simple",
}


def for_systemd(text: str, version: str) -> str:
    """Return a unit file with what a systemd knows, of which `version` is what `systemctl --version` prints."""
    found = re.match(r"systemd (\d+)", version)
    if not found:
        raise AnsibleFilterError(f"for_systemd wants what 'systemctl --version' prints, not {version!r}")
    lines = []
    for line in text.splitlines():
        name, separator, value = line.partition("=")
        if not separator or not name.isalpha():
            lines.append(line)
            continue
        if name not in SINCE:
            raise AnsibleFilterError(f"{name}= is in no table of {__file__}: say there since which systemd it is known")
        for key, rest in ((line, ""), (name, f"={value}")):
            if SINCE.get(key, 0) > int(found[1]):
                lines += [BEFORE[key] + rest] if key in BEFORE else []
                break
        else:
            lines.append(line)
    return "".join(f"{line}\n" for line in lines)


class FilterModule:
    """What Ansible looks for."""

    def filters(self) -> dict[str, object]:
        """Return the filters by name."""
        return {"for_systemd": for_systemd}
