"""Plays that stand beside the wiring, as the playbooks do, for inventories made up by a test: they touch no host."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from ansible_playbook import ROOT, run_playbook

from taskmill_worker import features

#: The app of a host that has no other.
EXAMPLE = {"app_description": str(ROOT / "app/src/fibonacci/taskmill.yml")}
#: A landscape in which every host is this machine.
HERE = {
    "ansible_connection": "local",
    "ansible_become": False,
    "ansible_python_interpreter": sys.executable,
    "service_address": "127.0.0.1",
    **EXAMPLE,
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
    for name in ("group_vars", "vars"):
        (playbooks / name).symlink_to(ROOT / "playbooks" / name)
    # The wiring finds the source from its playbook.
    (folder / "app").symlink_to(ROOT / "app")
    hosts = folder / "inventory" / "hosts.yml"
    hosts.parent.mkdir(exist_ok=True)
    hosts.write_text(json.dumps(inventory))
    book = playbooks / "play.yml"
    book.write_text(json.dumps([{"hosts": "all", "gather_facts": False, "vars": variables, "tasks": tasks}]))
    done = run_playbook("-i", hosts, book, *options)
    assert done.returncode == code, done.stdout + done.stderr
    return done.stdout


def worker_environments(
    folder: Path, inventory: dict[str, Any], *tasks: dict[str, Any], **variables: Any
) -> dict[str, dict[str, str]]:
    """Return the environment of each worker, by HOST.WORKER, as wiring and role make it; the tasks are played, too."""
    digests = {f"/opt/{app}/{venv}": "0" for app in ("fibonacci", "proj") for venv in ("venv", "venv-pypy3")}
    (folder / "workers").mkdir()
    # The template's filters, which Ansible loads with the play.
    filters = {"import_role": {"name": "systemd_unit"}, "when": False}
    # For its defaults and its own variables; it looks at the workers, too.
    validate = {"include_role": {"name": "celery_worker", "tasks_from": "validate.yml", "public": True}}
    render = {
        "template": {
            "src": str(ROOT / "roles/celery_worker/templates/worker.env.j2"),
            "dest": f"{folder}/workers/{{{{ inventory_hostname }}}}.{{{{ item.name }}}}",
        },
        "loop": "{{ celery_worker_nodes }}",
    }
    play(
        folder,
        inventory,
        [validate, render, *tasks, filters],
        ansible_facts={"processor_nproc": 2},
        __celery_worker_inspection={"stdout": json.dumps({"digests": digests})},
        systemd_unit_version={"stdout": "systemd 257 (257.1)"},
        **variables,
    )
    return {path.name: sourced(path) for path in (folder / "workers").iterdir()}


def sourced(path: Path) -> dict[str, str]:
    """Return what a shell reads from an environment file."""
    command = ["env", "-i", "sh", "-c", f"set -a; . {path}; env -0"]
    entries = subprocess.run(command, capture_output=True, text=True, check=True).stdout.split("\0")
    return dict(entry.split("=", 1) for entry in entries if entry)


def loaded(environment: dict[str, str]) -> set[str]:
    """Return the features that a worker has, which loads one package of ours."""
    assert "--include=taskmill_worker" in environment["CELERY_WORKER_OPTIONS"].split()
    return set(features(environment))


def landscape(hosts: dict[str, dict[str, Any]], **variables: Any) -> dict[str, Any]:
    """Return an inventory whose hosts, with variables of their own, are in every group, as site.yml leaves it."""
    known = HERE | {"secrets_if_missing": "generate"} | variables
    return {"all": {"vars": known, "children": {name: {"hosts": hosts} for name in GROUPS}}}
