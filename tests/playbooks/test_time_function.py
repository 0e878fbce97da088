"""The unit that times the app's function on a worker host, without a host."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import wiring
import yaml
from ansible_playbook import ROOT

EVERYWHERE = {
    "User=celery",
    "EnvironmentFile=/etc/celery/w1.env",
    "WorkingDirectory=/opt/fibonacci/src",
    "NoNewPrivileges=yes",
    "CapabilityBoundingSet=",
    "PrivateTmp=yes",
}
#: What the unit says beside that, by the version of the host's systemd.
DIRECTIVES = {
    257: {"ProtectSystem=strict", "ReadWritePaths=/run/taskmill-baseline", "MemoryMax=80%"},
    229: {"ProtectSystem=full", "ReadWriteDirectories=/run/taskmill-baseline"},
}


@pytest.fixture(scope="module")
def units(tmp_path_factory: pytest.TempPathFactory) -> dict[int, set[str]]:
    """Return the lines of the unit, by the version of the host's systemd."""
    folder = tmp_path_factory.mktemp("units")
    tasks = [
        {
            "template": {
                "src": str(ROOT / "roles/load_run/templates/taskmill-baseline.service.j2"),
                "dest": f"{folder}/{version}",
            },
            "vars": {"systemd_unit_version": {"stdout": f"systemd {version} ({version}.1)"}},
        }
        for version in DIRECTIVES
    ]
    # Only its filters are needed here, which Ansible loads with the play.
    tasks.append({"import_role": {"name": "systemd_unit"}, "when": False})
    where = {
        "__load_run_directory": "/run/taskmill-baseline",
    }
    wiring.play(folder, wiring.landscape({"one": {}}), tasks, **where)
    return {version: set((folder / str(version)).read_text().splitlines()) for version in DIRECTIVES}


@pytest.mark.parametrize("version", sorted(DIRECTIVES))
def test_the_function_is_closed_in_as_far_as_systemd_can(units: dict[int, set[str]], version: int) -> None:
    """The worker's user, its environment file and its confinement; on Ubuntu 16.04 by what that systemd has."""
    assert (EVERYWHERE | DIRECTIVES[version]) - units[version] == set()


def test_the_function_is_closed_in_like_a_worker(
    units: dict[int, set[str]], render: Callable[[Path, dict[str, Any]], str]
) -> None:
    """Every directive by which a worker's unit takes something away is in this one, too."""
    template = Path(ROOT / "roles/celery_worker/templates/celery-worker@.service.j2")
    known = {f"celery_worker_{name}": f"/{name}" for name in ("app", "directory")}
    unit = render(template, {**known, "systemd_unit_version": {"stdout": "systemd 257 (257.1)"}})
    takes_away = {
        line for line in unit.splitlines() if line.startswith(("Protect", "Private", "Restrict", "SystemCall"))
    }
    assert len(takes_away) > 15
    assert takes_away - units[257] == set()


SECRET = "not-to-be-seen"
ENVIRONMENT = f"""CELERY_BROKER_URL="amqp://worker:{SECRET}%40@10.0.0.5/shop"
SIGNING_KEY="{SECRET}\\"2"
REGION="eu"
"""
#: Of an app, and of systemd where it ended the function.
SAID = f'In eu {SECRET}@ and {SECRET}"2 are refused by postgres://u:{SECRET}@db/x, h\u00e9las.'
SHOWN = "In eu *** and *** are refused by postgres://u:***@db/x, h\u00e9las."


@pytest.fixture
def timed(tmp_path: Path) -> Callable[[str], subprocess.CompletedProcess[str]]:
    """Return a function that times a function as on a host, where `systemctl start` does what the given shell does."""
    tasks = yaml.safe_load((ROOT / "roles/load_run/tasks/measure-baseline.yml").read_text())
    [run] = [task for block in tasks for task in block.get("block", []) if "ansible.builtin.shell" in task]
    command = run["ansible.builtin.shell"]["cmd"].replace(
        "{{ lookup('ansible.builtin.template', 'taskmill-baseline.service.j2') }}", "of a unit"
    )
    (tmp_path / "w1.env").write_text(ENVIRONMENT)
    (tmp_path / "roles").symlink_to(ROOT / "roles")
    wiring.play(
        tmp_path,
        wiring.landscape({"one": {}}),
        [{"copy": {"content": "{{ command }}", "dest": f"{tmp_path}/command"}}],
        command=command.replace("/run/systemd/system", str(tmp_path)),
        load_run_baseline_environment_file=f"{tmp_path}/w1.env",
        load_run_baseline_user="root",
        ansible_facts={"python": {"executable": sys.executable}},
        __load_run_directory=f"{tmp_path}/at",
        __load_run_command=["true"],
    )

    def time(script: str) -> subprocess.CompletedProcess[str]:
        (tmp_path / "bin").mkdir()
        systemctl = tmp_path / "bin/systemctl"
        systemctl.write_text(f"#!/bin/sh\nat={tmp_path}/at\ncase $1 in\n{script}\nesac\n")
        systemctl.chmod(0o755)
        environment = {**os.environ, "PATH": f"{tmp_path}/bin:{os.environ['PATH']}", "SAID": SAID}
        return subprocess.run(
            ["sh", tmp_path / "command"], input="", env=environment, capture_output=True, text=True, check=False
        )

    return time


def test_what_the_app_says_is_shown_without_its_secrets(
    timed: Callable[[str], subprocess.CompletedProcess[str]],
) -> None:
    """As the log of a worker is, whose environment the function has."""
    done = timed('start) echo "{}" > $at/out; echo "$SAID" > $at/err; echo 1 > $at/code ;;')
    assert (done.returncode, done.stdout, done.stderr) == (1, "{}\n", f"{SHOWN}\n")


def test_what_systemd_shows_of_the_function_is_without_its_secrets(
    timed: Callable[[str], subprocess.CompletedProcess[str]],
) -> None:
    """The last lines of its log are among it."""
    done = timed('status) echo "$SAID"; echo "$SAID" >&2; exit 3 ;;')
    assert (done.returncode, done.stdout) == (3, "")
    assert done.stderr.splitlines() == [
        "The function did not end by itself. What systemd says of its unit:",
        SHOWN,
        SHOWN,
    ]
