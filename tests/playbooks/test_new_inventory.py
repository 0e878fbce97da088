"""What `make new` writes is taken by the wiring, and what taskmill inspect knows of roles and requirements is so."""

from __future__ import annotations

import json
import re
from pathlib import Path

import yaml
from ansible_playbook import ROOT
from python_file import load
from wiring import GROUPS, HERE, play

from taskmill.inspection import environment, inventory, problems, system_packages

PASSWORDS = {"worker": "w", "client": "c", "monitor": "m"}


def test_workers_that_declare_may_bind(tmp_path: Path) -> None:
    """A queue and its exchange are declared and bound by who may configure, write and read both; others may not."""
    app = {"app_name": "proj", "app_tasks": {"proj.add": "celery"}, "broker_passwords": PASSWORDS}
    hosts = {
        "plain": {**HERE, **app},
        "declares": {**HERE, **app, "broker_workers_declare": True},
        "more": {**HERE, **app, "broker_workers_declare": True, "broker_task_queues": "celery|media"},
    }
    groups = {group: {"hosts": dict.fromkeys(hosts)} for group in GROUPS}
    task = {"copy": {"content": "{{ rabbitmq_users | to_json }}", "dest": f"{tmp_path}/{{{{ inventory_hostname }}}}"}}
    play(tmp_path, {"all": {"hosts": hosts, "children": groups}}, [task])
    plain, declares, more = (
        next(user for user in json.loads((tmp_path / host).read_text()) if user["name"] == "worker") for host in hosts
    )
    for right in ("configure", "write", "read"):
        assert re.match(declares[right], "celery")
        assert re.match(more[right], "media")
        assert not re.match(declares[right], "media")
    assert not re.match(plain["configure"], "celery")
    assert not re.match(plain["write"], "celery")
    assert re.match(declares["write"], "amq.default")


def test_the_hosts_of_make_new_are_the_landscapes() -> None:
    """Each group that hosts.yml of the example has."""
    example = yaml.safe_load((ROOT / "inventory/vms/hosts.yml").read_text())["all"]["children"]
    written = inventory.hosts("broker=10.0.0.1 worker=10.0.0.2")["all"]["children"]
    assert set(written) == set(example)


def test_what_is_known_of_roles_and_requirements() -> None:
    """The figures and pins that taskmill inspect names are those of the roles and of requirements/app.in."""
    defaults = yaml.safe_load((ROOT / "roles/celery_worker/defaults/main.yml").read_text())
    assert defaults["celery_worker_stop_timeout"] == problems.STOP_TIMEOUT
    debian = load(ROOT / "roles/celery_worker/files/worker_causes.py").DEBIAN_PACKAGES
    known = {library: system_packages.package_of(library) for library in debian}
    assert {library: package for library, package in debian.items() if known[library]} == {
        library: package for library, package in known.items() if package
    }
    assert set(system_packages.LIBRARIES.values()) <= set(debian.values())
    app = (ROOT / "requirements/app.in").read_text().split()
    assert inventory.MEMCACHED in app
    assert {re.split("==", line)[0] for line in app if "==" in line} == set(environment.OWN)
