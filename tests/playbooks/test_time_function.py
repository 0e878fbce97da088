"""The unit that times the app's function on a worker host, without a host."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import wiring
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
