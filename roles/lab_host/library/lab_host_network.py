"""Give a lab its bridge, its way out to the network and the guard that keeps its load in."""

from __future__ import annotations

import contextlib
import ipaddress
import json
from pathlib import Path

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.taskmill_lab import (
    LabError,
    locked,
    read_json,
    run,
    succeeds,
    write_file,
)

DOCUMENTATION = r"""
module: lab_host_network
short_description: Set up or remove the network of a lab
description:
  - A bridge with the subnet's first address, and an nftables table of its own that masquerades the
    subnet.
  - IPv4 forwarding, interface by interface, where the machine does not forward. What comes in at one
    of the interfaces that were there before is then forwarded to the lab alone, not to another of them.
  - An unreachable route for the subnet, at a high metric, so that with the bridge gone nothing
    meant for a lab host leaves the machine.
  - It stays as long as a lab host still has its directory under that bridge. With the last lab
    forwarding is set back, unless something else has turned it on for the whole machine meanwhile.
options:
  directory: {description: Where the lab keeps its files., type: path, required: true}
  bridge: {description: Name of the bridge., type: str, required: true}
  subnet: {description: IPv4 network in CIDR notation., type: str, required: true}
  mtu: {description: MTU of the bridge., type: int, default: 1500}
  state:
    description: Whether it should be there.
    type: str
    choices: [present, absent]
    default: present
author: [taskmill]
"""

EXAMPLES = r"""
- name: Set up the network
  lab_host_network:
    directory: /var/lib/taskmill-lab
    bridge: tm-lab
    subnet: 10.77.0.0/24
"""

RETURN = r"""
steps: {description: What was done or would be., type: list, elements: str, returned: always}
"""

SETTINGS = Path("/proc/sys/net/ipv4/conf")
INTERFACES = Path("/sys/class/net")
GUARD_METRIC = "4000000000"
RULES = """\
table ip {table} {{
  chain postrouting {{
    type nat hook postrouting priority srcnat; policy accept;
    ip saddr {subnet} ip daddr != {subnet} masquerade
  }}
}}
"""


NEIGHBOURS = """\
table ip {table} {{
  set others {{ type ifname; elements = {{ {others} }} }}
  chain forward {{
    type filter hook forward priority filter; policy accept;
    iifname @others oifname @others drop
    iifname @others meta oifkind != "bridge" drop
  }}
}}
"""


class Forwarding:
    """IPv4 forwarding between labs and the machine's other interfaces; all labs share it.

    The kernel asks the interface at which a packet comes in (ip-sysctl, conf/INTERFACE/forwarding), so the switch for
    the whole machine stays as others have it.
    """

    TABLE = "taskmill-forwarding"

    def __init__(self, lab: Path) -> None:
        """Name the parts."""
        self.record = lab / "forwarding.json"
        self.networks = lab / "networks"

    @staticmethod
    def _switch(interface: str) -> Path:
        return SETTINGS / interface / "forwarding"

    def _is_on(self, interface: str) -> bool:
        return self._switch(interface).read_text().strip() == "1"

    def turned_on(self) -> list[str]:
        """Return the interfaces for which labs turned it on."""
        return list(read_json(self.record).get("interfaces", []))

    def _off(self) -> list[str]:
        """Return the interfaces that are up and do not forward; the ports of bridges do not count."""

        def is_off(path: Path) -> bool:
            # Some are no interfaces, and some go at this very moment.
            with contextlib.suppress(OSError):
                up = int((path / "flags").read_text(), 16) & 1
                return bool(up) and path.name != "lo" and not (path / "brport").exists() and not self._is_on(path.name)
            return False

        return sorted(path.name for path in INTERFACES.iterdir() if is_off(path))

    def _ours(self) -> list[str]:
        """Return the interfaces that forward for labs alone: none where the machine as a whole forwards."""
        bridges = {path.name for path in self.networks.iterdir()} if self.networks.is_dir() else set()
        return [] if self._is_on("all") else sorted({*self.turned_on(), *self._off()} - bridges)

    def is_right(self) -> bool:
        """Tell whether every interface forwards, and those that did not before do it for labs alone."""
        rules = run("nft", "list", "table", "ip", self.TABLE, check=False)
        ours = self._ours()
        return not self._off() and bool(rules) == bool(ours) and all(f'"{name}"' in rules for name in ours)

    def turn_on(self) -> None:
        """Have every interface forward; keep in mind which did not."""
        ours = self._ours()
        off = self._off()
        write_file(self.record, json.dumps({"interfaces": ours}) + "\n")
        if ours:
            others = ", ".join(f'"{name}"' for name in ours)
            old = f"table ip {self.TABLE}\ndelete table ip {self.TABLE}\n"
            run("nft", "-f", "-", stdin=old + NEIGHBOURS.format(table=self.TABLE, others=others))
        else:
            self._remove_rules()
        for name in off:
            with contextlib.suppress(OSError):
                self._switch(name).write_text("1")

    def _remove_rules(self) -> None:
        if succeeds("nft", "list", "table", "ip", self.TABLE):
            run("nft", "delete", "table", "ip", self.TABLE)

    def turn_off(self) -> None:
        """Set back what was turned on, where the machine as a whole still does not forward."""
        for name in [] if self._is_on("all") else self.turned_on():
            with contextlib.suppress(OSError):
                self._switch(name).write_text("0")
        self._remove_rules()
        self.record.unlink(missing_ok=True)


class Network:
    """One lab's network, and what of it is there."""

    def __init__(self, directory: Path, bridge: str, subnet: str, mtu: int) -> None:
        """Name the parts."""
        self.directory = directory
        self.bridge = bridge
        self.subnet = ipaddress.ip_network(subnet)
        self.mtu = mtu
        self.gateway = f"{next(self.subnet.hosts())}/{self.subnet.prefixlen}"
        self.guard = ("unreachable", subnet, "metric", GUARD_METRIC)
        self.table = f"taskmill-{bridge}"
        self.record = directory / "networks" / bridge
        self.forwarding = Forwarding(directory)

    def _bridge_is_right(self) -> bool:
        if not Path(f"/sys/class/net/{self.bridge}/bridge").is_dir():
            return False
        link = json.loads(run("ip", "-json", "address", "show", "dev", self.bridge))[0]
        addresses = {f"{each['local']}/{each['prefixlen']}" for each in link["addr_info"] if each["family"] == "inet"}
        return addresses == {self.gateway} and link["mtu"] == self.mtu and "UP" in link["flags"]

    def _guard_is_there(self) -> bool:
        routes = json.loads(run("ip", "-json", "route", "show", "type", "unreachable") or "[]")
        return any(route["dst"] == str(self.subnet) for route in routes)

    def _rules_are_right(self) -> bool:
        return f"ip saddr {self.subnet} " in run("nft", "list", "table", "ip", self.table, check=False)

    def steps_to_present(self) -> list[str]:
        """Return the parts that are not there as they should be."""
        parts = {
            "guard": self._guard_is_there,
            "rules": self._rules_are_right,
            "bridge": self._bridge_is_right,
            "record": self.record.exists,
            "forwarding": self.forwarding.is_right,
        }
        return [name for name, is_right in parts.items() if not is_right()]

    def set_up(self, steps: list[str]) -> None:
        """Make the parts named in `steps`; the guard first."""
        subnet = str(self.subnet)
        if "guard" in steps:
            # systemd-networkd removes routes that it does not know, unless they are the kernel's.
            run("ip", "route", "replace", *self.guard, "protocol", "kernel")
        if "rules" in steps:
            # Adding before deleting makes the deletion succeed either way.
            old = f"table ip {self.table}\ndelete table ip {self.table}\n"
            run("nft", "-f", "-", stdin=old + RULES.format(table=self.table, subnet=subnet))
        if "bridge" in steps:
            if not Path(f"/sys/class/net/{self.bridge}").exists():
                run("ip", "link", "add", self.bridge, "type", "bridge")
            run("ip", "address", "flush", "dev", self.bridge)
            run("ip", "address", "add", self.gateway, "dev", self.bridge)
            run("ip", "link", "set", self.bridge, "mtu", str(self.mtu), "up")
        write_file(self.record, f"{subnet}\n")
        # A bridge that was just made does not forward either.
        if not self.forwarding.is_right():
            self.forwarding.turn_on()

    def is_used(self) -> bool:
        """Tell whether a lab host of this bridge is still there."""
        return any((self.directory / "hosts" / self.bridge).glob("[!.]*"))

    def steps_to_absent(self) -> list[str]:
        """Return the parts to remove, whole or not; none while a lab host needs them."""
        if self.is_used():
            return []
        parts = {
            "bridge": Path(f"/sys/class/net/{self.bridge}").exists(),
            "rules": succeeds("nft", "list", "table", "ip", self.table),
            "guard": self._guard_is_there(),
            "record": self.record.exists(),
            "forwarding": self.forwarding.record.exists() and not self._other_labs(),
        }
        return [name for name, there in parts.items() if there]

    def _other_labs(self) -> list[Path]:
        networks = self.record.parent
        return [record for record in networks.iterdir() if record != self.record] if networks.is_dir() else []

    def take_down(self, steps: list[str]) -> None:
        """Remove the parts named in `steps`; the guard last."""
        if "bridge" in steps:
            run("ip", "link", "delete", self.bridge)
        if "rules" in steps:
            run("nft", "delete", "table", "ip", self.table)
        if "guard" in steps:
            run("ip", "route", "delete", *self.guard)
        self.record.unlink(missing_ok=True)
        if "forwarding" in steps:
            self.forwarding.turn_off()


def main() -> None:
    """Run the module."""
    module = AnsibleModule(
        argument_spec={
            "directory": {"type": "path", "required": True},
            "bridge": {"type": "str", "required": True},
            "subnet": {"type": "str", "required": True},
            "mtu": {"type": "int", "default": 1500},
            "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
        },
        supports_check_mode=True,
    )
    given = module.params
    lab = Path(given["directory"])
    network = Network(lab, given["bridge"], given["subnet"], given["mtu"])
    wanted = given["state"] == "present"
    # A machine that lacks the tools has no network of ours either, and check mode may not install them.
    if not all(module.get_bin_path(tool) for tool in ("ip", "nft")) and (module.check_mode or not wanted):
        module.exit_json(changed=wanted, steps=["all"] if wanted else [])
    if not wanted and not lab.exists():
        module.exit_json(changed=False, steps=[])
    try:
        with contextlib.nullcontext() if module.check_mode else locked(lab / "locks" / "network"):
            steps = network.steps_to_present() if wanted else network.steps_to_absent()
            if steps and not module.check_mode:
                (network.set_up if wanted else network.take_down)(steps)
    except LabError as error:
        module.fail_json(msg=f"The network {given['bridge']}, {given['subnet']}, is not as it should be: {error}")
    module.exit_json(changed=bool(steps), steps=steps)


if __name__ == "__main__":
    main()
