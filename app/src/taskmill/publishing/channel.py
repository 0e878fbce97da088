"""The way to the broker: one connection, messages written as bytes, a window of them unconfirmed.

When the broker goes away, the channel waits for it, connects again, and sends what was not confirmed once more under
the same ids: a message may then be in a queue twice, but none is missing. When no queue takes a message, the broker
returns it: the channel then sends nothing more, and waits for the confirms of the rest.
"""

from __future__ import annotations

import random
import ssl
import time
from collections import deque
from contextlib import suppress
from dataclasses import dataclass
from operator import itemgetter
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias

from amqp.exceptions import AccessRefused, NotFound, PreconditionFailed

from taskmill.cluster import broker as brokers
from taskmill.model.errors import PostingError
from taskmill.publishing.interrupt import Interrupted

if TYPE_CHECKING:
    import threading
    from collections.abc import Callable

    import amqp

    from taskmill.cluster.broker import Broker

#: A message: its place (they are sent in this order, from 0), its id, and what else its source wants to know of it.
Entry: TypeAlias = "tuple[Any, ...]"

#: Messages per write to the socket, at most; a window holds at least two chunks.
CHUNK = 250
#: Seconds that a channel reads or writes without looking at what else there is to do.
PATIENCE = 1.0
#: Seconds without a confirm, with messages outstanding and the broker not blocking, after which a connection is dead.
SILENCE = 60.0
#: Seconds that a channel waits for its last confirms after it was asked to stop.
LAST_CONFIRMS = 30.0
#: Seconds that a broker may block publishers (memory or disk alarm) before posting is given up.
BLOCKED = 1800.0
#: Longest wait, in seconds, for a message to be due before confirms are looked for.
PACE = 0.02
#: First and longest wait between attempts to connect, in seconds.
BACKOFF = (0.2, 5.0)


@dataclass
class Tally:
    """What one channel has done. Only its thread writes to it; times are of the monotonic clock."""

    name: str
    planned: int = 0
    #: Messages sent at least once, and messages that the broker confirmed.
    posted: int = 0
    confirmed: int = 0
    #: Messages sent once more, after a lost connection or a refusal (``nacked``).
    republished: int = 0
    nacked: int = 0
    reconnects: int = 0
    blocked_seconds: float = 0.0
    #: Most seconds between when a message was due and when it was first sent.
    late: float = 0.0
    first: float | None = None
    last: float | None = None
    error: str | None = None

    def add(self, before: Tally) -> None:
        """Count in what the same thread of an earlier client went through."""
        for name in ("republished", "nacked", "reconnects", "blocked_seconds"):
            setattr(self, name, getattr(self, name) + getattr(before, name))


class MessageSource(Protocol):
    """What is to be sent. Whoever delivers it makes all the calls."""

    def more(self) -> bool:
        """Say whether there is, or may be, anything that was never sent."""

    def take(self, limit: int) -> list[Entry]:
        """Return what is to be sent next, at most so much; nothing where nothing is due or left."""

    def wait(self) -> float:
        """Return the seconds until the next message is due."""

    def connected(self, connection: amqp.Connection, channel: amqp.Channel) -> None:
        """Take note of a new connection."""

    def frames(self, entries: list[Entry]) -> bytes:
        """Return the bytes that publish these messages over the connection."""

    def confirmed(self, entries: list[Entry]) -> None:
        """Take note that the broker has these messages."""

    def stepped(self) -> None:
        """Do what there is to do now and then: after every chunk, and while nothing is due."""


class ConfirmedChannel:
    """A connection, and the messages that are not confirmed yet."""

    def __init__(
        self,
        broker: Broker,
        tally: Tally,
        stop: threading.Event,
        say: Callable[[str], None],
        *,
        window: int,
        deadline: float,
    ) -> None:
        """Connect later, in :meth:`publish`.

        ``window`` is the most messages unconfirmed, ``deadline`` the seconds that a broker is waited for which went
        away, ``stop`` asks for an orderly end, ``say`` takes remarks.
        """
        self.tally = tally
        #: Messages that no queue took, and exchange and routing key of the last of them.
        self.returned: list[Entry] = []
        self.unroutable = ("", "")
        self._broker = broker
        self._stop = stop
        self._say = say
        self._window = window
        self._chunk = max(1, min(CHUNK, window // 2))
        self._deadline = deadline
        self._source: MessageSource
        self._connection: amqp.Connection | None = None
        self._amqp_channel: amqp.Channel | None = None
        self._tag = 0
        #: Delivery tag -> what is sent and not confirmed.
        self._outstanding: dict[int, Entry] = {}
        #: What is to be sent once more.
        self._to_republish: deque[Entry] = deque()
        self._blocked_since: float | None = None
        self._trouble_since: float | None = None
        self._heard = time.monotonic()

    def publish(self, source: MessageSource, to_republish: list[Entry] | None = None) -> None:
        """Send a source and wait for its confirms; of what was sent, once a message is returned or ``stop`` is set.

        ``to_republish`` was sent before and goes first. The connection stays for the next source. Raises
        ``PostingError`` when the broker stays away or refuses, ``Interrupted`` when it keeps the last confirms back.
        """
        self._source = source
        self._to_republish.extend(to_republish or [])
        if self._connection is not None:
            source.connected(self._connection, self._amqp_channel)
        while not self._finished():
            try:
                if self._connection is None:
                    self._connect()
                self._step()
            except brokers.CONNECTION_ERRORS as error:
                self._lost(error)

    def close(self) -> None:
        """Close the connection; what is unconfirmed stays so."""
        if self._connection is not None:
            brokers.close(self._connection)
            self._connection = None

    def unsettled(self) -> list[Entry]:
        """Return what was taken from the source and is not surely with the broker."""
        return [*self._outstanding.values(), *self._to_republish, *self.returned]

    def _finished(self) -> bool:
        if self._outstanding:
            return False
        return bool(self.returned) or not (self._to_republish or self._more())

    def _more(self) -> bool:
        return not self._stop.is_set() and self._source.more()

    def _connect(self) -> None:
        self._blocked_since = None
        connection = self._broker.connect(
            f"post {self.tally.name}", on_blocked=self._blocked, on_unblocked=self._unblocked
        )
        self._connection = connection
        self._amqp_channel = channel = connection.channel()
        channel.events["basic_ack"].add(self._acked)
        channel.events["basic_nack"].add(self._refused)
        channel.events["basic_return"].add(self._came_back)
        channel.confirm_select()
        # Set once and for all: py-amqp's own timeouts would change it twice for every confirm.
        connection.sock.settimeout(PATIENCE)
        self._source.connected(connection, channel)
        self._to_republish = deque(sorted([*self._outstanding.values(), *self._to_republish], key=itemgetter(0)))
        self._outstanding.clear()
        self._tag = 0
        self._heard = time.monotonic()

    def _step(self) -> None:
        """Send one chunk, then wait until the window has room for the next, or for all confirms after the last."""
        if self.returned:
            pass
        elif self._to_republish:
            entries = [self._to_republish.popleft() for _ in range(min(self._chunk, len(self._to_republish)))]
            self.tally.republished += len(entries)
            self._send(entries)
        elif self._more():
            entries = self._source.take(self._chunk)
            if not entries:
                self._idle()
                return
            self._send(entries)
        more = not self.returned and (bool(self._to_republish) or self._more())
        self._await_confirms(self._window - self._chunk if more else 0)
        self._source.stepped()

    def _idle(self) -> None:
        """Wait until the next message is due, at most as long as confirms may wait."""
        assert self._connection is not None
        with suppress(TimeoutError):
            while self._outstanding:
                self._connection.drain_events(timeout=0)
        if self._outstanding:
            self._check_patience()
        self._source.stepped()
        self._stop.wait(max(0.0, min(self._source.wait(), PACE if self._outstanding else PATIENCE)))

    def _send(self, entries: list[Entry]) -> None:
        if self.tally.first is None:
            self.tally.first = time.monotonic()
        if not self._outstanding:
            self._heard = time.monotonic()
        # Known as outstanding before the first byte leaves: a connection that breaks here is no loss.
        self._outstanding.update(enumerate(entries, self._tag + 1))
        self._tag += len(entries)
        self._write(self._source.frames(entries))
        self.tally.posted = max(self.tally.posted, entries[-1][0] + 1)

    def _write(self, data: bytes) -> None:
        """Send bytes, and listen when the broker does not take them: it says so when it blocks publishers."""
        assert self._connection is not None
        sock = self._connection.sock
        view = memoryview(data)
        while view:
            try:
                view = view[sock.send(view) :]
            except (TimeoutError, ssl.SSLWantReadError, ssl.SSLWantWriteError):
                self._listen(wait=False)
                self._check_patience()

    def _await_confirms(self, limit: int) -> None:
        """Wait until no more than ``limit`` messages are unconfirmed."""
        asked_to_stop: float | None = None
        while len(self._outstanding) > limit:
            self._listen()
            self._check_patience()
            if self._stop.is_set():
                asked_to_stop = asked_to_stop or time.monotonic()
                if time.monotonic() - asked_to_stop > LAST_CONFIRMS:
                    raise Interrupted

    def _listen(self, *, wait: bool = True) -> None:
        """Take in what the broker has to say, waiting for it at most ``PATIENCE``."""
        assert self._connection is not None
        with suppress(TimeoutError):
            self._connection.drain_events(timeout=None if wait else 0)

    def _check_patience(self) -> None:
        now = time.monotonic()
        if self._blocked_since is not None:
            if now - self._blocked_since > BLOCKED:
                raise PostingError(
                    f"the broker ({self._broker}) has blocked publishers for {BLOCKED:.0f} s. Look at its "
                    f"memory and disk alarms: rabbitmqctl status"
                )
        elif now - self._heard > SILENCE:
            raise TimeoutError(f"no confirm within {SILENCE:.0f} s")

    def _acked(self, tag: int, multiple: bool) -> None:
        done = self._settle(tag, multiple)
        self.tally.confirmed += len(done)
        self.tally.last = self._heard = time.monotonic()
        self._trouble_since = None
        self._source.confirmed(done)

    def _refused(self, tag: int, multiple: bool) -> None:
        entries = self._settle(tag, multiple)
        self.tally.nacked += len(entries)
        self._to_republish.extend(entries)
        self._heard = time.monotonic()
        self._give_up_after_deadline("refuses messages (basic.nack)")
        self._say(f"the broker ({self._broker}) refuses messages; sending them again")
        self._stop.wait(0.2)

    def _settle(self, tag: int, multiple: bool) -> list[Entry]:
        """Take the message with the tag, or all up to it, off the outstanding ones, and return them."""
        outstanding = self._outstanding
        if not multiple:
            entry = outstanding.pop(tag, None)
            return [] if entry is None else [entry]
        tags = []
        for other in outstanding:  # in the order of sending
            if other > tag:
                break
            tags.append(other)
        return [outstanding.pop(other) for other in tags]

    def _came_back(self, _error: Exception, exchange: str, key: str, returned: amqp.Message) -> None:
        """Take note of a message that no queue took; its confirm, which follows, must not count."""
        identifier = str(returned.headers["id"]).encode()
        for tag, entry in self._outstanding.items():
            if entry[1] == identifier:
                self.returned.append(self._outstanding.pop(tag))
                break
        self.unroutable = (exchange, key)

    def _blocked(self, reason: str) -> None:
        self._blocked_since = time.monotonic()
        self._say(f"the broker ({self._broker}) blocks publishers ({reason}); waiting until it takes messages again")

    def _unblocked(self) -> None:
        if self._blocked_since is not None:
            self.tally.blocked_seconds += time.monotonic() - self._blocked_since
            self._blocked_since = None
            self._heard = time.monotonic()
            self._say(f"the broker ({self._broker}) takes messages again")

    def _lost(self, error: BaseException) -> None:
        """Wait a while after a failure to connect or a lost connection; raise ``PostingError`` past the deadline."""
        if brokers.is_refusal(error):
            raise PostingError(self._refusal(error)) from error
        if self._connection is not None:
            self.close()
            self.tally.reconnects += 1
        self._give_up_after_deadline(f"is gone ({brokers.reason(error)})")
        self._say(f"the broker ({self._broker}) is gone; waiting for it, up to {self._deadline:.0f} s")
        waited = time.monotonic() - (self._trouble_since or 0.0)
        low, high = BACKOFF
        self._stop.wait(min(high, max(low, waited / 2)) * random.uniform(0.8, 1.2))  # noqa: S311  # spreads the threads
        if self._stop.is_set():
            raise Interrupted

    def _refusal(self, error: BaseException) -> str:
        """Say in one sentence what the broker refuses, and what mends it."""
        if self._connection is None:
            return self._broker.explain(error)
        words = brokers.reason(error)
        if isinstance(error, PreconditionFailed) and "size" in words:
            return (
                f"the broker ({self._broker}) refuses a message of this size ({words}). Hand the tasks less, such as "
                f"the name of a file; or raise rabbitmq_max_message_size and run site.yml"
            )
        said = f"the broker ({self._broker}) refuses a message: {words}"
        if isinstance(error, AccessRefused):
            return f"{said}. This user's permission to write stands in rabbitmq_users; mend it and run site.yml"
        if isinstance(error, NotFound):
            return f"{said}. Declare the exchange, or mend its name"
        return said

    def _give_up_after_deadline(self, what: str) -> None:
        now = time.monotonic()
        self._trouble_since = self._trouble_since or now
        if now - self._trouble_since > self._deadline:
            raise PostingError(f"the broker ({self._broker}) {what} for {self._deadline:.0f} s")
