"""Look at this machine: what a lab needs from it, and what keeps a lab from running on it."""

from __future__ import annotations

import configparser
import ipaddress
import os
import re
import shutil
from pathlib import Path
from typing import Any

from ansible.module_utils import taskmill_lab_problems
from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.taskmill_lab import LabError, run

DOCUMENTATION = r"""
module: lab_host_preflight
short_description: Check the machine that lab hosts are to run on
description:
  - Changes nothing. Compares what the lab asks for with what the machine has.
  - Returns the machine's own settings for packages and certificates, for lab hosts to use as well.
options:
  directory: {description: Where the lab keeps its files., type: path, required: true}
  bridge: {description: Bridge of the lab., type: str, required: true}
  subnet: {description: IPv4 network of the lab., type: str, required: true}
  cores: {description: Cores of this lab host., type: str, default: ""}
  suite: {description: Debian release of this lab host., type: str, required: true}
  addresses: {description: Addresses of all hosts of the lab by name., type: dict, required: true}
  memory: {description: Memory of all hosts of the lab by name., type: dict, required: true}
  disk_per_host: {description: Disk space that a new lab host needs., type: str, required: true}
  state:
    description: What is wanted of the lab host.
    type: str
    choices: [present, saved, absent]
    default: present
  tools:
    description: Commands, or files by their path, that the lab needs, and the packages they are in.
    type: dict
    required: true
author: [taskmill]
"""

EXAMPLES = r"""
- name: Check this machine
  lab_host_preflight:
    directory: /var/lib/taskmill-lab
    bridge: tm-lab
    subnet: 10.77.0.0/24
    suite: trixie
    addresses: {broker: 10.77.0.11}
    memory: {broker: 2G}
    disk_per_host: 2G
    tools: {mmdebstrap: mmdebstrap}
"""

RETURN = r"""
problems: {description: Sentences that say what to mend., type: list, returned: always}
orphans: {description: Hosts that are there but no longer in the lab., type: list, returned: always}
missing_packages: {description: Packages to install here., type: list, returned: without problems}
mtu: {description: MTU of the default route., type: int, returned: without problems}
base_files: {description: Content of files for the base., type: dict, returned: without problems}
apt_settings: {description: Lines for apt.conf., type: list, returned: without problems}
resolv_conf: {description: Content for lab hosts., type: str, returned: without problems}
gateway: {description: Address of the bridge., type: str, returned: without problems}
prefix: {description: Prefix length of the subnet., type: int, returned: without problems}
"""

USABLE_RESOLVER_LINE = re.compile(r"nameserver\s+(?!127\.|::1)|search\s|options\s")
BUNDLE = "/etc/ssl/certs/ca-certificates.crt"
EXTRA_CERTIFICATES = Path("/usr/local/share/ca-certificates")
APT_SETTINGS = re.compile(
    r"Acquire::(?:https?::(?:Proxy|Timeout)\b|(?:Retries|ForceIPv[46]|Check-Valid-Until|Check-Date) )"
)
PIP_SETTINGS = ("index-url", "extra-index-url", "proxy", "timeout", "retries", "trusted-host")
PIP_FILES = ("/etc/xdg/pip/pip.conf", "/etc/pip.conf", "~/.pip/pip.conf", "~/.config/pip/pip.conf")


def default_mtu() -> int:
    """Return the MTU of the interface of the default route; 1500 when there is none."""
    for line in Path("/proc/net/route").read_text().splitlines()[1:]:
        interface, destination, *_ = line.split()
        if destination == "00000000":
            return int(Path(f"/sys/class/net/{interface}/mtu").read_text())
    return 1500


def apt_settings() -> list[str]:
    """Return the machine's apt settings on proxies, timeouts and the checking of dates."""
    lines = [line for line in run("apt-config", "dump").splitlines() if APT_SETTINGS.match(line)]
    dumped = "\n".join(lines)
    for scheme in ("http", "https"):
        proxy = os.environ.get(f"{scheme}_proxy")
        if proxy and f"Acquire::{scheme}::Proxy " not in dumped:
            lines.append(f'Acquire::{scheme}::Proxy "{proxy}";')
    return lines


def pip_settings() -> str:
    """Return a pip.conf with those of the machine's settings that make sense in another system."""
    found: dict[str, str] = {}
    for path in PIP_FILES:
        parser = configparser.RawConfigParser()
        parser.read(Path(path).expanduser())
        for section in ("global", "install"):
            if parser.has_section(section):
                found.update(parser.items(section))
    for name in PIP_SETTINGS:
        value = os.environ.get(f"PIP_{name.replace('-', '_').upper()}")
        if value:
            found[name] = value
    found.setdefault("proxy", os.environ.get("https_proxy", ""))
    lines = ["[global]", f"cert = {BUNDLE}", "cache-dir = /var/cache/pip"]
    for name in PIP_SETTINGS:
        words = [word for word in found.get(name, "").split() if not word.startswith(("file:", "/"))]
        if words:
            lines.append(f"{name} = {' '.join(words)}")
    return "\n".join(lines) + "\n"


def certificates() -> dict[str, str]:
    """Return the machine's own extra certificates by path."""
    return {str(path): path.read_text() for path in sorted(EXTRA_CERTIFICATES.rglob("*.crt"))}


def resolv_conf() -> str:
    """Return a resolv.conf without servers on this machine's loopback: not a lab host's."""
    for path in (Path("/etc/resolv.conf"), Path("/run/systemd/resolve/resolv.conf")):
        lines = path.read_text().splitlines() if path.exists() else []
        kept = [line for line in lines if USABLE_RESOLVER_LINE.match(line)]
        if any(line.startswith("nameserver") for line in kept):
            return "".join(f"{line}\n" for line in kept)
    return ""


def orphans(given: dict[str, Any]) -> list[str]:
    """Return the hosts that are in the lab's directory but no longer in the lab."""
    there = Path(given["directory"], "hosts", given["bridge"]).glob("[!.]*")
    return sorted({path.name for path in there} - set(given["addresses"]))


def find(tool: str) -> bool:
    """Tell whether a command, or a file given by its path, is there."""
    return Path(tool).exists() if tool.startswith("/") else shutil.which(tool) is not None


def main() -> None:
    """Run the module."""
    module = AnsibleModule(
        argument_spec={
            "directory": {"type": "path", "required": True},
            "bridge": {"type": "str", "required": True},
            "subnet": {"type": "str", "required": True},
            "cores": {"type": "str", "default": ""},
            "suite": {"type": "str", "required": True},
            "addresses": {"type": "dict", "required": True},
            "memory": {"type": "dict", "required": True},
            "disk_per_host": {"type": "str", "required": True},
            "tools": {"type": "dict", "required": True},
            "state": {"type": "str", "choices": ["present", "saved", "absent"], "default": "present"},
        },
        supports_check_mode=True,
    )
    given = module.params
    problems = taskmill_lab_problems.of_machine()
    if problems or given["state"] == "absent":
        module.exit_json(changed=False, problems=problems, orphans=orphans(given))
    try:
        problems = taskmill_lab_problems.of_lab(given)
        resolver = resolv_conf()
        if not resolver:
            problems.append(
                "This machine's name servers are all on its own loopback, where lab hosts cannot"
                " reach them: put one that they can reach into /etc/resolv.conf."
            )
        if problems:
            module.exit_json(changed=False, problems=problems, orphans=[])
        subnet = ipaddress.IPv4Network(given["subnet"])
        module.exit_json(
            changed=False,
            problems=[],
            orphans=orphans(given),
            missing_packages=sorted({given["tools"][tool] for tool in given["tools"] if not find(tool)}),
            mtu=default_mtu(),
            base_files={"/etc/pip.conf": pip_settings(), **certificates()},
            apt_settings=apt_settings(),
            resolv_conf=resolver,
            gateway=str(next(subnet.hosts())),
            prefix=subnet.prefixlen,
        )
    except LabError as error:
        module.fail_json(msg=str(error))


if __name__ == "__main__":
    main()
