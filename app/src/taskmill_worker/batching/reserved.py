"""A message that waits for a batch or is in one, as Celery's worker knows a task: a request."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from celery.exceptions import InvalidTaskError
from celery.worker import state
from celery.worker.request import Request
from kombu.exceptions import ContentDisallowed, DecodeError

from taskmill_worker.batching.machine import Entry

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

    from taskmill_worker.batching.gatherer import Gatherer

#: What a message that is not as it should be raises when Celery makes a request of it.
BROKEN = (DecodeError, InvalidTaskError, ContentDisallowed, LookupError, TypeError, ValueError, AttributeError)


class Reserved(Entry):
    """Stands in Celery's lists of reserved and active tasks, and makes a whole request only where one is asked for.

    So `inspect active`, `inspect reserved` and `query_task`, revocation that terminates, autoscaling, soft shutdown,
    and what cancels tasks when the connection is lost, all know the tasks of batches. A whole request for every message
    would cost more than the rest of what is done about it here.
    """

    __slots__ = ("_request", "connection", "gatherer", "id", "message", "name", "task", "time_start", "worker_pid")

    def __init__(self, gatherer: Gatherer, task: Any, message: Any) -> None:
        """Take the message, and the task that is to run."""
        Entry.__init__(self, message.delivery_tag, task.name)
        self.gatherer = gatherer
        #: The one that it came on: its delivery tag means nothing on another.
        self.connection = gatherer.connection
        self.task = task
        self.message = message
        headers = message.headers
        self.id = headers["id"]
        #: What monitors know it by.
        self.name = headers.get("shadow") or task.name
        #: When a pool process took it, in Unix seconds, and which.
        self.time_start: float | None = None
        self.worker_pid: int | None = None
        self._request: Request | None = None

    def whole(self) -> Request:
        """Return Celery's own request of the message; raise what that raises when it cannot be read."""
        if self._request is None:
            consumer = self.gatherer.consumer
            self._request = Request(
                self.message,
                on_ack=self.while_connected(self.message.ack_log_error),
                on_reject=self.while_connected(self.message.reject_log_error),
                app=consumer.app,
                hostname=consumer.hostname,
                eventer=consumer.event_dispatcher,
                task=self.task,
                connection_errors=consumer.connection_errors,
            )
        self._request.time_start, self._request.worker_pid = self.time_start, self.worker_pid
        return self._request

    @property
    def connected(self) -> bool:
        """Whether the worker still has the connection that the message came on; else it is delivered once more."""
        return self.gatherer.consumer.connection is self.connection

    def while_connected(self, how: Callable[..., None]) -> Callable[..., None]:
        """Return a way to settle the message that does nothing when the connection that it came on is gone."""

        def settle(*arguments: Any) -> None:
            if self.connected:
                how(*arguments)

        return settle

    @property
    def acknowledged(self) -> bool:
        """Whether it is acknowledged or rejected, by whomever."""
        return self.settled

    @property
    def eventer(self) -> Any:
        """What sends events about it; Celery hands over another one with each connection."""
        return self.gatherer.consumer.event_dispatcher

    @eventer.setter
    def eventer(self, eventer: Any) -> None:
        if self._request is not None:
            self._request.eventer = eventer

    def __getattr__(self, name: str) -> Any:
        """Return what else Celery asks of a request."""
        return getattr(self.whole(), name)

    def info(self, safe: bool = False) -> dict[str, Any]:
        """Return what remote control shows of it, as ``Request.info`` does."""
        try:
            return dict(self.whole().info(safe=safe), acknowledged=self.settled)
        except BROKEN:
            return {"id": self.id, "name": self.name, "type": self.task.name, "time_start": self.time_start}

    def terminate(self, pool: Any, signal: Any = None) -> None:
        """End its process and settle it as revoked; where none has it yet, when one takes it (`Request.terminate`)."""
        self.whole().terminate(pool, signal=signal)
        if self.time_start:
            unlist([self])

    def terminate_if_asked(self) -> None:
        """End its process where :meth:`terminate` was called before one had it."""
        if self._request is not None and self._request._terminate_on_ack is not None:  # as `Request.on_accepted` does
            self.terminate(*self._request._terminate_on_ack)  # the same

    def cancel(self, pool: Any, signal: Any = None, **options: Any) -> None:
        """End its process; the broker delivers it once more (`Request.cancel`)."""
        self.whole().cancel(pool, signal, **options)
        if self.time_start:
            unlist([self])

    def revoked(self) -> bool:
        """Settle it where it is revoked; say whether it is."""
        return bool(self.whole().revoked())


def list_as_reserved(entry: Reserved) -> None:
    """Do what Celery does when a worker has reserved a task."""
    state.requests[entry.id] = entry
    state.reserved_requests.add(entry)


def unlist(entries: Collection[Reserved]) -> None:
    """Do what Celery does when a worker is done with tasks."""
    requests = state.requests
    for entry in entries:
        if requests.get(entry.id) is entry:
            del requests[entry.id]
    state.active_requests.difference_update(entries)
    state.reserved_requests.difference_update(entries)
