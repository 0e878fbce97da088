"""What goes wrong while a run is under way: no id is lost, and the files tell the truth."""

import json
import os
import re
import resource
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import amqp
import pytest

from conftest import TASKS, Taskmill
from services import CLIENT, OTHER_VHOST, Memcached, Proxy, RabbitMQ, Worker, channel, running, take_all, wait_until
from taskmill.publishing import journal

#: Small windows make posting slow enough to be disturbed.
SLOW = ("--threads=2", "--window=4", "--no-profile")


def record(folder: Path) -> dict[str, Any]:
    """Read run.json."""
    data: dict[str, Any] = json.loads((folder / "run.json").read_text())
    return data


def group_is_there(group: int) -> bool:
    """Say whether any process of a group is left."""
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    return True


def finish(process: subprocess.Popen[str], timeout: float = 60) -> tuple[int, str, str]:
    """Wait for a command and return exit code, stdout and stderr."""
    out, err = process.communicate(timeout=timeout)
    return process.returncode, out, err


def on_disk(folder: Path) -> dict[str, int]:
    """Return lines and confirmed lines in the journals."""
    threads = list(journal.read(folder / "ids"))
    return {"lines": sum(len(one.lines) for one in threads), "confirmed": sum(one.confirmed for one in threads)}


@pytest.mark.parametrize(
    ("pool", "task", "words"),
    [
        ("prefork", "keep", "workers have 1 message"),
        # The message that the worker has is another task's, under the same id.
        pytest.param("prefork", "hand_on", "workers have 1 message", marks=pytest.mark.thorough),
        # Its process does not answer while it runs a task.
        pytest.param(
            "solo", "keep", "a consumer of red does not answer, as one that is at work", marks=pytest.mark.thorough
        ),
    ],
)
def test_tasks_that_take_longer_than_the_deadline_are_not_lost_while_they_run(
    taskmill: Taskmill, rabbitmq: RabbitMQ, memcached: Memcached, tmp_path: Path, pool: str, task: str, words: str
) -> None:
    """The workers are asked before anything counts as lost, for messages that these tasks have sent, too."""
    taskmill.environment["CELERY_BROKER_URL"] = rabbitmq.url(CLIENT, vhost=OTHER_VHOST)
    load = (f"--task=forgetful.{task}=red", "--args=[7, 10]", "--expect=7", "--tasks=1")
    with running(rabbitmq, memcached, tmp_path, f"--pool={pool}", app="forgetful", FORGETFUL_BACKEND=memcached.url):
        done = taskmill("run", *load, "--deadline=2", "--no-profile")
    assert done.code == 0, done.out + done.err
    assert f"no new result for 2 s, but {words}: waiting longer" in " ".join(done.err.split())
    assert record(taskmill.latest)["counts"]["correct"] == 1


@pytest.mark.usefixtures("worker")
@pytest.mark.parametrize("how", [signal.SIGINT, pytest.param(signal.SIGTERM, marks=pytest.mark.thorough)])
def test_interrupted_posting_keeps_its_ids_and_collect_takes_them_up(taskmill: Taskmill, how: signal.Signals) -> None:
    """Ctrl-C and SIGTERM end posting in order: what was sent is confirmed, exit code 130, and collect goes on."""
    process = taskmill.popen("run", *TASKS, "--tasks=50000", "--n=2", "--expect=1", *SLOW)
    wait_until(lambda: taskmill.ids_written() > 200, 60, "200 ids on disk")
    process.send_signal(how)
    code, out, err = finish(process)
    folder = taskmill.latest
    assert code == 130, out + err
    assert "Interrupted" in out
    assert f"taskmill collect {folder}" in out.replace(str(taskmill.runs / folder.name), str(folder))
    found = on_disk(folder)
    assert 200 < found["lines"] == found["confirmed"] < 50000
    data = record(folder)
    assert data["state"] == "interrupted"
    assert data["counts"]["posted"] == data["counts"]["confirmed"] == found["lines"]
    assert data["counts"]["lost"] == 0
    done = taskmill("collect", str(folder), "--deadline=20")
    assert done.code == 4, done.out + done.err
    assert f"Not whole: {found['lines']:,} of 50,000 tasks were posted" in done.out
    assert f"taskmill resume {folder}" in done.out
    data = record(folder)
    assert data["state"] == "interrupted"
    assert data["counts"]["correct"] == data["counts"]["posted"] == found["lines"]
    assert (data["counts"]["lost"], data["counts"]["duplicates"], data["duplicates_from"]) == (0, 0, "workers")
    assert f"{found['lines']:,} of 50,000 tasks were posted" in data["problems"]


@pytest.mark.usefixtures("worker")
def test_interrupted_processes_end_in_order_too(taskmill: Taskmill) -> None:
    """Ctrl-C in a terminal reaches all processes of the group; each finishes its window."""
    process = taskmill.popen(
        "run", *TASKS, "--tasks=50000", "--n=2", "--expect=1", *SLOW, "--processes=2", start_new_session=True
    )
    wait_until(lambda: taskmill.ids_written() > 200, 60, "200 ids on disk")
    os.killpg(process.pid, signal.SIGINT)
    code, out, err = finish(process)
    assert code == 130, out + err
    assert "Traceback" not in err
    found = on_disk(taskmill.latest)
    assert 200 < found["lines"] == found["confirmed"] == record(taskmill.latest)["counts"]["posted"]
    assert taskmill("collect", str(taskmill.latest), "--deadline=20").code == 4


def test_interrupted_collecting_goes_on_from_the_ids(taskmill: Taskmill, worker: Worker) -> None:
    """Ctrl-C while collecting leaves a partial record; the next collect fetches all, and total spans both."""
    process = taskmill.popen("run", *TASKS, "--tasks=600", "--n=2", "--expect=1", "--rate=1200", "--no-profile")
    wait_until(lambda: taskmill.ids_written() > 0, 60, "an id on disk")
    with worker.paused():
        wait_until((taskmill.runs / "latest" / ".faults.jsonl").exists, 60, "collecting")
        process.send_signal(signal.SIGINT)
        code, out, err = finish(process)
    assert code == 130, out + err
    first = record(taskmill.latest)
    assert first["state"] == "interrupted"
    assert first["counts"]["posted"] == 600
    assert first["counts"]["retrieved"] < 600
    assert first["counts"]["lost"] == 0
    done = taskmill("collect", str(taskmill.latest), "--deadline=20")
    assert done.code == 0, done.out + done.err
    second = record(taskmill.latest)
    assert second["counts"]["correct"] == 600
    assert second["started_at"] == first["started_at"]
    assert second["seconds"]["total"] > first["seconds"]["total"]


@pytest.mark.usefixtures("worker")
def test_killed_posting_leaves_true_files(taskmill: Taskmill, rabbitmq: RabbitMQ, purge: Callable[[str], None]) -> None:
    """After kill -9 every message in the queue has its id on disk, and every confirmed id is in the queue."""

    def connections() -> int:
        return rabbitmq.ctl("list_connections", "user").split().count(CLIENT.name)

    purge("yellow")
    before = connections()
    process = taskmill.popen(
        "publish", "--no-workers", "--task=a.b=yellow", "--tasks=50000", "--n=2", "--threads=3", "--window=60"
    )
    wait_until(lambda: taskmill.ids_written() > 500, 60, "500 ids on disk")
    process.kill()
    finish(process)
    wait_until(lambda: connections() <= before, 60, "the end of its connections")
    in_queue = {message.headers["id"].encode() for message in take_all(rabbitmq, "yellow")}
    threads = list(journal.read(taskmill.latest / "ids"))
    written = {identifier for one in threads for identifier, _ in one.lines}
    confirmed = {identifier for one in threads for identifier, _ in one.lines[: one.confirmed]}
    assert confirmed <= in_queue <= written
    assert len(written) - len(confirmed) <= 3 * 60
    assert len(confirmed) > 200


@pytest.mark.usefixtures("worker")
def test_killed_run_is_taken_up_by_collect(taskmill: Taskmill) -> None:
    """After kill -9 collect fetches what was posted; ids that were perhaps never sent are told apart from losses."""
    process = taskmill.popen("run", *TASKS, "--tasks=50000", "--n=2", "--expect=1", *SLOW)
    wait_until(lambda: taskmill.ids_written() > 200, 60, "200 ids on disk")
    process.kill()
    finish(process)
    done = taskmill("collect", str(taskmill.latest), "--deadline=3")
    assert done.code == 4, done.out + done.err
    data = record(taskmill.latest)
    counts = data["counts"]
    assert counts["correct"] == counts["posted"] == counts["distinct"] > 190
    assert counts["confirmed"] <= counts["posted"]
    assert counts["posted"] + data["client"]["unsent"] == on_disk(taskmill.latest)["lines"]
    assert data["seconds"]["total"] > 0


def test_broker_restarted_while_posting_loses_nothing(
    taskmill: Taskmill, rabbitmq: RabbitMQ, worker: Worker, tmp_path: Path
) -> None:
    """The broker is killed and started again: posting waits, says so, goes on, and all results come."""
    said = tmp_path / "stderr"
    load = ("--tasks=3500", "--n=2", "--expect=1", "--threads=4", "--window=8", "--rate=1000", "--deadline=40")
    with said.open("w") as stream:
        process = taskmill.popen("run", *TASKS, *load, stderr=stream)
    wait_until(lambda: taskmill.ids_written() > 500, 60, "500 ids on disk")
    os.killpg(rabbitmq.processes[-1].pid, signal.SIGKILL)
    rabbitmq.processes.pop().wait()
    wait_until(lambda: "is gone; waiting for it" in said.read_text(), 60, "posting that waits for the broker")
    assert process.poll() is None
    rabbitmq.start()
    code, out, _ = finish(process, 120)
    assert code == 0, out + said.read_text()
    data = record(taskmill.latest)
    assert data["client"]["reconnects"] >= 4
    counts = data["counts"]
    assert counts["posted"] == counts["confirmed"] == counts["distinct"] == counts["correct"] == 3500
    assert counts["lost"] == 0
    assert worker.process is not None
    assert worker.process.poll() is None


def test_broker_that_stays_away_ends_the_posting_with_true_files(
    taskmill: Taskmill, rabbitmq: RabbitMQ, purge: Callable[[str], None]
) -> None:
    """Past the deadline posting is given up with exit code 4; every confirmed id is in the queue."""
    purge("yellow")
    proxy = Proxy(rabbitmq.port)
    taskmill.environment["CELERY_BROKER_URL"] = rabbitmq.url(CLIENT).replace(f":{rabbitmq.port}/", f":{proxy.port}/")
    process = taskmill.popen(
        "publish", "--no-workers", "--task=a.b=yellow", "--tasks=50000", "--n=2", *SLOW, "--broker-deadline=2"
    )
    wait_until(lambda: taskmill.ids_written() > 200, 60, "200 ids on disk")
    proxy.cut()
    code, out, err = finish(process)
    assert code == 4, out + err
    assert "is gone" in err
    data = record(taskmill.latest)
    assert data["state"] == "posting failed"
    assert "for 2 s" in data["problems"][0]
    assert CLIENT.password not in out + err + json.dumps(data)
    threads = list(journal.read(taskmill.latest / "ids"))
    confirmed = {identifier for one in threads for identifier, _ in one.lines[: one.confirmed]}
    in_queue = {message.headers["id"].encode() for message in take_all(rabbitmq, "yellow")}
    assert confirmed <= in_queue
    assert data["counts"]["confirmed"] >= len(confirmed) > 100


def test_broker_that_blocks_publishers_is_waited_for(
    taskmill: Taskmill, rabbitmq: RabbitMQ, purge: Callable[[str], None], tmp_path: Path
) -> None:
    """A memory alarm stops publishers: posting says so, waits, and goes on when it ends."""
    purge("yellow")
    said = tmp_path / "stderr"
    rabbitmq.ctl("set_vm_memory_high_watermark", "0.00001")
    try:
        with said.open("w") as stream:
            process = taskmill.popen(
                "publish", "--no-workers", "--task=a.b=yellow", "--tasks=3000", "--n=2", "--threads=2", "--window=10",
                stderr=stream,
            )  # fmt: skip
        wait_until(lambda: "blocks publishers" in said.read_text(), 60, "posting that says that it is blocked")
        begin = time.monotonic()
        wait_until(lambda: taskmill.ids_written() > 0, 60, "ids on disk")
        # Takes as long as the command line of RabbitMQ does.
        assert "memory" in rabbitmq.ctl("status")
        # No more than the first window of each thread.
        assert taskmill.ids_written() <= 20
        assert process.poll() is None
        blocked = time.monotonic() - begin
    finally:
        rabbitmq.ctl("set_vm_memory_high_watermark", "0.6")
    code, out, _ = finish(process)
    assert code == 0, out + said.read_text()
    assert "takes messages again" in said.read_text()
    data = record(taskmill.latest)
    assert data["counts"]["confirmed"] == 3000
    assert data["client"]["blocked_seconds"] >= blocked
    assert len(take_all(rabbitmq, "yellow")) == 3000


def test_queue_deleted_while_posting_is_an_error(taskmill: Taskmill, rabbitmq: RabbitMQ) -> None:
    """Messages that no queue takes come back: posting ends with its name, and none of them counts as confirmed."""
    process = taskmill.popen("publish", "--no-workers", "--task=a.b=doomed", "--tasks=50000", "--n=2", *SLOW)
    admin: amqp.Channel = channel(rabbitmq)
    try:
        wait_until(lambda: taskmill.ids_written() > 200, 60, "200 ids on disk")
        deleted = admin.queue_delete("doomed")
        code, out, err = finish(process)
    finally:
        admin.queue_declare("doomed", durable=True, auto_delete=False)
        admin.connection.close()
    assert code == 4, out + err
    data = record(taskmill.latest)
    assert re.search(r"no message for the queue 'doomed'", data["problems"][0])
    found = on_disk(taskmill.latest)
    # What was in the queue when it was deleted had been taken; what came back after had not.
    assert deleted > 0
    assert 0 < found["confirmed"] < found["lines"]
    assert data["counts"]["confirmed"] < data["counts"]["posted"] == found["lines"]


def test_second_ctrl_c_ends_at_once_and_leaves_nothing_behind(taskmill: Taskmill, purge: Callable[[str], None]) -> None:
    """Who does not want to wait for the confirms need not; the processes end, and the ids are kept."""
    purge("yellow")
    process = taskmill.popen(
        "publish",
        "--no-workers",
        "--task=a.b=yellow",
        "--tasks=150000",
        "--n=2",
        *SLOW,
        "--processes=2",
        start_new_session=True,
    )
    wait_until(lambda: taskmill.ids_written() > 200, 60, "200 ids on disk")
    os.killpg(process.pid, signal.SIGSTOP)
    # Both are pending when it goes on, with no time between them for the orderly way.
    os.killpg(process.pid, signal.SIGINT)
    os.killpg(process.pid, signal.SIGTERM)
    os.killpg(process.pid, signal.SIGCONT)
    code, _, err = finish(process)
    assert code == 130, err
    assert "Traceback" not in err
    wait_until(lambda: not group_is_there(process.pid), 60, "the end of every process")
    assert on_disk(taskmill.latest)["confirmed"] > 100


def test_posting_process_that_dies_ends_the_run_with_true_files(
    taskmill: Taskmill, rabbitmq: RabbitMQ, purge: Callable[[str], None]
) -> None:
    """One of two posting processes is killed: the other ends in order, the error says so, and the files are true."""
    purge("yellow")
    process = taskmill.popen(
        "publish", "--no-workers", "--task=a.b=yellow", "--tasks=150000", "--n=2", *SLOW, "--processes=2"
    )
    wait_until(lambda: taskmill.ids_written() > 200, 60, "200 ids on disk")
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    posting = [pid for pid in children if b"spawn_main" in Path(f"/proc/{pid}/cmdline").read_bytes()]
    os.kill(int(posting[0]), signal.SIGKILL)
    code, out, err = finish(process)
    assert code == 4, out + err
    assert "ended with code -9" in record(taskmill.latest)["problems"][0]
    confirmed = {id_ for one in journal.read(taskmill.latest / "ids") for id_, _ in one.lines[: one.confirmed]}
    assert confirmed <= {message.headers["id"].encode() for message in take_all(rabbitmq, "yellow")}
    assert len(confirmed) > 100


def test_full_disk_ends_the_posting_before_ids_are_lost(taskmill: Taskmill, purge: Callable[[str], None]) -> None:
    """When ids cannot be written, their messages are not sent, and the error is the disk's and not the broker's."""
    purge("yellow")
    limit = (200_000, 200_000)
    process = taskmill.popen(
        "publish",
        "--no-workers",
        "--task=a.b=yellow",
        "--tasks=100000",
        "--n=2",
        "--threads=2",
        "--no-profile",
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, limit),
    )
    code, out, err = finish(process)
    assert code == 4, out + err
    assert "the ids cannot be kept" in record(taskmill.latest)["problems"][0]
    assert "is gone" not in err
    # The report has no room either, and is larger than all that was posted; nothing half of it is left.
    assert "no report of" in err
    assert not list(taskmill.latest.glob("*report.html"))


def test_lost_results_of_workers_that_are_slow_are_told_apart(taskmill: Taskmill, purge: Callable[[str], None]) -> None:
    """What nobody took within the deadline counts as lost, and the record says that it still waits in its queue."""
    purge("yellow")
    assert taskmill("publish", "--no-workers", "--task=a.b=yellow", "--tasks=7", "--n=2").code == 0
    done = taskmill("collect", str(taskmill.latest), "--deadline=1")
    assert done.code == 1
    assert record(taskmill.latest)["counts"]["lost"] == 7
    assert "7 messages still wait in the queues" in done.out
