"""Look at this machine: what a lab needs from it, and what keeps a lab from running on it."""

from __future__ import annotations

import configparser
import ipaddress
import json
import os
import re
import shutil
from pathlib import Path
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.common.text.formatters import human_to_bytes
from ansible.module_utils.taskmill_lab import LabError, os_release, run

DOCUMENTATION = r"""
module: lab_host_survey
short_description: Survey the machine that lab hosts are to run on
description:
  - Changes nothing. Compares what the lab asks for with what the machine has.
  - Returns the machine's own settings for packages and certificates, for lab hosts to use as well.
options:
  directory: {description: Where the lab keeps its files., type: path, required: true}
  bridge: {description: Bridge of the lab., type: str, required: true}
  subnet: {description: IPv4 network of the lab., type: str, required: true}
  address: {description: Address of this lab host., type: str, required: true}
  cores: {description: Cores of this lab host., type: str, default: ""}
  suite: {description: Debian release of this lab host., type: str, required: true}
  addresses: {description: Addresses of all hosts of the lab by name., type: dict, required: true}
  memory: {description: Memory of all hosts of the lab by name., type: dict, required: true}
  disk_per_host: {description: Disk space that a new lab host needs., type: str, required: true}
  state: {description: What is wanted of the lab host., type: str, choices: [present, absent], default: present}
  tools: {description: Commands that the lab needs and the packages they are in., type: dict, required: true}
author: [taskmill]
"""

EXAMPLES = r"""
- name: Survey this machine
  lab_host_survey:
    directory: /var/lib/taskmill-lab
    bridge: tm-lab
    subnet: 10.77.0.0/24
    address: 10.77.0.11
    suite: trixie
    addresses: {broker: 10.77.0.11}
    memory: {broker: 2G}
    disk_per_host: 2G
    tools: {mmdebstrap: mmdebstrap}
"""

RETURN = r"""
problems: {description: Sentences that say what to mend., type: list, elements: str, returned: always}
missing_packages: {description: Packages to install here., type: list, elements: str, returned: always}
mtu: {description: MTU of the default route., type: int, returned: always}
base_files: {description: Content of files for the base by path., type: dict, returned: always}
strays: {description: Hosts in the lab's directory that the lab no longer has., type: list, returned: always}
resolv_conf: {description: Content of resolv.conf for lab hosts., type: str, returned: always}
gateway: {description: Address of the bridge., type: str, returned: always}
prefix: {description: Prefix length of the subnet., type: int, returned: always}
"""

BUNDLE = "/etc/ssl/certs/ca-certificates.crt"
EXTRA_CERTIFICATES = Path("/usr/local/share/ca-certificates")
APT_SETTINGS = re.compile(
    r"Acquire::(?:http|https)::(?:Proxy|Timeout|Pipeline-Depth)\b|Acquire::(?:Retries|ForceIPv[46]|Check-(?:Valid-Until|Date)) "
)
PIP_SETTINGS = ("index-url", "extra-index-url", "proxy", "timeout", "retries", "trusted-host")
PIP_FILES = ("/etc/xdg/pip/pip.conf", "/etc/pip.conf", "~/.pip/pip.conf", "~/.config/pip/pip.conf")
GIB = 2**30


def default_mtu() -> int:
    """Return the MTU of the interface that the default route leaves through; 1500 when there is none."""
    for line in Path("/proc/net/route").read_text().splitlines()[1:]:
        interface, destination, *_ = line.split()
        if destination == "00000000":
            return int(Path(f"/sys/class/net/{interface}/mtu").read_text())
    return 1500


def apt_settings() -> str:
    """Return the machine's apt settings on proxies, timeouts and the checking of dates."""
    lines = [line for line in run("apt-config", "dump").splitlines() if APT_SETTINGS.match(line)]
    dumped = "\n".join(lines)
    for scheme in ("http", "https"):
        proxy = os.environ.get(f"{scheme}_proxy")
        if proxy and f"Acquire::{scheme}::Proxy " not in dumped:
            lines.append(f'Acquire::{scheme}::Proxy "{proxy}";')
    return "".join(f"{line}\n" for line in lines)


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
    lines = ["[global]", f"cert = {BUNDLE}"]
    for name in PIP_SETTINGS:
        words = [
            word for word in found.get(name, "").split() if not word.startswith(("file:", "/"))
        ]
        if words:
            lines.append(f"{name} = {' '.join(words)}")
    return "\n".join(lines) + "\n"


def certificates() -> dict[str, str]:
    """Return the machine's own extra certificates by path."""
    return {str(path): path.read_text() for path in sorted(EXTRA_CERTIFICATES.rglob("*.crt"))}


def resolv_conf() -> str:
    """Return a resolv.conf without name servers on this machine's loopback, which a lab host cannot reach."""
    for path in (Path("/etc/resolv.conf"), Path("/run/systemd/resolve/resolv.conf")):
        lines = path.read_text().splitlines() if path.exists() else []
        kept = [
            line for line in lines if line.split()[:1] in (["nameserver"], ["search"], ["options"])
        ]
        kept = [line for line in kept if not re.match(r"nameserver\s+(127\.|::1)", line)]
        if any(line.startswith("nameserver") for line in kept):
            return "".join(f"{line}\n" for line in kept)
    return ""


def strays(given: dict[str, Any]) -> list[str]:
    """Return the hosts that are in the lab's directory but no longer in the lab."""
    hosts = Path(given["directory"], "hosts", given["bridge"])
    there = (
        {path.name for path in hosts.iterdir() if not path.name.startswith(".")}
        if hosts.is_dir()
        else set()
    )
    return sorted(there - set(given["addresses"]))


def nearest(path: Path) -> Path:
    """Return the closest directory above `path` that exists."""
    return path if path.is_dir() else nearest(path.parent)


def listed_cores(text: str) -> set[int]:
    """Return the cores in a list such as 0-2,4; ValueError when it is none."""
    cores: set[int] = set()
    for part in text.split(","):
        first, _, last = part.partition("-")
        span = range(int(first), int(last or first) + 1)
        if not span:
            raise ValueError(part)
        cores.update(span)
    return cores


def machine_problems() -> list[str]:
    """Say what kind of machine this has to be."""
    problems = []
    if os.geteuid() != 0:
        problems.append(
            "The lab boots whole systems, which needs root: run the command as root, or with sudo."
        )
    if not shutil.which("apt-get") or os_release().get("ID") not in ("debian", "ubuntu"):
        problems.append(
            "The lab is built with apt, so this machine has to be Debian or Ubuntu: use such a machine, or give"
            " hosts of your own with -i inventory/vms."
        )
    return problems


def network_problems(given: dict[str, Any]) -> list[str]:
    """Check the addresses of the lab."""
    try:
        subnet = ipaddress.IPv4Network(given["subnet"])
    except ValueError as error:
        return [f"lab_host_subnet is no IPv4 network such as 10.77.0.0/24: {error}."]
    problems = []
    gateway = next(subnet.hosts())
    for name, text in given["addresses"].items():
        try:
            address = ipaddress.IPv4Address(text)
        except ValueError:
            problems.append(
                f"The address of lab host {name}, {text!r}, is no IPv4 address: mend lab_host_address."
            )
            continue
        if address not in list(subnet.hosts())[1:]:
            problems.append(
                f"The address of lab host {name}, {address}, has to be in {subnet} and after {gateway}, which is the"
                " bridge's: mend lab_host_address or lab_host_subnet."
            )
    owners: dict[str, list[str]] = {}
    for name, text in given["addresses"].items():
        owners.setdefault(text, []).append(name)
    for text, names in owners.items():
        if len(names) > 1:
            problems.append(
                f"Lab hosts {' and '.join(names)} have the same address, {text}: give each its own."
            )
    if shutil.which("ip"):
        for link in json.loads(run("ip", "-json", "-4", "address", "show")):
            for each in link["addr_info"]:
                other = ipaddress.IPv4Interface(f"{each['local']}/{each['prefixlen']}").network
                if link["ifname"] != given["bridge"] and other.overlaps(subnet):
                    problems.append(
                        f"{subnet} is in use on this machine's {link['ifname']}: give lab_host_subnet and"
                        " lab_host_address another range."
                    )
    return problems


def core_problems(text: str) -> list[str]:
    """Check the list of cores of this lab host."""
    if not text:
        return []
    there = os.sched_getaffinity(0)
    try:
        wanted = listed_cores(text)
    except ValueError:
        return [
            f"lab_host_cores is {text!r}, but has to be a list such as 0-1 or 0,2, or empty for all cores."
        ]
    if not wanted <= there:
        return [
            f"lab_host_cores is {text!r}, but this machine has cores {min(there)} to {max(there)}: choose among"
            " those, or leave it empty for all."
        ]
    return []


def size_problems(given: dict[str, Any]) -> list[str]:
    """Compare the memory and the disk space that the lab may take with what there is."""
    problems = []
    wanted = sum(human_to_bytes(size) for size in given["memory"].values())
    total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    if wanted > total:
        problems.append(
            f"The lab's hosts may use {wanted / GIB:.1f} GiB of memory together, but this machine has"
            f" {total / GIB:.1f} GiB: lower lab_host_memory."
        )
    directory = Path(given["directory"])
    new = [
        name
        for name in given["addresses"]
        if not (directory / "hosts" / given["bridge"] / name).is_dir()
    ]
    base = 0 if (directory / "bases" / given["suite"]).is_dir() else GIB
    needed = len(new) * human_to_bytes(given["disk_per_host"]) + (base if new else 0)
    place = nearest(directory)
    free = shutil.disk_usage(place).free
    if needed > free:
        problems.append(
            f"The lab needs {needed / GIB:.1f} GiB of disk space for {len(new)} new hosts, but {place} has"
            f" {free / GIB:.1f} GiB free: make room there, or set lab_host_directory to a place with more."
        )
    return problems


def main() -> None:
    """Run the module."""
    module = AnsibleModule(
        argument_spec={
            "directory": {"type": "path", "required": True},
            "bridge": {"type": "str", "required": True},
            "subnet": {"type": "str", "required": True},
            "address": {"type": "str", "required": True},
            "cores": {"type": "str", "default": ""},
            "suite": {"type": "str", "required": True},
            "addresses": {"type": "dict", "required": True},
            "memory": {"type": "dict", "required": True},
            "disk_per_host": {"type": "str", "required": True},
            "tools": {"type": "dict", "required": True},
            "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
        },
        supports_check_mode=True,
    )
    given = module.params
    problems = machine_problems()
    if problems or given["state"] == "absent":
        module.exit_json(changed=False, problems=problems, strays=strays(given))
    try:
        problems += network_problems(given) + core_problems(given["cores"]) + size_problems(given)
        resolver = resolv_conf()
        if not resolver:
            problems.append(
                "This machine's name servers are all on its own loopback, where lab hosts cannot reach them: name"
                " one that they can reach in /etc/resolv.conf."
            )
        if problems:
            module.exit_json(changed=False, problems=problems)
        subnet = ipaddress.IPv4Network(given["subnet"])
        base_files = {
            "/etc/apt/apt.conf.d/90lab": apt_settings(),
            "/etc/pip.conf": pip_settings(),
            **certificates(),
        }
    except LabError as error:
        module.fail_json(msg=str(error))
    module.exit_json(
        changed=False,
        problems=[],
        missing_packages=sorted(
            {package for tool, package in given["tools"].items() if not find(tool)}
        ),
        mtu=default_mtu(),
        base_files=base_files,
        resolv_conf=resolver,
        strays=strays(given),
        gateway=str(next(subnet.hosts())),
        prefix=subnet.prefixlen,
    )


def find(tool: str) -> bool:
    """Tell whether a command, or a file given by its path, is there."""
    return Path(tool).exists() if tool.startswith("/") else shutil.which(tool) is not None


if __name__ == "__main__":
    main()
