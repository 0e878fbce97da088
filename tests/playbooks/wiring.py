"""Plays that stand beside the wiring, as the playbooks do, for inventories made up by a test: they touch no host."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
PROGRAM = Path(sys.executable).with_name("ansible-playbook")
#: A landscape in which every host is this machine.
HERE = {
    "ansible_connection": "local",
    "ansible_become": False,
    "ansible_python_interpreter": sys.executable,
    "service_address": "127.0.0.1",
}
GROUPS = ("broker", "results", "workers", "client", "monitor")


def play(
    folder: Path, inventory: dict[str, Any], tasks: list[dict[str, Any]], *options: str, code: int = 0, **variables: Any
) -> str:
    """Play tasks on the hosts of an inventory (the content of its hosts.yml), with variables of the play.

    The playbook stands in ``folder``, with links to what stands beside the real ones. Returns what Ansible printed,
    which has to end with ``code``.
    """
    playbooks = folder / "playbooks"
    playbooks.mkdir()
    for name in ("group_vars", "tasks", "vars"):
        (playbooks / name).symlink_to(ROOT / "playbooks" / name)
    # The wiring finds the source from its playbook.
    (folder / "app").symlink_to(ROOT / "app")
    hosts = folder / "inventory" / "hosts.yml"
    hosts.parent.mkdir(exist_ok=True)
    hosts.write_text(json.dumps(inventory))
    book = playbooks / "play.yml"
    book.write_text(json.dumps([{"hosts": "all", "gather_facts": False, "vars": variables, "tasks": tasks}]))
    done = subprocess.run(
        [PROGRAM, "-i", hosts, book, *options],
        cwd=ROOT,
        env={**os.environ, "ANSIBLE_FORCE_COLOR": "0", "ANSIBLE_STDOUT_CALLBACK": "default"},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == code, done.stdout + done.stderr
    return done.stdout


def landscape(hosts: dict[str, dict[str, Any]], **variables: Any) -> dict[str, Any]:
    """Return an inventory whose hosts, with variables of their own, are in every group."""
    return {"all": {"vars": HERE | variables, "children": {name: {"hosts": hosts} for name in GROUPS}}}
