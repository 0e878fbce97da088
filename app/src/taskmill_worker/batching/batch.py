"""The messages that one pool process gets at once: it sends them, and settles each by its outcome."""

from __future__ import annotations

import time
from collections import Counter
from typing import TYPE_CHECKING, Any

from celery.utils.log import get_logger
from celery.worker import state

from taskmill_worker.batching.pool import run

if TYPE_CHECKING:
    from taskmill_worker.batching.gatherer import Gatherer

    #: Of a batch: number and seconds of the tasks by name; by place, what is no success (``None`` where the message
    #: could not be read) and, where events are on, result and seconds of what is.
    Outcome = tuple[dict[str, tuple[int, float]], dict[int, Any], dict[int, tuple[Any, float]]]

logger = get_logger(__name__)


class Batch:
    """Messages that one pool process gets at once, with the task of each."""

    def __init__(self, gatherer: Gatherer, entries: list[tuple[Any, Any]]) -> None:
        """Take ``(task, message)`` of each, in the order of delivery."""
        self.gatherer = gatherer
        self.entries = entries
        #: When a pool process took it, in Unix seconds, and which.
        self.started_at: float | None = None
        self.pid: int | None = None

    def send(self) -> None:
        """Hand the batch to the pool."""
        hostname = self.gatherer.consumer.hostname
        calls = [
            (
                task.name,
                message.headers["id"],
                {
                    **message.headers,
                    "reply_to": message.properties.get("reply_to"),
                    "correlation_id": message.properties.get("correlation_id"),
                    "delivery_info": {
                        "exchange": message.delivery_info.get("exchange"),
                        "routing_key": message.delivery_info.get("routing_key"),
                        "priority": message.properties.get("priority"),
                        "redelivered": False,
                    },
                    "hostname": hostname,
                },
                message.body,
            )
            for task, message in self.entries
        ]
        self.gatherer.consumer.pool.apply_async(
            run,
            args=(calls, self.gatherer.events),
            accept_callback=self.accepted,
            callback=self.done,
            error_callback=self.failed,
            correlation_id=calls[0][1],
        )

    def accepted(self, pid: int, time_accepted: float) -> None:
        """Count the tasks as started."""
        self.started_at, self.pid = time.time() - (time.monotonic() - time_accepted), pid
        names = Counter(task.name for task, _ in self.entries)
        state.total_count.update(names)
        state.all_total_count[0] += len(self.entries)
        if self.gatherer.events:
            for task, message in self.entries:
                self.gatherer.event("task-started", task, message)

    def done(self, outcome: Outcome) -> None:
        """Settle every message by what came of it."""
        durations, outcomes, succeeded = outcome
        gatherer = self.gatherer
        gatherer.in_flight.discard(self)
        gatherer.learn(durations)
        stored = []
        for place, (task, message) in enumerate(self.entries):
            if place in outcomes:
                gatherer.settle_singly(task, message, outcomes[place])
                continue
            stored.append(message)
            if place in succeeded:
                result, runtime = succeeded[place]
                gatherer.event("task-succeeded", task, message, result=result, runtime=runtime)
        gatherer.finish(stored)

    def failed(self, error: Any) -> None:
        """Put every message back to its queue. The one that is to blame shows when they are run one by one."""
        self.gatherer.in_flight.discard(self)
        logger.warning("%d messages go back to their queues: %s", len(self.entries), getattr(error, "exception", error))
        self.gatherer.give_back([message for _, message in self.entries])

    def info(self) -> list[dict[str, Any]]:
        """Return what `celery inspect active` shows of each task."""
        return [
            {
                "id": message.headers["id"],
                "name": task.name,
                "args": message.headers.get("argsrepr", ""),
                "kwargs": message.headers.get("kwargsrepr", ""),
                "type": task.name,
                "hostname": self.gatherer.consumer.hostname,
                "time_start": self.started_at,
                "acknowledged": False,
                "delivery_info": {"routing_key": message.delivery_info.get("routing_key"), "redelivered": False},
                "worker_pid": self.pid,
            }
            for task, message in self.entries
        ]
