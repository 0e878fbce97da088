"""Build the base system that the lab hosts of one distribution release are copied from."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.common.text.formatters import human_to_bytes
from ansible.module_utils.taskmill_lab import (
    LabError,
    fingerprint,
    inside,
    locked,
    os_release,
    remove_tree,
    run,
    write_file,
)
from ansible.module_utils.taskmill_lab_layers import prune

DOCUMENTATION = r"""
module: lab_host_base
short_description: Build a base system for lab hosts
description:
  - Builds a Debian system with mmdebstrap, beside its final place, and moves it there when it is
    complete. Packages come from the mirror that this machine uses itself.
  - A base is named after the hash of what makes it, and never changes, since hosts have it beneath
    them.
  - Runs that need the same base wait for the one that builds it.
options:
  directory: {description: Where the lab keeps its files., type: path, required: true}
  suite: {description: Debian release., type: str, required: true}
  packages: {description: Packages of the base., type: list, elements: str, required: true}
  files: {description: Content of files by their path in the base., type: dict, required: true}
  apt_settings: {description: Lines for apt.conf., type: list, elements: str, default: []}
  disabled_units: {description: Units to mask., type: list, elements: str, default: []}
  cache_size: {description: Most that bases, images and downloads may take such as 8G., type: str, default: 8G}
author: [taskmill]
"""

EXAMPLES = r"""
- name: Build the base
  lab_host_base:
    directory: /var/lib/taskmill-lab
    suite: trixie
    packages: [systemd-sysv, openssh-server]
    files:
      /etc/pip.conf: |
        [global]
        timeout = 60
"""

RETURN = r"""
base: {description: Name of the base., type: str, returned: always}
seconds: {description: How long the building took., type: float, returned: when built}
"""

KEYRING = "/usr/share/keyrings/debian-archive-keyring.gpg"
CONFINED = ["setpriv", "--pdeathsig=KILL", "unshare", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc"]
"""When a run is killed, what it started dies with it, and so do the mounts."""
BUILD = 2
"""Counts up when the steps below change, so that bases of an older kind are rebuilt."""


def own_sources() -> list[str]:
    """Return the text of this machine's own lists of apt sources."""
    lists = [Path("/etc/apt/sources.list"), *sorted(Path("/etc/apt/sources.list.d").glob("*"))]
    return [path.read_text() for path in lists if path.is_file()]


def apt_sources(suite: str) -> str:
    """Return sources.list lines for `suite` from the mirrors of this machine's own release.

    An empty text leaves the choice to mmdebstrap: this machine may be no Debian.
    """
    own = os_release()
    release = own.get("VERSION_CODENAME")
    if own.get("ID") != "debian" or not release:
        return ""
    form = "$(REPO_URI) $(RELEASE) $(COMPONENT)"
    listed = run("apt-get", "indextargets", "--format", form, "Created-By: Packages")
    lines = []
    for line in listed.splitlines():
        uri, name, component = line.split()
        if component == "main" and name in {release, f"{release}-updates", f"{release}-security"}:
            lines.append(f"deb {uri.rstrip('/')} {suite}{name.removeprefix(release)} main\n")
    return "".join(dict.fromkeys(lines))


def build(root: Path, given: dict[str, Any]) -> None:
    """Make the base in the new directory `root`."""
    sources = apt_sources(given["suite"])
    # The package lists stay in, so that a new lab host can install at once.
    command = [*CONFINED, "mmdebstrap", "--quiet", "--mode=root", "--variant=minbase"]
    command += [f"--include={','.join(given['packages'])}", f"--keyring={KEYRING}"]
    command += [f"--aptopt={line}" for line in given["apt_settings"]]
    command += ["--skip=cleanup/apt/lists", given["suite"], str(root), *(["-"] if sources else [])]
    run(*command, stdin=sources)
    if sources:
        write_file(root / "etc/apt/sources.list", sources)
    for path, content in given["files"].items():
        write_file(inside(root, path), content)
    for key in root.glob("etc/ssh/ssh_host_*"):
        key.unlink()
    write_file(root / "etc/machine-id", "")
    run("chroot", str(root), "update-ca-certificates")
    run("chroot", str(root), "systemctl", "--quiet", "enable", "systemd-networkd.service")
    if given["disabled_units"]:
        run("chroot", str(root), "systemctl", "--quiet", "mask", *given["disabled_units"])


def main() -> None:
    """Run the module."""
    module = AnsibleModule(
        argument_spec={
            "directory": {"type": "path", "required": True},
            "suite": {"type": "str", "required": True},
            "packages": {"type": "list", "elements": "str", "required": True},
            "files": {"type": "dict", "required": True},
            "apt_settings": {"type": "list", "elements": "str", "default": []},
            "disabled_units": {"type": "list", "elements": "str", "default": []},
            "cache_size": {"type": "str", "default": "8G"},
        },
        supports_check_mode=True,
    )
    given = module.params
    lab = Path(given["directory"])
    suite = given["suite"]
    inputs = [given[name] for name in ("suite", "packages", "files", "apt_settings", "disabled_units")]
    base = lab / "bases" / f"{suite}-{fingerprint([BUILD, *inputs, *own_sources()])}"
    if base.is_dir() or module.check_mode:
        module.exit_json(changed=not base.is_dir(), base=base.name)
    start = time.monotonic()
    try:
        with locked(lab / "locks" / f"base-{suite}"):
            # Another run may have built it while this one waited.
            if not base.is_dir():
                new = base.with_name(f".{suite}.new")
                remove_tree(new)
                base.parent.mkdir(parents=True, exist_ok=True)
                build(new, given)
                new.rename(base)
        prune(lab, human_to_bytes(given["cache_size"]))
    except LabError as error:
        module.fail_json(msg=f"The base system {suite} could not be built: {error}")
    module.exit_json(changed=True, base=base.name, seconds=round(time.monotonic() - start, 1))


if __name__ == "__main__":
    main()
