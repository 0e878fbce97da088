"""What task-queues.yml measured, and what it left on the host."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
from testinfra.host import Host

WITH_WORKERS = {"taskmill", "plain-celery", "dramatiq", "huey", "rq", "taskiq"}


@pytest.fixture(scope="module")
def folder() -> Path:
    """The newest folder that was measured."""
    runs = Path(os.environ["MOLECULE_EPHEMERAL_DIRECTORY"]) / "runs"
    return max(runs.glob("*-task-queues"))


@pytest.fixture(scope="module")
def table(folder: Path) -> dict[str, Any]:
    """The tables in it."""
    found: dict[str, Any] = json.loads((folder / "table.json").read_text())
    return found


def test_every_subject_has_all_its_results_right(table: dict[str, Any]) -> None:
    """None failed, none lost a task, none had a wrong value; all took part."""
    assert table["complete"]
    rows = {(row["workload"], row["subject"]): row for row in table["rows"]}
    assert {name for workload, name in rows if workload == "tiny"} - {"taskmill-pypy"} == WITH_WORKERS | {"pool"}
    assert {name for workload, name in rows if workload == "posting-1"} == {"taskmill", "py-amqp"}
    troubles = {key: row for key, row in rows.items() if row["failures"] or row["wrong"] or row["lost"]}
    assert troubles == {}
    assert all(row["finished_per_s"] > 0 for row in rows.values())


def test_the_cpu_of_every_part_was_seen(table: dict[str, Any]) -> None:
    """Whoever has workers used some there, and in the client."""
    for row in table["rows"]:
        if row["workload"] == "tiny" and row["subject"] in WITH_WORKERS:
            assert min(row["cpu_s"][part] for part in ("client", "workers")) > 0, row


def test_the_figures_are_judged(table: dict[str, Any], folder: Path) -> None:
    """What was measured has a verdict, what was not is said to be so; the page has both."""
    verdicts = {one["figure"]: one["verdict"] for one in table["verdicts"]}
    assert verdicts["tiny, to the article's stack"] == "not measured"
    assert (
        next(one for name, one in verdicts.items() if name.startswith("tiny, to the best other queue"))
        != "not measured"
    )
    assert verdicts["posting, one process"] != "not measured"
    page = (folder / "benchmark.md").read_text()
    assert "| dramatiq |" in page
    assert "publisher confirms" in page


def test_the_workers_are_as_the_inventory_has_them(host: Host) -> None:
    """w1 and w2 work, nothing else does, and nothing of the others is left running."""
    units = host.check_output(
        "systemctl list-units --no-legend --plain --state=active 'celery-worker@*' 'other-queue-worker@*'"
    )
    assert [line.split()[0] for line in units.splitlines()] == ["celery-worker@w1.service", "celery-worker@w2.service"]
    assert host.check_output("find /etc/celery -name 'p*'") == ""


def test_redis_wants_its_password(host: Host) -> None:
    """It listens on the given addresses only, and its password is in no process list."""
    assert host.run("redis-cli ping").stdout.startswith("NOAUTH")
    assert not host.socket("tcp://0.0.0.0:6379").is_listening
    password = host.check_output("sed -En 's/^requirepass \"(.*)\"$/\\1/p' /etc/redis/password.conf")
    assert len(password) == 32
    assert password not in host.check_output("ps -eww -o args")
    assert host.file("/etc/redis/password.conf").mode == 0o640
