"""Signatures as a source of messages for a confirmed channel, and what became of each."""

from __future__ import annotations

import itertools
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeAlias

from amqp.exceptions import ChannelError
from kombu.common import maybe_declare

from taskmill.cluster import broker as brokers
from taskmill.model.errors import PostingError, TaskmillError
from taskmill.publishing.channel import SILENCE, Entry
from taskmill.publishing.message import Frames

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    import amqp

    from taskmill.publishing.signatures import SignatureEncoder

#: An id and what it stands for, as a plain dictionary.
Item: TypeAlias = "tuple[str, dict[str, Any]]"

#: Whether the broker has a message.
UNKNOWN, CONFIRMED = range(2)


@dataclass
class Outcome:
    """What became of signatures, by their places from 0 on."""

    states: bytearray = field(default_factory=bytearray)
    #: Why not all were published, and what was raised of that, in this process.
    error: str | None = None
    cause: Exception | None = None

    def fail(self, cause: Exception) -> None:
        """Take note of the first exception that ended it."""
        if self.error is None:
            self.error = str(cause) if isinstance(cause, TaskmillError) else f"{type(cause).__name__}: {cause}"
            self.cause = cause


class SignatureSource:
    """Signatures on their way, as a source of messages."""

    def __init__(self, encoder: SignatureEncoder, items: Iterable[Item], progress: Callable[[int], None]) -> None:
        """Take the items, which are read as they are sent; ``progress`` is called with how many are confirmed."""
        self.outcome = Outcome()
        self._encoder = encoder
        self._items = iter(items)
        self._progress = progress
        self._confirmed = 0
        self._ended = False
        self._connection: amqp.Connection
        self._channel: amqp.Channel
        self._frames: Frames

    def more(self) -> bool:
        """Say whether the items' end was not seen yet."""
        return not self._ended

    def take(self, limit: int) -> list[Entry]:
        """Make the next messages; one that cannot be made is the end."""
        entries: list[Entry] = []
        try:
            for identifier, signature in itertools.islice(self._items, limit):
                place = len(self.outcome.states)
                messages = self._encoder.make(identifier, signature)
                self.outcome.states.append(UNKNOWN)
                entries += [(place, identifier.encode(), messages[0])]
                # Events that tell of it.
                entries += [(-1, b"", message) for message in messages[1:]]
        except Exception as error:  # noqa: BLE001  # of the caller's own code too; what was sent before is still seen through
            self._ended = True
            self.outcome.fail(error)
        self._ended = self._ended or not entries
        return entries

    def wait(self) -> float:
        """Return 0: all is due."""
        return 0.0

    def connected(self, connection: amqp.Connection, channel: amqp.Channel) -> None:
        """Take what frames depend on."""
        self._connection, self._channel = connection, channel
        self._frames = Frames(channel.channel_id, connection.frame_max)

    def frames(self, entries: list[Entry]) -> bytes:
        """Return the messages' frames, once their queues are there."""
        for _, _, message in entries:
            destination = message.destination
            if destination.channel is not self._channel:
                if destination.declare:
                    self._declare(destination.declare)
                destination.channel = self._channel
            self._frames.publish(destination.arguments, message)
        return self._frames.take()

    def _declare(self, entities: Iterable[Any]) -> None:
        """See to it that queues and exchanges are there, as ``apply_async`` does; each once for a connection."""
        patience = self._connection.sock.gettimeout()
        self._connection.sock.settimeout(SILENCE)
        for entity in entities:
            try:
                maybe_declare(entity, self._channel)
            except ChannelError as error:
                raise PostingError(
                    f"the broker refuses to declare {entity}: {brokers.reason(error)}. In task_queues, no_declare=True "
                    f"is for a queue that is there already, or that this user may not declare"
                ) from error
        self._connection.sock.settimeout(patience)

    def confirmed(self, entries: list[Entry]) -> None:
        """Take note of what the broker has."""
        for place, _, _ in entries:
            if place >= 0:
                self.outcome.states[place] = CONFIRMED
                self._confirmed += 1

    def stepped(self) -> None:
        """Tell how far it is."""
        self._progress(self._confirmed)
