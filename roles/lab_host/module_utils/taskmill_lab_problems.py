"""What keeps a lab from running on this machine, said before anything is changed."""

from __future__ import annotations

import ipaddress
import json
import os
import re
import shutil
from pathlib import Path
from typing import Any

from ansible.module_utils.common.text.formatters import human_to_bytes
from ansible.module_utils.taskmill_lab import os_release, run

GIB = 2**30
NAME = re.compile(r"[a-z0-9]([a-z0-9-]*[a-z0-9])?")
LONGEST_INTERFACE_NAME = 15
LONGEST_HOST_NAME = 64


def of_machine() -> list[str]:
    """Check what kind of machine this is, and who asks."""
    problems = []
    if os.geteuid() != 0:
        problems.append("The lab boots whole systems, which takes root: run the command as root, or with sudo.")
    if os_release().get("ID") not in {"debian", "ubuntu"} or not shutil.which("apt-get"):
        problems.append(
            "The lab is built with apt, so this machine has to be a Debian or an Ubuntu: use such a"
            " machine, or hosts of your own (-i inventory/vms)."
        )
    return problems


def of_names(bridge: str, names: list[str]) -> list[str]:
    """Check the names that the lab's parts get."""
    problems = []
    if not NAME.fullmatch(bridge) or len(bridge) > LONGEST_INTERFACE_NAME:
        problems.append(
            f"lab_host_bridge is {bridge!r}, but has to be a name of at most"
            f" {LONGEST_INTERFACE_NAME} lower-case letters, digits and hyphens."
        )
    problems += [
        f"A lab host cannot be called {name!r}: give it a shorter name of lower-case letters,"
        " digits and hyphens in the inventory, or set lab_host_name."
        for name in names
        if not NAME.fullmatch(name) or len(f"{bridge}-{name}") > LONGEST_HOST_NAME
    ]
    return problems


def of_addresses(bridge: str, subnet: str, addresses: dict[str, str]) -> list[str]:
    """Check the lab's addresses against its subnet, each other and this machine's networks."""
    try:
        network = ipaddress.IPv4Network(subnet)
    except ValueError as error:
        return [f"lab_host_subnet has to be an IPv4 network such as 10.77.0.0/24: {error}."]
    problems = []
    usable = list(network.hosts())
    for name, text in addresses.items():
        if text not in map(str, usable[1:]):
            problems.append(
                f"The address of lab host {name} is {text!r}, but has to be between {usable[1]} and"
                f" {usable[-1]}: change lab_host_address (in the inventory: ansible_host) or"
                " lab_host_subnet."
            )
        twins = [other for other, address in addresses.items() if address == text]
        if name == twins[0] and len(twins) > 1:
            problems.append(
                f"Lab hosts {' and '.join(twins)} have the same address, {text}: give each its own"
                " lab_host_address (in the inventory: ansible_host)."
            )
    links = json.loads(run("ip", "-json", "-4", "address", "show")) if shutil.which("ip") else []
    for link in links:
        for each in link["addr_info"]:
            there = ipaddress.IPv4Interface(f"{each['local']}/{each['prefixlen']}").network
            if link["ifname"] != bridge and there.overlaps(network):
                problems.append(
                    f"{network} is in use on this machine's {link['ifname']} ({there}): give"
                    " lab_host_subnet and lab_host_address another range."
                )
    return problems


def listed_cores(text: str) -> set[int]:
    """Return the cores in a list such as 0-2,4; raise ValueError when it is none."""
    cores: set[int] = set()
    for part in text.split(","):
        first, _, last = part.partition("-")
        span = range(int(first), int(last or first) + 1)
        if not span:
            raise ValueError(part)
        cores.update(span)
    return cores


def of_cores(text: str) -> list[str]:
    """Check a lab host's list of cores; an empty one means all."""
    there = os.sched_getaffinity(0)
    try:
        wanted = listed_cores(text) if text else there
    except ValueError:
        return [f"lab_host_cores is {text!r}, but has to be a list such as 0-1 or 0,2, or empty for all cores."]
    if not wanted <= there:
        having = f"{min(there)} to {max(there)}"
        return [f"lab_host_cores is {text!r}, but this machine has cores {having}: choose among them."]
    return []


def of_memory(memory: dict[str, str]) -> list[str]:
    """Compare the memory that the lab's hosts may take together with this machine's."""
    problems = []
    sizes = {}
    for name, text in memory.items():
        try:
            sizes[name] = human_to_bytes(text)
        except ValueError:
            problems.append(f"lab_host_memory of {name} is {text!r}, but has to be a size such as 512M or 2G.")
    total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    wanted = sum(sizes.values())
    if wanted > total:
        each = ", ".join(f"{name} {memory[name]}" for name in sizes)
        problems.append(
            f"The lab's hosts may use {wanted / GIB:.1f} GiB of memory together ({each}), but this"
            f" machine has {total / GIB:.1f} GiB: lower lab_host_memory."
        )
    return problems


def _nearest(path: Path) -> Path:
    return path if path.is_dir() else _nearest(path.parent)


def of_disk(given: dict[str, Any]) -> list[str]:
    """Compare the disk space for what is not there yet with what is free."""
    directory = Path(given["directory"])
    there = directory / "hosts" / given["bridge"]
    new = [name for name in given["addresses"] if not (there / name).is_dir()]
    has_base = any((directory / "bases").glob(f"{given['suite']}-*"))
    needed = len(new) * human_to_bytes(given["disk_per_host"]) + (0 if has_base else GIB)
    place = _nearest(directory)
    free = shutil.disk_usage(place).free
    if needed <= free:
        return []
    lack = f"{needed / GIB:.1f} GiB of disk space ({len(new)} new hosts), but {place} has"
    cure = "make room there, or set lab_host_directory to a directory with more"
    return [f"The lab needs {lack} {free / GIB:.1f} GiB free: {cure}."]


def of_lab(given: dict[str, Any]) -> list[str]:
    """Check all of a lab's settings, as the module lab_host_preflight takes them."""
    return [
        *of_names(given["bridge"], list(given["addresses"])),
        *of_addresses(given["bridge"], given["subnet"], given["addresses"]),
        *of_cores(given["cores"]),
        *of_memory(given["memory"]),
        *of_disk(given),
    ]
