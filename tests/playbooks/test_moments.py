"""Faults at moments of a load: what comes of each, told by a play on this machine whose systemd is a script."""

from __future__ import annotations

import json
import os
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from wiring import landscape, play

#: Nobody answers there.
NOWHERE = {"ansible_host": "127.0.0.1", "ansible_port": 1, "ansible_connection": "ssh"}
SYSTEMCTL = """#!/bin/sh
case "$*" in
*MainPID*) echo {pid} ;;
*kill*) echo "no such unit" >&2; exit 3 ;;
esac
"""
JOURNALCTL = """#!/bin/sh
echo 'run folder {run}'
"""


@pytest.fixture
def load(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Yield the run's folder of a load that has published a message and goes on for ten seconds."""
    run, programs = tmp_path / "run", tmp_path / "bin"
    (run / "ids").mkdir(parents=True)
    (run / "ids" / "00-000.ids").write_text("1 red\n")
    programs.mkdir()
    with subprocess.Popen(["sleep", "10"]) as process:
        for name, text in {"systemctl": SYSTEMCTL, "journalctl": JOURNALCTL}.items():
            (programs / name).write_text(text.format(pid=process.pid, run=run))
            (programs / name).chmod(0o755)
        monkeypatch.setenv("PATH", f"{programs}:{os.environ['PATH']}")
        # It is to be gone when it has ended, as systemd's are.
        reaper = threading.Thread(target=process.wait)
        reaper.start()
        yield run
        process.kill()
        reaper.join()


def inject(folder: Path, hosts: dict[str, Any], *faults: tuple[str, float], **variables: Any) -> list[str]:
    """Inject these faults, each so many seconds after the first message; return what did not come to its end."""
    scenario = folder / "load.yml"
    scenario.write_text(json.dumps({"faults": [{"fault": name, "at": at} for name, at in faults]}))
    tasks: list[dict[str, Any]] = [
        {"include_role": {"name": "break", "tasks_from": "prepare-moments"}},
        {"include_role": {"name": "load_run", "tasks_from": "meanwhile"}},
        {"copy": {"content": "{{ load_run_undone | to_json }}", "dest": f"{folder}/undone"}},
    ]
    play(folder, landscape(hosts, load_scenario=str(scenario), **variables), tasks, "--limit", "client1")
    undone: list[str] = json.loads((folder / "undone").read_text())
    return undone


def test_each_fault_is_told_by_when_it_came_or_why_it_did_not(load: Path, tmp_path: Path) -> None:
    """In the order of their moments; one that fails leaves those after it alone."""
    before = time.time()
    faults = ("stop-result-store", 60), ("kill-worker", 0.5), ("restart-worker", 0), ("restart-broker", 1)
    undone = inject(tmp_path, {"client1": {}}, *faults)
    assert undone == [
        "kill-worker at 0.5 s failed after it began: no such unit",
        "stop-result-store at 60 s was not injected: the load had ended",
    ]
    came = json.loads((load / "injected.json").read_text())
    assert [(one["fault"], one["hosts"], one["failed"]) for one in came] == [
        ("restart-worker", ["client1"], ""),
        ("kill-worker", ["client1"], "no such unit"),
        ("restart-broker", ["client1"], ""),
        ("stop-result-store", ["client1"], "the load had ended"),
    ]
    assert [sorted(one["times"].get("client1", {})) for one in came] == [
        ["began", "over"],
        ["began"],
        ["began", "over"],
        [],
    ]
    assert before < float(came[0]["times"]["client1"]["began"]) < time.time()


@pytest.mark.thorough
@pytest.mark.usefixtures("load")
def test_a_host_that_is_not_reached_leaves_the_load_alone(tmp_path: Path) -> None:
    """The play goes on, on the client, and says which host it was."""
    [undone] = inject(tmp_path, {"broker1": NOWHERE, "client1": {}}, ("restart-broker", 0))
    assert undone.startswith("restart-broker at 0 s was not injected: broker1 was not reached: ")


def test_what_is_not_restored_is_told(load: Path, tmp_path: Path) -> None:
    """Whether the fault itself came to its end or not: somebody has to mend the host by hand."""
    known = [
        {"name": name, "title": name, "where": "broker", "moment": True, "inject": inject, "restore": restore}
        for name, inject, restore in (
            ("blocked", "true", "echo the rule is not there >&2; exit 4"),
            ("half-blocked", "echo no more rules >&2; exit 5", "echo none there >&2; exit 6"),
            ("unblocked", "echo no rules >&2; exit 7", "true"),
        )
    ]
    moments = [("blocked", 0), ("half-blocked", 0.1), ("unblocked", 0.2)]
    assert inject(tmp_path, {"client1": {}}, *moments, faults=known) == [
        "blocked at 0 s failed after it began: what it had changed is not restored: the rule is not there",
        "half-blocked at 0.1 s failed after it began: no more rules; what it had changed is not restored: none there",
        "unblocked at 0.2 s failed after it began: no rules",
    ]
    came = json.loads((load / "injected.json").read_text())
    assert [sorted(one["times"]["client1"]) for one in came] == [["began", "over"], ["began"], ["began"]]


@pytest.mark.thorough
def test_of_a_load_that_publishes_nothing_it_is_told_once(load: Path, tmp_path: Path) -> None:
    """Such as one that is refused; there is no folder then to write into."""
    (load / "ids" / "00-000.ids").unlink()
    undone = inject(tmp_path, {"client1": {}}, ("restart-worker", 0), ("kill-worker", 1))
    assert undone == ["the faults of the scenario were not injected: no message was published"]
    assert not (load / "injected.json").exists()
