"""What `make new` writes is taken by the wiring, and what taskmill inspect knows of roles and requirements is so."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import yaml
from ansible_playbook import ROOT
from wiring import GROUPS, HERE, play

from taskmill.inspection import environment, inventory, problems


def worker_of(folder: Path, **variables: Any) -> dict[str, str]:
    """Return the broker's user of the workers, as the wiring makes it from an inventory with these variables."""
    folder.mkdir()
    groups = {group: {"hosts": {"own": None}} for group in GROUPS}
    passwords = {"worker": "w", "client": "c", "monitor": "m"}
    landscape = {
        "all": {"hosts": {"own": HERE}, "children": groups, "vars": {"broker_passwords": passwords, **variables}}
    }
    output = folder / "users.json"
    task = {"copy": {"content": "{{ rabbitmq_users | to_json }}", "dest": str(output)}}
    play(folder, landscape, [task])
    users: list[dict[str, str]] = json.loads(output.read_text())
    return next(user for user in users if user["name"] == "worker")


def test_workers_that_declare_may_bind(tmp_path: Path) -> None:
    """A queue and its exchange are declared and bound by who may configure, write and read both; others may not."""
    app = {"app_name": "proj", "app_tasks": {"proj.add": "celery"}}
    plain = worker_of(tmp_path / "plain", **app)
    declares = worker_of(tmp_path / "declares", **app, broker_workers_declare=True)
    more = worker_of(tmp_path / "more", **app, broker_workers_declare=True, broker_task_queues="celery|media")
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
    app = (ROOT / "requirements/app.in").read_text().split()
    assert inventory.MEMCACHED in app
    assert {re.split("==", line)[0] for line in app if "==" in line} == set(environment.OWN)
