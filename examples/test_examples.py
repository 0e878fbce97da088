"""Each example, run as its README says: a lab, two loads whose results are all right, and nothing left afterwards."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[1]
#: Each example with the subnet that its lab has here, so that one that a user has up is left alone.
SUBNETS = {"django": "10.78.61.0/24", "images": "10.78.62.0/24", "gevent": "10.78.63.0/24"}
#: Those whose inventory has beat, which a load ends without unless it has started.
WITH_BEAT = {"django"}
TASKS = 1000


def make(target: str, example: str, *options: str, **variables: str) -> str:
    """Run a target of the Makefile on an example, in the test's own lab; return what it printed."""
    lab = {"lab_host_bridge": f"tm-test-{example}", "lab_host_subnet": SUBNETS[example], **variables}
    arguments = " ".join(f"-e {name}={value}" for name, value in lab.items())
    command = ["make", target, f"INVENTORY=examples/{example}/inventory", f"ARGS={arguments}", *options]
    done = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
    assert done.returncode == 0, done.stdout[-5000:]
    return done.stdout


def load(example: str, runs: Path, *options: str) -> dict[str, Any]:
    """Run a load of an example; return its record, once every task came back and none had a wrong result."""
    make("load", example, f"TASKS={TASKS}", *options, load_runs_directory=str(runs))
    record: dict[str, Any] = json.loads((runs / "latest" / "run.json").read_text())
    counts = {name: record["counts"][name] for name in ("posted", "confirmed", "correct", "wrong", "failed", "lost")}
    assert counts == {"posted": TASKS, "confirmed": TASKS, "correct": TASKS, "wrong": 0, "failed": 0, "lost": 0}
    return record


@pytest.fixture(params=SUBNETS, scope="module")
def example(request: pytest.FixtureRequest) -> Iterator[str]:
    """Yield the name of an example; its lab is taken down after both loads."""
    yield request.param
    make("lab-down", request.param)


def test_every_example_has_a_test() -> None:
    """A folder with an inventory is an example."""
    assert {path.parent.name for path in ROOT.glob("examples/*/inventory")} == set(SUBNETS)


def test_every_result_of_the_load_is_right(example: str, tmp_path: Path) -> None:
    """They were published, came back and were compared with the value that the example makes by other means."""
    record = load(example, tmp_path)
    assert record["environment"]["settings"]["beat"] == (example in WITH_BEAT)


def test_every_kind_of_the_scenario_ends_as_it_has_to(example: str, tmp_path: Path) -> None:
    """With its value, with its failure, or well where nothing else is asked of it."""
    scenario = f"examples/{example}/scenario.yml"
    record = load(example, tmp_path, f"SCENARIO={scenario}")
    assert record["workload"]["scenario"] == "scenario.yml"
    assert set(record["by_kind"]) == set(yaml.safe_load((ROOT / scenario).read_text())["kinds"])
    assert [name for name, kind in record["by_kind"].items() if not 0 < kind["correct"] == kind["posted"]] == []
