"""Read what the broker has sent in large pieces, for any app on AMQP, in the prefork pool.

py-amqp reads a frame in three calls of the system and sets the socket's timeout before and after, and a message is
three frames; kombu's event loop goes once around for each of them. Here a worker takes what is there, up to
:data:`PIECE` bytes, cuts it into frames, and handles them in their order (docs/performance.md says what that saves).

Whoever waits for an answer of the broker meanwhile, as `basic.qos` does, gets the frames that were read ahead first, in
the same order: nothing is overtaken, and none is left behind in memory while the socket is silent.

The solo pool runs a task as its message is handled, and sends its heartbeats in between: it reads as ever.
"""

from __future__ import annotations

import struct
from collections import deque
from typing import TYPE_CHECKING, Any

from amqp.exceptions import RecoverableConnectionError, UnexpectedFrame
from celery import signals
from celery.concurrency import get_implementation
from celery.concurrency.prefork import TaskPool
from kombu.transport.pyamqp import Transport

if TYPE_CHECKING:
    from collections.abc import Callable

    #: Type, channel and payload.
    Frame = tuple[int, int, bytes]

#: Bytes that are asked for at once: a few hundred small messages.
PIECE = 1 << 16
#: Pieces that are read before the event loop sees to something else.
PIECES = 16
#: Type (octet), channel (short), size of the payload (long); behind the payload stands one octet (AMQP 0-9-1, 4.2.3).
HEADER = struct.Struct(">BHI")
END = 0xCE


def cut(data: bytes) -> tuple[list[Frame], bytes]:
    """Return the whole frames that `data` begins with, and what is left of it.

    Raises ``UnexpectedFrame`` where a frame does not end as it should.
    """
    frames = []
    place = 0
    while len(data) - place > HEADER.size:
        kind, channel, size = HEADER.unpack_from(data, place)
        begin = place + HEADER.size
        end = begin + size
        if end >= len(data):
            break
        if data[end] != END:
            raise UnexpectedFrame(f"a frame ends with {data[end]:#x} instead of {END:#x}")
        frames.append((kind, channel, data[begin:end]))
        place = end + 1
    return frames, data[place:]


class ReadAhead:
    """The frames of a connection that were read and not handled yet."""

    def __init__(self, connection: Any) -> None:
        """Take a py-amqp connection, whose own reading then begins with these frames."""
        self.connection = connection
        self.frames: deque[Frame] = deque()
        transport = connection.transport
        self.read_one: Callable[[], Frame] = transport.read_frame
        transport.read_frame = self.read_frame

    def read_frame(self) -> Frame:
        """Return the next frame, as the transport's own method does."""
        return self.frames.popleft() if self.frames else self.read_one()

    def fill(self) -> None:
        """Read what is there; raise ``TimeoutError`` where that is nothing, ``OSError`` where the connection ended."""
        transport = self.connection.transport
        with transport.having_timeout(0):
            piece = transport._quick_recv(PIECE)  # what the transport itself reads from, with TLS and without
        if not piece:
            transport.connected = False
            raise OSError("Server unexpectedly closed connection")
        frames, transport._read_buffer = cut(transport._read_buffer + piece)  # where it keeps half a frame
        self.frames.extend(frames)


def make_reader(_: Transport, connection: Any) -> Callable[[Any], None]:
    """Take the place of ``Transport._make_reader``: return what the event loop calls when the socket can be read."""
    ahead = ReadAhead(connection)

    def read(loop: Any) -> None:
        if not connection.connected:
            raise RecoverableConnectionError("Socket was disconnected")
        try:
            for _ in range(PIECES):
                # There are some where handling one has failed.
                if not ahead.frames:
                    ahead.fill()
                while ahead.frames:
                    connection.on_inbound_frame(ahead.frames.popleft())
        except TimeoutError:
            return
        finally:
            if ahead.frames:
                loop.call_soon(read, loop)
        # TLS may have more than the socket shows.
        loop.call_soon(read, loop)

    return read


def begin(instance: Any, **_: Any) -> None:
    """Have every connection of a worker with a pool of processes read so; a receiver of `celeryd_after_setup`."""
    if issubclass(get_implementation(instance.pool_cls), TaskPool):
        Transport._make_reader = make_reader


def install(_app: Any) -> None:
    """Have that looked at when the pool is known."""
    signals.celeryd_after_setup.connect(begin, weak=False)
