"""The article's own client, as a user runs it, on Python 2.7 and celery 3.1.24 against real services."""

from __future__ import annotations

import json
import os
import pstats
import re
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from conftest import HERE, PYTHON, Client, Result
from services import QUEUES, RabbitMQ, depth, purge_queue, take_all, wait_until

TASKS = 300


def ids(folder: Path) -> list[str]:
    """Return every id of a run."""
    lines = [line for path in sorted((folder / "ids").glob("*.ids")) for line in path.read_text().splitlines()]
    return [line.split()[0] for line in lines]


def test_every_result_is_fetched_by_its_id_and_right(double: Callable[..., Result]) -> None:
    """Ten threads post, every id is kept once, every value is compared, and the exit code is 0."""
    done = double(TASKS)
    assert done.code == 0, done.err
    record = done.record
    assert record["counts"] == {
        **dict.fromkeys(["posted", "distinct", "retrieved", "correct"], TASKS),
        **dict.fromkeys(["confirmed", "wrong", "failed", "lost", "duplicates"], 0),
    }
    assert (record["state"], record["problems"], record["duplicates_from"]) == ("complete", [], "workers")
    assert record["by_queue"]["red"] == {"posted": TASKS / 2, "correct": TASKS / 2, "wrong": 0, "failed": 0, "lost": 0}
    assert len(list((done.folder / "ids").glob("*.ids"))) == 10
    assert len(set(ids(done.folder))) == TASKS
    assert "All 300 results are there and right." in done.out
    assert (done.folder.parent / "latest").resolve() == done.folder


def test_the_versions_are_those_of_the_article(double: Callable[..., Result]) -> None:
    """The record tells Python 2.7, celery 3.1.24 and python-memcached 1.58, and the release's name."""
    record = double(10).record
    environment = record["environment"]
    assert environment["client_python"].startswith("2.7.")
    assert (environment["celery"], environment["python_memcached"]) == ("3.1.24", "1.58")
    assert record["stack"] == "celery31"
    assert record["workload"]["rate"] is None


def test_results_may_be_fetched_in_batches(double: Callable[..., Result]) -> None:
    """With --batch the same results come by many ids at a time, and the record says so."""
    done = double(TASKS, "--batch=100")
    assert done.code == 0, done.err
    assert done.record["counts"]["correct"] == TASKS
    assert done.record["environment"]["results_fetched"] == "100 at a time"


def test_the_profile_covers_posting_and_collecting(double: Callable[..., Result]) -> None:
    """apply_async is called once per task over all threads, AsyncResult.get at least once, and the text is there."""
    done = double(TASKS)
    stats = pstats.Stats(str(done.folder / "profile.pstats"))
    calls: dict[str, int] = {}
    for (path, _, name), entry in vars(stats)["stats"].items():
        if "/celery/" in path and name in {"apply_async", "get"}:
            calls[f"{path.rpartition('/')[2]}:{name}"] = entry[1]
    assert calls["task.py:apply_async"] == TASKS
    assert calls["result.py:get"] >= TASKS
    assert "Ordered by: internal time" in (done.folder / "profile.txt").read_text()


def test_a_wrong_value_is_a_fault(double: Callable[..., Result]) -> None:
    """Values that are not the expected one end the run with 1 and are listed; 42.0 is not 42."""
    done = double(20, "--expect=42.0")
    assert done.code == 1
    assert done.record["counts"]["wrong"] == 20
    faults = [json.loads(line) for line in (done.folder / "faults.jsonl").read_text().splitlines()]
    assert {fault["id"] for fault in faults} == set(ids(done.folder))
    assert faults[0]["detail"] == "the result is 42, not 42.0"


def test_a_task_that_fails_is_a_fault(client: Client) -> None:
    """An exception on the worker is counted as failed, and its words are kept."""
    done = client("run", "--tasks=20", "--n=7", "--task=work.fail=blue", "--expect=14")
    assert done.code == 1
    assert done.record["counts"]["failed"] == 20
    assert "no 7 today" in (done.folder / "faults.jsonl").read_text()


@pytest.mark.parametrize("option", ["--profile", "--batch=10"])
def test_what_no_worker_takes_is_lost_after_the_deadline(client: Client, rabbitmq: RabbitMQ, option: str) -> None:
    """Tasks on an idle queue are lost once nothing new has come for the deadline; the others are all fetched."""
    done = client(
        "run", "--tasks=40", "--n=1", "--task=any=yellow", "--task=work.double=red", "--expect=2",
        "--no-workers", "--deadline=2", option,
    )  # fmt: skip
    purge_queue(rabbitmq, "yellow")
    assert done.code == 1
    counts = done.record["counts"]
    assert (counts["correct"], counts["lost"]) == (20, 20)
    assert done.record["waiting"] == {"yellow": 20}
    assert "20 messages still wait" in done.out


def test_ctrl_c_leaves_ids_and_record_whole_and_collecting_goes_on(client: Client, rabbitmq: RabbitMQ) -> None:
    """Interrupted while posting, it ends with 130; every message that was sent has its id, and collect finds them."""
    process = client.popen("run", "--tasks=1000000", "--n=1", "--task=work.double=red", "--expect=2")
    assert process.stderr is not None
    while not (line := process.stderr.readline()).startswith("run folder "):
        assert line, "it ended before it posted"
    folder = Path(line.split(" ", 2)[2].strip())
    wait_until(lambda: len(ids(folder)) > 50, 60, "posting")
    process.send_signal(signal.SIGINT)
    assert client.finish(process).code == 130
    record = json.loads((folder / "run.json").read_text())
    assert record["state"] == "interrupted"
    assert record["counts"]["posted"] == len(set(ids(folder))) < 1000000
    again = client("collect", str(folder))
    record = json.loads((folder / "run.json").read_text())
    assert (again.code, record["counts"]["correct"]) == (0, record["counts"]["posted"])
    wait_until(lambda: sum(depth(rabbitmq, queue) for queue in QUEUES) == 0, 60, "empty queues")


def test_a_signal_while_collecting_loses_nothing(client: Client, worker: subprocess.Popen[bytes]) -> None:
    """Ended by SIGTERM between results, nothing counts as lost, and collect fetches all of it."""
    process = client.popen("run", "--tasks=40", "--n=200", "--task=work.wait=red", "--expect=400")
    assert process.stderr is not None
    while not (line := process.stderr.readline()).startswith("posting 40 of 40"):
        assert line, "it ended before it had posted"
    # What the worker has not done by now it does not do before the client is gone.
    os.killpg(worker.pid, signal.SIGSTOP)
    try:
        process.send_signal(signal.SIGTERM)
        assert client.finish(process).code == 130
    finally:
        os.killpg(worker.pid, signal.SIGCONT)
    (folder,) = (path for path in client.runs.iterdir() if not path.is_symlink())
    record = json.loads((folder / "run.json").read_text())
    assert (record["state"], record["counts"]["lost"]) == ("interrupted", 0)
    assert client("collect", str(folder)).code == 0
    assert json.loads((folder / "run.json").read_text())["counts"]["correct"] == 40


@pytest.mark.parametrize("ahead", [-100_000.0, 100_000.0])
def test_collecting_after_a_reboot_counts_the_time_since_the_first_post(
    double: Callable[..., Result], client: Client, ahead: float
) -> None:
    """A monotonic clock that began anew is led back to the old one by the wall clock."""
    done = double(20)
    path = done.folder / "post.json"
    posted = json.loads(path.read_text())
    posted["clock"] = {"boot": "an earlier one", "ahead": posted["clock"]["ahead"] + ahead}
    posted |= {"first": posted["first"] - ahead, "last": posted["last"] - ahead}
    path.write_text(json.dumps(posted))
    assert client("collect", str(done.folder)).code == 0
    seconds = json.loads((done.folder / "run.json").read_text())["seconds"]
    assert seconds["post"] == pytest.approx(done.record["seconds"]["post"], abs=0.01)
    assert 0 < seconds["total"] < 600


def test_a_message_is_what_celery_31_sends(client: Client, rabbitmq: RabbitMQ) -> None:
    """The message carries task, arguments and id in its body, as JSON: protocol 1."""
    done = client("run", "--tasks=1", "--args=[1, 2]", "--task=any=yellow", "--no-workers", "--deadline=1")
    (message,) = take_all(rabbitmq, "yellow")
    body = json.loads(message.body)
    assert (body["task"], body["args"], [body["id"]]) == ("any", [1, 2], ids(done.folder))
    assert message.properties["content_type"] == "application/json"
    assert message.properties["delivery_mode"] == 2


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--tasks=0", "--n=1"], "whole number greater than 0"),
        (["--tasks=1", "--n=1", "--processes=2"], "posts from one process"),
        (["--tasks=1", "--n=1", "--task=work.double=blue"], "named twice"),
        (["--tasks=1", "--n=1", "--rate=5"], "does not know that"),
        (["--tasks=1", "--args={}"], "JSON list"),
        (["--tasks=1", "--n=1", "--name=a/b"], "must be made of letters"),
        (["--tasks=1", "--n=1", "--environment=/nowhere"], "cannot be read"),
        (["--tasks=1", "--n=1", "--stack=post2017"], "it is called --release now"),
        (["--tasks=1"], "required"),
    ],
)
def test_wrong_usage_ends_with_2_and_says_what(client: Client, options: list[str], words: str) -> None:
    """A value that cannot be run is named before anything is posted."""
    done = client("run", "--task=work.double=red", *options)
    assert (done.code, words in done.err) == (2, True), done.err
    assert not client.runs.exists()


def test_it_refuses_to_post_among_messages_that_wait(client: Client, rabbitmq: RabbitMQ) -> None:
    """Messages in a queue stop it with 3, before there is a folder."""
    client("run", "--tasks=3", "--n=1", "--task=any=yellow", "--no-workers", "--deadline=1")
    done = client("run", "--tasks=3", "--n=1", "--task=any=yellow", "--no-workers", "--deadline=1")
    purge_queue(rabbitmq, "yellow")
    assert done.code == 3
    assert "3 in yellow" in done.err
    assert len(list(client.runs.iterdir())) == 2


def test_a_queue_without_a_worker_is_named(client: Client) -> None:
    """No worker consumes the queue: it says so and ends with 3."""
    done = client("run", "--tasks=3", "--n=1", "--task=any=doomed")
    assert (done.code, "no worker consumes doomed" in done.err) == (3, True), done.err


@pytest.mark.parametrize("name", ["CELERY_BROKER_URL", "CELERY_RESULT_BACKEND"])
def test_a_service_that_is_not_there_is_named_without_a_password(client: Client, name: str) -> None:
    """Broker or memcached away: one line, exit code 3, no password."""
    nowhere = {
        "CELERY_BROKER_URL": "amqp://client:hidden@127.0.0.1:9/v",
        "CELERY_RESULT_BACKEND": "cache+memcached://127.0.0.1:9/",
    }
    client.environment = client.environment | {name: nowhere[name]}
    done = client("run", "--tasks=3", "--n=1", "--task=work.double=red")
    assert done.code == 3
    assert "127.0.0.1:9" in done.err
    assert not re.search("hidden|Traceback", done.err + done.out)


def test_it_shares_no_code_with_taskmill() -> None:
    """Importing every module of it imports nothing of taskmill: it stays the baseline."""
    code = (
        "import pkgutil, sys, celery31_client\n"
        "for _, name, _ in pkgutil.iter_modules(celery31_client.__path__):\n"
        "    name == '__main__' or __import__('celery31_client.' + name)\n"
        "print([name for name in sys.modules if name.startswith(('taskmill', 'fibonacci'))])\n"
    )
    said = subprocess.check_output([PYTHON, "-c", code], env={"PYTHONPATH": str(HERE.parent / "src")}, text=True)
    assert said.strip() == "[]"
