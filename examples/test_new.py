"""An app that taskmill has not seen, from `make new` to its report: nothing in between is edited."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
#: The lab's own bridge and subnet are left to the user's lab.
LAB = {"lab_host_bridge": "tm-test-new", "lab_host_subnet": "10.78.64.0/24"}
ADDRESSES = "10.77.0.", "10.78.64."
#: The first app of Celery's own documentation; one of its tasks reads what messages say of its arguments.
PROJ = {
    "proj/__init__.py": "",
    "proj/celery.py": """\
from celery import Celery

app = Celery("proj", broker="amqp://", backend="rpc://", include=["proj.tasks"])
app.conf.update(result_expires=3600)
""",
    "proj/tasks.py": """\
from .celery import app


@app.task
def add(x, y):
    return x + y


@app.task(bind=True)
def mul(self, x, y):
    assert self.request.argsrepr
    return x * y


@app.task
def xsum(numbers):
    return sum(numbers)
""",
    "requirements.txt": "celery\n",
}


@pytest.fixture
def make(tmp_path: Path) -> Iterator[Callable[..., str]]:
    """Yield what runs a target of the Makefile on the new inventory; its lab is taken down afterwards."""
    inventory = tmp_path / "inventory"

    def run(target: str, *words: str) -> str:
        command = ["make", target, f"INVENTORY={inventory}", *words]
        done = subprocess.run(
            command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False
        )
        assert done.returncode == 0, done.stdout[-5000:]
        return done.stdout

    yield run
    if inventory.exists():
        run("lab-down", options())


def options(**more: str) -> str:
    """Return variables as Ansible takes them on its command line."""
    return "ARGS=" + " ".join(f"-e {name}={value}" for name, value in {**LAB, **more}.items())


def test_three_commands_from_an_app_to_its_report(make: Callable[..., str], tmp_path: Path) -> None:
    """Every result of its load is there, and is of a task that succeeded."""
    for name, text in PROJ.items():
        (tmp_path / "app" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "app" / name).write_text(text)
    model = tmp_path / "lab"
    shutil.copytree(ROOT / "inventory" / "lab", model)
    (model / "hosts.yml").write_text((model / "hosts.yml").read_text().replace(*ADDRESSES))
    said = make("new", f"APP={tmp_path / 'app'}", f"ARGS=--like {model}")
    assert "The load will call " in said
    make("load", "TASKS=600", options(load_runs_directory=str(tmp_path / "runs")))
    record = json.loads((tmp_path / "runs" / "latest" / "run.json").read_text())
    assert {"proj.tasks.add", "proj.tasks.mul"} <= set(re.findall(r"[\w.]+", record["workload"]["task"]))
    counts = {name: record["counts"][name] for name in ("posted", "confirmed", "failed", "lost")}
    assert counts == {"posted": 600, "confirmed": 600, "failed": 0, "lost": 0}
    assert (tmp_path / "runs" / "latest" / "report.html").stat().st_size > 10_000
