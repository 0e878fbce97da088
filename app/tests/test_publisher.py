"""Publishing signatures: the messages of `apply_async`, confirmed, with their ids, whatever happens to the broker."""

import json
import multiprocessing
import os
import pickle
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import amqp
import pytest
from celery import Celery, chain, chord, group, signals, signature
from celery._state import _task_stack
from kombu import Queue

from many import add, app, routed, shadowed, topical
from services import (
    ADMIN,
    APPS,
    CLIENT,
    SOURCE,
    WORKER,
    Memcached,
    Proxy,
    RabbitMQ,
    channel,
    purge_queue,
    take_all,
    wait_until,
)
from taskmill import PublishError, TaskmillError, publish

QUEUES = ("yellow", "many-routed", "many-other")
ID = "0b5a2fb6-6d4c-4a63-9a57-5f0a3f1f6f6e"
SOON = datetime.now(timezone.utc) + timedelta(hours=1)


@pytest.fixture(scope="module", autouse=True)
def broker(rabbitmq: RabbitMQ) -> Iterator[RabbitMQ]:
    """Yield the broker of the app, which may declare what it needs there; that is gone afterwards."""
    # For processes that import it, and for this one.
    os.environ["MANY_BROKER"] = app.conf.broker_url = rabbitmq.url(ADMIN)
    one = channel(rabbitmq)
    # Durable, as some of these tests start the broker anew.
    one.exchange_declare("many-topic", "topic", durable=True, auto_delete=False)
    one.queue_bind("yellow", "many-topic", "a.*")
    for queue in QUEUES[1:]:
        one.queue_declare(queue, durable=True, auto_delete=False)
    yield rabbitmq
    one = channel(rabbitmq)
    # Celery declares an exchange of the name of each queue that it does not know.
    for exchange in ("many-topic", "many-new", *QUEUES):
        one.exchange_delete(exchange)
    for queue in QUEUES[1:]:
        one.queue_delete(queue)
    one.connection.close()
    purge_queue(rabbitmq, "yellow")


@pytest.fixture(autouse=True)
def empty(broker: RabbitMQ) -> None:
    """Leave nothing of the test before."""
    for queue in QUEUES:
        purge_queue(broker, queue)


def taken(broker: RabbitMQ) -> list[amqp.Message]:
    """Take what is in the queues, in the order of each."""
    return [message for queue in QUEUES for message in take_all(broker, queue)]


def fields(message: amqp.Message) -> dict[str, Any]:
    """Return every field of a message that the broker hands out."""
    body = message.body.encode() if isinstance(message.body, str) else message.body
    routing = {name: message.delivery_info[name] for name in ("exchange", "routing_key", "redelivered")}
    return {"properties": dict(message.properties), "routing": routing, "body": body}


def compared(message: amqp.Message, identifier: str) -> dict[str, Any]:
    """Return every field, with the id and what depends on the time of day replaced by its kind."""
    every = fields(message)
    headers = every["properties"]["application_headers"] = dict(every["properties"]["application_headers"])
    for holder, name in ((headers, "id"), (headers, "root_id"), (every["properties"], "correlation_id")):
        if holder[name] == identifier:
            holder[name] = "its id"
    for name in ("eta", "expires"):
        if headers[name] is not None:
            seconds = (datetime.fromisoformat(headers[name]) - datetime.now(timezone.utc)).total_seconds()
            headers[name] = f"in {round(seconds / 20)} times 20 s"
    if "expiration" in every["properties"]:
        every["properties"]["expiration"] = round(int(every["properties"]["expiration"]) / 20_000)
    return every


def sent_by_celery(broker: RabbitMQ, one: Any) -> dict[str, Any]:
    """Send a signature by its own `apply_async` and return the message."""
    identifier = one.apply_async().id
    (message,) = taken(broker)
    return compared(message, identifier)


CASES = {
    "nothing": add.s(1, 2),
    "keywords": add.s(1, other="ü"),
    "immutable": add.si(1, 2),
    "routed by the app": routed.s({"a": 1}, b=(1, 2)),
    "exchange and routing key of a route": topical.s(1),
    "shadow by arguments": shadowed.s(1, a=2),
    "shadow": add.s(1, 2).set(shadow="other"),
    "queue": add.s(1, 2).set(queue="many-other"),
    "queue as an object": add.s(1, 2).set(queue=Queue("many-other", routing_key="many-other", no_declare=True)),
    "exchange and routing key": add.s(1, 2).set(exchange="many-topic", exchange_type="topic", routing_key="a.c"),
    "countdown": add.s(1, 2).set(countdown=100),
    "eta": add.s(1, 2).set(eta=SOON),
    "expires in seconds": add.s(1, 2).set(expires=3000),
    "expires at a time": add.s(1, 2).set(expires=SOON),
    "priority": add.s(1, 2).set(priority=7),
    "headers": add.s(1, 2).set(headers={"tenant": "t", "deep": {"list": [1, None, "x"]}}),
    "own id": add.s(1, 2).set(task_id=ID),
    "own id of another length": add.s(1, 2).set(task_id="job-1"),
    "retries": add.s(1, 2).set(retries=2),
    "serializer": add.s(1, 2).set(serializer="pickle"),
    "compression": add.s(1, 2).set(compression="zlib"),
    "transient": add.s(1, 2).set(delivery_mode=1),
    "limits": add.s(1, 2).set(time_limit=30, soft_time_limit=20),
    "ignored result": add.s(1, 2).set(ignore_result=True),
    "link": add.s(1, 2).set(link=add.s(3).set(queue="many-other")),
    "links": add.s(1, 2).set(link=[add.s(3), routed.s()], link_error=routed.si("failed")),
    "link to a chain": add.s(1, 2).set(link=chain(add.s(3), add.s(4))),
    "representation": add.s("secret", 2).set(argsrepr="('***', 2)", kwargsrepr="{}"),
    "root and parent": add.s(1, 2).set(root_id=ID, parent_id=ID[::-1]),
    "group": add.s(1, 2).set(group_id=ID, group_index=4),
    "reply": add.s(1, 2).set(reply_to="elsewhere"),
    "properties": add.s(1, 2).set(app_id="shop", user_id="admin"),
}


@pytest.mark.parametrize("name", CASES)
def test_message_equals_what_apply_async_sends(broker: RabbitMQ, name: str) -> None:
    """Field by field, for every option; the first of its kind, and one after it, which is made in another way."""
    one = CASES[name]
    theirs = sent_by_celery(broker, one)
    ids = publish([one, one])
    ours = taken(broker)
    assert len(ours) == 2
    for identifier, message in zip(ids, ours, strict=True):
        assert compared(message, identifier) == theirs
    assert (ids == [one.options["task_id"]] * 2) if "task_id" in one.options else (len(set(ids)) == 2)


@pytest.mark.parametrize(
    "args",
    [(), ("ü\udc80\U0001f600",), (None, [1.5, {"k": [True]}], -1), ("x" * 5000,), (list(range(3000)),), ("%s", "\x00")],
    ids=["none", "unicode", "nested", "longer than its representation", "many", "signs"],
)
@pytest.mark.parametrize("task", [routed, topical], ids=["pickle", "json"])
def test_arguments_equal_what_apply_async_sends(broker: RabbitMQ, args: tuple[Any, ...], task: Any) -> None:
    """The body and what monitors show of it, for arguments of every kind, after a message with others."""
    if task is topical and any("\udc80" in str(one) for one in args):
        args = (args[0].replace("\udc80", ""),)
    for one in (task.s(*args), task.s(*args, named=args)):
        theirs = sent_by_celery(broker, one)
        ids = publish([task.s("before"), one])
        assert compared(taken(broker)[1], ids[1]) == theirs


def test_stamps_equal_what_apply_async_sends(broker: RabbitMQ) -> None:
    """A stamped signature is sent with its stamps."""
    one = add.s(1, 2)
    one.stamp(tenant="t")
    theirs = sent_by_celery(broker, one)
    (identifier,) = publish([one])
    (ours,) = taken(broker)
    assert ours.headers["stamps"] == {"tenant": ["t"]} or ours.headers["stamps"] == {"tenant": "t"}
    assert compared(ours, identifier) == theirs


def test_tasks_by_name_equal_what_send_task_sends(broker: RabbitMQ) -> None:
    """With a broker's address in place of an app, any task is sent by its name."""
    other = Celery("other", broker=broker.url(ADMIN), set_as_current=False)
    identifier = other.send_task("not.here", (1,), {"a": 2}, queue="yellow").id
    (theirs,) = taken(broker)
    (ours_id,) = publish([signature("not.here", (1,), {"a": 2}, queue="yellow")], app=broker.url(ADMIN))
    (ours,) = taken(broker)
    expected, got = compared(theirs, identifier), compared(ours, ours_id)
    # Each app has a name of its own to reply to.
    for one in (expected, got):
        assert one["properties"].pop("reply_to")
    assert got == expected


def test_signals_see_every_message_and_may_change_it(broker: RabbitMQ) -> None:
    """What listens to `before_task_publish` has the effect that it has with `apply_async`."""

    def mark(headers: dict[str, Any], **_: Any) -> None:
        headers["marked"] = headers["argsrepr"]

    signals.before_task_publish.connect(mark, weak=False)
    try:
        publish([add.s(1, 2), add.s(3, 4)])
    finally:
        signals.before_task_publish.disconnect(mark)
    assert [message.headers["marked"] for message in taken(broker)] == ["(1, 2)", "(3, 4)"]


def test_events_tell_of_what_is_sent_where_the_app_wants_them(broker: RabbitMQ) -> None:
    """With `task_send_sent_event` each message has its event, and counts once."""
    other = Celery("other", broker=broker.url(ADMIN), set_as_current=False)
    other.conf.update(task_send_sent_event=True, task_default_queue="yellow")
    one = channel(broker)
    one.exchange_declare("celeryev", "topic", durable=True, auto_delete=False)
    one.queue_bind("many-other", "celeryev", "task.#")
    told: list[int] = []
    try:
        ids = publish([signature("a.b", (n,)) for n in range(300)], app=register(other, "a.b"), progress=told.append)
        wait_until(lambda: one.queue_declare("many-other", passive=True).message_count == 300, 60, "300 events")
    finally:
        one.queue_unbind("many-other", "celeryev", "task.#")
        one.connection.close()
    events = [json.loads(message.body) for message in take_all(broker, "many-other")]
    assert [event["uuid"] for event in events] == ids
    assert {event["type"] for event in events} == {"task-sent"}
    assert [message.headers["id"] for message in taken(broker)] == ids
    assert told[-1] == 300


def register(other: Celery, name: str) -> Celery:
    """Return the app with a task of that name, of its own."""

    def work(*args: Any) -> Any:
        return args

    other.task(name=name, shared=False)(work)
    return other


def test_message_from_within_a_task_equals_what_apply_async_sends(broker: RabbitMQ) -> None:
    """Who publishes inside a task is the parent, and its root is theirs; from several threads that is refused."""
    parent = app.tasks["many.add"]
    _task_stack.push(parent)
    parent.push_request(id="parent", root_id="root", called_directly=False)
    try:
        theirs = sent_by_celery(broker, add.s(1, 2))
        ids = publish([add.s(3, 4), add.s(1, 2)])
        with pytest.raises(TaskmillError, match="threads=1"):
            publish([add.s(1, 2)], threads=2)
    finally:
        parent.pop_request()
        _task_stack.pop()
    ours = compared(taken(broker)[1], ids[1])
    assert ours == theirs
    headers = ours["properties"]["application_headers"]
    assert (headers["root_id"], headers["parent_id"]) == ("root", "parent")


def test_queue_that_is_not_there_is_declared_as_apply_async_does(broker: RabbitMQ) -> None:
    """The first message for a queue makes it, durable; a user who may not is told so."""
    try:
        publish([add.s(n, 1).set(queue="many-new") for n in range(3)])
        assert len(take_all(broker, "many-new")) == 3
    finally:
        one = channel(broker)
        one.queue_delete("many-new")
        one.connection.close()
    with pytest.raises(PublishError, match=r"refuses to declare .*many-new.*no_declare=True") as caught:
        publish([signature("a.b", queue="many-new")], app=broker.url(CLIENT))
    assert not caught.value.confirmed
    assert len(caught.value.unconfirmed) == 1


@pytest.mark.parametrize(
    "how",
    [
        {},
        {"window": 3},
        pytest.param({"threads": 3}, marks=pytest.mark.thorough),
        pytest.param({"processes": 2, "app": "many:app"}, marks=pytest.mark.thorough),
        {"processes": 2, "threads": 2, "app": "many"},
    ],
    ids=["one thread", "small window", "threads", "processes", "processes with threads"],
)
def test_ids_come_back_in_the_order_of_the_signatures(broker: RabbitMQ, how: dict[str, Any]) -> None:
    """Each message is in its queue when publishing returns, once, with the id at the place of its signature."""
    told: list[int] = []
    count = 300 if "window" in how else 9001
    ids = publish((add.s(n, "x") for n in range(count)), progress=told.append, **how)
    messages = taken(broker)
    assert len(messages) == len(set(ids)) == len(ids) == count
    found = {message.headers["id"]: json.loads(message.body)[0][0] for message in messages}
    assert [found[identifier] for identifier in ids] == list(range(count))
    assert told == sorted(told)
    assert told[-1] == count
    if how in ({}, {"window": 3}):
        assert [message.headers["id"] for message in messages] == ids
    replies = {message.properties["reply_to"] for message in messages}
    assert replies == {app.thread_oid}


def test_nothing_is_published_of_nothing() -> None:
    """No signatures, no ids, and no broker asked."""
    assert publish([]) == []


@pytest.mark.usefixtures("worker")
def test_published_tasks_run_and_their_results_are_found_by_the_ids(rabbitmq: RabbitMQ, memcached: Memcached) -> None:
    """A program publishes from two processes for an app by its name, as a user who may not declare anything."""
    program = """
from fibonacci.celery import app
from fibonacci.tasks import blue, red
from taskmill import publish
if __name__ == "__main__":
    ids = publish(((red, blue)[n % 2].s(n % 20) for n in range(4100)), app="fibonacci", processes=2)
    print([app.AsyncResult(one).get(timeout=60) for one in ids[2000:2010]])
"""
    script = Path(__file__).parent / "published.tmp.py"
    script.write_text(program)
    addresses = {"CELERY_BROKER_URL": rabbitmq.url(CLIENT), "CELERY_RESULT_BACKEND": memcached.url}
    try:
        done = subprocess.run(
            [sys.executable, str(script)],
            env=os.environ | addresses | {"PYTHONPATH": str(SOURCE)},
            capture_output=True,
            text=True,
            check=False,
            timeout=120,
        )
    finally:
        script.unlink()
    assert done.returncode == 0, done.stderr
    assert done.stdout == f"{[0, 1, 1, 2, 3, 5, 8, 13, 21, 34]}\n"


def test_signatures_are_read_as_they_are_sent(broker: RabbitMQ) -> None:
    """Reading is ahead of the confirms by no more than the window."""
    confirmed, ahead = [0], []

    def lazily() -> Iterator[Any]:
        for n in range(5000):
            ahead.append(n - confirmed[-1])
            yield add.s(n, 1)

    publish(lazily(), progress=confirmed.append, window=100)
    assert max(ahead) <= 150
    assert len(taken(broker)) == 5000


MEMORY = """
import resource
from many import add
from taskmill import publish
def peak(): return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
publish((add.s(n, 1) for n in range(6_000)), threads=THREADS)
before = peak()
publish((add.s(n, 1) for n in range(36_000)), threads=THREADS)
print(before, peak())
"""


@pytest.mark.parametrize("threads", [pytest.param(1, marks=pytest.mark.thorough), 2])
def test_memory_is_that_of_the_ids(broker: RabbitMQ, threads: int) -> None:
    """A signature leaves its id and nothing else: at a million the process stays well below 600 MB."""
    done = subprocess.run(
        [sys.executable, "-c", MEMORY.replace("THREADS", str(threads))],
        env=os.environ | {"PYTHONPATH": f"{SOURCE}{os.pathsep}{APPS}"},
        capture_output=True,
        text=True,
        check=False,
        timeout=150,
    )
    purge_queue(broker, "yellow")
    assert done.returncode == 0, done.stderr
    before, after = map(int, done.stdout.split())
    assert before + 1_000_000 * (after - before) / 30_000 < 400e6


@pytest.mark.thorough
@pytest.mark.clock
def test_publishing_takes_less_than_a_fifth_of_the_cpu_of_apply_async(broker: RabbitMQ) -> None:
    """Against a loop of calls that wait for confirms; of the time it is less still, but tests share their cores."""
    confirming = Celery("many", broker=broker.url(ADMIN), set_as_current=False)
    confirming.conf.update(task_default_queue="yellow", broker_transport_options={"confirm_publish": True})
    one = register(confirming, "a.b").tasks["a.b"]
    one.apply_async((0, 1))
    publish([one.s(0, 1)])
    start = time.process_time()
    for n in range(500):
        one.apply_async((n, 1))
    theirs = (time.process_time() - start) / 500
    start = time.process_time()
    publish(one.s(n, 1) for n in range(5000))
    ours = (time.process_time() - start) / 5000
    assert ours < theirs / 5


@pytest.mark.parametrize(
    "how", [pytest.param({}, marks=pytest.mark.thorough), {"threads": 2}], ids=["one thread", "threads"]
)
def test_broker_restarted_while_publishing_loses_nothing(
    broker: RabbitMQ, how: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    """The broker is killed and started again: publishing waits, goes on, and every id is in the queue."""
    reached, killed = threading.Event(), threading.Event()

    def stopping() -> Iterator[Any]:
        for n in range(8_000):
            if n == 5000:
                reached.set()
                assert killed.wait(60)
            yield add.s(n, 1)

    def restart() -> None:
        assert reached.wait(60)
        os.killpg(broker.processes[-1].pid, signal.SIGKILL)
        broker.processes.pop().wait()
        killed.set()
        wait_until(lambda: "is gone; waiting for it" in caplog.text, 60, "publishing that waits for the broker")
        broker.start()

    thread = threading.Thread(target=restart)
    thread.start()
    try:
        ids = publish(stopping(), window=200, **how)
    finally:
        thread.join()
    found = [message.headers["id"] for message in taken(broker)]
    assert len(ids) == 8_000
    assert set(found) == set(ids)


def test_broker_that_stays_away_leaves_an_error_that_says_which_are_confirmed(broker: RabbitMQ) -> None:
    """Past the deadline publishing gives up; what it calls confirmed is in the queue, and the password is not shown."""
    proxy = Proxy(broker.port)
    url = broker.url(ADMIN).replace(f":{broker.port}/", f":{proxy.port}/")

    def cut_after(count: int) -> Iterator[Any]:
        for n in range(50_000):
            if n == count:
                proxy.cut()
            yield signature("a.b", (n,), queue="yellow")

    with pytest.raises(PublishError, match=r"is gone .* for 2 s") as caught:
        publish(cut_after(3000), app=url, window=100, broker_deadline=2)
    error = caught.value
    queued = {message.headers["id"] for message in taken(broker)}
    assert 2800 < len(error.confirmed) <= 3000
    assert set(error.confirmed) <= queued <= {*error.confirmed, *error.unconfirmed}
    assert 0 < len(error.unconfirmed) <= 100
    assert ADMIN.password not in str(error)
    again = pickle.loads(pickle.dumps(error))
    assert (str(again), again.confirmed, again.unconfirmed) == (str(error), error.confirmed, error.unconfirmed)


@pytest.mark.parametrize("how", [{}, {"threads": 2}, {"processes": 2, "app": "many"}])
def test_message_that_no_queue_takes_is_an_error(broker: RabbitMQ, how: dict[str, Any]) -> None:
    """It comes back and is named; it is not among the confirmed ids, and all of those are in the queue."""
    nowhere = add.s(1, 2).set(queue=Queue("nowhere", no_declare=True))
    with pytest.raises(PublishError, match=r"returned 1 messages: no queue takes the routing key 'nowhere'") as caught:
        publish([*[add.s(n, 1) for n in range(400)], nowhere, *[add.s(n, 1) for n in range(400)]], **how)
    queued = {message.headers["id"] for message in taken(broker)}
    assert set(caught.value.confirmed) == queued
    assert len(queued) >= 400
    assert caught.value.unconfirmed


def test_exchange_that_is_not_there_is_an_error() -> None:
    """Nothing is waited for that does not come back by itself."""
    with pytest.raises(PublishError, match="no exchange 'nowhere'"):
        # Who waited would wait for longer than a test may take.
        publish([add.s(1, 2).set(exchange="nowhere", exchange_type="topic", routing_key="a")], broker_deadline=3600)


def failing() -> Iterator[Any]:
    """Yield one signature, then fail in a way that looks like the broker's."""
    yield add.s(5, 6)
    raise ConnectionResetError("not of the broker")


BAD = {
    "unregistered": ([signature("many.nowhere", (1,), app=app)], r"number 2 .*'many.nowhere', which is not registered"),
    "chord": ([chord([add.s(1, 2)], add.s(3), app=app)], "number 2 is a chord, .*call its own apply_async"),
    "group": ([group([add.s(1, 2), add.s(3, 4)], app=app)], "number 2 is a group"),
    "chain": ([chain(add.s(1, 2), add.s(3), app=app)], "number 2 is a chain"),
    "map": ([add.map([1, 2])], "number 2 is a xmap"),
    "no signature": ([("many.add", 1, 2)], "number 2 is no signature, but tuple"),
    "wrong arguments": ([add.s()], "TypeError: add.. missing 1 required positional argument: 'one'"),
    "argument that is no JSON": ([add.s(object(), 1)], "EncodeError"),
    "header that no message holds": ([add.s(1, 2).set(headers={"a": object()})], "header|object"),
    "connection": ([add.s(1, 2).set(connection=None)], "number 2 has the option 'connection'"),
    "of another app": (
        [signature("a.b", app=register(Celery("x", set_as_current=False), "a.b"))],
        "not registered|another",
    ),
    "source that fails": (failing(), "ConnectionResetError: not of the broker"),
}


@pytest.mark.parametrize("name", BAD)
def test_what_cannot_be_sent_is_named_and_all_before_it_is_confirmed(broker: RabbitMQ, name: str) -> None:
    """The error says which signature and why, what came before it is in the queue, and nothing after it."""
    bad, words = BAD[name]
    with pytest.raises(PublishError, match=words) as caught:
        publish(one for some in ([add.s(1, 2), add.s(3, 4)], bad, [add.s(7, 8)]) for one in some)
    queued = [message.headers["id"] for message in taken(broker)]
    assert caught.value.confirmed == queued
    assert len(queued) == 3 if name == "source that fails" else 2
    assert len(caught.value.unconfirmed) <= 1


def test_publishing_process_that_dies_leaves_an_error_that_says_which_are_confirmed(broker: RabbitMQ) -> None:
    """One of two processes is killed: the error says so, and what it calls confirmed is in the queue."""

    def killing() -> Iterator[Any]:
        for n in range(30_000):
            # By now the first batch is done, and others are under way.
            if n == 8001:
                os.kill(multiprocessing.active_children()[0].pid or 0, signal.SIGKILL)
            yield add.s(n, 1)

    with pytest.raises(PublishError, match="a publishing process ended") as caught:
        publish(killing(), app="many:app", processes=2)
    queued = {message.headers["id"] for message in taken(broker)}
    assert set(caught.value.confirmed) <= queued
    assert len(caught.value.confirmed) > 1000
    assert not multiprocessing.active_children()


def test_broker_that_is_not_there_is_told_at_once(broker: RabbitMQ) -> None:
    """Who is refused, or finds nobody, is not kept waiting, and reads which setting it is about."""
    url, one = broker.url(ADMIN), [signature("a.b")]
    with pytest.raises(TaskmillError, match=r"cannot be reached: .*broker_url of the app 'taskmill'"):
        publish(one, app=url.replace(f":{broker.port}/", ":1/"))
    with pytest.raises(TaskmillError, match="refuses the user or the password"):
        publish(one, app=url.replace(ADMIN.password, "wrong"))
    with pytest.raises(TaskmillError, match="no such virtual host"):
        publish(one, app=f"{url}-not")
    with pytest.raises(TaskmillError, match="speaks to RabbitMQ"):
        publish(one, app="memory://")


def test_broker_that_stands_in_is_used(broker: RabbitMQ) -> None:
    """Of several brokers in `broker_url` the first that is there is taken."""
    nobody = broker.url(ADMIN).replace(f":{broker.port}/", ":1/")
    publish([signature("a.b", queue="yellow")], app=f"{nobody};{broker.url(ADMIN)}")
    assert len(taken(broker)) == 1


@pytest.mark.parametrize(
    ("how", "words"),
    [
        ({"processes": 2}, "hand over its name"),
        ({"threads": 0}, "at least 1"),
        ({"window": 0}, "at least 1"),
        ({"app": "many.nowhere"}, "no Celery app 'many.nowhere'"),
        ({"signatures": add.s(1, 2)}, "hand over a list"),
    ],
)
def test_arguments_that_make_no_sense_are_refused(how: dict[str, Any], words: str) -> None:
    """Before anything is sent."""
    with pytest.raises((TypeError, ValueError, TaskmillError), match=words):
        publish(**{"signatures": [add.s(1, 2)]} | how)


def test_settings_that_nothing_can_be_published_with_are_refused(broker: RabbitMQ) -> None:
    """An app of protocol 1, or one that runs its tasks itself, is told apart from a broker that is away."""
    for setting, words in (({"task_protocol": 1}, "speaks 2"), ({"task_always_eager": True}, "task_always_eager")):
        other = register(Celery("other", broker=broker.url(WORKER), set_as_current=False), "a.b")
        other.conf.update(setting)
        with pytest.raises(TaskmillError, match=words):
            publish([other.tasks["a.b"].s()])
