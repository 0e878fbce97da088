"""The role celery_beat without a host: what it refuses, what it writes, and where it runs."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from ansible.parsing.dataloader import DataLoader

ROOT = Path(__file__).parents[2]
ROLE = ROOT / "roles" / "celery_beat"
RIGHT: dict[str, Any] = {
    "celery_beat_app": "shop",
    "celery_beat_directory": "/nowhere/src",
    "celery_beat_venv_path": "/nowhere/venv",
    "celery_beat_broker_url": "amqp://worker:not-to-be-seen@127.0.0.1/",
    "celery_beat_result_backend": "cache+memcached://127.0.0.1/",
}
BAD = [
    (
        {"celery_beat_scheduler": "a b"},
        (
            "celery_beat_scheduler: 'a b' names no class. Give MODULE:CLASS, such as "
            "django_celery_beat.schedulers:DatabaseScheduler, or leave it empty."
        ),
    ),
    (
        {"celery_beat_memory_max": "lots"},
        "celery_beat_memory_max: 'lots' is no size. Use one such as 512M or 10%, or infinity.",
    ),
    ({"celery_beat_ready_timeout": 0}, "celery_beat_ready_timeout: these are seconds, at least 1."),
    (
        {"celery_beat_environment": {"KEY": "not-to-be-seen\n2"}},
        (
            "celery_beat_environment: the name or the value of the variable 'KEY' cannot stand in a unit's environment "
            "file. Use letters, digits and '_' for the name, one line for the value."
        ),
    ),
    (
        {"celery_beat_environment": {"KEY": None}},
        (
            "celery_beat_environment: the value of the variable 'KEY' is no text. Write it in quotes ('' for an empty "
            "one), or leave the variable out."
        ),
    ),
    (
        {"celery_beat_environment": {"CELERY_BROKER_URL": "not-to-be-seen"}},
        "celery_beat_environment: CELERY_BROKER_URL is set by this role. Use the role's own setting.",
    ),
    (
        {"celery_beat_unit_options": {"MemoryMax": "1G"}},
        "celery_beat_unit_options: MemoryMax is no directive that confines beat. These are: UMask, ",
    ),
    (
        {"celery_beat_unit_options": {"UMask": "0027\nUser=root"}},
        (
            "celery_beat_unit_options: UMask has a value that a unit's file cannot hold. Use true or false, one line, "
            "a list of lines, or null to leave the directive out."
        ),
    ),
    (
        {"celery_beat_writable_paths": ["var/lib/shop"]},
        (
            "celery_beat_writable_paths: 'var/lib/shop' is no path that a unit's file can hold. Use one that begins "
            "with /, without spaces, quotes or percent signs."
        ),
    ),
]


@pytest.fixture(scope="module")
def refused(play_inputs: Callable[..., Any]) -> Callable[[dict[str, Any]], tuple[Any, str]]:
    """What became of every bad input."""
    done: Callable[[dict[str, Any]], tuple[Any, str]] = play_inputs(
        "celery_beat", RIGHT, [{**RIGHT, **wrong} for wrong, _ in BAD]
    )
    return done


@pytest.mark.parametrize(("wrong", "message"), BAD)
def test_bad_input_is_refused_before_anything_is_touched(
    refused: Callable[[dict[str, Any]], tuple[Any, str]], wrong: dict[str, Any], message: str
) -> None:
    """With the variable and what to give instead; no value of an environment is shown."""
    case, output = refused({**RIGHT, **wrong})
    assert message in case.refusal()
    assert "not-to-be-seen" not in output


def rendered(render: Callable[[Path, dict[str, Any]], str], template: str, **settings: Any) -> str:
    """Return a template of the role, rendered for a host with systemd 257."""
    host = {
        "role_path": str(ROLE),
        "systemd_unit_version": {"stdout": "systemd 257 (257.1)"},
        "__celery_beat_inspection": {"results": [{"stdout": json.dumps({"digests": {"/nowhere/venv": "0"}})}] * 2},
    }
    return render(ROLE / "templates" / template, {**RIGHT, **host, **settings})


def test_beat_is_confined_as_a_worker_is(render: Callable[[Path, dict[str, Any]], str], resolve: Any) -> None:
    """It has every line of the hardening that services share, and may write to its schedule's directory."""
    unit = rendered(render, "celery-beat.service.j2", celery_beat_writable_paths=["/srv/db"]).splitlines()
    assert set(resolve("{{ {} | systemd_hardening }}", {}).splitlines()) <= set(unit)
    assert [line for line in unit if line.startswith("ReadWritePaths=")] == [
        "ReadWritePaths=/var/lib/celery-beat",
        "ReadWritePaths=/srv/db",
    ]


def test_a_scheduler_is_an_option_of_beat(render: Callable[[Path, dict[str, Any]], str]) -> None:
    """Without one, the app's settings decide."""
    commands = [
        re.findall("^ExecStart=.* beat (.*)$", rendered(render, "celery-beat.service.j2", **given), re.MULTILINE)[0]
        for given in ({}, {"celery_beat_scheduler": "django_celery_beat.schedulers:DatabaseScheduler"})
    ]
    assert commands[0] == "--pidfile= --schedule=/var/lib/celery-beat/schedule --loglevel=info"
    assert commands[1] == f"{commands[0]} --scheduler=django_celery_beat.schedulers:DatabaseScheduler"


def test_beat_has_the_environment_of_the_app(render: Callable[[Path, dict[str, Any]], str], tmp_path: Path) -> None:
    """With signs that a shell and systemd would take for their own; the digest changes with it, and with TLS."""
    odd = "a \"b\" $HOME `id` \\ 'c' #d"
    tls = {"celery_beat_broker_url": "amqps://worker:x@127.0.0.1/", "celery_beat_broker_ca": "/nowhere/ca.pem"}
    tls["celery_beat_include"] = [str(ROOT / "app/src/taskmill_worker") + "/"]
    found = []
    for number, given in enumerate(({}, {"celery_beat_environment": {"ODD": odd}}, tls)):
        (tmp_path / str(number)).write_text(rendered(render, "celery-beat.env.j2", **given))
        command = ["env", "-i", "sh", "-c", f"set -a; . {tmp_path}/{number}; env -0"]
        entries = subprocess.run(command, capture_output=True, text=True, check=True).stdout.split("\0")
        found.append(dict(entry.split("=", 1) for entry in entries if entry))
    assert found[1]["ODD"] == odd
    assert found[0]["CELERY_BROKER_URL"] == RIGHT["celery_beat_broker_url"]
    assert "CELERY_BEAT_INCLUDE" not in found[0]
    assert found[2]["CELERY_BEAT_INCLUDE"] == "broker_tls taskmill_worker"
    assert found[2]["CELERY_BROKER_CA"] == "/etc/celery/broker-ca.pem"
    assert len({one["CELERY_WORKER_DIGEST"] for one in found}) == 3


@pytest.mark.parametrize(
    ("given", "running"),
    [
        ({}, []),
        ({"app_beat": True}, ["worker1"]),
        ({"app_beat": True, "beat_host": "worker2"}, ["worker2"]),
    ],
)
def test_one_host_alone_runs_beat(resolve: Any, given: dict[str, Any], running: list[str]) -> None:
    """The first worker host unless the inventory names another; nobody where the app wants none."""
    wiring = DataLoader().load_from_file(str(ROOT / "playbooks/group_vars/all/beat.yml"), trusted_as_template=True)
    hosts = ["worker1", "worker2"]
    states = {
        host: resolve(
            "{{ celery_beat_state }}", {**wiring, "cluster_workers": hosts, "inventory_hostname": host, **given}
        )
        for host in hosts
    }
    assert [host for host, state in states.items() if state == "present"] == running


def test_beat_is_removed_elsewhere_before_it_starts() -> None:
    """All hosts do a step before any does the next, so the steps' order and one play for all of them are enough."""
    steps = [step["ansible.builtin.import_tasks"] for step in yaml.safe_load((ROLE / "tasks/main.yml").read_text())]
    assert steps == ["validate.yml", "remove.yml", "configure.yml", "service.yml"]
    for book in ("site.yml", "deploy.yml"):
        plays = yaml.safe_load((ROOT / "playbooks" / book).read_text())
        [play] = [play for play in plays if "celery_beat" in [role["role"] for role in play.get("roles", [])]]
        assert "serial" not in play
        assert "strategy" not in play


@pytest.mark.parametrize("role", ["celery_beat", "celery_worker"])
def test_what_waits_for_it_is_a_program(resolve: Any, role: str) -> None:
    """The causes stand before it, on the same stdin, as a host's Python reads them."""
    folder = ROLE.parent / role
    own = DataLoader().load_from_file(str(folder / "vars/main.yml"), trusted_as_template=True)
    program = resolve(own[f"__{role}_watch_program"], {**RIGHT, **own, "role_path": str(folder)})
    compile(program, "stdin", "exec")
    assert program.index("def explain_cause(") < program.index("def wait(")
