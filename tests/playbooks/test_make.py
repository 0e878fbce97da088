"""How make runs Ansible: in a locale that it takes, with this checkout's settings, and with what the user hands on."""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from ansible_playbook import PROGRAM as ANSIBLE
from ansible_playbook import ROOT

LOCK = "/run/lock/taskmill-tests"
Made = tuple[list[dict[str, Any]], str]

#: Stands in for ansible-playbook: writes down what it is called with and, where asked to, how Ansible itself starts.
PROGRAM = f"""#!{sys.executable}
import json, os, subprocess, sys
call = {{"arguments": sys.argv[1:]}}
if "START" in os.environ:
    done = subprocess.run(["{ANSIBLE}", "--version"], capture_output=True, text=True)
    call.update(starts=done.returncode == 0, says=done.stdout + done.stderr)
with open(os.environ["CALLS"], "a") as calls:
    print(json.dumps(call), file=calls)
"""


@pytest.fixture
def make(tmp_path: Path) -> Callable[..., Made]:
    """Return a function that runs make in a checkout, and returns each call of ansible-playbook and what make wrote."""
    environment = tmp_path / "venv"
    (environment / "bin").mkdir(parents=True)
    (environment / "bin" / "python").symlink_to(sys.executable)
    for name in ("ansible-playbook", "taskmill"):
        program = environment / "bin" / name
        program.write_text(PROGRAM)
        program.chmod(0o755)

    def run(*arguments: str, checkout: Path = ROOT, **variables: str) -> Made:
        (environment / "controller").touch()
        calls = tmp_path / "calls"
        calls.write_text("")
        names = ("LANG", "LC_", "ANSIBLE", "MAKE", "INVENTORY", "ARGS", "RELEASE", "STACK")
        kept = {name: value for name, value in os.environ.items() if not name.startswith(names)}
        done = subprocess.run(
            ["make", f"VENV={os.path.relpath(environment, checkout)}", *arguments],
            cwd=checkout,
            env={**kept, "LANG": "C.UTF-8", "CALLS": str(calls), **variables},
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return [json.loads(line) for line in calls.read_text().splitlines()], done.stdout + done.stderr

    return run


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A checkout of one's own, as far as make looks at it."""
    checkout = tmp_path / "checkout"
    (checkout / "app").mkdir(parents=True)
    for name in ("Makefile", "ansible.cfg", "app/pyproject.toml"):
        shutil.copy(ROOT / name, checkout / name)
    shutil.copytree(ROOT / "requirements", checkout / "requirements")
    return checkout


@pytest.mark.parametrize(
    "locale",
    [
        {"LANG": "en_XX.UTF-8"},
        {"LC_ALL": "C"},
        {"LC_ALL": "xx_YY"},
        {"LANG": "C"},
        {"LANG": "POSIX", "LC_CTYPE": "C.UTF-8", "LC_TIME": "xx_YY"},
    ],
    ids=lambda locale: " ".join("=".join(pair) for pair in locale.items()),
)
def test_ansible_starts_in_any_locale(make: Callable[..., Made], locale: dict[str, str]) -> None:
    """One that the machine does not have, or that is not UTF-8, is replaced, and nothing complains of it."""
    calls, said = make("site", START="yes", **locale)
    assert [(call["starts"], call["says"][:16]) for call in calls] == [(True, "ansible-playbook")]
    assert "locale" not in said


def test_a_locale_that_will_do_stays(make: Callable[..., Made]) -> None:
    """What Ansible starts in anyway is the user's choice."""
    _, said = make("--eval", 'show:\n\t@echo "<$${LC_ALL-unset} $$LANG>"', "show", LANG="C.UTF-8")
    assert "<unset C.UTF-8>" in said


def test_this_checkouts_settings_are_read(make: Callable[..., Made], checkout: Path) -> None:
    """In a folder that everyone may write to, and where another file is named, which Ansible alone goes by."""
    checkout.chmod(0o777)
    for variables in ({}, {"ANSIBLE_CONFIG": "/etc/ansible/other.cfg"}):
        calls, _ = make("site", checkout=checkout, START="yes", **variables)
        assert f"config file = {checkout}/ansible.cfg" in calls[0]["says"]


@pytest.mark.parametrize(
    ("target", "playbooks"),
    [
        ("load", ["site.yml", "run-load.yml"]),
        ("capacity", ["site.yml", "playbooks/capacity.yml"]),
        ("tune", ["site.yml", "playbooks/tune.yml"]),
        ("benchmark", ["benchmarks/task-queues.yml"]),
        ("lab-down", ["playbooks/lab-down.yml"]),
    ],
)
def test_every_play_gets_the_users_options(make: Callable[..., Made], target: str, playbooks: list[str]) -> None:
    """As the shell reads them: with quotes, and a variable of the shell."""
    options = "-K --limit w1 --vault-id 'prod@my file' -e \"x=$HOME\" --check -v"
    calls, _ = make(target, f"ARGS={options}", HOME="/home/me")
    wanted = ["-K", "--limit", "w1", "--vault-id", "prod@my file", "-e", "x=/home/me", "--check", "-v"]
    assert [[word for word in call["arguments"] if word in playbooks] for call in calls] == [[one] for one in playbooks]
    for call in calls:
        began = call["arguments"].index("-K")
        assert call["arguments"][began : began + len(wanted)] == wanted


def test_help_tells_of_the_options(make: Callable[..., Made]) -> None:
    """With the example for a vault."""
    _, said = make("help")
    assert "ARGS='-K --limit worker1 --check -v'" in said
    assert "ARGS=--ask-vault-pass" in said


@pytest.mark.parametrize("value", ["it's mine", 'a "b" c', "a,b (c)", "a\\b $x `y` #z", "completed_per_s>=500,p99<60"])
def test_an_option_arrives_as_it_was_given(make: Callable[..., Made], value: str) -> None:
    """Whatever the shell, make or YAML would make of it; options that are not given say nothing."""
    calls, _ = make("load", f"NAME={value}", f"REQUIRE={value}", "TASKS=20", "RELEASE=celery31")
    for call in calls:
        words = call["arguments"]
        given = [json.loads(word) for option, word in pairwise(words) if option == "-e"]
        assert given == [
            {"load_tasks": "20"},
            {"load_name": value},
            {"load_thresholds": value},
            {"celery_release": "celery31"},
        ]
        assert words[words.index("-i") + 1] == "inventory/lab-celery31"


def test_an_inventory_of_ones_own(make: Callable[..., Made]) -> None:
    """App, hosts and further options go to taskmill inspect as they were given; without hosts, it is the lab."""
    app, hosts = "../it's mine", "broker=10.0.0.1 worker=10.0.0.2"
    calls, _ = make("new", "INVENTORY=inventory/mine", f"APP={app}", f"HOSTS={hosts}", "ARGS=--python 'my env'")
    written = ["inspect", app, "--inventory", "inventory/mine"]
    assert [call["arguments"] for call in calls] == [[*written, "--hosts", hosts, "--python", "my env"]]
    calls, _ = make("new", "INVENTORY=inventory/mine", f"APP={app}")
    assert [call["arguments"] for call in calls] == [[*written, "--like", "inventory/lab"]]


@pytest.mark.parametrize("given", ["INVENTORY=inventory/mine", "APP=../shop"])
def test_a_new_inventory_wants_an_app_and_a_place(given: str) -> None:
    """Before anything is begun."""
    command = ["make", "new", given, "--assume-old=.venv/controller"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode != 0
    assert done.stderr.rstrip().endswith(
        "say which app, and where to: make new INVENTORY=inventory/mine APP=../shop.  Stop."
    )


@pytest.mark.parametrize(("old", "new"), [("post2017", "RELEASE=celery31"), ("modern", "RELEASE=celery5")])
def test_the_old_name_of_a_release_is_refused_with_the_new_one(old: str, new: str) -> None:
    """Before anything is begun."""
    done = subprocess.run(["make", "load", f"STACK={old}"], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode != 0
    assert "STACK= is called RELEASE= now" in done.stderr
    assert done.stderr.rstrip().endswith(f"{new}.  Stop.")


def test_options_of_a_search_go_to_the_search(make: Callable[..., Made]) -> None:
    """The name in make is the same for a search and for tuning, the variable is not."""
    for target, prefix in (("capacity", "capacity"), ("tune", "tune")):
        calls, _ = make(target, "ROUNDS=2", "BUDGET=60")
        assert [word for word in calls[-1]["arguments"] if word.startswith("{")] == [
            f'{{"{prefix}_budget": "60"}}',
            f'{{"{prefix}_rounds": "2"}}',
        ]
        assert not any(word.startswith("{") for word in calls[0]["arguments"])


def test_one_scenario_is_not_driven_beside_the_suite(tmp_path: Path) -> None:
    """It holds the lock of tests/suite.py while it runs, and is refused while another one holds it, with its words."""
    assert f'LOCK = Path("{LOCK}")' in (ROOT / "tests/suite.py").read_text()
    assert f"\nSUITE_LOCK := {LOCK}\n" in (ROOT / "Makefile").read_text()
    lock, molecule = tmp_path / "lock", tmp_path / "molecule"
    molecule.write_text(f'#!/bin/sh\nflock --nonblock {lock} true && exit 1\necho "$MOLECULE_DISTRO $*"\n')
    molecule.chmod(0o755)

    def test_role() -> subprocess.CompletedProcess[str]:
        command = ["make", "test-rabbitmq@bookworm", f"SUITE_LOCK={lock}", f"PATH={tmp_path}:{os.environ['PATH']}"]
        quietly = ["--assume-old=.venv/dev", "--no-print-directory"]
        return subprocess.run([*command, *quietly], cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)

    done = test_role()
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "bookworm test --scenario-name rabbitmq"
    assert f", in {ROOT}" in lock.read_text()
    with lock.open("w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        held.write("process 7, elsewhere")
        held.flush()
        refused = test_role()
    assert refused.returncode != 0
    assert "whose hosts have the same addresses: process 7, elsewhere" in refused.stderr
    assert "test --scenario-name" not in refused.stdout


@pytest.mark.parametrize(("given", "arguments"), [("20", [20]), ('1.5, "it\'s"', [1.5, "it's"])])
def test_what_tasks_are_called_with_is_handed_on(make: Callable[..., Made], given: str, arguments: list[Any]) -> None:
    """A number, or several values; without N nothing is said of it."""
    calls, _ = make("load", f"N={given}")
    for call in calls:
        words = call["arguments"]
        said = [json.loads(value) for option, value in pairwise(words) if option == "-e"]
        assert {"app_arguments": arguments} in said
    calls, _ = make("load")
    assert calls
    assert not [call for call in calls if "app_arguments" in str(call)]
