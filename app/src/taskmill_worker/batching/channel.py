"""What passes on a channel of the broker, whoever sends or handles it: deliveries, acknowledgements, rejections."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from amqp import spec

if TYPE_CHECKING:
    from collections.abc import Callable


class ChannelWatch:
    """Tells of every message of a py-amqp channel that is to be acknowledged, and of everyone that was."""

    def __init__(
        self, channel: Any, delivered: Callable[[int, int], None], settled: Callable[[int, bool], None]
    ) -> None:
        """Take what is called with tag and bytes of a message, and with a settled tag and whether all up to it are."""
        self.channel = channel
        #: The channel's own, of which `settled` does not hear.
        self.acknowledge = channel.basic_ack
        self.reject = channel.basic_reject
        #: Whether the prefetch count is the channel's; else each consumer has its own, as it was when that began.
        self.qos_global: bool | None = None
        self._watch_deliveries(channel, delivered)
        self._watch_settlements(channel, settled)

    def _watch_deliveries(self, channel: Any, delivered: Callable[[int, int], None]) -> None:
        deliver, get = channel._callbacks[spec.Basic.Deliver], channel.basic_get  # what the frames go to

        def basic_deliver(consumer_tag: str, tag: int, redelivered: Any, exchange: str, key: str, message: Any) -> Any:
            # Before it is handled, which may settle it.
            if consumer_tag not in channel.no_ack_consumers:
                delivered(tag, len(message.body))
            return deliver(consumer_tag, tag, redelivered, exchange, key, message)

        def basic_get(queue: str = "", no_ack: bool = False, **options: Any) -> Any:
            message = get(queue, no_ack, **options)
            if message is not None and not no_ack:
                delivered(message.delivery_tag, len(message.body))
            return message

        channel._callbacks[spec.Basic.Deliver] = basic_deliver
        channel.basic_get = basic_get

    def _watch_settlements(self, channel: Any, settled: Callable[[int, bool], None]) -> None:
        acknowledge, reject, qos = self.acknowledge, self.reject, channel.basic_qos

        def basic_ack(delivery_tag: int, multiple: bool = False, **options: Any) -> Any:
            answer = acknowledge(delivery_tag, multiple, **options)
            settled(delivery_tag, multiple)
            return answer

        def basic_reject(delivery_tag: int, requeue: bool, **options: Any) -> Any:
            answer = reject(delivery_tag, requeue, **options)
            settled(delivery_tag, False)
            return answer

        def basic_qos(prefetch_size: int, prefetch_count: int, a_global: bool, **options: Any) -> Any:
            self.qos_global = bool(a_global)
            return qos(prefetch_size, prefetch_count, a_global, **options)

        channel.basic_ack, channel.basic_reject, channel.basic_qos = basic_ack, basic_reject, basic_qos
