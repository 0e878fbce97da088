"""Publish 100 bad messages to a queue, 20 of each kind, with the client's environment and libraries; print the numbers.

Usage: `bad_messages.py QUEUE TASK`. Of the kinds, all but the 50 MB body end as dead letters, which the broker refuses,
and wrong arguments, which are a failure of the task.
"""

import json
import os
import pickle
import sys
import uuid

import amqp

from taskmill.cluster.broker import Broker

EACH = 20
LARGE = 50_000_000
BROKEN = (amqp.exceptions.AMQPError, OSError)


class Mark:
    """Pickled, it would leave a mark where it is loaded."""

    def __reduce__(self):
        """Say what unpickling runs."""
        return os.mkdir, ("/tmp/unpickled",)


def connect():
    """Return a channel with publisher confirms, of a connection of its own."""
    return Broker.from_environment().connect("bad messages", confirm_publish=True).channel()


def message(body, task, content_type="application/json"):
    """Return a message of Celery's protocol 2."""
    headers = {"lang": "py", "task": task, "id": str(uuid.uuid4())}
    return amqp.Message(
        body, content_type=content_type, content_encoding="utf-8", application_headers=headers, delivery_mode=2
    )


def main(queue, task):
    """Publish; print how many the broker took and how many it refused."""
    good = json.dumps([[1], {}, {}])
    kinds = (
        lambda: message("{no json", task),
        lambda: message(good, "no.such.task"),
        lambda: message(json.dumps([["a", "b", "c"], {}, {}]), task),
        lambda: message(pickle.dumps(Mark()), task, "application/x-python-serialize"),
    )
    channel = connect()
    for make in kinds:
        for _ in range(EACH):
            channel.basic_publish(make(), routing_key=queue)
    channel.connection.close()
    refused = 0
    for _ in range(EACH):
        try:
            connect().basic_publish(message("x" * LARGE, task), routing_key=queue)
        except BROKEN:
            refused += 1
    print(f"bad_taken={len(kinds) * EACH} bad_refused={refused}")


main(*sys.argv[1:])
