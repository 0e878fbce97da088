"""What break-things.yml found and left; its own verdicts it has judged itself."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
import yaml
from testinfra.host import Host

SCENARIO = Path(os.environ["MOLECULE_EPHEMERAL_DIRECTORY"])
PROJECT = Path(os.environ["MOLECULE_PROJECT_DIRECTORY"])
FAULTS = yaml.safe_load((PROJECT / "playbooks/group_vars/all/faults.yml").read_text())["faults"]
[PLAY] = [
    play
    for play in yaml.safe_load((PROJECT / "molecule/faults/side_effect.yml").read_text())
    if "halves" in play.get("vars", {})
]
#: The faults that are looked at: those of this scenario, or what the variable names, for whoever works on one.
ASKED = os.environ.get("FAULT", "")
HALF = ASKED.split(",") if ASKED else PLAY["vars"]["halves"][os.environ["MOLECULE_SCENARIO_NAME"]]
testinfra_hosts = ["worker1", "worker2"]


@pytest.fixture(scope="module")
def verdicts() -> dict[str, dict[str, Any]]:
    """The verdicts of the newest recording by fault, those of the controls by `FAULT-control`."""
    folder = max((SCENARIO / "runs").glob("*-faults"))
    found = [json.loads(path.read_text()) for path in folder.glob("*/fault.json")]
    return {one["fault"] + ("-control" if one["control"] else ""): one for one in found}


def test_nothing_was_lost_by_any_fault(verdicts: dict[str, dict[str, Any]]) -> None:
    """Every load had all of its tasks, every result was right, and every bound was met."""
    guarded = {name: one for name, one in verdicts.items() if not one["control"]}
    assert set(guarded) == set(HALF)
    assert {name for name, one in guarded.items() if not one["held"]} == set()
    usual = PLAY["vars"]["break_tasks"]
    own = {one["name"] for one in FAULTS if one["name"] in HALF and "tasks" in one}
    assert {name for name, one in guarded.items() if one["tasks"] != usual} == own
    assert all(one["tasks"] >= usual for one in guarded.values())
    assert all(one["figures"]["lost"] == one["figures"]["wrong"] == 0 for one in guarded.values())


def test_without_its_safeguard_the_loss_is_seen(verdicts: dict[str, dict[str, Any]]) -> None:
    """A check that could not fail would hold here too."""
    controls = {name: one for name, one in verdicts.items() if one["control"]}
    assert set(controls) == {f"{one['name']}-control" for one in FAULTS if one["name"] in HALF and "control" in one}
    assert {name for name, one in controls.items() if not one["held"]} == set()


def test_faults_of_a_scenario_came_at_their_moments() -> None:
    """Each once, over by itself, in the order of their moments; nothing was lost, and the report tells them."""
    run = max((SCENARIO / "runs").glob("*-moments"))
    record = json.loads((run / "run.json").read_text())
    assert (record["state"], record["counts"]["correct"], record["problems"]) == ("complete", 2500, [])
    began = json.loads((run / "post.json").read_text())["started"]["wall"]
    came = json.loads((run / "injected.json").read_text())
    assert [(one["fault"], one["hosts"], one["failed"]) for one in came] == [
        ("restart-worker", ["worker1"], ""),
        ("cut-worker-10", ["worker1"], ""),
        ("memory-alarm", ["broker1"], ""),
    ]
    times = [{key: float(time) for key, time in one["times"][one["hosts"][0]].items()} for one in came]
    # Ansible takes a second or two to do something on another host.
    assert all(one["at"] <= time["began"] - began < one["at"] + 8 for one, time in zip(came, times, strict=True))
    lasted = [time["over"] - time["began"] for time in times]
    assert lasted[1] == pytest.approx(10, abs=3)
    assert lasted[2] == pytest.approx(15, abs=6)
    assert record["client"]["blocked_seconds"] > 5
    assert "The red bands are injected faults." in (run / "report.html").read_text()


def test_the_workers_are_as_the_inventory_has_them(host: Host) -> None:
    """No module, variable or unit of a fault is left."""
    main = host.check_output("systemctl show --property=MainPID --value celery-worker@w1.service")
    environment = host.check_output(f"cat /proc/{main}/environ")
    assert "CELERY_WORKER_OPTIONS" in environment
    assert "executions" not in environment
    assert not host.file("/run/systemd/system/celery-worker@.service.d/turn.conf").exists
    assert host.run("nft list table netdev cut").rc != 0


def test_no_pickle_was_ever_run(host: Host) -> None:
    """The bad messages held one that would have left a mark, in what was /tmp to the worker."""
    assert host.check_output("find / /tmp /run -xdev -name unpickled -not -path '/proc/*'") == ""
