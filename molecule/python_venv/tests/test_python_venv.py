"""The environments that python_venv left, lock by lock: side_effect.yml gave it a second, a broken and a last one."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import Any

import pytest

PYTHON = "/opt/scenario/venv/bin/python"


@dataclass
class Moment:
    """Which environment was in use, which ones there were, and what else was said."""

    in_use: str
    kept: set[str]
    said: list[str]


@pytest.fixture
def moments(host: Any) -> dict[str, Moment]:
    """What was noted after each lock."""
    noted = json.loads(host.file("/root/environments.json").content_string)
    return {
        name: Moment(lines[0], {line for line in lines[1:] if line.startswith("cpython-")}, lines[1:])
        for name, lines in noted.items()
    }


def now(host: Any) -> Moment:
    """Return what there is at last."""
    kept = host.check_output("ls /opt/scenario/venv.d").split()
    return Moment(host.check_output("basename $(readlink /opt/scenario/venv)"), set(kept), kept)


def test_the_first_lock_brings_one_environment(moments: dict[str, Moment]) -> None:
    """The link points at it, and there is nothing else."""
    assert moments["first"].kept == {moments["first"].in_use}


def test_a_changed_lock_builds_another_beside_the_one_before(moments: dict[str, Moment]) -> None:
    """The new one is in use; the one before stays, for processes that still import from it."""
    assert moments["second"].in_use != moments["first"].in_use
    assert moments["second"].kept == {moments["first"].in_use, moments["second"].in_use}


def test_a_lock_that_cannot_be_installed_leaves_the_one_in_use_at_work(moments: dict[str, Moment]) -> None:
    """The link is where it was, and the interpreter imports what it did."""
    assert moments["broken"].in_use == moments["second"].in_use
    assert moments["broken"].said[-1] == "vine"


def test_the_next_change_removes_what_the_broken_one_left(host: Any, moments: dict[str, Moment]) -> None:
    """What is in use and what was before it remain; the first one and the broken one are gone."""
    unfinished = moments["broken"].kept - moments["second"].kept
    assert len(unfinished) == 1
    last = now(host)
    assert last.in_use not in moments["broken"].kept
    assert last.kept == {moments["second"].in_use, last.in_use}


def test_the_interpreter_imports_what_was_asked_for_and_no_more(host: Any) -> None:
    """The last lock's packages, in their versions; not the one that only an earlier lock had."""
    code = "import six, click; from importlib.metadata import version; print(version('six'), version('click'))"
    installed = host.check_output(f"{PYTHON} -c %s", code).split()
    written = host.file("/opt/scenario/venv/requirements.txt").content_string
    assert installed == [re.findall(rf"^{name}==(\S+)", written, re.MULTILINE)[0] for name in ("six", "click")]
    assert "ModuleNotFoundError" in host.run(f"{PYTHON} -c 'import vine'").stderr


def test_the_interpreter_is_the_distributions(host: Any) -> None:
    """The environment is made with the host's own python3, as nothing else was asked for."""
    assert host.file(PYTHON).linked_to == host.file("/usr/bin/python3").linked_to


def test_everybody_reads_the_environment_and_root_alone_writes(host: Any) -> None:
    """A service imports from it and cannot change its own code."""
    nobody = "cd / && setpriv --reuid=nobody --regid=nogroup --clear-groups"
    assert host.check_output(f"{nobody} {PYTHON} -c 'import six; print(six.__name__)'") == "six"
    assert host.check_output(f"{nobody} find /opt/scenario ! -type l -writable") == ""
    assert host.check_output("find /opt/scenario ! -user root") == ""


@pytest.mark.parametrize(("environment", "modules"), [("by-requirements", "purse"), ("by-wheel", "till, purse")])
def test_what_a_private_index_has_is_installed_and_its_password_is_gone(
    host: Any, environment: str, modules: str
) -> None:
    """By requirements, and by what a wheel says that it needs; the password is in no file that is left."""
    assert host.check_output(f"/opt/scenario/{environment}/bin/python -c 'import {modules}; print(1)'") == "1"
    served = host.check_output("journalctl --quiet --no-pager --output=cat --unit=index")
    assert '"GET /simple/purse/ HTTP/1.1" 200' in served
    assert host.run("grep --recursive --files-with-matches -e '7#q?w' -e '7%23q' /opt /etc /root").stdout == ""
