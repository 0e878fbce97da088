"""The dead letters: what workers rejected or parked, in a queue of the broker. To look at, requeue, or purge."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from amqp.exceptions import AccessRefused, NotFound

from taskmill.cluster import broker as brokers
from taskmill.model.errors import TaskmillError
from taskmill.model.quoting import quote

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator

    import amqp

    from taskmill.cluster.broker import Broker

#: Headers that tell of a message's death; requeued, it begins anew.
DEATH = ("x-death", "x-first-death-", "x-last-death-")


class Redeliveries(Protocol):
    """Where workers count how often a redelivered task has begun: the result store."""

    def forget_redeliveries(self, identifier: str) -> None:
        """Let them count anew."""


@dataclass(frozen=True)
class Letter:
    """A dead letter as the broker handed it over, which keeps it until it is settled."""

    message: amqp.Message

    @property
    def headers(self) -> dict[str, Any]:
        """The headers; empty where there are none."""
        return self.message.properties.get("application_headers") or {}

    @property
    def identifier(self) -> str:
        """The task's id; empty where the message does not say."""
        return text(self.headers.get("id") or self.message.properties.get("correlation_id"))

    @property
    def queue(self) -> str:
        """The queue that it died in; empty where nothing says so: it was sent here."""
        return text(self.death.get("queue"))

    @property
    def death(self) -> dict[str, Any]:
        """What the broker says of its last death."""
        deaths = self.headers.get("x-death") or []
        return deaths[0] if deaths and isinstance(deaths[0], dict) else {}

    def line(self) -> str:
        """Return what a person wants to know, without the content."""
        return "  ".join(
            (
                f"{self.identifier or 'no id':36}",
                f"{text(self.death.get('time')) or 'time unknown':19}",
                f"{text(self.death.get('reason')) or 'not rejected':8}",
                f"from {self.queue or 'nowhere'}",
                f"{len(self.message.body or b''):,} bytes of {text(self.message.properties.get('content_type'))}",
                text(self.headers.get("task")) or "no task",
            )
        )


def text(value: Any) -> str:
    """Return a value of a message as short text that a terminal can be trusted with; empty for none."""
    safe = "".join(one if one.isprintable() else "?" for one in str(value))
    return "" if value is None else quote(safe, plain=True)


def read(channel: amqp.Channel, broker: Broker, queue: str) -> Iterator[Letter]:
    """Yield the dead letters that are there now, and none that comes later."""
    try:
        there = int(channel.queue_declare(queue, passive=True).message_count)
        for _ in range(there):
            message = channel.basic_get(queue)
            if message is None:
                return
            yield Letter(message)
    except NotFound as error:
        raise TaskmillError(
            f"the broker ({broker}) has no queue {queue!r}. The role rabbitmq makes it: rabbitmq_dead_letters, site.yml"
        ) from error
    except AccessRefused as error:
        raise TaskmillError(
            f"the broker ({broker}) does not let this user read {queue!r}: {error.reply_text}. Permissions stand in "
            f"rabbitmq_users"
        ) from error


def settle(
    broker: Broker, redeliveries: Redeliveries, queue: str, action: str, ids: Collection[str] = ()
) -> Iterator[tuple[Letter, str]]:
    """Yield the dead letters, of these ids or all, and what was done with each: ``action`` or why not.

    ``show`` leaves them where they are. ``purge`` deletes them. ``requeue`` sends each to the queue that it came from,
    and only when the broker has confirmed that takes it away from here: what is interrupted leaves one twice, and none
    not at all. Its task may then begin as often again as a new one.
    """
    try:
        connection = broker.connect("letters", confirm_publish=True)
    except brokers.CONNECTION_ERRORS as error:
        raise TaskmillError(broker.explain(error)) from error
    try:
        channel = connection.channel()
        # Bytes as they are: what cannot be decoded is among them.
        channel.auto_decode = False
        returned: list[str] = []
        channel.events["basic_return"].add(lambda _error, _exchange, key, _message: returned.append(key))
        for letter in read(channel, broker, queue):
            if ids and letter.identifier not in ids:
                continue
            outcome = action
            if action == "requeue":
                outcome = requeue(channel, letter, returned)
                if outcome == action and letter.identifier:
                    redeliveries.forget_redeliveries(letter.identifier)
            if outcome in {"purge", "requeue"}:
                channel.basic_ack(letter.message.delivery_tag)
            yield letter, outcome
    finally:
        # What is not acknowledged is a dead letter again.
        brokers.close(connection)


def requeue(channel: amqp.Channel, letter: Letter, returned: list[str]) -> str:
    """Send a letter to the queue that it came from; return ``requeue``, or why it stays."""
    queue = letter.queue
    if not queue:
        return "stays: nothing says which queue it came from"
    headers = {name: value for name, value in letter.headers.items() if not name.startswith(DEATH)}
    letter.message.properties["application_headers"] = headers
    channel.basic_publish(letter.message, routing_key=queue, mandatory=True)
    if returned:
        return f"stays: there is no queue {returned.pop()!r}"
    return "requeue"
