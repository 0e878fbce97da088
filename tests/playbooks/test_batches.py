"""Which workers get batches: those of the Fibonacci example, and of another app those alone that ask for them."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest
import wiring
import yaml
from wiring import ROOT

from taskmill_worker import features

BATCHES = {"batching", "read_ahead"}
QUEUES = ["red"]
#: Variables of a worker host each, as an inventory of its own would have them.
HOSTS: dict[str, dict[str, Any]] = {
    "example": {},
    "example_without": {"app_batch": 1},
    "example_2017": {"stack": "post2017"},
    # As compare-peers.yml sets them.
    "example_measured": {"celery_worker_nodes": "{{ peers_workers }}"},
    "own_app": {"app_name": "proj"},
    "own_app_that_asks": {
        "app_name": "proj",
        "celery_worker_nodes": [
            {"name": "w1", "queues": QUEUES, "batch": 8},
            {"name": "w2", "queues": QUEUES},
            {"name": "w3", "queues": QUEUES, "batch": 1},
        ],
    },
}


@pytest.fixture(scope="module")
def workers(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, Any]]:
    """Return the environment of each worker, by HOST.WORKER, as wiring and role make it; by HOST.grid what is tuned."""
    folder = tmp_path_factory.mktemp("batches")
    installed = {"digests": {f"/opt/{app}/venv": "0" for app in ("fibonacci", "proj")}}
    installed["digests"]["/opt/fibonacci/venv-pypy3"] = "0"
    render = {
        "template": {
            "src": str(ROOT / "roles/celery_worker/templates/worker.env.j2"),
            "dest": f"{folder}/{{{{ inventory_hostname }}}}.{{{{ item.name }}}}",
        },
        "loop": "{{ celery_worker_nodes }}",
    }
    grid = {"copy": {"content": "{{ tune_grid | to_json }}", "dest": f"{folder}/{{{{ inventory_hostname }}}}.grid"}}
    # For its defaults and its own variables; it looks at the workers, too.
    validate = {"include_role": {"name": "celery_worker", "tasks_from": "validate.yml", "public": True}}
    # The template's filters, which Ansible loads with the play.
    filters = {"import_role": {"name": "systemd_unit"}, "when": False}
    wiring.play(
        folder,
        wiring.landscape(HOSTS),
        [validate, render, grid, filters],
        ansible_facts={"processor_nproc": 2},
        __celery_worker_inspection={"stdout": json.dumps(installed)},
        systemd_unit_version={"stdout": "systemd 257 (257.1)"},
    )
    grids = {f"{host}.grid": json.loads((folder / f"{host}.grid").read_text()) for host in HOSTS}
    return grids | {path.name: sourced(path) for host in HOSTS for path in folder.glob(f"{host}.[wp]*")}


def sourced(path: Path) -> dict[str, str]:
    """Return what a shell reads from an environment file."""
    command = ["env", "-i", "sh", "-c", f"set -a; . {path}; env -0"]
    entries = subprocess.run(command, capture_output=True, text=True, check=True).stdout.split("\0")
    return dict(entry.split("=", 1) for entry in entries if entry)


def loaded(environment: dict[str, str]) -> set[str]:
    """Return the features that a worker has, which loads one package of ours."""
    assert "--include=taskmill_worker" in environment["CELERY_WORKER_OPTIONS"].split()
    return set(features(environment))


@pytest.mark.parametrize("worker", ["example.w1", "example.w2", "example_measured.w1", "example_measured.p2"])
def test_the_example_asks_for_batches(workers: dict[str, dict[str, str]], worker: str) -> None:
    """Its workers load what makes them, and are told how many."""
    assert loaded(workers[worker]) >= BATCHES | {"task_times", "dead_lettering"}
    assert workers[worker]["CELERY_WORKER_BATCH"] == "100"


@pytest.mark.parametrize("worker", ["own_app.w1", "own_app.w2", "own_app_that_asks.w2", "own_app_that_asks.w3"])
def test_an_app_that_says_nothing_of_batches_gets_none(workers: dict[str, dict[str, str]], worker: str) -> None:
    """Nothing of what makes batches is loaded, and all the rest is; so where one worker of several says nothing."""
    assert loaded(workers[worker]) & BATCHES == set()
    assert loaded(workers[worker]) >= {"task_times", "dead_lettering"}
    assert "CELERY_WORKER_BATCH" not in workers[worker]


def test_another_app_gets_batches_where_it_asks(workers: dict[str, dict[str, str]]) -> None:
    """By the entry of the worker, and of as many messages as it says."""
    assert loaded(workers["own_app_that_asks.w1"]) >= BATCHES
    assert workers["own_app_that_asks.w1"]["CELERY_WORKER_BATCH"] == "8"


@pytest.mark.parametrize("worker", ["example_without.w1", "example_2017.w1"])
def test_batches_are_off_where_they_are_said_to_be_or_cannot_be(
    workers: dict[str, dict[str, str]], worker: str
) -> None:
    """By one variable for all workers; and the post's stack has none of it."""
    assert loaded(workers[worker]) & BATCHES == set()
    assert "CELERY_WORKER_BATCH" not in workers[worker]


@pytest.mark.parametrize(
    ("host", "batches"), [("example", [1, 100]), ("example_without", [1]), ("own_app", [1]), ("own_app_that_asks", [1])]
)
def test_tuning_tries_batches_where_they_are_known_to_be_right(
    workers: dict[str, dict[str, Any]], host: str, batches: list[int]
) -> None:
    """It would recommend them to an app that loses messages by them, since they are faster."""
    assert workers[f"{host}.grid"]["batch"] == batches


def test_every_list_of_workers_in_the_repository_that_is_the_examples_asks_as_the_example_does() -> None:
    """Inventories that replace the list keep what the example asks for; for another app in a copy of them it is 1."""
    lists = [
        yaml.safe_load(path.read_text())["celery_worker_nodes"]
        for path in (ROOT / "inventory").glob("*/group_vars/workers.yml")
    ]
    assert lists
    assert {worker["batch"] for workers in lists for worker in workers} == {"{{ app_batch }}"}
