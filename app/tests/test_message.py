"""Messages as they go over the wire."""

import json
import os
import re
import subprocess
import sys
import uuid
from collections.abc import Callable
from typing import Any

import amqp
from celery.app.task import Context

from conftest import Taskmill
from services import SOURCE, WORKER, Memcached, RabbitMQ, take_all

UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")

APPLY_ASYNC = """
from kombu import Queue
from fibonacci.tasks import red
from fibonacci.celery import app
app.set_current()
print(red.apply_async((20,), queue=Queue("yellow", no_declare=True)).id)
"""


def flat(message: amqp.Message) -> dict[str, Any]:
    """Return every field of a message, with those that differ from one message to the next replaced by their shape."""
    fields = dict(message.properties)
    headers = dict(fields.pop("application_headers"))
    assert headers["id"] == headers["root_id"] == fields["correlation_id"]
    for holder, name in ((headers, "id"), (headers, "root_id"), (fields, "correlation_id"), (fields, "reply_to")):
        assert UUID.fullmatch(holder[name]), name
        holder[name] = "a uuid"
    headers["origin"] = re.sub(r"\d+", "PID", headers["origin"], count=1)
    routing = {name: message.delivery_info[name] for name in ("exchange", "routing_key", "redelivered")}
    body = message.body if isinstance(message.body, str) else message.body.decode()
    return {"properties": fields, "headers": headers, "routing": routing, "body": json.loads(body)}


def test_message_equals_what_apply_async_sends(
    rabbitmq: RabbitMQ, memcached: Memcached, taskmill: Taskmill, purge: Callable[[str], None]
) -> None:
    """Field by field, the broker hands out the same message from taskmill as from the app's own `apply_async`.

    Except for what only the app knows, whether the task stores its result.
    """
    purge("yellow")
    environment = {"CELERY_BROKER_URL": rabbitmq.url(WORKER), "CELERY_RESULT_BACKEND": memcached.url}
    sent = subprocess.run(
        [sys.executable, "-c", APPLY_ASYNC],
        env=os.environ | environment | {"PYTHONPATH": str(SOURCE)},
        capture_output=True,
        text=True,
        check=False,
        timeout=30,
    )
    assert sent.returncode == 0, sent.stderr
    (theirs,) = take_all(rabbitmq, "yellow")
    posted = taskmill("publish", "--no-workers", "--task=fibonacci.tasks.red=yellow", "--tasks=1", "--n=20")
    assert posted.code == 0, posted.err
    (ours,) = take_all(rabbitmq, "yellow")
    sent_by_the_app = flat(theirs)
    assert sent_by_the_app["headers"].pop("ignore_result") is False
    assert flat(ours) == sent_by_the_app
    assert flat(ours)["properties"]["delivery_mode"] == 2


def test_a_lean_message_leaves_out_only_what_a_worker_assumes(
    taskmill: Taskmill, rabbitmq: RabbitMQ, purge: Callable[[str], None]
) -> None:
    """A worker's request made of a lean message says how to run the task just as the full one's does."""
    purge("yellow")
    requests = []
    for form in ("--full", "--lean"):
        posted = taskmill("publish", form, "--no-workers", "--task=fibonacci.tasks.red=yellow", "--tasks=1", "--n=20")
        assert posted.code == 0, posted.err
        (message,) = take_all(rabbitmq, "yellow")
        requests.append((message, Context(message.headers)))
    (full, asked), (lean, assumed) = requests
    assert sorted(lean.headers) == ["id", "lang", "task"]
    assert sorted(lean.properties) == ["application_headers", "content_encoding", "content_type", "delivery_mode"]
    assert (lean.body, lean.properties["delivery_mode"]) == (full.body, full.properties["delivery_mode"])
    # Who sent it, and how it looks in a monitor; a task's root is itself where nothing else is said.
    told = {"origin", "argsrepr", "kwargsrepr", "id", "root_id", "stamps"}
    for name in set(full.headers) - told - {"timelimit"}:
        assert getattr(assumed, name) == getattr(asked, name), name
    assert (assumed.timelimit or [None, None]) == asked.timelimit
    assert asked.root_id == asked.id
    assert not full.headers["stamps"]


def test_every_message_carries_its_own_id_and_the_journal_has_it(
    rabbitmq: RabbitMQ, taskmill: Taskmill, purge: Callable[[str], None]
) -> None:
    """The ids in the queue are those on disk, all of them, each once."""
    purge("yellow")
    posted = taskmill(
        "publish",
        "--no-workers",
        "--task=a.b=yellow",
        "--tasks=2003",
        "--threads=3",
        "--args",
        '[1, "ü", {"k": [null]}]',
    )
    assert posted.code == 0, posted.err
    messages = take_all(rabbitmq, "yellow")
    on_disk = [
        line.split()[0] for path in (taskmill.latest / "ids").glob("*.ids") for line in path.read_text().splitlines()
    ]
    in_queue = [str(uuid.UUID(message.headers["id"])) for message in messages]
    assert sorted(in_queue) == sorted(on_disk)
    assert len(set(in_queue)) == 2003
    assert json.loads(messages[0].body)[0] == [1, "ü", {"k": [None]}]


def test_message_larger_than_a_frame_arrives_whole(
    rabbitmq: RabbitMQ, taskmill: Taskmill, purge: Callable[[str], None]
) -> None:
    """A body over the connection's frame size is cut into frames and put together again."""
    purge("yellow")
    # Just over the frame size of 131,072 bytes together with its headers, just under the limit of one argument.
    text = "x" * 130_900
    posted = taskmill("publish", "--no-workers", "--task=a.b=yellow", "--tasks=3", "--args", json.dumps([text]))
    assert posted.code == 0, posted.err
    bodies = [json.loads(message.body)[0] for message in take_all(rabbitmq, "yellow")]
    assert bodies == [[text]] * 3
