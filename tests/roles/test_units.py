"""Every unit file, as each systemd gets it: nothing that it does not know, and nothing left out that it does."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import python_file
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
    "TimeoutStartSec",
    "TimeoutStopSec",
    "Type",
    "UMask",
    "User",
    "Wants",
    "WantedBy",
    "WorkingDirectory",
}


def load(name: str) -> ModuleType:
    """Return one of the filter plugins of the role systemd_unit."""
    return python_file.load(ROOT / "roles/systemd_unit/filter_plugins" / f"{name}.py")


@pytest.fixture(scope="module")
def plugin() -> ModuleType:
    """The filter that leaves out what a systemd does not know."""
    return load("for_systemd")


@pytest.fixture(scope="module")
def hardening() -> ModuleType:
    """The filter that writes what confines a service."""
    return load("systemd_hardening")


@pytest.fixture(scope="module")
def rendered(render: Callable[[Path, dict[str, Any]], str]) -> Callable[[Path], dict[int, str]]:
    """Return a function that renders a template for each systemd."""

    def for_each(template: Path) -> dict[int, str]:
        role = template.parents[1].name
        variables: dict[str, Any] = {f"{role}_{name}": f"/{name}" for name in ("app", "directory", "venv_path")}
        variables |= {"__flower_environment": "/opt/flower/venv", "item": {"memory_max": "1G"}}
        variables |= {"celery_worker_writable_paths": ["/srv"], "host_stats_broker_api_url": ""}
        variables |= {f"load_run_baseline_{name}": f"/{name}" for name in ("environment_file", "working_directory")}
        variables |= {"load_run_baseline_user": "celery", "load_run_baseline_memory_max": "80%"}
        variables |= {"load_run_baseline_writable_paths": ["/srv"], "load_run_baseline_unit_options": {}}
        said = {version: {"stdout": f"systemd {version} ({version}.1)\n+PAM"} for version in VERSIONS}
        return {version: render(template, {**variables, "systemd_unit_version": said[version]}) for version in VERSIONS}

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


def test_what_confines_a_service_is_written_once(hardening: ModuleType) -> None:
    """No unit repeats a directive of the filter, and every service of ours that runs for long is confined by it."""
    repeated = {path.name: set(directives(path.read_text())) & set(hardening.FULL) for path in UNITS}
    assert {name: names for name, names in repeated.items() if names} == {}
    confined = {path.parents[1].name for path in UNITS if "| systemd_hardening" in path.read_text()}
    assert confined >= {"celery_worker", "flower", "host_stats", "memcached", "rabbitmq", "redis"}


def test_a_service_has_its_own_value_in_the_place_of_the_common_one(hardening: ModuleType) -> None:
    """Another value, several lines, none at all, or a directive that the others do not have."""
    own = {"UMask": "0027", "SystemCallFilter": ["@a", "~@b"], "PrivateUsers": None, "ProcSubset": "pid"}
    lines = hardening.systemd_hardening(own).splitlines()
    common = hardening.systemd_hardening({}).splitlines()
    changed = ("UMask", "SystemCallFilter", "PrivateUsers", "ProcSubset")
    assert [line for line in lines if line.startswith(changed)] == [
        "UMask=0027",
        "SystemCallFilter=@a",
        "SystemCallFilter=~@b",
        "ProcSubset=pid",
    ]
    assert [line for line in lines if not line.startswith(changed)] == [
        line for line in common if not line.startswith(changed)
    ]


def test_the_basic_level_is_a_part_of_the_full_one(hardening: ModuleType) -> None:
    """A program that looks at the whole host keeps no capability, and cannot write."""
    basic = set(hardening.systemd_hardening({}, "basic").splitlines())
    assert basic < set(hardening.systemd_hardening({}).splitlines())
    assert {"CapabilityBoundingSet=", "NoNewPrivileges=yes", "ProtectSystem=strict"} <= basic


@pytest.mark.parametrize(("own", "level"), [({}, "some"), (["UMask=0027"], "full")])
def test_a_hardening_that_is_none_is_an_error(hardening: ModuleType, own: Any, level: str) -> None:
    """Another level, or directives that are no dictionary, are named."""
    with pytest.raises(AnsibleFilterError, match="full, basic"):
        hardening.systemd_hardening(own, level)
