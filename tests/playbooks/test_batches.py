"""Which workers get batches: those of the Fibonacci example, and of another app those alone that ask for them."""

from __future__ import annotations

import json
from typing import Any

import pytest
import wiring
import yaml
from ansible_playbook import ROOT
from wiring import loaded

BATCHES = {"batching", "read_ahead"}
QUEUES = ["red"]
PROJ = {"app_name": "proj", "app_tasks": {"proj.tasks.add": "red"}}
#: Variables of a worker host each, as an inventory of its own would have them.
HOSTS: dict[str, dict[str, Any]] = {
    "example": {},
    "example_without": {"app_batch": 1},
    "example_2017": {"celery_release": "celery31"},
    "own_app": PROJ,
    "own_app_that_asks": {
        **PROJ,
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
    grid = {"copy": {"content": "{{ tune_grid | to_json }}", "dest": f"{folder}/{{{{ inventory_hostname }}}}.grid"}}
    workers = wiring.worker_environments(folder, wiring.landscape(HOSTS), grid)
    return workers | {f"{host}.grid": json.loads((folder / f"{host}.grid").read_text()) for host in HOSTS}


@pytest.mark.parametrize("worker", ["example.w1", "example.w2"])
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
    """By one variable for all workers; and the article's release has none of it."""
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
