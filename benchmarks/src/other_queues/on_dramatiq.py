"""dramatiq with RabbitMQ and results in Redis."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import dramatiq
from dramatiq.brokers.rabbitmq import RabbitmqBroker
from dramatiq.results import Results
from dramatiq.results.backends import RedisBackend

from fibonacci.recursion import fibonacci
from peers.peer import Peer, one_by_one, setting

if TYPE_CHECKING:
    from collections.abc import Sequence

broker = RabbitmqBroker(url=setting("PEERS_AMQP_URL"))
broker.add_middleware(Results(backend=RedisBackend(url=setting("PEERS_REDIS_URL"))))
dramatiq.set_broker(broker)


@dramatiq.actor(store_results=True, queue_name="peers-dramatiq")
def compute(n: int) -> int:
    """Compute."""
    return fibonacci(n)


def post(tasks: int, n: int) -> Sequence[Any]:
    """Post one message after the other, as ``send`` does."""
    return [compute.send(n) for _ in range(tasks)]


PEER = Peer(
    post=post,
    fetch=one_by_one(lambda message, seconds: message.get_result(block=True, timeout=int(1000 * seconds))),
    worker=lambda processes: ["-m", "dramatiq", "peers.on_dramatiq", f"--processes={processes}"],
)
