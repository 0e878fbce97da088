"""Depth of the queues during a run: ``queues.csv`` with one line per queue and second.

Columns: ``time`` (UTC, ISO 8601), ``unix`` (seconds), ``queue``, ``ready`` (messages that wait in the queue; those
already with a worker are not among them) and ``consumers``. Read by passive declares, which change nothing.
"""

from __future__ import annotations

import csv
import threading
import time
from contextlib import contextmanager
from datetime import datetime, timezone
from typing import TYPE_CHECKING

from taskmill.cluster import broker as brokers

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    import amqp

    from taskmill.cluster.broker import Broker

INTERVAL = 1.0
COLUMNS = ("time", "unix", "queue", "ready", "consumers")


@contextmanager
def sample(broker: Broker, queues: Sequence[str], path: Path) -> Iterator[dict[str, int]]:
    """Append samples to the file while the ``with`` block runs. While the broker is away there are none.

    Yields the messages that wait in each queue by the last sample; it is empty while there is none.
    """
    stop = threading.Event()
    ready: dict[str, int] = {}
    thread = threading.Thread(target=_run, args=(broker, queues, path, stop, ready), name="queues", daemon=True)
    thread.start()
    try:
        yield ready
    finally:
        stop.set()
        thread.join(brokers.CONNECT_TIMEOUT + 2)


def _run(broker: Broker, queues: Sequence[str], path: Path, stop: threading.Event, ready: dict[str, int]) -> None:
    connection: amqp.Connection | None = None
    due = time.monotonic()
    new = not path.exists()
    with path.open("a", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        if new:
            writer.writerow(COLUMNS)
        while True:
            try:
                if connection is None:
                    connection = broker.connect("queues", read_timeout=10, write_timeout=10)
                    channel = connection.channel()
                rows = _look(channel, queues)
                ready.update({queue: waiting for _, _, queue, waiting, _ in rows})
                writer.writerows(rows)
                file.flush()
            except brokers.CONNECTION_ERRORS:
                if connection is not None:
                    brokers.close(connection)
                connection = None
                ready.clear()
            due = max(due + INTERVAL, time.monotonic())
            if stop.wait(due - time.monotonic()):
                break
    if connection is not None:
        brokers.close(connection)


def _look(channel: amqp.Channel, queues: Sequence[str]) -> list[tuple[str, str, str, int, int]]:
    now = time.time()
    stamp = datetime.fromtimestamp(now, timezone.utc).strftime("%Y-%m-%dT%H:%M:%S.%f")[:-3] + "Z"
    rows = []
    for queue in queues:
        answer = channel.queue_declare(queue, passive=True)
        rows.append((stamp, f"{now:.3f}", queue, int(answer.message_count), int(answer.consumer_count)))
    return rows
