"""The broker: its address without the password, connections, and errors in words."""

from __future__ import annotations

import os
import socket
from dataclasses import dataclass
from typing import Any

import amqp
from amqp.exceptions import AccessRefused, AMQPError, NotAllowed, NotFound
from kombu import Connection

from taskmill.errors import TaskmillError

ENVIRONMENT_FILE = "/etc/taskmill/taskmill.env"
#: What a connection that breaks, or cannot be made, raises.
CONNECTION_ERRORS = (AMQPError, OSError)
CONNECT_TIMEOUT = 10.0


def from_environment(name: str) -> str:
    """Return an environment variable; raise ``TaskmillError`` with the file that sets it when it is missing."""
    value = os.environ.get(name, "")
    if not value:
        raise TaskmillError(
            f"{name} is not set. On a client host it stands in {ENVIRONMENT_FILE}, which the command "
            f"/usr/local/bin/taskmill reads; by hand: set -a; . {ENVIRONMENT_FILE}; set +a"
        )
    return value


@dataclass(frozen=True)
class Broker:
    """A RabbitMQ virtual host and a user of it. ``str()`` names it without the password."""

    url: str

    @classmethod
    def from_environment(cls) -> Broker:
        """Read ``CELERY_BROKER_URL``; raise ``TaskmillError`` when it is missing or not for AMQP."""
        url = from_environment("CELERY_BROKER_URL")
        if not url.startswith(("amqp://", "amqps://", "pyamqp://")):
            raise TaskmillError(
                f"CELERY_BROKER_URL must begin with amqp:// or amqps://, not with {url.partition(':')[0]}: "
                f"taskmill speaks to RabbitMQ. It stands in {ENVIRONMENT_FILE}"
            )
        try:
            str(cls(url))
        except ValueError as error:
            raise TaskmillError(
                f"CELERY_BROKER_URL (in {ENVIRONMENT_FILE}) cannot be read; it has the form "
                f"amqp://USER:PASSWORD@HOST:5672/VHOST"
            ) from error
        return cls(url)

    def __str__(self) -> str:
        """Return ``HOST:PORT, virtual host 'V', user 'U'``."""
        connection = Connection(self.url)
        return (
            f"{connection.hostname}:{connection.port or 5672}, virtual host {connection.virtual_host or '/'!r}, "
            f"user {connection.userid or 'guest'!r}"
        )

    def __repr__(self) -> str:
        """Return the same as ``str()``: the password stays out of every message."""
        return f"<Broker {self}>"

    def connect(self, purpose: str, **options: Any) -> amqp.Connection:
        """Return a new py-amqp connection; RabbitMQ shows ``purpose`` as its name.

        Further options are those of ``amqp.Connection``. Raises one of ``CONNECTION_ERRORS``.
        """
        transport_options = {"client_properties": {"connection_name": f"taskmill {purpose}"}, **options}
        return Connection(
            self.url, connect_timeout=CONNECT_TIMEOUT, transport_options=transport_options
        ).transport.establish_connection()

    def check(self, queues: list[str]) -> dict[str, Any]:
        """Log in and look at the queues; return the server's name and version, and the messages that wait already.

        Raises ``TaskmillError`` when the broker is not there, refuses, or lacks one of the queues.
        """
        try:
            connection = self.connect("preflight")
        except CONNECTION_ERRORS as error:
            raise TaskmillError(self.explain(error)) from error
        try:
            waiting = {queue: self._look_at(connection, queue) for queue in queues}
            server = connection.server_properties
            return {
                "product": str(server.get("product", "")),
                "version": str(server.get("version", "")),
                "waiting": {queue: count for queue, count in waiting.items() if count},
            }
        finally:
            close(connection)

    def _look_at(self, connection: amqp.Connection, queue: str) -> int:
        """Return how many messages wait in the queue."""
        channel = connection.channel()
        try:
            answer = channel.queue_declare(queue, passive=True)
        except NotFound as error:
            raise TaskmillError(
                f"the broker ({self}) has no queue {queue!r}. The role rabbitmq declares those in "
                f"rabbitmq_queues; run the playbook site.yml, or mend the queue's name"
            ) from error
        except AccessRefused as error:
            raise TaskmillError(
                f"the broker ({self}) does not let this user look at the queue {queue!r}: "
                f"{error.reply_text}. Permissions stand in rabbitmq_users"
            ) from error
        channel.close()
        return int(answer.message_count)

    def explain(self, error: BaseException) -> str:
        """Say in one sentence why a connection was not made, and what mends it."""
        if isinstance(error, NotAllowed):
            return (
                f"the broker ({self}) has no such virtual host, or its user may not use it. "
                f"Look at CELERY_BROKER_URL in {ENVIRONMENT_FILE}"
            )
        if isinstance(error, AccessRefused):
            return (
                f"the broker ({self}) refuses the user or the password. Look at CELERY_BROKER_URL in {ENVIRONMENT_FILE}"
            )
        return (
            f"the broker ({self}) cannot be reached: {reason(error)}. "
            f"Look at whether RabbitMQ runs there, and at CELERY_BROKER_URL in {ENVIRONMENT_FILE}"
        )


def reason(error: BaseException) -> str:
    """Return an error in few words."""
    if isinstance(error, AMQPError):
        return str(error.reply_text or error)
    if isinstance(error, socket.gaierror):
        return f"its name is not known ({error.strerror})"
    if isinstance(error, (socket.timeout, TimeoutError)):
        return "no answer in time"
    return str(getattr(error, "strerror", None) or error) or type(error).__name__


def close(connection: amqp.Connection) -> None:
    """Close a connection, broken or not."""
    try:
        connection.close()
    except CONNECTION_ERRORS:
        connection.collect()
