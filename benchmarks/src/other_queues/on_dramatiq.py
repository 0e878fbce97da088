"""dramatiq with RabbitMQ and results in Redis."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import dramatiq
from dramatiq.brokers.rabbitmq import RabbitmqBroker
from dramatiq.results import Results
from dramatiq.results.backends import RedisBackend

from fibonacci.recursion import fibonacci
from other_queues.subject import Subject, one_by_one, setting

if TYPE_CHECKING:
    from collections.abc import Sequence

broker = RabbitmqBroker(url=setting("OTHER_QUEUES_AMQP_URL"))
broker.add_middleware(Results(backend=RedisBackend(url=setting("OTHER_QUEUES_REDIS_URL"))))
dramatiq.set_broker(broker)


@dramatiq.actor(store_results=True, queue_name="other-queues-dramatiq")
def compute(n: int) -> int:
    """Compute."""
    return fibonacci(n)


def publish(tasks: int, n: int) -> Sequence[Any]:
    """Publish one message after the other by ``send``."""
    return [compute.send(n) for _ in range(tasks)]


SUBJECT = Subject(
    publish=publish,
    fetch=one_by_one(lambda message, seconds: message.get_result(block=True, timeout=int(1000 * seconds))),
    worker=lambda processes: ["-m", "dramatiq", "other_queues.on_dramatiq", f"--processes={processes}"],
)
