"""The list of faults: what can be told of it without a landscape."""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from ansible_playbook import ROOT

from taskmill import faults
from taskmill.model import thresholds as requirements
from taskmill_worker import features

FAULTS = yaml.safe_load((ROOT / "playbooks/group_vars/all/faults.yml").read_text())["faults"]
KEYS = {
    "name", "title", "where", "packages", "prepare", "inject", "restore", "counts", "says", "seconds", "lasts", "gone",
    "modules", "without", "environment", "busy", "options", "tasks", "rate", "at", "deadline", "take_up", "bounds",
    "control", "moment",
}  # fmt: skip


def turns() -> Iterator[Any]:
    """Yield every fault, and every control as the fault that it is."""
    for one in FAULTS:
        yield pytest.param(one, id=one["name"])
        if "control" in one:
            yield pytest.param(one | one["control"], id=one["name"] + "-control")


@pytest.mark.parametrize("one", list(turns()))
def test_a_fault_says_what_is_done_where_and_what_must_hold(one: dict[str, Any]) -> None:
    """A mistyped key would be nothing done, and a mistyped figure never known."""
    assert one.keys() <= KEYS
    assert "where" in one or not {"inject", "prepare", "restore", "packages"} & one.keys()
    assert all((ROOT / f"roles/break/files/{module}.py").exists() for module in one.get("modules", []))
    # A feature that there is not is a ValueError here, as it is in a worker.
    assert features({"TASKMILL_WORKER_WITHOUT": ",".join(one.get("without", []))})
    scripts = " ".join([one.get("inject", ""), *one.get("counts", {}).values()])
    known = {*requirements.METRICS, *faults.NAMES, *re.findall(r"(\w+)=\$\(", scripts)}
    known |= {"said"} if "says" in one else set()
    if "bad_messages.py" in scripts:
        known |= {"bad_taken", "bad_refused"}
    bounded = {re.split("[<>=]", bound)[0] for bound in one["bounds"]}
    assert bounded
    assert bounded <= known


def test_the_scenarios_break_everything() -> None:
    """Each fault stands in one of the two halves."""
    plays = yaml.safe_load((ROOT / "molecule/faults/side_effect.yml").read_text())
    [parts] = [play["vars"]["halves"] for play in plays if "halves" in play.get("vars", {})]
    halves = [name for half in parts.values() for name in half]
    assert sorted(halves) == sorted(one["name"] for one in FAULTS)


def test_a_scenario_of_the_inventory_is_not_what_is_broken() -> None:
    """Its stages would be refused beside the rate of the faults, which count the tasks of app_tasks."""
    plays = yaml.safe_load((ROOT / "playbooks/break-things.yml").read_text())
    loads = [play["vars"] for play in plays if "load_run_args" in play.get("vars", {})]
    assert [play["load_run_scenario"] for play in loads] == ["", ""]


def test_a_scenario_may_name_what_takes_no_preparation_and_is_over_by_itself() -> None:
    """The example of a scenario lists these, and no other."""
    named = [one for one in FAULTS if one.get("moment")]
    for one in named:
        assert {"where", "inject"} <= one.keys()
        assert not {"prepare", "gone"} & one.keys()
        assert "$FILES" not in one["inject"]
        # By its own play in the middle of a load, which no other may start.
        assert one["where"] != "controller"
    example = (ROOT / "docs/scenario.yml").read_text()
    [words] = re.findall(r"break-things.yml, from this list: (.*?)[.]\n", example, re.DOTALL)
    assert re.findall(r"[a-z0-9-]+", words) == [one["name"] for one in named]


@pytest.mark.parametrize(
    ("files", "source", "changed"),
    [
        (["shop/__init__.py", "shop/tasks.py"], "", "shop/__init__.py"),
        (["shop.py", "other.py"], "", "shop.py"),
        (["shop.py", "other.py"], "shop.py", "shop.py"),
        (["shop/tasks.py"], "", "shop/next_version.py"),
    ],
    ids=["package", "module", "file", "package-without-init"],
)
def test_the_next_version_of_an_app_differs_in_a_line(
    tmp_path: Path, files: list[str], source: str, changed: str
) -> None:
    """It is a directory beside the app's own source, which stays as it is; made twice it is the same place."""
    for name in files:
        path = tmp_path / "source" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("# first\n")
    [deploy] = [one for one in FAULTS if one["name"] == "deploy"]
    new = tmp_path / "next-version"
    given = {"SOURCE": f"{tmp_path}/source/{source}".rstrip("/"), "NEW": str(new), "APP": "shop"}
    script = f"set -eu\n{deploy['inject']}"
    for _ in range(2):
        done = subprocess.run(
            ["sh", "-c", script],
            env={**os.environ, **given, "PROJECT": str(tmp_path), "PLAYBOOK": "echo", "INVENTORY": "mine"},
            capture_output=True,
            text=True,
            check=True,
        )
        assert done.stderr == f"-i mine playbooks/deploy.yml -e app_source={new}\n"
        assert "# The next version.\n" in (new / changed).read_text()
    there = {str(path.relative_to(new)) for path in new.rglob("*") if path.is_file()}
    assert there == {changed, *([source] if source else files)}
    assert {path.read_text() for path in (tmp_path / "source").rglob("*.py")} == {"# first\n"}
    assert [name for name in sorted(there - {changed}) if (new / name).read_text() != "# first\n"] == []
