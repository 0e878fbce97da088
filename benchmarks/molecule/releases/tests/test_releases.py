"""Both releases after releases.yml, and after the queues were handed over to Celery 3.1."""

from __future__ import annotations

import json
import os
import shlex
from pathlib import Path
from typing import Any

import pytest
from testinfra.host import Host

RUNS = Path(os.environ["MOLECULE_EPHEMERAL_DIRECTORY"]) / "runs"
TASKS = 2000
testinfra_hosts = ["broker1"]


def run(release: str) -> tuple[Path, dict[str, Any]]:
    """Return the folder and the record of a release's run."""
    (folder,) = RUNS.glob(f"*-{release}")
    record: dict[str, Any] = json.loads((folder / "run.json").read_text())
    return folder, record


@pytest.mark.parametrize("release", ["celery5", "celery31"])
def test_every_task_came_back_right_on_each_release(release: str) -> None:
    """All tasks were published, retrieved and correct, and the record names the release."""
    _, record = run(release)
    counts = record["counts"]
    assert (counts["posted"], counts["retrieved"], counts["correct"]) == (TASKS, TASKS, TASKS)
    assert record["stack"] == release
    assert record["problems"] == []


def test_each_run_was_done_by_its_own_release_alone() -> None:
    """The workers that answered are those of the release's own host, and the clients those of its own versions."""
    for release, worker, celery in (("celery5", "worker1", "5."), ("celery31", "worker2017", "3.1.24")):
        _, record = run(release)
        assert {one["name"] for one in record["workers"]} == {f"w1@{worker}", f"w2@{worker}"}
        assert record["environment"]["celery"].startswith(celery)
        assert record["counts"]["duplicates"] == 0


@pytest.mark.parametrize("release", ["celery5", "celery31"])
def test_the_command_that_repeats_a_run_is_for_its_cluster(release: str) -> None:
    """The cluster is named; the release is not, because the inventory says it."""
    _, record = run(release)
    given = json.loads(shlex.split(record["environment"]["command"])[-1])
    assert given["cluster"] == f"cluster_{release}"
    assert "celery_release" not in given


def test_both_ran_the_same_workload_on_the_same_cores() -> None:
    """Workload and cores do not differ: only the release does."""
    (_, celery5), (_, celery31) = run("celery5"), run("celery31")
    assert celery5["workload"] == celery31["workload"]
    assert celery5["environment"]["worker_cores"] == celery31["environment"]["worker_cores"]


def test_the_comparison_is_there() -> None:
    """The page that compares the runs lies in the folder of the last one."""
    folder, _ = run("celery5")
    assert "celery31" in (folder / "compare.html").read_text()


def test_each_release_leaves_its_profile() -> None:
    """The client's cProfile of both runs is there, and can be read on this machine."""
    for release in ("celery5", "celery31"):
        folder, _ = run(release)
        assert "function calls" in (folder / "profile.txt").read_text()


def test_after_the_handing_over_only_celery_3_1_consumes(host: Host) -> None:
    """Every consumer of the three queues comes from its worker host: two workers on each queue."""
    hosts = dict(
        line.split()
        for line in host.check_output("rabbitmqctl -q list_connections pid peer_host").splitlines()
        if line.startswith("<")
    )
    channels = dict(
        line.split()
        for line in host.check_output("rabbitmqctl -q list_channels pid connection").splitlines()
        if line.startswith("<")
    )
    lines = host.check_output("rabbitmqctl -q list_consumers -p taskmill").splitlines()
    consumers = [line.split()[:2] for line in lines if line.split()[0] in {"red", "green", "blue"}]
    assert sorted(queue for queue, _ in consumers) == ["blue", "blue", "green", "green", "red", "red"]
    assert {hosts[channels[channel]] for _, channel in consumers} == {"10.78.18.22"}
