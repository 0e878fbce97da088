"""Every unit file, as each systemd gets it: nothing that it does not know, and nothing left out that it does."""

from __future__ import annotations

import importlib.util
import re
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from ansible.errors import AnsibleFilterError

ROOT = Path(__file__).parents[2]
UNITS = sorted(path for path in ROOT.glob("roles/*/templates/*.j2") if "for_systemd" in path.read_text())
#: Ubuntu 16.04, Debian 11, 12 and 13.
VERSIONS = (229, 247, 252, 257)
#: What systemd 229 has of what our units say, from its manual pages.
KNOWN_TO_229 = {
    "After",
    "AmbientCapabilities",
    "Before",
    "CapabilityBoundingSet",
    "Conflicts",
    "DefaultDependencies",
    "Description",
    "Documentation",
    "Environment",
    "EnvironmentFile",
    "ExecReload",
    "ExecStart",
    "ExecStartPre",
    "ExecStop",
    "Group",
    "KillMode",
    "LimitNOFILE",
    "MemoryLimit",
    "Nice",
    "NoNewPrivileges",
    "PartOf",
    "PrivateDevices",
    "PrivateTmp",
    "ProtectHome",
    "ProtectSystem",
    "ReadWriteDirectories",
    "RemainAfterExit",
    "Restart",
    "RestartSec",
    "RestrictAddressFamilies",
    "RuntimeMaxSec",
    "StandardOutput",
    "StartLimitBurst",
    "StartLimitInterval",
    "SystemCallArchitectures",
    "SystemCallErrorNumber",
    "TimeoutStopSec",
    "Type",
    "UMask",
    "User",
    "Wants",
    "WantedBy",
    "WorkingDirectory",
}


@pytest.fixture(scope="module")
def plugin() -> ModuleType:
    """The filter plugin."""
    spec = importlib.util.spec_from_file_location("for_systemd", ROOT / "plugins" / "filter" / "systemd.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def rendered(render: Callable[[Path, dict[str, Any]], str]) -> Callable[[Path], dict[int, str]]:
    """Return a function that renders a template for each systemd."""

    def for_each(template: Path) -> dict[int, str]:
        role = template.parents[1].name
        variables: dict[str, Any] = {f"{role}_{name}": f"/{name}" for name in ("app", "directory", "virtualenv")}
        variables |= {"__flower_environment": "/opt/flower/venv", "item": {"memory_max": "1G"}}
        variables |= {"celery_worker_writable_paths": ["/srv"], "host_stats_broker_api_url": ""}
        variables |= {f"load_run_baseline_{name}": f"/{name}" for name in ("environment_file", "working_directory")}
        variables |= {"load_run_baseline_user": "celery", "load_run_baseline_memory_max": "80%"}
        variables |= {"load_run_baseline_writable_paths": ["/srv"]}
        said = {version: {"stdout": f"systemd {version} ({version}.1)\n+PAM"} for version in VERSIONS}
        return {version: render(template, {**variables, f"__{role}_systemd": said[version]}) for version in VERSIONS}

    return for_each


def directives(text: str) -> list[str]:
    """Return the names of a unit's directives."""
    return re.findall(r"^([A-Za-z]+)=", text, re.MULTILINE)


def test_every_unit_goes_through_the_filter() -> None:
    """No service of ours, and no piece of one, is handed to a systemd unseen, but for two that 229 knows all of."""
    units = {path for path in ROOT.glob("roles/*/templates/*") if re.search(r"\.(service|socket|conf)\b", path.name)}
    plain = {path for path in units if re.search(r"^\[(Service|Socket)\]$", path.read_text(), re.MULTILINE)} - {*UNITS}
    assert {name for path in plain for name in directives(path.read_text())} <= KNOWN_TO_229 | {"ListenStream"}
    assert len(UNITS) >= 4


@pytest.mark.parametrize("template", UNITS, ids=lambda path: path.name)
def test_a_unit_has_what_its_systemd_knows(
    rendered: Callable[[Path], dict[int, str]], plugin: ModuleType, template: Path
) -> None:
    """229 gets only what its manual has, and no newer value; 247 and later get every directive of the template."""
    texts = rendered(template)
    assert set(directives(texts[229])) <= KNOWN_TO_229
    assert not re.search(r"^(Type=exec|ProtectSystem=strict|SystemCallFilter=.*@.*)$", texts[229], re.MULTILINE)
    assert directives(texts[247]) == directives(texts[252]) == directives(texts[257])
    assert set(directives(texts[257])) <= set(plugin.SINCE)
    assert len(directives(texts[257])) >= len(re.findall(r"^[A-Za-z]+=", template.read_text(), re.MULTILINE))


def test_what_protects_a_worker_is_kept_in_its_older_form(rendered: Callable[[Path], dict[int, str]]) -> None:
    """On systemd 229 the worker's bounds and its read-only file system stand under their older names."""
    text = rendered(ROOT / "roles" / "celery_worker" / "templates" / "celery-worker@.service.j2")[229]
    for line in ("Type=simple", "MemoryLimit=80%", "ProtectSystem=full", "ReadWriteDirectories=/srv"):
        assert f"\n{line}\n" in text
    assert "\nStartLimitInterval=300\n" in text.split("[Service]")[0]


@pytest.mark.parametrize(
    ("line", "version", "written"),
    [
        ("ProtectClock=yes", 244, ""),
        ("ProtectClock=yes", 245, "ProtectClock=yes\n"),
        ("Type=exec", 239, "Type=simple\n"),
        ("Type=exec", 240, "Type=exec\n"),
        ("MemoryMax=4G", 230, "MemoryLimit=4G\n"),
        ("Environment=A=1 Type=exec", 229, "Environment=A=1 Type=exec\n"),
        ("# ProtectClock=yes", 229, "# ProtectClock=yes\n"),
    ],
)
def test_a_directive_comes_with_the_version_that_brought_it(
    plugin: ModuleType, line: str, version: int, written: str
) -> None:
    """One version before, it is left out or has its older form."""
    assert plugin.for_systemd(line, f"systemd {version}") == written


@pytest.mark.parametrize(("line", "version"), [("PrivateBeers=yes", "systemd 257"), ("Type=exec", "no systemd")])
def test_what_is_not_known_is_an_error(plugin: ModuleType, line: str, version: str) -> None:
    """A directive that the table lacks, and a version that is none, are said, not guessed."""
    with pytest.raises(AnsibleFilterError):
        plugin.for_systemd(line, version)
