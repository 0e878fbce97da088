"""The broker: its address without the password, connections, and errors in words."""

from __future__ import annotations

import os
import socket
import ssl
from dataclasses import dataclass
from typing import Any

import amqp
from amqp.exceptions import (
    AccessRefused,
    AMQPError,
    AMQPNotImplementedError,
    InvalidPath,
    NotAllowed,
    NotFound,
    PreconditionFailed,
)
from celery import Celery
from kombu import Connection
from kombu.transport import pyamqp

from taskmill.model.errors import TaskmillError

ENVIRONMENT_FILE = "/etc/taskmill/taskmill.env"
#: What a connection that breaks, or cannot be made, raises.
CONNECTION_ERRORS = (AMQPError, OSError)
#: Of these, what says no, and says so again however long one waits.
REFUSALS = (
    AccessRefused,
    AMQPNotImplementedError,
    InvalidPath,
    NotAllowed,
    NotFound,
    PreconditionFailed,
    ssl.SSLCertVerificationError,
)
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
    #: Where the address stands, for messages.
    setting: str = f"CELERY_BROKER_URL in {ENVIRONMENT_FILE}"
    #: The Celery app whose settings say how to connect; ``None`` where the address says all.
    app: Any = None
    #: For amqps://, the file with the authorities that its certificate may be of; empty for those that the host trusts.
    ca: str = ""

    @classmethod
    def of(cls, app: Celery) -> Broker:
        """Return the broker that an app sends its tasks to; raise ``TaskmillError`` when that is not for AMQP."""
        connection = app.connection_for_write()
        if not isinstance(connection.transport, pyamqp.Transport):
            raise TaskmillError(
                f"broker_url of the app {app.main!r} is for {connection.transport.driver_name}: taskmill speaks to "
                f"RabbitMQ, through amqp:// or amqps://"
            )
        return cls(connection.as_uri(), f"broker_url of the app {app.main!r}", app)

    @classmethod
    def from_environment(cls) -> Broker:
        """Read ``CELERY_BROKER_URL`` and ``CELERY_BROKER_CA``.

        Raises ``TaskmillError`` when the URL is missing or not for AMQP.
        """
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
        return cls(url, ca=os.environ.get("CELERY_BROKER_CA", ""))

    @property
    def tls(self) -> dict[str, Any] | None:
        """What kombu and Celery are told for amqps://: to check certificate and name. ``None`` without TLS."""
        if not self.url.startswith("amqps://"):
            return None
        # With None the name is that of the URL; kombu writes it down here.
        options = {"cert_reqs": ssl.CERT_REQUIRED, "server_hostname": None}
        return {**options, "ca_certs": self.ca} if self.ca else options

    def control(self) -> Celery:
        """Return a Celery app for remote control of the workers; close it."""
        app = Celery("taskmill", broker=self.url, set_as_current=False)
        app.conf.broker_use_ssl = self.tls
        return app

    def __str__(self) -> str:
        """Return ``HOST:PORT, virtual host 'V', user 'U'``."""
        connection = self._described()
        port = connection.port or (5671 if connection.ssl else 5672)
        return (
            f"{connection.hostname}:{port}, virtual host {connection.virtual_host or '/'!r}, "
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
        connection = self._described(connect_timeout=CONNECT_TIMEOUT, transport_options=transport_options)
        # Brokers that stand in for the first.
        for other in connection.alt[1:]:
            try:
                return connection.transport.establish_connection()
            except CONNECTION_ERRORS:
                connection.switch(other)
        return connection.transport.establish_connection()

    def _described(self, **options: Any) -> Connection:
        """Return kombu's description of the connection, which is not made yet."""
        if self.app is None:
            return Connection(self.url, ssl=self.tls, **options)
        return self.app.connection_for_write(**options)

    def check(self, queues: list[str]) -> dict[str, Any]:
        """Log in and look at the queues; return the server's name and version, messages that wait, and consumers.

        Raises ``TaskmillError`` when the broker is not there, refuses, or lacks one of the queues.
        """
        try:
            connection = self.connect("preflight")
        except CONNECTION_ERRORS as error:
            raise TaskmillError(self.explain(error)) from error
        try:
            looks = {queue: self._look_at(connection, queue) for queue in queues}
            server = connection.server_properties
            return {
                "product": str(server.get("product", "")),
                "version": str(server.get("version", "")),
                "waiting": {queue: waiting for queue, (waiting, _) in looks.items() if waiting},
                "consumers": {queue: consumers for queue, (_, consumers) in looks.items()},
            }
        finally:
            close(connection)

    def _look_at(self, connection: amqp.Connection, queue: str) -> tuple[int, int]:
        """Return how many messages wait in the queue, and how many consumers it has."""
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
        return int(answer.message_count), int(answer.consumer_count)

    def explain(self, error: BaseException) -> str:
        """Say in one sentence why a connection was not made, and what mends it."""
        if at_connection_limit(error):
            return f"the broker ({self}) takes no more connections: {reason(error)}. End some, or raise the limit"
        if isinstance(error, NotAllowed):
            return f"the broker ({self}) has no such virtual host, or its user may not use it. Look at {self.setting}"
        if isinstance(error, AccessRefused):
            return f"the broker ({self}) refuses the user or the password. Look at {self.setting}"
        if isinstance(error, ssl.SSLCertVerificationError):
            return (
                f"the broker ({self}) shows a certificate that is refused: {reason(error)}. Look at {self.setting}, "
                f"and at CELERY_BROKER_CA beside it; playbooks/renew-certificates.yml makes new certificates and "
                f"brings them to all hosts"
            )
        return (
            f"the broker ({self}) cannot be reached: {reason(error)}. "
            f"Look at whether RabbitMQ runs there, and at {self.setting}"
        )


def is_refusal(error: BaseException) -> bool:
    """Say whether a broker that raised one of ``CONNECTION_ERRORS`` says no: waiting for it mends nothing."""
    return isinstance(error, REFUSALS) and not at_connection_limit(error)


def at_connection_limit(error: BaseException) -> bool:
    """Say whether a broker has as many connections as it takes; it may count some that are dead already."""
    return isinstance(error, NotAllowed) and "connection limit" in reason(error)


def reason(error: BaseException) -> str:
    """Return an error in few words."""
    if isinstance(error, AMQPError):
        return str(error.reply_text or error)
    if isinstance(error, ssl.SSLCertVerificationError):
        return error.verify_message.rstrip(".")
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
