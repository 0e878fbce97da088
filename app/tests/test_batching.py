"""Tasks in batches: every one ends as it would by itself, and none is lost whatever dies."""

import contextlib
import os
import signal
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import amqp
import pytest
from celery import chain, chord
from celery.result import AsyncResult

from batch_cluster import Cluster, cluster_of
from services import OTHER_VHOST, Memcached, RabbitMQ, purge_queue, wait_until
from task_messages import headers, message

QUEUE = Cluster.queue


@pytest.fixture
def cluster(rabbitmq: RabbitMQ, memcached: Memcached, tmp_path: Path) -> Iterator[Cluster]:
    """Yield a cluster without workers."""
    with cluster_of(Cluster, rabbitmq, memcached, tmp_path) as cluster:
        yield cluster


def outcome(result: AsyncResult) -> tuple[str, Any]:
    """Wait for a result and return its state and value."""
    wait_until(result.ready, 60, f"a result of {result.id}")
    return result.state, result.result


def count(rabbitmq: RabbitMQ, column: str) -> int:
    """Return a number that the broker has of the queue."""
    lines = rabbitmq.ctl("list_queues", "-p", OTHER_VHOST, "name", column).splitlines()
    return sum(int(line.split()[1]) for line in lines if line.split()[0] == QUEUE)


def unsettled(rabbitmq: RabbitMQ) -> int:
    """Return how many messages the broker still has, waiting or handed out."""
    return count(rabbitmq, "messages")


def unacknowledged(rabbitmq: RabbitMQ) -> int:
    """Return how many messages workers have that the broker waits for."""
    return count(rabbitmq, "messages_unacknowledged")


def test_each_task_of_a_batch_ends_in_its_own_way(cluster: Cluster, rabbitmq: RabbitMQ) -> None:
    """Success, failure, retry, rejection and wrong arguments stand beside each other, and leave no message behind."""
    tasks = cluster.tasks
    good = [cluster.post(tasks.double, number) for number in range(40)]
    failing = [cluster.post(tasks.fail, number) for number in range(5)]
    retried = [cluster.post(tasks.retry_once, number) for number in range(5)]
    rejected = [cluster.post(tasks.reject, number) for number in range(3)]
    wrong = [cluster.app.send_task("odd.double", queue=QUEUE) for _ in range(3)]
    ignored = [cluster.post(tasks.ignore, number) for number in range(100, 103)]
    cluster.start()
    assert [outcome(result) for result in good] == [("SUCCESS", 2 * number) for number in range(40)]
    assert [(state, str(value)) for state, value in map(outcome, failing)] == [("FAILURE", f"no {n}") for n in range(5)]
    assert [outcome(result) for result in retried] == [("SUCCESS", number) for number in range(5)]
    assert {outcome(result)[0] for result in rejected} == {"FAILURE"}
    assert {type(outcome(result)[1]) for result in wrong} == {TypeError}
    wait_until(lambda: all(cluster.executions()[str(number)] for number in range(100, 103)), 60, "the ignored tasks")
    assert {result.state for result in ignored} == {"PENDING"}
    wait_until(lambda: unsettled(rabbitmq) == 0, 60, "every message acknowledged")
    assert set(cluster.executions().values()) == {1}


def test_broken_messages_among_good_ones_end_no_worker(
    cluster: Cluster, rabbitmq: RabbitMQ, send: Callable[[amqp.Message], None]
) -> None:
    """No id, no JSON, no triple, no mapping of keyword arguments: each is settled, and the good ones are done."""
    good = [cluster.post(cluster.tasks.double, number) for number in range(20)]
    for text in ("[[1], {}, {}", "[1]", "[[1], [2], {}]", "[[1], {}, 3]", "null"):
        send(message(text, headers("odd.double")))
    no_id = headers("odd.double")
    del no_id["id"]
    send(message("[[1], {}, {}]", no_id))
    good += [cluster.post(cluster.tasks.double, number) for number in range(20, 40)]
    worker = cluster.start()
    assert [outcome(result)[1] for result in good] == [2 * number for number in range(40)]
    wait_until(lambda: unsettled(rabbitmq) == 0, 60, "every message settled")
    assert worker.process is not None
    assert worker.process.poll() is None


def test_tasks_go_to_the_pool_in_batches(cluster: Cluster) -> None:
    """A hundred tasks are a few jobs of the pool, and the worker counts all of them as its own."""
    # Long enough for messages to gather meanwhile, however slow the machine is.
    results = [cluster.post(cluster.tasks.double, number, 0.05) for number in range(100)]
    worker = cluster.start()
    assert [outcome(result)[1] for result in results] == [2 * number for number in range(100)]
    stats = cluster.ask("stats")
    assert stats["total"] == {"odd.double": 100}
    jobs = stats["pool"]["writes"]["total"]
    assert 0 < int(jobs) <= 40, (jobs, worker.log.read_text()[-500:])


def test_tasks_in_batches_send_their_events(cluster: Cluster) -> None:
    """A monitor hears of each task that it came, began and succeeded, when a worker is told to say so."""
    seen: Counter[str] = Counter()
    succeeded = {}

    def hear(event: dict[str, Any]) -> None:
        seen[event["type"]] += 1
        if event["type"] == "task-succeeded":
            succeeded[event["uuid"]] = event["result"]

    cluster.start("--task-events")
    with cluster.app.connection_for_read() as address:
        receiver = cluster.app.events.Receiver(address, handlers={"*": hear})
        # The events come on a connection of its own.
        with receiver.consumer_context() as (connection, *_):
            results = [cluster.post(cluster.tasks.double, number) for number in range(30)]
            deadline = time.monotonic() + 60
            while len(succeeded) < len(results) and time.monotonic() < deadline:
                with contextlib.suppress(TimeoutError):
                    connection.drain_events(timeout=1)
    assert [seen[f"task-{kind}"] for kind in ("received", "started", "succeeded")] == [30, 30, 30]
    assert succeeded == {result.id: str(2 * number) for number, result in enumerate(results)}


def test_messages_are_reserved_as_the_tasks_are_long(cluster: Cluster) -> None:
    """Short tasks have more messages reserved than the app's settings say, and long ones do not."""
    cluster.environment["CELERY_WORKER_BATCH_SECONDS"] = "0.2"
    worker = cluster.start("--prefetch-multiplier=1")

    def reserved() -> int:
        stats = cluster.ask("stats")
        return int(stats["prefetch_count"])

    assert reserved() == 1
    short = [cluster.post(cluster.tasks.double, number) for number in range(50)]
    wait_until(lambda: reserved() > 20, 60, "messages reserved for batches")
    # The long ones are to be measured by themselves.
    assert [outcome(result)[1] for result in short] == [2 * number for number in range(50)]
    for number in range(3):
        cluster.post(cluster.tasks.double, number, 1)
    wait_until(lambda: reserved() == 1, 60, "no more reserved than the settings say")
    worker.stop()


def test_a_pool_process_killed_within_a_batch_loses_no_task(cluster: Cluster, rabbitmq: RabbitMQ) -> None:
    """All tasks of its batch are delivered once more, and the one that killed it runs alone."""
    tasks = cluster.tasks
    results = [cluster.post(tasks.double, number) for number in range(30)]
    killer = cluster.post(tasks.kill_once, 7)
    results += [cluster.post(tasks.double, number) for number in range(30, 60)]
    cluster.start()
    assert [outcome(result)[1] for result in results] == [2 * number for number in range(60)]
    assert outcome(killer) == ("SUCCESS", 7)
    assert cluster.executions()["kill 7"] == 2
    wait_until(lambda: unsettled(rabbitmq) == 0, 60, "every message acknowledged")


def test_a_worker_killed_within_a_batch_loses_no_task(cluster: Cluster, rabbitmq: RabbitMQ) -> None:
    """What it had not acknowledged goes to the next worker."""
    results = [cluster.post(cluster.tasks.double, number, 0.05) for number in range(60)]
    first = cluster.start()
    wait_until(lambda: sum(cluster.executions().values()) > 10, 60, "tasks under way")
    active = cluster.ask("active")
    assert len(active) > 1
    assert {one["id"] for one in active} <= {result.id for result in results}
    assert first.process is not None
    os.killpg(first.process.pid, signal.SIGKILL)
    first.process.wait(60)
    assert unsettled(rabbitmq) > 0
    cluster.start()
    assert [outcome(result)[1] for result in results] == [2 * number for number in range(60)]


def test_a_warm_shutdown_ends_its_batches_and_runs_nothing_twice(cluster: Cluster, rabbitmq: RabbitMQ) -> None:
    """The worker stops by itself; what it had begun is done and acknowledged, the rest waits in the broker."""
    results = [cluster.post(cluster.tasks.double, number, 0.02) for number in range(200)]
    first = cluster.start()
    wait_until(lambda: sum(cluster.executions().values()) > 10, 60, "tasks under way")
    assert first.process is not None
    first.process.send_signal(signal.SIGTERM)
    assert first.process.wait(60) == 0
    done = sum(cluster.executions().values())
    assert 10 < done < 200
    assert unsettled(rabbitmq) == 200 - done
    cluster.start()
    assert [outcome(result)[1] for result in results] == [2 * number for number in range(200)]
    assert set(cluster.executions().values()) == {1}


def test_a_lost_connection_loses_no_task(cluster: Cluster, rabbitmq: RabbitMQ) -> None:
    """The worker connects again, and what it held is delivered once more."""
    results = [cluster.post(cluster.tasks.double, number, 0.02) for number in range(150)]
    cluster.start()
    wait_until(lambda: sum(cluster.executions().values()) > 10, 60, "tasks under way")
    rabbitmq.ctl("close_all_connections", "-p", OTHER_VHOST, "a test")
    assert [outcome(result)[1] for result in results] == [2 * number for number in range(150)]
    wait_until(lambda: unsettled(rabbitmq) == 0, 60, "every message acknowledged")


def test_results_that_memcached_does_not_take_are_stored_later(
    rabbitmq: RabbitMQ, tmp_path: Path, start_memcached: Callable[..., Memcached]
) -> None:
    """With memcached away the messages go back to their queue; no task is acknowledged without its result."""
    store = start_memcached()
    purge_queue(rabbitmq, QUEUE, OTHER_VHOST)
    cluster = Cluster(rabbitmq, store, tmp_path)
    cluster.environment["ODD_RETRIES"] = "5"
    try:
        results = [cluster.post(cluster.tasks.double, number, 0.01) for number in range(60)]
        store.stop()
        cluster.start()
        wait_until(lambda: max(cluster.executions().values(), default=0) > 1, 60, "a task that came once more")
        assert unsettled(rabbitmq) == 60
        store.start()
        assert [outcome(result)[1] for result in results] == [2 * number for number in range(60)]
        wait_until(lambda: unsettled(rabbitmq) == 0, 60, "every message acknowledged")
    finally:
        cluster.end()


def test_messages_that_ask_for_more_take_celerys_own_way(cluster: Cluster, rabbitmq: RabbitMQ) -> None:
    """ETA, expiry, time limit, revocation, chains and chords work among the batches."""
    tasks = cluster.tasks
    cluster.start(concurrency=2)
    # The worker has it before the message: what comes by another queue may come later.
    assert cluster.app.control.revoke("revoked", reply=True, timeout=60, limit=1)
    revoked = cluster.post(tasks.double, 503, task_id="revoked")
    good = [cluster.post(tasks.double, number) for number in range(30)]
    later = cluster.post(tasks.double, 500, countdown=2)
    expiring = cluster.post(tasks.double, 501, expires=60)
    limited = cluster.post(tasks.double, 502, 30, time_limit=1)
    linked = chain(tasks.double.s(3), tasks.double.s(), tasks.double.s()).apply_async(queue=QUEUE)
    summed = chord([tasks.double.s(number).set(queue=QUEUE) for number in range(5)])(tasks.total.s().set(queue=QUEUE))
    more = [cluster.post(tasks.double, number) for number in range(30, 60)]
    assert [outcome(result)[1] for result in good + more] == [2 * number for number in range(60)]
    assert outcome(linked) == ("SUCCESS", 24)
    assert outcome(summed) == ("SUCCESS", 20)
    assert outcome(later) == ("SUCCESS", 1000)
    assert outcome(expiring) == ("SUCCESS", 1002)
    assert outcome(revoked)[0] == "REVOKED"
    assert outcome(limited)[0] == "FAILURE"
    wait_until(lambda: unsettled(rabbitmq) == 0, 60, "every message acknowledged")


@pytest.mark.parametrize(
    ("name", "open_meanwhile"),
    [
        pytest.param("wait_with_limit", 1, marks=pytest.mark.thorough),
        pytest.param("wait_with_strategy", 1, marks=pytest.mark.thorough),
        ("wait_acknowledged", 0),
    ],
)
def test_what_goes_singly_is_acknowledged_by_itself_among_batches(
    cluster: Cluster, rabbitmq: RabbitMQ, name: str, open_meanwhile: int
) -> None:
    """While it runs, batches of others come and go; its message stays, if late, and the worker outlives its end."""
    worker = cluster.start(concurrency=2)
    held = cluster.post(getattr(cluster.tasks, name), "go")
    for begin in range(0, 60, 20):
        results = [cluster.post(cluster.tasks.double, number) for number in range(begin, begin + 20)]
        assert [outcome(result)[1] for result in results] == [2 * number for number in range(begin, begin + 20)]
    wait_until(lambda: unsettled(rabbitmq) == open_meanwhile, 60, "the others acknowledged")
    cluster.say("go")
    assert outcome(held) == ("SUCCESS", None)
    wait_until(lambda: unsettled(rabbitmq) == 0, 60, "every message acknowledged")
    assert outcome(cluster.post(cluster.tasks.double, 7)) == ("SUCCESS", 14)
    assert cluster.executions()["7"] == 2
    text = worker.log.read_text()
    assert "PRECONDITION_FAILED" not in text
    said = text[: text.index(" ready.")]
    assert "Tasks that run in batches of at most 20: odd.double, odd.fail" in said
    assert "Tasks that run singly, since they have a time limit: odd.wait_with_limit" in said
    assert "Tasks that run singly, since they have a Strategy of their own: odd.wait_with_strategy" in said
    assert "(acks_late is off): odd.wait_acknowledged" in said


@pytest.mark.parametrize("pool", ["threads", pytest.param("solo", marks=pytest.mark.thorough)])
def test_other_pools_have_no_batches_and_say_so(cluster: Cluster, rabbitmq: RabbitMQ, pool: str) -> None:
    """All is left to Celery there."""
    results = [cluster.post(cluster.tasks.double, number) for number in range(40)]
    worker = cluster.start(f"--pool={pool}")
    assert [outcome(result)[1] for result in results] == [2 * number for number in range(40)]
    wait_until(lambda: unsettled(rabbitmq) == 0, 60, "every message acknowledged")
    assert "Tasks run singly, and not in batches, since only the prefork pool" in worker.log.read_text()


def test_remote_control_knows_what_waits_for_a_batch_and_what_is_in_one(cluster: Cluster, rabbitmq: RabbitMQ) -> None:
    """It lists them as Celery does, and ends the process of a batch; what else was in that runs once more."""
    tasks = cluster.tasks
    cluster.start()
    running = cluster.post(tasks.wait_for, "never")
    wait_until(lambda: cluster.ask("active"), 60, "a task at work")
    waiting = [cluster.post(tasks.double, number) for number in range(3)]
    wait_until(lambda: unacknowledged(rabbitmq) == 4, 60, "all messages in the worker")
    assert [one["args"] for one in cluster.ask("active")] == [["never"]]
    reserved = {one["id"]: one for one in cluster.ask("reserved")}
    assert set(reserved) == {result.id for result in waiting}
    assert reserved[waiting[0].id]["args"] == [0]
    query = cluster.app.control.inspect(timeout=60, limit=1).query_task([running.id, waiting[0].id])
    ((states),) = query.values()
    assert {key: state for key, (state, _) in states.items()} == {running.id: "active", waiting[0].id: "reserved"}
    assert cluster.app.control.revoke(running.id, terminate=True, signal="SIGKILL", reply=True, timeout=60, limit=1)
    assert outcome(running)[0] == "REVOKED"
    assert [outcome(result) for result in waiting] == [("SUCCESS", 0), ("SUCCESS", 2), ("SUCCESS", 4)]
    wait_until(lambda: unsettled(rabbitmq) == 0, 60, "every message acknowledged")
    wait_until(lambda: not cluster.ask("active") and not cluster.ask("reserved"), 60, "nothing on the lists")


def test_a_time_limit_of_the_worker_leaves_all_to_celery(cluster: Cluster) -> None:
    """With one, no task is in a batch, and the limit holds for each."""
    slow = cluster.post(cluster.tasks.double, 1, 30)
    results = [cluster.post(cluster.tasks.double, number) for number in range(20)]
    cluster.start("--time-limit=2", concurrency=2)
    assert [outcome(result)[1] for result in results] == [2 * number for number in range(20)]
    assert outcome(slow)[0] == "FAILURE"


def test_a_task_revoked_while_it_waits_in_the_worker_does_not_run(
    cluster: Cluster, rabbitmq: RabbitMQ, send: Callable[[amqp.Message], None]
) -> None:
    """Revocation is looked at when a task is handed out, not only when it arrives; the others run."""
    tasks = cluster.tasks
    held = cluster.post(tasks.wait_for, "go")
    ahead = cluster.post(tasks.double, 1)
    revoked = cluster.post(tasks.double, 601)
    # It comes by another connection, and would be settled by itself if it came first.
    wait_until(lambda: unsettled(rabbitmq) == 3, 60, "what was posted in the queue")
    send(message("[1]", headers("odd.double", id="broken")))
    cluster.start()
    wait_until(lambda: unacknowledged(rabbitmq) == 4, 60, "all four messages in the worker")
    good = cluster.post(tasks.double, 2)
    assert cluster.app.control.revoke([revoked.id, "broken"], reply=True, timeout=60, limit=1)
    cluster.say("go")
    assert outcome(held) == ("SUCCESS", None)
    assert [outcome(result)[1] for result in (ahead, good)] == [2, 4]
    assert outcome(revoked)[0] == "REVOKED"
    assert "601" not in cluster.executions()
    wait_until(lambda: unsettled(rabbitmq) == 0, 60, "every message settled, that of a broken body too")


def test_a_rate_limit_set_on_a_running_worker_holds(cluster: Cluster) -> None:
    """Tasks of that kind leave the batches, one by one, and all are done."""
    cluster.start()
    assert cluster.app.control.rate_limit("odd.double", "5/s", reply=True, timeout=60, limit=1)
    begin = time.monotonic()
    results = [cluster.post(cluster.tasks.double, number) for number in range(12)]
    assert [outcome(result)[1] for result in results] == [2 * number for number in range(12)]
    # The bucket holds one task, and the next comes after a fifth of a second.
    assert time.monotonic() - begin > 10 / 5


def test_processes_that_are_replaced_after_some_tasks_lose_none(cluster: Cluster, rabbitmq: RabbitMQ) -> None:
    """With `max-tasks-per-child` each task is a job of the pool by itself, so that the number holds."""
    results = [cluster.post(cluster.tasks.double, number) for number in range(20)]
    cluster.start("--max-tasks-per-child=5")
    assert [outcome(result)[1] for result in results] == [2 * number for number in range(20)]
    stats = cluster.ask("stats")
    # To replace a process takes writes of its own.
    assert int(stats["pool"]["writes"]["total"]) >= 20
    wait_until(lambda: unsettled(rabbitmq) == 0, 60, "every message acknowledged")
