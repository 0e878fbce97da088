"""Create, boot, restart, end and remove one lab host."""

# More than 400 lines: the documentation, which Ansible reads from the module itself, and all steps of a host's life.
from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import time
import uuid
from pathlib import Path
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.common.text.formatters import human_to_bytes
from ansible.module_utils.taskmill_lab import (
    SYSTEMD_RUN,
    Group,
    LabError,
    boot_id,
    fingerprint,
    inside,
    is_running,
    locked,
    make_key,
    mounts_below,
    read_json,
    remove_tree,
    run,
    send,
    started_at,
    succeeds,
    wait_until,
    write_file,
)
from ansible.module_utils.taskmill_lab_layers import Files, prune

DOCUMENTATION = r"""
module: lab_host_system
short_description: Run a whole Debian system in a systemd-nspawn container
description:
  - A lab host is a base with an upper directory of its own (overlayfs; elsewhere a copy), booted in
    a container with a network namespace, a memory limit and cores of its own.
  - With an image it stands on what a host of that name was when the image was saved, if that stood
    on today's base.
  - One that is up, with the settings asked for, is left alone; one that died or whose making was
    cut off is mended; a changed setting restarts it and a changed release makes it anew.
options:
  directory: {description: Where the lab keeps its files., type: path, required: true}
  name: {description: Host name., type: str, required: true}
  bridge: {description: Bridge of its lab., type: str, required: true}
  address: {description: IPv4 address., type: str}
  suite: {description: Debian release., type: str}
  memory: {description: Most memory it may use such as 2G., type: str}
  cores: {description: A taskset list of cores; empty for all., type: str, default: ""}
  capabilities: {description: Further capabilities., type: list, elements: str, default: []}
  base: {description: Base that a new host is made from., type: str, default: ""}
  image: {description: Image that a new host is made from and that is saved., type: str, default: ""}
  cache_size: {description: Most that images and downloads may take such as 8G., type: str, default: 8G}
  users:
    description: Users who may log in with the lab's key and use sudo; root may not where there are any.
    type: list
    elements: dict
    default: []
    suboptions:
      name: {description: Its name., type: str, required: true}
      password: {description: Hash (crypt(3)) of what sudo asks for; nothing is asked without., type: str}
  files: {description: Content of files by their path in the lab host., type: dict, default: {}}
  boot_timeout: {description: Seconds it may take to boot., type: int, default: 90}
  stop_timeout: {description: Seconds it may take to shut down., type: int, default: 20}
  state:
    description: Whether it should be there. C(saved) makes an image of it, for which it is restarted.
    type: str
    choices: [present, absent, saved]
    default: present
author: [taskmill]
"""

EXAMPLES = r"""
- name: Boot a lab host
  lab_host_system:
    directory: /var/lib/taskmill-lab
    name: broker
    bridge: tm-lab
    address: 10.77.0.11
    suite: trixie
    memory: 2G
"""

RETURN = r"""
steps: {description: What was done or would be., type: list, elements: str, returned: always}
systemd: {description: What systemd says of the boot., type: str, returned: when booted}
seconds: {description: How long it took to boot., type: float, returned: when booted}
from_image: {description: Whether it stands on an image., type: bool, returned: always}
"""

LET_IN = """
id "$1" >/dev/null 2>&1 || useradd --create-home --no-user-group --shell=/bin/bash "$1"
home=$(getent passwd "$1" | cut -d: -f6)
umask 077
mkdir -p "$home/.ssh"
cat >"$home/.ssh/authorized_keys"
chown -R "$1" "$home/.ssh"
"""
"""Lets a user in by the key at its input; one that is not there is made."""
PATIENCE = 15
"""Seconds for the SSH server of a busy lab host to answer."""
NSPAWN_RUN = Path("/run/systemd/nspawn")


class System:
    """One lab host: its files, its processes."""

    def __init__(self, given: dict[str, Any]) -> None:
        """Take the module's parameters."""
        self.lab = Path(given["directory"])
        self.name = given["name"]
        self.id = f"{given['bridge']}-{given['name']}"
        self.suite = given["suite"]
        self.directory = self.lab / "hosts" / given["bridge"] / given["name"]
        self.tree = Files(self.lab, given["bridge"], self.name)
        self.record_file = self.directory / "run.json"
        # To end a host takes its name alone; the address is the one it was started with.
        self.address = given["address"] or read_json(self.record_file).get("address", "none")
        self.root = self.tree.root
        self.console = self.directory / "console.log"
        self.key = self.lab / "keys" / "id_ed25519"
        self.known_hosts = self.lab / "known_hosts" / self.address
        self.unit = f"taskmill-lab-{self.id}.service"
        self.bridge = given["bridge"]
        self.cores = given["cores"]
        self.memory = human_to_bytes(given["memory"] or "0")
        self.capabilities = given["capabilities"]
        self.base = given["base"]
        self.image = given["image"]
        self.cache_size = human_to_bytes(given["cache_size"])
        self.users: list[dict[str, Any]] = given["users"]
        self.files: dict[str, str] = given["files"]
        self.boot_timeout = given["boot_timeout"]
        self.stop_timeout = given["stop_timeout"]
        network = self.files.get("/etc/systemd/network/10-host0.network", "")
        self.settings = [
            self.bridge,
            self.address,
            self.cores,
            self.memory,
            self.capabilities,
            network,
            *([fingerprint(self.users)] if self.users else []),
        ]

    # What is there

    def record(self) -> dict[str, Any]:
        """Return what was noted when it was last started."""
        return read_json(self.record_file)

    def stale_files(self) -> list[str]:
        """Return the files that differ from what they should be."""

        def differs(path: str, content: str) -> bool:
            try:
                return inside(self.root, path).read_text() != content
            except OSError:
                return True

        return [path for path, content in self.files.items() if differs(path, content)]

    def greets(self) -> bool:
        """Tell whether its SSH server answers."""
        try:
            with socket.create_connection((self.address, 22), timeout=2) as connection:
                connection.settimeout(5)
                return connection.recv(4) == b"SSH-"
        except OSError:
            return False

    def has_leftovers(self) -> bool:
        """Tell whether processes of it may be alive."""
        if SYSTEMD_RUN.is_dir():
            return succeeds("systemctl", "is-active", "--quiet", self.unit)
        return is_running(self.record()) or Group(self.id).exists()

    def steps_to_present(self) -> list[str]:
        """Return what has to be done to have it up and right."""
        record = self.record()
        if self.tree.record().get("suite") != self.suite:
            return ["create", "start"]
        if not is_running(record) or record.get("settings") != self.settings:
            return ["start"]
        if not self.key.exists() or not self.known_hosts.exists() or not wait_until(self.greets, PATIENCE):
            return ["start"]
        return ["files"] if self.stale_files() else []

    def steps_to_absent(self) -> list[str]:
        """Return what has to be done to have it gone."""
        there = {"stop": self.has_leftovers(), "remove": self.directory.exists()}
        return [step for step, is_there in there.items() if is_there]

    def steps_to_saved(self) -> list[str]:
        """Return what has to be done to have an image of it."""
        record = self.tree.record()
        if not record.get("layers") or self.tree.is_from_image():
            return []
        return ["save", "start"]

    # Making it

    def create(self) -> None:
        """Make its files, with an identity of their own where no image brings one."""
        with self.tree.made(self.suite, self.base, self.image) as from_image:
            if not from_image:
                write_file(self.root / "etc/machine-id", f"{uuid.uuid4().hex}\n", 0o444)
                make_key(self.root / "etc/ssh/ssh_host_ed25519_key", self.name)

    def write_files(self) -> None:
        """Bring its configuration up to date."""
        for path in self.stale_files():
            write_file(inside(self.root, path), self.files[path])

    def admit(self) -> None:
        """Let the lab's key in, and make its host key known."""
        with locked(self.lab / "locks" / "key"):
            if not self.key.exists():
                self.key.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
                make_key(self.key, "taskmill-lab")
        public = self.key.with_suffix(".pub").read_text()
        for name in [user["name"] for user in self.users] or ["root"]:
            self._inside(LET_IN, name, stdin=public)
        for user in self.users:
            self._inside("chpasswd --encrypted", stdin=f"{user['name']}:{user.get('password') or '*'}\n")
            asked = "" if user.get("password") else "NOPASSWD: "
            write_file(self.root / "etc/sudoers.d" / user["name"], f"{user['name']} ALL=(ALL) {asked}ALL\n", 0o440)
        if self.users:
            self._inside("rm -rf /root/.ssh")
        host_key = (self.root / "etc/ssh/ssh_host_ed25519_key.pub").read_text()
        write_file(self.known_hosts, f"{self.address} {host_key}")
        (self.lab / "ssh").mkdir(mode=0o700, exist_ok=True)

    def _inside(self, script: str, *arguments: str, stdin: str = "") -> None:
        """Run a shell script in its files; a link in them leads to nothing of this machine."""
        run("chroot", str(self.root), "/bin/sh", "-ec", script, "sh", *arguments, stdin=stdin)

    # Running it

    def command(self) -> list[str]:
        """Return the command line that boots it."""
        cores = ["taskset", "--cpu-list", self.cores] if self.cores else []
        capabilities = [f"--capability={','.join(self.capabilities)}"] if self.capabilities else []
        return [
            *cores,
            "systemd-nspawn",
            "--quiet",
            "--boot",
            f"--directory={self.root}",
            f"--machine={self.id}",
            f"--hostname={self.name}",
            f"--network-bridge={self.bridge}",
            "--settings=no",
            "--register=no",
            "--keep-unit",
            "--link-journal=no",
            "--resolv-conf=off",
            "--timezone=off",
            "--console=pipe",
            f"--bind={self.lab / 'cache/pip'}:/var/cache/pip",
            *capabilities,
        ]

    def start(self) -> dict[str, Any]:
        """Boot it; return what systemd says of it, and the seconds that it took."""
        start = time.monotonic()
        (self.lab / "cache/pip").mkdir(parents=True, exist_ok=True)
        os.utime(self.lab / "cache/pip")
        pid = self._start_as_unit() if SYSTEMD_RUN.is_dir() else self._start_detached()
        record = {"pid": pid, "started_at": started_at(pid), "boot_id": boot_id()}
        record |= {"address": self.address, "settings": self.settings}
        write_file(self.record_file, json.dumps(record, indent=2) + "\n")
        said = self._wait_until_booted(pid)
        return {"systemd": said, "seconds": round(time.monotonic() - start, 1)}

    def _start_as_unit(self) -> int:
        properties = {
            "Delegate": "yes",
            "KillMode": "mixed",
            "TimeoutStopSec": f"{self.stop_timeout}s",
            "TasksMax": "infinity",
            "MemoryMax": str(self.memory),
            "MemorySwapMax": "0",
            "StandardOutput": f"truncate:{self.console}",
            "StandardError": f"append:{self.console}",
        }
        options = [f"--property={name}={value}" for name, value in properties.items()]
        run("systemctl", "reset-failed", self.unit, check=False)
        options += ["--quiet", "--collect", f"--unit={self.unit}"]
        run("systemd-run", *options, "--", *self.command())
        return int(run("systemctl", "show", "--property=MainPID", "--value", self.unit))

    def _start_detached(self) -> int:
        group = Group(self.id)
        group.create(self.memory)
        with self.console.open("w") as console:
            # The group is entered before the program runs: none of its processes is outside.
            process = subprocess.Popen(
                self.command(),
                stdin=subprocess.DEVNULL,
                stdout=console,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                preexec_fn=group.enter,  # noqa: PLW1509 - this program has one thread
                cwd="/",
            )
        return process.pid

    def _wait_until_booted(self, pid: int) -> str:
        """Wait until it lets us in and systemd says that booting is over, and how it went."""
        deadline = time.monotonic() + self.boot_timeout
        said = "nothing"
        while time.monotonic() < deadline and started_at(pid):
            if self.greets():
                done = self._systemctl("is-system-running", "--wait")
                said = (done.stdout + done.stderr).strip()
                if said in {"running", "degraded"}:
                    return said
            time.sleep(0.1)
        what = f"ended while booting, and said {said}"
        if started_at(pid):
            what = f"was not up after {self.boot_timeout} s (lab_host_boot_timeout), and said {said}"
        tail = "\n".join(self.console.read_text(errors="replace").splitlines()[-20:])
        raise LabError(f"it {what}. The end of its console, {self.console}:\n{tail}")

    def _systemctl(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run systemctl in it, with the lab's key."""
        options = ["BatchMode=yes", "ConnectTimeout=2", f"UserKnownHostsFile={self.known_hosts}"]
        command = ["ssh", "-F", "none", "-i", str(self.key), *(f"-o{option}" for option in options)]
        user = self.users[0]["name"] if self.users else "root"
        command += [f"{user}@{self.address}", "systemctl", *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=False)

    # Ending it

    def stop(self) -> bool:
        """Shut it down, or kill it when it takes too long; tell whether it ended by itself."""
        record = self.record()
        self._disconnect(record.get("address", self.address))
        well = False
        if is_running(record):
            # SIGTERM makes systemd-nspawn ask the system in it to power off.
            send([record["pid"]], signal.SIGTERM)
            well = wait_until(lambda: not is_running(record), self.stop_timeout)
        if SYSTEMD_RUN.is_dir():
            if succeeds("systemctl", "is-active", "--quiet", self.unit):
                run("systemctl", "kill", "--signal=SIGKILL", self.unit)
                run("systemctl", "stop", self.unit, check=False)
        else:
            self._kill_group()
        self._clear_runtime()
        self.record_file.unlink(missing_ok=True)
        return well

    def _disconnect(self, address: str) -> None:
        """End the shared SSH connections, which would be taken for one to the host that comes next."""
        for socket_file in (self.lab / "ssh").glob(f"*@{address}"):
            command = ["ssh", "-F", "none", f"-oControlPath={socket_file}", "-O", "exit"]
            run(*command, address, check=False)
            socket_file.unlink(missing_ok=True)
        (self.lab / "known_hosts" / address).unlink(missing_ok=True)

    def _kill_group(self) -> None:
        group = Group(self.id)

        def is_empty() -> bool:
            left = group.processes()
            send(left, signal.SIGKILL)
            return not left

        if not wait_until(is_empty, 20):
            raise LabError(f"its processes {sorted(group.processes())} do not end")
        group.remove()

    def _clear_runtime(self) -> None:
        """Remove what a killed systemd-nspawn leaves, and what would stop the next one."""
        for kind in ("propagate", "unix-export"):
            left = NSPAWN_RUN / kind / self.id
            for point in [*mounts_below(left), str(left)]:
                if os.path.ismount(point):
                    run("umount", "--lazy", point)
            remove_tree(left)
        (self.directory / ".#root.lck").unlink(missing_ok=True)


def ensure_present(system: System, steps: list[str]) -> dict[str, Any]:
    """Do the steps; return how the booting went, if there was one."""
    if "create" in steps or "start" in steps:
        system.stop()
    if "create" in steps:
        system.create()
    system.tree.mount()
    system.write_files()
    if "start" not in steps:
        return {}
    system.admit()
    return system.start()


def ensure_saved(system: System, steps: list[str]) -> dict[str, Any]:
    """Make an image of it; return how it booted from that."""
    if not steps:
        return {}
    if not system.stop():
        # Files of services that were killed are no beginning for other hosts.
        unsaved = (
            f"it did not shut down within {system.stop_timeout} s (lab_host_stop_timeout), so there is no image of it"
        )
        return {**ensure_present(system, ["start"]), "unsaved": unsaved}
    system.tree.save(system.image)
    prune(system.lab, system.cache_size)
    return ensure_present(system, ["start"])


def ensure_absent(system: System, steps: list[str]) -> dict[str, Any]:
    """End it and delete its files."""
    if steps:
        system.stop()
        system.tree.remove()
    return {}


STATES = {
    "present": (System.steps_to_present, ensure_present),
    "saved": (System.steps_to_saved, ensure_saved),
    "absent": (System.steps_to_absent, ensure_absent),
}


def main() -> None:
    """Run the module."""
    module = AnsibleModule(
        argument_spec={
            "directory": {"type": "path", "required": True},
            "name": {"type": "str", "required": True},
            "bridge": {"type": "str", "required": True},
            "address": {"type": "str"},
            "suite": {"type": "str"},
            "memory": {"type": "str"},
            "cores": {"type": "str", "default": ""},
            "capabilities": {"type": "list", "elements": "str", "default": []},
            "files": {"type": "dict", "default": {}},
            "boot_timeout": {"type": "int", "default": 90},
            "stop_timeout": {"type": "int", "default": 20},
            "base": {"type": "str", "default": ""},
            "image": {"type": "str", "default": ""},
            "cache_size": {"type": "str", "default": "8G"},
            "users": {
                "type": "list",
                "elements": "dict",
                "default": [],
                "options": {"name": {"type": "str", "required": True}, "password": {"type": "str", "no_log": True}},
            },
            "state": {"type": "str", "choices": list(STATES), "default": "present"},
        },
        required_if=[("state", state, ("address", "suite", "memory")) for state in ("present", "saved")],
        supports_check_mode=True,
    )
    system = System(module.params)
    boot: dict[str, Any] = {}
    try:
        steps_to, ensure = STATES[module.params["state"]]
        steps = steps_to(system)
        if steps and not module.check_mode:
            with locked(system.lab / "locks" / f"host-{system.id}"):
                # Another run may have done it while this one waited.
                boot = ensure(system, steps_to(system))
    except LabError as error:
        module.fail_json(msg=f"Lab host {system.name}, {system.address}: {error}")
    if "unsaved" in boot:
        module.warn(f"Lab host {system.name}: {boot['unsaved']}.")
    if module.params["state"] == "saved" and not system.tree.record().get("layers"):
        module.warn(f"Lab host {system.name} is a copy of its base, of which there can be no image: no overlayfs here.")
    if boot.get("systemd") == "degraded":
        module.warn(f"Lab host {system.name} booted, but units failed: see `systemctl --failed` there.")
    module.exit_json(changed=bool(steps), steps=steps, from_image=system.tree.is_from_image(), **boot)


if __name__ == "__main__":
    main()
