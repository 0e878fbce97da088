"""Frames that are read ahead: whole, in order, and never left behind."""

from __future__ import annotations

import itertools
import random
import time
from collections import deque
from types import SimpleNamespace
from typing import Any

import amqp
import pytest
from amqp.exceptions import UnexpectedFrame
from celery.concurrency import get_implementation
from kombu import Connection
from kombu.asynchronous import Hub
from kombu.transport.pyamqp import Transport

from services import ADMIN, LARGEST, OTHER_VHOST, RabbitMQ, channel, purge_queue
from taskmill_worker import read_ahead

QUEUE = "yellow"
FRAMES = [(1, 0, b""), (2, 1, b"\xce" * 5), (3, 65535, b"x" * 1000), (8, 0, b"")]
WIRE = b"".join(read_ahead.HEADER.pack(kind, number, len(body)) + body + b"\xce" for kind, number, body in FRAMES)


def test_frames_are_whole_wherever_a_piece_ends() -> None:
    """For every cut in two, what is left of the first piece and the second have the rest."""
    for place in range(len(WIRE) + 1):
        first, left = read_ahead.cut(WIRE[:place])
        second, rest = read_ahead.cut(left + WIRE[place:])
        assert (first + second, rest) == (FRAMES, b"")


def test_a_frame_that_ends_otherwise_is_refused() -> None:
    """What follows could be anything."""
    with pytest.raises(UnexpectedFrame, match="0x0 instead of 0xce"):
        read_ahead.cut(WIRE[:-1] + b"\0")


@pytest.mark.parametrize(("pool", "ahead"), [("prefork", True), ("solo", False), ("threads", False)])
def test_only_a_pool_of_processes_reads_ahead(monkeypatch: pytest.MonkeyPatch, pool: str, ahead: bool) -> None:
    """The solo pool would run a thousand tasks without a heartbeat."""
    monkeypatch.setattr(Transport, "_make_reader", Transport._make_reader)
    read_ahead.begin(SimpleNamespace(pool_cls=get_implementation(pool)))
    assert (Transport._make_reader is read_ahead.make_reader) == ahead


def test_messages_come_in_order_while_answers_are_waited_for(
    rabbitmq: RabbitMQ, monkeypatch: pytest.MonkeyPatch
) -> None:
    """2,000 of them of all sizes, with `basic.qos` and its answer among them, through kombu's own event loop."""
    monkeypatch.setattr(Transport, "_make_reader", Transport._make_reader)
    read_ahead.begin(SimpleNamespace(pool_cls="prefork"))
    purge_queue(rabbitmq, QUEUE, OTHER_VHOST)
    source = random.Random(1)
    bodies = [f"{number} ".encode() + b"." * source.choice((0, 1, 50, 5000)) for number in range(2000)]
    bodies[1000] += b"." * (LARGEST - 100)
    one = channel(rabbitmq, vhost=OTHER_VHOST)
    for body in bodies:
        one.basic_publish(amqp.Message(body), routing_key=QUEUE)
    one.connection.close()

    came: list[bytes] = []

    def take(message: Any) -> None:
        came.append(bytes(message.body))
        if len(came) % 50 == 0:
            # Waits for the broker's answer, behind which more messages stand.
            message.channel.basic_qos(0, len(came), a_global=False)

    hub = Hub()
    with Connection(rabbitmq.url(ADMIN, OTHER_VHOST)) as connection:
        connection.transport.register_with_event_loop(connection.connection, hub)
        connection.channel().basic_consume(QUEUE, no_ack=True, callback=take)
        loop = hub.create_loop()
        end = time.monotonic() + 60
        while len(came) < len(bodies) and time.monotonic() < end:
            next(loop)
    assert [len(body) for body in came] == [len(body) for body in bodies]
    assert came == bodies


def test_a_connection_that_ended_is_noticed(rabbitmq: RabbitMQ) -> None:
    """As an error of the connection, which a consumer takes as the reason to connect anew."""
    hub = Hub()
    with Connection(rabbitmq.url(ADMIN, OTHER_VHOST)) as connection:
        errors = connection.connection_errors
        connection.transport.register_with_event_loop(connection.connection, hub)
        loop = hub.create_loop()
        # What the other end sends last is nothing.
        connection.connection.transport.sock.shutdown(2)
        with pytest.raises(errors):
            deque(itertools.islice(loop, 10), maxlen=0)
