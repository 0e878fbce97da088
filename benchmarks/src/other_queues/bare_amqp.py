"""Bare py-amqp: persistent messages as large as a task's, confirmed by the broker in a window. No worker takes them.

This is the most that the client library can publish. ``OTHER_QUEUES_PROCESSES`` processes share the messages.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import uuid
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

import amqp

from other_queues.subject import Subject, setting

if TYPE_CHECKING:
    from collections.abc import Sequence

QUEUE = "other-queues-amqp"
#: Most messages that a process leaves unconfirmed.
WINDOW = 1000


def channel(connection: amqp.Connection) -> amqp.Channel:
    """Connect and return a channel."""
    connection.connect()
    return connection.channel()


def connect() -> amqp.Connection:
    """Return a connection that is not open yet."""
    scheme, _, rest = setting("OTHER_QUEUES_AMQP_URL").partition("://")
    login, _, place = rest.rpartition("@")
    user, _, password = login.partition(":")
    host, _, vhost = place.partition("/")
    assert scheme == "amqp"
    return amqp.Connection(host, unquote(user), unquote(password), virtual_host=unquote(vhost))


def publish_share(count: int, n: int) -> int:
    """Publish ``count`` messages; return ``count`` once the broker has confirmed all of them."""
    connection = connect()
    one = channel(connection)
    open_tags: dict[int, None] = {}

    def confirmed(tag: int, multiple: bool) -> None:
        if not multiple:
            del open_tags[tag]
            return
        while open_tags and (first := next(iter(open_tags))) <= tag:
            del open_tags[first]

    one.confirm_select()
    one.events["basic_ack"].add(confirmed)
    body = json.dumps([[n], {}, {"callbacks": None, "errbacks": None, "chain": None, "chord": None}])
    for number in range(1, count + 1):
        identifier = str(uuid.uuid4())
        message = amqp.Message(
            body,
            content_type="application/json",
            content_encoding="utf-8",
            delivery_mode=2,
            correlation_id=identifier,
            application_headers={"lang": "py", "task": "fibonacci.tasks.red", "id": identifier},
        )
        open_tags[number] = None
        one.basic_publish(message, routing_key=QUEUE)
        while len(open_tags) >= WINDOW:
            connection.drain_events(timeout=60)
    while open_tags:
        connection.drain_events(timeout=60)
    connection.close()
    return count


def publish(tasks: int, n: int) -> Sequence[Any]:
    """Publish from the processes; return an item for each confirmed message."""
    connection = connect()
    one = channel(connection)
    one.queue_declare(QUEUE, durable=True, auto_delete=False)
    processes = int(os.environ.get("OTHER_QUEUES_PROCESSES", "1"))
    shares = [(tasks // processes + (place < tasks % processes), n) for place in range(processes)]
    with multiprocessing.Pool(processes) as pool:
        found = sum(pool.starmap(publish_share, shares))
        pool.close()
        pool.join()
    one.queue_delete(QUEUE)
    connection.close()
    return range(found)


SUBJECT = Subject(publish=publish)
