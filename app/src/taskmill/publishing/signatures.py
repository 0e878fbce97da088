"""Messages of any task, made by the task's own ``apply_async`` and ready for the wire.

``apply_async`` is called with a producer that keeps the message in place of sending it, so that routes, options, links,
stamps, checks and signals are Celery's. Where nothing but the arguments and the id can tell one message from the next
(see :meth:`SignatureEncoder._kind`), that is done once; further messages are its bytes around their own arguments and
id.
"""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from struct import Struct
from typing import TYPE_CHECKING, Any

from amqp import Message
from celery import Task, signals
from celery.app.routes import MapRoute, Router
from celery.utils.saferepr import saferepr
from kombu import Producer
from kombu.serialization import dumps as serialize

from taskmill.model.errors import TaskmillError
from taskmill.publishing.message import WireMessage, destination

if TYPE_CHECKING:
    from celery import Celery

#: Options that mean the same whatever the arguments are, where they are plain values.
SHARED = frozenset(
    {
        "compression",
        "delivery_mode",
        "exchange",
        "exchange_type",
        "ignore_result",
        "priority",
        "queue",
        "reply_to",
        "retries",
        "retry",
        "routing_key",
        "serializer",
        "shadow",
        "soft_time_limit",
        "time_limit",
    }
)
PLAIN = (str, int, float, bool, type(None))
#: Kinds of message that are kept, at most.
KINDS = 1000
LENGTH = Struct(">I")


@dataclass
class Destination:
    """Where messages go: the arguments of ``basic.publish``, and the queues and exchanges that must be there."""

    arguments: bytes
    declare: tuple[Any, ...]
    #: Through which channel they were declared last.
    channel: Any = None


class RoutedMessage(WireMessage):
    """A message, and where it goes."""

    __slots__ = ("destination",)

    def __init__(self, destination: Destination, properties: bytes, body: bytes) -> None:
        """Take the parts."""
        super().__init__(properties, body)
        self.destination = destination


class CapturingProducer(Producer):  # type: ignore[misc]  # kombu carries no types
    """Keeps what it is to publish. It has a connection, made only for a result backend that asks for it."""

    def __init__(self, app: Celery) -> None:
        """Connect later, or never."""
        super().__init__(app.connection_for_write(), auto_declare=False)
        self.messages: list[RoutedMessage] = []
        #: Body, serializer and compression of what was published last.
        self.last: tuple[Any, Any, Any] = (None, None, None)

    def publish(self, body: Any, **options: Any) -> Any:
        """Keep the message; trying again is the channel's."""
        self.last = (body, options.get("serializer"), options.get("compression"))
        return super().publish(body, **options | {"retry": False})

    def _publish(
        self,
        body: Any,
        priority: Any,
        content_type: Any,
        content_encoding: Any,
        headers: Any,
        properties: Any,
        routing_key: Any,
        _mandatory: Any,
        _immediate: Any,
        exchange: Any,
        declare: Any,
        *_others: Any,
    ) -> None:
        message = Message(
            body,
            priority=priority,
            content_type=content_type,
            content_encoding=content_encoding,
            application_headers=headers,
            **properties,
        )
        # The task itself is mandatory: the broker returns what no queue takes. The event that tells of it is not.
        mandatory = not self.messages
        arguments = destination(exchange, routing_key, mandatory=mandatory)
        data = body.encode(content_encoding) if isinstance(body, str) else bytes(body)
        self.messages.append(
            RoutedMessage(Destination(arguments, tuple(declare)), message._serialize_properties(), data)
        )

    def take(self) -> list[RoutedMessage]:
        """Return what was kept since the last time."""
        messages, self.messages = self.messages, []
        return messages


class Template:
    """A message of which arguments and id are open."""

    def __init__(
        self, message: RoutedMessage, identifier: bytes, args: bytes, kwargs: bytes, *, embed: Any, serializer: Any
    ) -> None:
        """Take apart a message that was made with these three words for its id, ``argsrepr`` and ``kwargsrepr``.

        Raises ``ValueError`` when they do not stand where they should.
        """
        data = message._serialize_properties()
        # Flags, content type and encoding, then the table of headers, which begins with its length.
        start = 2
        for _ in range(2):
            start += 1 + data[start]
        self._head = data[:start]
        self._length = LENGTH.unpack_from(data, start)[0] - len(args) - len(kwargs)
        self._pieces = _split(data[start + LENGTH.size :], args, kwargs)
        self._identifier = identifier
        self._destination = message.destination
        self._embed = embed
        self._serializer = serializer

    def fill(self, identifier: bytes, args: Any, kwargs: Any, argsrepr: str, kwargsrepr: str) -> RoutedMessage:
        """Return the message for an id as long as the first."""
        shown, shown_too = argsrepr.encode("utf-8", "surrogatepass"), kwargsrepr.encode("utf-8", "surrogatepass")
        before, between, after = self._pieces
        table = LENGTH.pack(self._length + len(shown) + len(shown_too))
        lengths = LENGTH.pack(len(shown)), LENGTH.pack(len(shown_too))
        properties = b"".join((self._head, table, before, lengths[0], shown, between, lengths[1], shown_too, after))
        properties = properties.replace(self._identifier, identifier)
        _, encoding, body = serialize((args, kwargs, self._embed), self._serializer)
        return RoutedMessage(self._destination, properties, body.encode(encoding) if isinstance(body, str) else body)


def _split(data: bytes, *words: bytes) -> list[bytes]:
    """Return what stands between long strings of a table, each there once, without the four bytes of their lengths."""
    pieces = []
    for word in words:
        before, found, data = data.partition(LENGTH.pack(len(word)) + word)
        if not found or word in data:
            raise ValueError(f"{word!r} is not there once")
        pieces.append(before)
    return [*pieces, data]


class SignatureEncoder:
    """Makes the messages of one thread."""

    def __init__(self, app: Celery, reply_to: str) -> None:
        """Take the app and where Celery says that replies go to: the app's ``thread_oid`` of who publishes."""
        self._app = app
        self._tasks = app.tasks
        self._reply_to = reply_to
        self._producer = CapturingProducer(app)
        self._templates: dict[Any, Template | None] = {}
        #: Whether nothing looks at, or changes, single messages on their way.
        self._plain = (
            not any(
                signal.receivers
                for signal in (signals.before_task_publish, signals.after_task_publish, signals.task_sent)
            )
            and not app.conf.task_send_sent_event
            and type(app.amqp.router) is Router
            and all(isinstance(route, MapRoute) for route in app.amqp.routes)
        )
        self._longest = app.amqp.argsrepr_maxsize, app.amqp.kwargsrepr_maxsize
        self._levels = app.conf.task_repr_maxlevels

    def make(self, identifier: str, signature: Mapping[str, Any]) -> list[RoutedMessage]:
        """Return the message of a signature, and the event that tells of it where the app sends such.

        Raises what ``apply_async`` does.
        """
        name, args, kwargs = signature["task"], signature.get("args") or (), signature.get("kwargs") or {}
        options = signature.get("options") or {}
        task = self._tasks.get(name)
        kind = self._kind(name, task, args, kwargs, options, identifier)
        if kind is None:
            return self._apply(task, name, args, kwargs, options, identifier)
        if kind not in self._templates:
            if len(self._templates) >= KINDS:
                self._templates.clear()
            self._templates[kind] = self._template(task, name, args, kwargs, options)
        template = self._templates[kind]
        if template is None:
            return self._apply(task, name, args, kwargs, options, identifier)
        if task is not None and task.typing:
            # As apply_async does: it takes the arguments, or raises TypeError.
            task.__header__(*args, **kwargs)
        shown = saferepr(args, self._longest[0], maxlevels=self._levels)
        shown_too = saferepr(kwargs, self._longest[1], maxlevels=self._levels) if kwargs else "{}"
        return [template.fill(identifier.encode(), args, kwargs, shown, shown_too)]

    def _kind(self, name: str, task: Any, args: Any, kwargs: Any, options: Mapping[str, Any], identifier: str) -> Any:
        """Return what the message shares with others that differ in arguments and id alone; ``None`` if nothing."""
        if not self._plain or len(identifier) != 36 or not identifier.isascii():
            return None
        if task is not None and (
            type(task).apply_async is not Task.apply_async
            or type(task).shadow_name is not Task.shadow_name
            or task._dump_pydantic_arguments is not None
        ):
            return None
        if not isinstance(args, (list, tuple)) or not isinstance(kwargs, Mapping):
            return None
        if not options:
            return name
        shared = [(option, value, type(value)) for option, value in options.items() if option != "task_id"]
        if all(option in SHARED and kind in PLAIN for option, _, kind in shared):
            return name, *shared
        return None

    def _apply(
        self, task: Any, name: str, args: Any, kwargs: Any, options: Mapping[str, Any], identifier: str
    ) -> list[RoutedMessage]:
        given = {"reply_to": self._reply_to, **options, "task_id": identifier, "producer": self._producer}
        # The ids are the result; what keeps one for each child of a task that is at work would grow with them.
        given["add_to_parent"] = False
        self._producer.take()
        if task is None:
            self._app.send_task(name, args, kwargs, **given)
        else:
            task.apply_async(args, kwargs, **given)
        messages = self._producer.take()
        if not messages:
            raise TaskmillError(f"the apply_async of {name} sends by other means than the producer that it is given")
        return messages

    def _template(self, task: Any, name: str, args: Any, kwargs: Any, options: Mapping[str, Any]) -> Template | None:
        words = [str(uuid.uuid4()) for _ in range(3)]
        described = {**options, "argsrepr": words[1], "kwargsrepr": words[2]}
        (message,) = self._apply(task, name, args, kwargs, described, words[0])
        (_, _, embed), serializer, compression = self._producer.last
        if compression:
            return None
        try:
            return Template(message, *(word.encode() for word in words), embed=embed, serializer=serializer)
        except ValueError:
            return None
