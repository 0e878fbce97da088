"""Build the base system that the lab hosts of one distribution release are copied from."""

from __future__ import annotations

import time
from pathlib import Path

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.taskmill_lab import (
    LabError,
    fingerprint,
    inside,
    locked,
    os_release,
    read_json,
    remove_tree,
    run,
    write_file,
)

DOCUMENTATION = r"""
module: lab_host_base
short_description: Build a base system for lab hosts
description:
  - Builds a Debian system with mmdebstrap, beside its final place, and moves it there when it is complete.
  - Runs that need the same base wait for the one that builds it.
options:
  directory: {description: Where the lab keeps its files., type: path, required: true}
  suite: {description: Debian release., type: str, required: true}
  packages: {description: Packages of the base., type: list, elements: str, required: true}
  files: {description: Content of files by their path in the base., type: dict, required: true}
  disabled_units: {description: Units to mask., type: list, elements: str, default: []}
author: [taskmill]
"""

EXAMPLES = r"""
- name: Build the base
  lab_host_base:
    directory: /var/lib/taskmill-lab
    suite: trixie
    packages: [systemd-sysv, openssh-server]
    files:
      /etc/apt/sources.list: |
        deb http://deb.debian.org/debian trixie main
"""

RETURN = r"""
seconds: {description: How long the building took., type: float, returned: when built}
"""

KEYRING = "/usr/share/keyrings/debian-archive-keyring.gpg"
BUILD = 1
"""Counts up when the steps below change, so that bases of an older kind are rebuilt."""


def own_sources() -> list[str]:
    """Return the text of this machine's own lists of apt sources."""
    lists = [Path("/etc/apt/sources.list"), *sorted(Path("/etc/apt/sources.list.d").glob("*"))]
    return [path.read_text() for path in lists if path.is_file()]


def apt_sources(suite: str) -> str:
    """Return sources.list lines for `suite` from the mirrors that this machine uses for its own release."""
    own = os_release()
    mirrors = {
        "": "http://deb.debian.org/debian",
        "-security": "http://deb.debian.org/debian-security",
    }
    if own.get("ID") == "debian":
        release = own.get("VERSION_CODENAME", "")
        listed = run(
            "apt-get",
            "indextargets",
            "--format",
            "$(REPO_URI) $(RELEASE) $(COMPONENT)",
            "Created-By: Packages",
        )
        for line in reversed(listed.splitlines()):
            uri, name, component = line.split()
            if component == "main" and name in (release, f"{release}-security"):
                mirrors[name.removeprefix(release)] = uri.rstrip("/")
    lines = [
        (mirrors[""], suite),
        (mirrors[""], f"{suite}-updates"),
        (mirrors["-security"], f"{suite}-security"),
    ]
    return "".join(f"deb {uri} {name} main\n" for uri, name in lines)


def build(
    root: Path, suite: str, packages: list[str], files: dict[str, str], masked: list[str]
) -> None:
    """Make the base in the new directory `root`."""
    sources = apt_sources(suite)
    settings = root.with_name(f"{root.name}.apt.conf")
    write_file(settings, files.get("/etc/apt/apt.conf.d/90lab", ""))
    # The package lists stay in, so that a new lab host can install at once.
    run(
        "mmdebstrap",
        "--quiet",
        "--mode=root",
        "--variant=minbase",
        f"--include={','.join(packages)}",
        f"--keyring={KEYRING}",
        f"--aptopt={settings}",
        "--dpkgopt=force-unsafe-io",
        "--skip=cleanup/apt/lists",
        suite,
        str(root),
        "-",
        stdin=sources,
    )
    settings.unlink()
    for path, content in {"/etc/apt/sources.list": sources, **files}.items():
        write_file(inside(root, path), content)
    for key in root.glob("etc/ssh/ssh_host_*"):
        key.unlink()
    write_file(root / "etc/machine-id", "")
    run("chroot", str(root), "update-ca-certificates")
    run("chroot", str(root), "systemctl", "--quiet", "enable", "systemd-networkd.service")
    if masked:
        run("chroot", str(root), "systemctl", "--quiet", "mask", *masked)


def main() -> None:
    """Run the module."""
    module = AnsibleModule(
        argument_spec={
            "directory": {"type": "path", "required": True},
            "suite": {"type": "str", "required": True},
            "packages": {"type": "list", "elements": "str", "required": True},
            "files": {"type": "dict", "required": True},
            "disabled_units": {"type": "list", "elements": "str", "default": []},
        },
        supports_check_mode=True,
    )
    given = module.params
    lab = Path(given["directory"])
    base = lab / "bases" / given["suite"]
    stamp = base.with_name(f"{base.name}.json")
    inputs = [given[name] for name in ("suite", "packages", "files", "disabled_units")]
    wanted = fingerprint([BUILD, *inputs, *own_sources()])

    def is_right() -> bool:
        return base.is_dir() and read_json(stamp).get("fingerprint") == wanted

    if is_right():
        module.exit_json(changed=False)
    if module.check_mode:
        module.exit_json(changed=True)
    try:
        with locked(lab / "locks" / f"base-{given['suite']}"):
            if is_right():
                module.exit_json(changed=False)
            start = time.monotonic()
            new = base.with_name(f".{base.name}.new")
            remove_tree(new)
            new.parent.mkdir(parents=True, exist_ok=True)
            build(new, given["suite"], given["packages"], given["files"], given["disabled_units"])
            stamp.unlink(missing_ok=True)
            remove_tree(base)
            new.rename(base)
            write_file(stamp, f'{{"fingerprint": "{wanted}"}}\n')
    except LabError as error:
        module.fail_json(msg=f"The base system {given['suite']} could not be built: {error}")
    module.exit_json(changed=True, seconds=round(time.monotonic() - start, 1))


if __name__ == "__main__":
    main()
