"""Each example, run as its README says: a lab, a load whose results are all right, and nothing left afterwards."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

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


@pytest.fixture(params=SUBNETS)
def example(request: pytest.FixtureRequest) -> Iterator[str]:
    """Yield the name of an example; its lab is taken down afterwards."""
    yield request.param
    make("lab-down", request.param)


def test_every_example_has_a_test() -> None:
    """A folder with an inventory is an example."""
    assert {path.parent.name for path in ROOT.glob("examples/*/inventory")} == set(SUBNETS)


def test_every_result_of_the_load_is_right(example: str, tmp_path: Path) -> None:
    """They were published, came back and were compared with the value that the example makes by other means."""
    make("load", example, f"TASKS={TASKS}", load_runs_directory=str(tmp_path))
    record: dict[str, Any] = json.loads((tmp_path / "latest" / "run.json").read_text())
    counts = {name: record["counts"][name] for name in ("posted", "confirmed", "correct", "wrong", "failed", "lost")}
    assert record["environment"]["settings"]["beat"] == (example in WITH_BEAT)
    assert counts == {"posted": TASKS, "confirmed": TASKS, "correct": TASKS, "wrong": 0, "failed": 0, "lost": 0}
