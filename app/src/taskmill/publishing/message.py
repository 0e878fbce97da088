"""Task messages of Celery's protocol 2, as bytes ready for the wire.

Celery's own code makes the message, py-amqp's own code makes its AMQP frames, both once per route and
connection, with a placeholder for the id. Posting a task is then joining these bytes around its id: all ids have the
same length, so nothing else in the frames changes. That is more than ten times as fast as making every message anew,
and a test compares the result field by field with what ``apply_async`` sends.

Where the messages of a route differ in their arguments, the properties are still made once, and the body each time.
"""

from __future__ import annotations

import uuid
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from amqp import Message, spec
from amqp.method_framing import frame_writer
from amqp.serialization import dumps
from celery import Celery
from celery.utils.nodenames import anon_nodename
from kombu.serialization import dumps as serialize

if TYPE_CHECKING:
    from collections.abc import Sequence

    from taskmill.model.plan import Route
    from taskmill.workload.calls import Call

TRANSIENT, PERSISTENT = 1, 2
#: What a worker needs to know; it assumes the rest of protocol 2 (``celery.app.task.Context``) where it is left out.
NEEDED_HEADERS = ("lang", "task", "id")
#: Stands for the moment before which no worker runs the task; as long as :func:`moment` makes it.
ETA = "0001-01-01T00:00:00.000000+00:00"


@dataclass(frozen=True)
class Sender:
    """Who posts: ``origin`` and ``reply_to`` of the messages, as Celery fills them in."""

    origin: str
    reply_to: str

    @classmethod
    def new(cls) -> Sender:
        """Return the sender for this thread."""
        return cls(anon_nodename(), str(uuid.uuid4()))


class Frames:
    """py-amqp's own frame writer, whose bytes are kept for later."""

    def __init__(self, channel_id: int, frame_max: int) -> None:
        """Take what the frames depend on of the connection that they are for."""
        self.frame_max = frame_max
        self.bytes_sent = 0
        self._channel_id = channel_id
        self._data = bytearray()
        self._write = frame_writer(self, self)

    def write(self, data: bytes) -> None:
        """Keep bytes, as the writer's transport."""
        self._data += data

    def publish(self, arguments: bytes, content: Any) -> None:
        """Add ``basic.publish`` with these arguments (see :func:`destination`) and this content."""
        self._write(1, self._channel_id, spec.Basic.Publish, arguments, content)

    def take(self) -> bytes:
        """Return the frames since the last time."""
        data, self._data = bytes(self._data), bytearray()
        return data


def destination(exchange: str, routing_key: str, *, mandatory: bool = True) -> bytes:
    """Return the arguments of ``basic.publish``; what is mandatory is returned by the broker when no queue takes it."""
    return bytes(dumps("Bssbb", (0, exchange, routing_key, mandatory, False)))


class WireMessage:
    """A message as py-amqp's frame writer wants it, in bytes."""

    __slots__ = ("_properties", "body")

    def __init__(self, properties: bytes, body: bytes) -> None:
        """Take the parts."""
        self.body = body
        self._properties = properties

    def _serialize_properties(self) -> bytes:
        return self._properties


@lru_cache(1)
def celery_app() -> Celery:
    """Return the app whose code makes messages; it connects to nothing."""
    return Celery("taskmill", set_as_current=False)


def moment(countdown: float) -> str:
    """Return when a task with this countdown is due that is sent now."""
    return (datetime.now(timezone.utc) + timedelta(seconds=countdown)).isoformat(timespec="microseconds")


def build(
    route: Route,
    args: Sequence[Any],
    identifier: str,
    sender: Sender,
    *,
    minimal_headers: bool,
    persistent: bool = True,
    kwargs: dict[str, Any] | None = None,
    eta: str = ETA,
) -> Message:
    """Return the message that ``apply_async(args, kwargs)`` would send for this task, id and sender.

    Where the route has a countdown, the task is due at ``eta``. Only ``ignore_result`` is left out.

    With ``minimal_headers`` it leaves out what says nothing about how to run the task: who sent it (``origin``,
    ``reply_to``), how its arguments look in a monitor (``argsrepr``), and every header of which a worker assumes the
    same by itself. That halves what the broker and the worker spend on it.
    """
    headers, properties, body, _ = celery_app().amqp.as_task_v2(
        identifier, route.task, tuple(args), kwargs or {}, origin=sender.origin, reply_to=sender.reply_to
    )
    # Whether a task stores its result is known to its worker, which heeds this header before the task itself.
    del headers["ignore_result"]
    due = {"eta": eta} if route.countdown else {}
    if minimal_headers:
        headers = {name: headers[name] for name in NEEDED_HEADERS}
        properties = {}
    headers |= due
    if not minimal_headers or route.priority is not None:
        properties = {"priority": route.priority or 0} | properties
    content_type, content_encoding, payload = serialize(body, serializer="json")
    return Message(
        payload,
        content_type=content_type,
        content_encoding=content_encoding,
        application_headers=headers,
        delivery_mode=PERSISTENT if persistent else TRANSIENT,
        **properties,
    )


def template(
    route: Route,
    args: Sequence[Any],
    sender: Sender,
    channel_id: int,
    frame_max: int,
    *,
    minimal_headers: bool,
    persistent: bool = True,
    kwargs: dict[str, Any] | None = None,
) -> list[bytes]:
    """Return the pieces of the frames of ``basic.publish`` between the places where the id (ASCII) stands.

    ``identifier.join(template)`` is what goes over the wire: to the default exchange, with the queue's name as routing
    key, and mandatory, so that the broker returns what no queue takes. ``channel_id`` and ``frame_max`` are those of
    the connection. In a route with a countdown :data:`ETA` is still to be replaced.
    """
    placeholder = str(uuid.uuid4())
    frames = Frames(channel_id, frame_max)
    frames.publish(
        destination("", route.queue),
        build(route, args, placeholder, sender, minimal_headers=minimal_headers, persistent=persistent, kwargs=kwargs),
    )
    return frames.take().split(placeholder.encode())


class Encoder:
    """Makes the messages of one route over one connection, of which the arguments and the moment may differ."""

    def __init__(
        self,
        route: Route,
        sender: Sender,
        channel_id: int,
        frame_max: int,
        *,
        minimal_headers: bool,
        persistent: bool,
    ) -> None:
        """Make what all the messages have in common."""
        self._route = route
        self._sender = sender
        self._options: dict[str, Any] = {"minimal_headers": minimal_headers, "persistent": persistent}
        self._frames = Frames(channel_id, frame_max)
        self._destination = destination("", route.queue)
        self._placeholder = str(uuid.uuid4())
        self._properties: bytes | None = None
        if minimal_headers:
            made = build(route, (), self._placeholder, sender, **self._options)
            self._properties = made._serialize_properties()
        #: What Celery puts behind the arguments: callbacks and the like, of which there are none.
        self._embed = celery_app().amqp.as_task_v2(self._placeholder, route.task, (), {}).body[2]
        #: The call of the last message, and its body: those of a kind without rows and generator are one.
        self._last: tuple[Call, bytes] | None = None

    def encode(self, identifier: bytes, call: Call) -> bytes:
        """Return the frames that publish this call under this id."""
        self._frames.publish(self._destination, self._message(identifier, call))
        return self._frames.take()

    def _message(self, identifier: bytes, call: Call) -> Any:
        eta = moment(self._route.countdown) if self._route.countdown else ETA
        if self._properties is None:
            # argsrepr is another for every call.
            return build(
                self._route, call.args, identifier.decode(), self._sender, kwargs=call.kwargs, eta=eta, **self._options
            )
        properties = self._properties.replace(self._placeholder.encode(), identifier).replace(
            ETA.encode(), eta.encode()
        )
        if self._last is None or self._last[0] is not call:
            _, encoding, body = serialize((call.args, call.kwargs, self._embed), serializer="json")
            self._last = call, body.encode(encoding) if isinstance(body, str) else body
        return WireMessage(properties, self._last[1])
