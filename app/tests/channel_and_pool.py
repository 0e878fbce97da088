"""A channel to no broker and a pool of one process, which is the test's own, for messages of protocol 2."""

from __future__ import annotations

import json
import time
from types import SimpleNamespace
from typing import Any

import amqp
from amqp import spec
from celery.concurrency.prefork import TaskPool

from task_messages import body, headers


class Message:
    """A message of protocol 2, and what became of it."""

    def __init__(self, tag: int, task: str, *arguments: Any, **fields: Any) -> None:
        """Make one whose id is its delivery tag."""
        self.delivery_tag = tag
        self.headers = headers(task) | {"id": str(tag), "timelimit": [None, None], **fields}
        self.body = body(*arguments)
        self.content_type, self.content_encoding = "application/json", "utf-8"
        self.properties: dict[str, Any] = {}
        self.delivery_info: dict[str, Any] = {"exchange": "", "routing_key": "red"}
        self.acknowledged = False
        self.ends: list[str] = []
        self.channel: Any = None

    @property
    def payload(self) -> Any:
        """What its body holds."""
        return json.loads(self.body)

    def ack_log_error(self, *_: Any) -> None:
        """Be acknowledged, as Celery's own request does it."""
        self.channel.basic_ack(self.delivery_tag)
        self.acknowledged = True

    def reject_log_error(self, _logger: Any = None, _errors: Any = None, requeue: bool = False) -> None:
        """Be rejected, as Celery's own request does it."""
        self.channel.basic_reject(self.delivery_tag, requeue)
        self.acknowledged = True


class Channel(amqp.Channel):  # type: ignore[misc]  # py-amqp carries no types
    """A channel to no broker; it notes with each message how it is settled."""

    def __init__(self, handle: Any) -> None:
        """Take what is called with a message that is delivered."""
        self.handle = handle
        self.messages: dict[int, Message] = {}
        self._callbacks = {spec.Basic.Deliver: self.on_deliver}
        self.no_ack_consumers: set[str] = set()
        self.waiting: Message | None = None

    def deliver(self, message: Message) -> None:
        """Have a message come in, as the broker's frames do."""
        self.messages[message.delivery_tag] = message
        message.channel = self
        self._callbacks[spec.Basic.Deliver]("consumer", message.delivery_tag, False, "", "red", message)

    def on_deliver(self, *received: Any) -> None:
        """Handle a message."""
        self.handle(received[-1])

    def basic_ack(self, delivery_tag: int, multiple: bool = False) -> None:
        """Take note."""
        self.messages[delivery_tag].ends.append("acknowledged up to it" if multiple else "acknowledged")

    def basic_get(self, *_: Any) -> Any:
        """Return a message that waits in the queue."""
        return self.waiting

    def basic_qos(self, *_: Any) -> None:
        """Take what the broker would."""

    def basic_reject(self, delivery_tag: int, requeue: bool) -> None:
        """Take note."""
        self.messages[delivery_tag].ends.append("back" if requeue else "rejected")


class Pool(TaskPool):  # type: ignore[misc]  # Celery carries no types
    """A pool of one process, which is this one; it runs what it was given when it is told to."""

    num_processes = 1

    def __init__(self) -> None:
        """Have nothing to do."""
        self.batches: list[dict[str, Any]] = []
        self.terminated: list[int] = []

    def apply_async(self, function: Any, **options: Any) -> None:
        """Take a batch in."""
        self.batches.append({"function": function, **options})

    def terminate_job(self, pid: int, *_: Any) -> None:
        """Take note of the process."""
        self.terminated.append(pid)

    def sizes(self) -> list[int]:
        """Return how many messages each batch holds that was not run."""
        return [len(batch["args"][0]) for batch in self.batches]

    def run(self) -> None:
        """Run all there is, and what is handed out meanwhile."""
        while self.batches:
            batch = self.batches.pop(0)
            batch["accept_callback"](1, time.monotonic())
            batch["callback"](batch["function"](*batch["args"]))

    def die(self) -> None:
        """Lose the first batch, with the process."""
        self.batches.pop(0)["error_callback"](SimpleNamespace(exception="lost"))
