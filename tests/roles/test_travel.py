"""Roles that travel: each is applied from a play outside this repository, with its sister roles and nothing else."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from ansible_playbook import PROGRAM

ROLES = Path(__file__).parents[2] / "roles"
#: Each role that travels, and the roles that have to stand beside it.
SISTERS: dict[str, set[str]] = {
    "celery_app": {"python_venv", "source_tree"},
    "celery_worker": {"source_tree", "systemd_unit"},
    "certificates": set(),
    "firewall": {"systemd_unit"},
    "flower": {"python_venv", "systemd_unit"},
    "host_stats": {"systemd_unit"},
    "memcached": {"systemd_unit"},
    "python_venv": set(),
    "rabbitmq": {"systemd_unit"},
    "redis": {"systemd_unit"},
    "source_tree": set(),
    "systemd_unit": set(),
}
#: What only this repository has: its name, its examples, and ways into its other folders.
OWN = re.compile(
    r"taskmill(?!_worker)|fibonacci|2017|celery31|playbooks/|(?<!filter_)plugins/|inventory/|playbook_dir|hostvars|groups\["
)
URL = "amqp://worker:secret@127.0.0.1:5672/shop"
#: The required inputs of each role; FOLDER is the empty folder that the play is in.
INPUTS: dict[str, dict[str, Any]] = {
    "celery_app": {
        "celery_app_name": "shop",
        "celery_app_source": "FOLDER/app",
        "celery_app_requirements": "FOLDER/requirements.txt",
    },
    "celery_worker": {
        "celery_worker_app": "shop",
        "celery_worker_directory": "/opt/shop/src",
        "celery_worker_venv_path": "/opt/shop/venv",
        "celery_worker_broker_url": URL,
        "celery_worker_result_backend": "cache+memcached://127.0.0.1:11211/",
        "celery_worker_known_queues": ["red"],
        "celery_worker_nodes": [{"name": "w1", "queues": ["red"], "memory_max": "1G"}],
    },
    "certificates": {
        "certificates_directory": "FOLDER/tls",
        "certificates_hosts": [{"name": "broker", "names": ["192.0.2.1"]}],
        "certificates_remedy": "ansible-playbook renew.yml",
    },
    "firewall": {"firewall_services": [{"name": "AMQP", "port": 5672, "from": ["192.0.2.1"]}]},
    "flower": {
        "flower_broker_url": URL,
        "flower_broker_api_url": "",
        "flower_basic_auth_user": "shop",
        "flower_basic_auth_password": "secret",
        "flower_requirements": "FOLDER/requirements.txt",
    },
    "host_stats": {"host_stats_broker_api_url": ""},
    "memcached": {},
    "python_venv": {
        "python_venv_path": "/opt/shop/venv",
        "python_venv_requirements": "FOLDER/requirements.txt",
    },
    "rabbitmq": {
        "rabbitmq_vhost": "shop",
        "rabbitmq_users": [
            {"name": "worker", "password": "secret", "configure": ".*", "write": ".*", "read": ".*"},
        ],
    },
    "redis": {"redis_password": "nottobeseen"},
    "source_tree": {"source_tree_from": "FOLDER/app", "source_tree_to": "/opt/shop/src"},
    "systemd_unit": {},
}
#: What tasks of the roles learn of a host before they render a template.
LEARNT = {
    "systemd_unit_version": {"stdout": "systemd 252 (252.1)"},
    "ansible_facts": {"processor_nproc": 2, "python": {"executable": "/usr/bin/python3"}},
    "__celery_worker_inspection": {"stdout": json.dumps({"digests": {"/opt/shop/venv": "0"}})},
    "__flower_link": {"stat": {}},
    "__rabbitmq_policy": {"stdout": "Installed: 4.0.5"},
    "item": INPUTS["celery_worker"]["celery_worker_nodes"][0],
}
TASK = re.compile(r"^TASK \[(.*)\] \*+$", re.MULTILINE)


@pytest.fixture
def outside(tmp_path: Path) -> Callable[..., str]:
    """Return a function that applies a role in an empty folder, and returns what Ansible printed.

    The role is applied to a host that cannot be reached, so its input is judged and nothing is changed anywhere. Then
    the controller renders all templates of the role with the role's own variables.
    """
    (tmp_path / "app" / "shop").mkdir(parents=True)
    (tmp_path / "requirements.txt").touch()
    (tmp_path / "roles").mkdir()
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("ANSIBLE_", "MOLECULE_"))}
    # Nor does a user's own ~/.ansible bring anything.
    environment = {**kept, "HOME": str(tmp_path), "ANSIBLE_ROLES_PATH": str(tmp_path / "roles")}

    def run(role: str, sisters: set[str]) -> str:
        for name in {role} | sisters:
            if not (tmp_path / "roles" / name).exists():
                shutil.copytree(ROLES / name, tmp_path / "roles" / name)
        # A template that looks for another file of the role finds it beside the play.
        for folder in ("files", "templates"):
            (tmp_path / folder).symlink_to(tmp_path / "roles" / role / folder)
        templates = sorted(map(str, (tmp_path / "roles" / role / "templates").glob("*.j2")))
        here = {"ansible_connection": "local", "ansible_python_interpreter": sys.executable}
        # Nobody answers there.
        nowhere = {"ansible_connection": "ssh", "ansible_host": "127.0.0.1", "ansible_port": 1}
        play = {
            "hosts": "all",
            "gather_facts": False,
            "vars": json.loads(json.dumps(INPUTS[role]).replace("FOLDER", str(tmp_path))),
            "tasks": [
                {
                    "name": "Render the templates",
                    "ansible.builtin.debug": {"msg": "{{ lookup('ansible.builtin.template', __template) }}"},
                    "loop": templates,
                    "loop_control": {"loop_var": "__template"},
                    "when": "inventory_hostname == 'here'",
                    "vars": {**LEARNT, "role_path": str(tmp_path / "roles" / role)},
                },
                # Ansible reads it before the first task runs, and with it the plugins of the role and of its sisters.
                {
                    "import_role": {"name": role},
                    "when": "inventory_hostname == 'nowhere'",
                    "vars": {"ansible_facts": LEARNT["ansible_facts"]},
                },
            ],
        }
        (tmp_path / "hosts.json").write_text(json.dumps({"all": {"hosts": {"nowhere": nowhere, "here": here}}}))
        (tmp_path / "play.json").write_text(json.dumps([play]))
        done = subprocess.run(
            [str(PROGRAM), "--inventory", "hosts.json", "play.json"],
            cwd=tmp_path,
            env=environment,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        return done.stdout + done.stderr

    return run


def refusal(said: str, role: str) -> str:
    """Return why a role could not be applied, or nothing if it could."""
    recap = dict(re.findall(r"^(nowhere|here) +: (.*)$", said, re.MULTILINE))
    if not recap:
        return said
    judged = [task for task in TASK.findall(said) if task.startswith(f"{role} : validate |")]
    if "failed=0" in recap["here"] and "failed=0" in recap["nowhere"] and judged:
        return ""
    return said


@pytest.mark.thorough
@pytest.mark.parametrize("role", sorted(SISTERS))
def test_a_role_works_outside_this_repository(outside: Callable[..., str], role: str) -> None:
    """All of its tasks are understood, its input is taken, and its templates are rendered."""
    assert refusal(outside(role, SISTERS[role]), role) == ""


@pytest.mark.parametrize("role", ["flower", "memcached"])
def test_a_role_without_its_sisters_is_refused(outside: Callable[..., str], role: str) -> None:
    """The test above sees what a role lacks."""
    assert "the role 'systemd_unit' was not found" in refusal(outside(role, SISTERS[role] - {"systemd_unit"}), role)


def test_a_role_that_needs_a_filter_of_this_repository_is_refused(outside: Callable[..., str], tmp_path: Path) -> None:
    """The test above sees a filter that only the playbooks here have."""
    shutil.copytree(ROLES / "redis", tmp_path / "roles" / "redis")
    with (tmp_path / "roles/redis/templates/redis.conf.j2").open("a") as template:
        template.write("{{ [] | repeat_command }}\n")
    assert "repeat_command" in refusal(outside("redis", SISTERS["redis"]), "redis")


@pytest.mark.parametrize("role", sorted(SISTERS))
def test_a_role_names_its_sisters(role: str) -> None:
    """The roles that its tasks import are those that its README names."""
    imported: set[str] = set()
    for file in (ROLES / role).glob("tasks/*.yml"):
        for task in yaml.safe_load(file.read_text()):
            for module in ("ansible.builtin.import_role", "ansible.builtin.include_role"):
                imported |= {task[module]["name"]} if module in task else set()
    assert imported == SISTERS[role]
    readme = (ROLES / role / "README.md").read_text()
    assert [name for name in imported if f"`{name}`" not in readme] == []


@pytest.mark.parametrize("role", sorted(SISTERS))
def test_a_role_knows_nothing_of_this_repository(role: str) -> None:
    """No file of it has the name of this project or of its example, or a way into another folder of it."""
    found = [
        f"{path.relative_to(ROLES)}:{number}: {line}"
        for path in sorted((ROLES / role).rglob("*"))
        if path.is_file() and "__pycache__" not in path.parts
        for number, line in enumerate(path.read_text().splitlines(), 1)
        if OWN.search(line) and line != "  author: taskmill"
    ]
    assert found == []
