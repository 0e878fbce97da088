"""Dead letters are shown, requeued and purged; whatever ends on the way, none is lost."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from typing import Any

import amqp
import memcache
import pytest

from conftest import Taskmill
from services import DEAD, Memcached, RabbitMQ, channel, depth, take_all

SECRET = b"\xff\xfe do-not-show-me"


@pytest.fixture
def die(rabbitmq: RabbitMQ, purge: Callable[[str], None]) -> Callable[..., str]:
    """Return what makes a dead letter of a message in the queue yellow, and returns its id."""
    purge("yellow")
    purge(DEAD)

    def make(queue: str = "yellow", **fields: Any) -> str:
        identifier = str(uuid.uuid4())
        headers = {"id": identifier, "task": "a.b", "mine": [1, {"two": "three"}], **fields}
        one = channel(rabbitmq)
        letter = amqp.Message(
            SECRET, content_type="application/json", content_encoding="utf-8", delivery_mode=2, priority=3,
            correlation_id=identifier, application_headers=headers,
        )  # fmt: skip
        one.basic_publish(letter, routing_key=queue)
        if queue != DEAD:
            one.basic_reject(one.basic_get(queue).delivery_tag, requeue=False)
        one.connection.close()
        return identifier

    return make


def test_letters_are_shown_without_their_content_and_stay(
    taskmill: Taskmill, rabbitmq: RabbitMQ, die: Callable[..., str]
) -> None:
    """One line each: id, reason, queue, size, task; nothing that a terminal would act on."""
    first, second = die(), die(task="evil\x1b[2J")
    for _ in range(2):
        done = taskmill("dead-letters")
        assert done.code == 0, done.err
        lines = done.out.splitlines()
        assert [line.split()[0] for line in lines] == [first, second, "2"]
        assert "rejected  from yellow  17 bytes of application/json  a.b" in lines[0]
        assert "\x1b" not in done.out
        assert "do-not-show-me" not in done.out
    assert depth(rabbitmq, DEAD) == 2


def test_letter_that_is_requeued_is_the_message_that_died(
    taskmill: Taskmill, rabbitmq: RabbitMQ, memcached: Memcached, die: Callable[..., str]
) -> None:
    """It goes to its queue byte for byte, without the headers of its death; how often it has begun is forgotten."""
    kept, back = die(), die()
    store: Any = memcache.Client([f"127.0.0.1:{memcached.port}"])
    for identifier in (kept, back):
        store.set(f"celery-task-meta-{identifier}-redelivered", "3")
    done = taskmill("dead-letters", "--requeue", f"--id={back}")
    assert done.code == 0, done.err
    assert "requeue\n1 dead letter" in done.out
    [message] = take_all(rabbitmq, "yellow")
    body = message.body if isinstance(message.body, bytes) else message.body.encode()
    assert body == SECRET
    assert message.headers == {"id": back, "task": "a.b", "mine": [1, {"two": "three"}]}
    assert (message.properties["priority"], message.properties["correlation_id"]) == (3, back)
    assert message.properties["delivery_mode"] == 2
    assert store.get(f"celery-task-meta-{back}-redelivered") is None
    assert store.get(f"celery-task-meta-{kept}-redelivered") == "3"
    assert [letter.headers["id"] for letter in take_all(rabbitmq, DEAD)] == [kept]


def test_letter_that_has_nowhere_to_go_stays(taskmill: Taskmill, rabbitmq: RabbitMQ, die: Callable[..., str]) -> None:
    """Sent here by hand, or from a queue that is no more, it is not requeued, and said so."""
    die(DEAD)
    die(DEAD, **{"x-death": [{"queue": "gone-already", "reason": "rejected"}]})
    done = taskmill("dead-letters", "--requeue")
    assert done.code == 0, done.err
    assert "stays: nothing says which queue it came from" in done.out
    assert "stays: there is no queue 'gone-already'" in done.out
    assert depth(rabbitmq, DEAD) == 2
    assert depth(rabbitmq, "yellow") == 0


def test_letters_are_purged_when_asked_for(taskmill: Taskmill, rabbitmq: RabbitMQ, die: Callable[..., str]) -> None:
    """That of the id named, and then all."""
    first, second, third = die(), die(), die()
    assert taskmill("dead-letters", "--purge", f"--id={second}").out.endswith("purge\n1 dead letter\n")
    assert [line.split()[0] for line in taskmill("dead-letters").out.splitlines()] == [first, third, "2"]
    assert taskmill("dead-letters", "--purge").code == 0
    assert depth(rabbitmq, DEAD) == 0


def test_missing_queue_is_named(taskmill: Taskmill) -> None:
    """The message says which role makes it."""
    done = taskmill("dead-letters", "--queue=nowhere")
    assert done.code == 3
    assert "no queue 'nowhere'" in done.err
    assert "rabbitmq_dead_letters" in done.err
