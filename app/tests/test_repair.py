"""Results that are missing are made up for: known by id, posted once more, collected, and merged into the record."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import memcache
import pytest

from conftest import TASKS, Taskmill
from services import CLIENT, OTHER_VHOST, Memcached, RabbitMQ, depth, running, stored, wait_until
from taskmill.publishing import journal

GONE = 30
RED = ("--task=fibonacci.tasks.red=red", "--n=3", "--expect=2", "--no-profile")
INCLUDE = "--include=taskmill_worker"


def record(folder: Path) -> dict[str, Any]:
    """Read run.json."""
    data: dict[str, Any] = json.loads((folder / "run.json").read_text())
    return data


def ids(folder: Path) -> list[bytes]:
    """Return the ids of a run."""
    return [identifier for one in journal.read(folder / "ids") for identifier, _ in one.lines]


def results_of(memcached: Memcached, identifiers: list[bytes]) -> int:
    """Return how many of the ids have a result."""
    client: Any = memcache.Client([f"127.0.0.1:{memcached.port}"])
    keys = [f"celery-task-meta-{identifier.decode()}" for identifier in identifiers]
    return sum(len(client.get_multi(keys[start : start + 1000])) for start in range(0, len(keys), 1000))


def lose_results(memcached: Memcached, identifiers: list[bytes]) -> None:
    """Take these results out of the store."""
    client: Any = memcache.Client([f"127.0.0.1:{memcached.port}"])
    for identifier in identifiers:
        client.delete(f"celery-task-meta-{identifier.decode()}")


@pytest.mark.usefixtures("worker")
def test_missing_results_are_posted_again_and_merged(taskmill: Taskmill, memcached: Memcached) -> None:
    """The loss is seen, then repaired; done again, there is nothing to do; the run's own figures stay."""
    assert taskmill("publish", *TASKS, "--tasks=300", "--n=2", "--expect=1", "--no-profile").code == 0
    folder = taskmill.latest
    wait_until(lambda: results_of(memcached, ids(folder)) == 300, 60, "all results")
    gone = random.Random(1).sample(ids(folder), GONE)
    lose_results(memcached, gone)
    # The control: without a repair the run has lost them.
    lost = taskmill("collect", str(folder), "--deadline=1")
    assert lost.code == 1, lost.out + lost.err
    before = record(folder)
    assert (before["counts"]["correct"], before["counts"]["lost"]) == (300 - GONE, GONE)

    done = taskmill("repair", str(folder))
    assert done.code == 0, done.out + done.err
    assert "All 300 results are there and right." in done.out
    data = record(folder)
    assert data["counts"] == before["counts"] | {"retrieved": 300, "correct": 300, "lost": 0}
    assert sum(queue["correct"] for queue in data["by_queue"].values()) == 300
    assert data["seconds"] == before["seconds"]
    [repaired] = data["repaired"]
    assert (repaired["missing"], repaired["posted"], repaired["correct"], repaired["lost"]) == (GONE, GONE, GONE, 0)
    assert data["problems"] == []
    assert (folder / "faults.jsonl").read_text() == ""
    assert set(ids(folder)) >= set(gone)
    assert len(ids(folder)) == 300

    again = taskmill("repair", str(folder))
    assert again.code == 0, again.out + again.err
    assert "0 results are missing" in again.err
    assert record(folder) == data
    assert taskmill("collect", str(folder), "--deadline=5").code == 0
    assert record(folder)["repaired"] == [repaired]


@pytest.mark.thorough
def test_store_that_was_too_small_is_made_up_for(
    taskmill: Taskmill, rabbitmq: RabbitMQ, tmp_path: Path, start_memcached: Callable[..., Memcached]
) -> None:
    """memcached evicts results before they are fetched: each is known by id, and after a repair all are right."""
    tasks, small = 7000, start_memcached(2)
    taskmill.environment["CELERY_BROKER_URL"] = rabbitmq.url(CLIENT, vhost=OTHER_VHOST)
    taskmill.environment["CELERY_RESULT_BACKEND"] = small.url
    with running(rabbitmq, small, tmp_path, INCLUDE):
        assert taskmill("publish", *RED, f"--tasks={tasks}", "--result-bytes=1").code == 0
        folder = taskmill.latest
        # The last ones are there when no message waits and the store does not change any more.
        wait_until(lambda: depth(rabbitmq, "red", OTHER_VHOST) == 0, 60, "an empty queue")
        assert taskmill("collect", str(folder), "--deadline=3").code == 1
        before = record(folder)
        lost = before["counts"]["lost"]
        assert lost > 100
        assert before["memcached"]["evicted_during_run"] >= lost
        done = taskmill("repair", str(folder))
        assert done.code == 0, done.out + done.err
        counts = record(folder)["counts"]
        assert counts["posted"] == counts["correct"] == tasks
        assert record(folder)["repaired"][0]["posted"] == lost


@pytest.mark.thorough
def test_repair_without_workers_ends_and_can_be_done_again(
    taskmill: Taskmill, rabbitmq: RabbitMQ, memcached: Memcached, tmp_path: Path
) -> None:
    """It says what is still missing instead of waiting for ever; the next one takes what the first one posted."""
    taskmill.environment["CELERY_BROKER_URL"] = rabbitmq.url(CLIENT, vhost=OTHER_VHOST)
    with running(rabbitmq, memcached, tmp_path, INCLUDE):
        assert taskmill("publish", *RED, "--tasks=50").code == 0
        folder = taskmill.latest
        wait_until(lambda: results_of(memcached, ids(folder)) == 50, 60, "all results")
    lose_results(memcached, ids(folder)[:GONE])
    assert taskmill("collect", str(folder), "--deadline=1").code == 1
    refused = taskmill("repair", str(folder), "--deadline=1")
    assert refused.code == 3
    assert "no worker" in refused.err
    first = taskmill("repair", str(folder), "--no-workers", "--deadline=1")
    assert first.code == 1, first.out + first.err
    assert record(folder)["counts"]["lost"] == GONE
    waiting = taskmill("repair", str(folder), "--no-workers", "--deadline=1")
    assert waiting.code == 3
    assert f"{GONE} messages wait in red" in waiting.err
    with running(rabbitmq, memcached, tmp_path, INCLUDE):
        wait_until(lambda: results_of(memcached, ids(folder)) == 50, 60, "all results")
        second = taskmill("repair", str(folder))
    assert second.code == 0, second.out + second.err
    assert [one["posted"] for one in record(folder)["repaired"]] == [GONE, 0]
    assert record(folder)["counts"]["correct"] == 50


@pytest.mark.usefixtures("worker")
def test_run_that_was_not_collected_is_not_repaired(taskmill: Taskmill) -> None:
    """What is missing is not known yet, and the message says what to do first."""
    assert taskmill("publish", *TASKS, "--tasks=30", "--n=2", "--expect=1").code == 0
    done = taskmill("repair", str(taskmill.latest), "--allow-waiting")
    assert done.code == 3
    assert "taskmill resume" in done.err
    assert taskmill("resume", str(taskmill.latest)).code == 0


@pytest.mark.thorough
@pytest.mark.usefixtures("worker")
def test_task_that_stays_in_a_state_that_is_not_final_is_repaired(taskmill: Taskmill, memcached: Memcached) -> None:
    """As when the message of a retry was lost: RETRY stands in the store for ever, and is no result."""
    assert taskmill("publish", *TASKS, "--tasks=60", "--n=2", "--expect=1", "--no-profile").code == 0
    folder = taskmill.latest
    wait_until(lambda: results_of(memcached, ids(folder)) == 60, 60, "all results")
    client: Any = memcache.Client([f"127.0.0.1:{memcached.port}"])
    for identifier in ids(folder)[:GONE]:
        client.set(f"celery-task-meta-{identifier.decode()}", stored(identifier, None, status="RETRY"))
    assert taskmill("collect", str(folder), "--deadline=1").code == 1
    done = taskmill("repair", str(folder), "--deadline=20")
    assert done.code == 0, done.out + done.err
    assert f"{GONE} results are missing; {GONE} of them have no final one" in done.err
    assert record(folder)["counts"]["correct"] == 60
