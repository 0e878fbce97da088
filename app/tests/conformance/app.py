"""The Celery app of the comparison: its settings, and what its tasks and signals write down.

| variable | meaning |
|---|---|
| ``CONFORMANCE_BROKER`` | URL of the broker, with a virtual host of its own |
| ``CONFORMANCE_BACKEND`` | URL of the result backend |
| ``CONFORMANCE_FOLDER`` | where ``notes`` is written, and where a file says that the client has seen a state |
"""

from __future__ import annotations

import json
import os
import time
from pathlib import Path
from typing import Any

from celery import Celery, current_task, signals
from kombu import Queue

#: The one queue of the tasks, and the one that gets what a worker rejects.
QUEUE = "conformance"
DEAD = "conformance-dead"
#: Seconds that a task waits for the client to see its state. A worker that shows no state costs as much for each.
PATIENCE = 15.0
FOLDER = Path(os.environ.get("CONFORMANCE_FOLDER", "."))
#: Marks the beginning of a log record, and parts its fields.
RECORD, FIELD = "\x1e", "\x1f"

app = Celery("conformance", include=["conformance.tasks", "conformance.canvas", "conformance.classes"])
app.conf.update(
    broker_url=os.environ.get("CONFORMANCE_BROKER", "memory://"),
    broker_connection_retry_on_startup=True,
    result_backend=os.environ.get("CONFORMANCE_BACKEND", "disabled://"),
    accept_content=["json"],
    task_acks_late=True,
    task_reject_on_worker_lost=True,
    task_default_queue=QUEUE,
    task_queues=[
        Queue(
            QUEUE,
            routing_key=QUEUE,
            queue_arguments={"x-dead-letter-exchange": "", "x-dead-letter-routing-key": DEAD},
        )
    ],
    task_send_sent_event=True,
    worker_send_task_events=True,
    worker_prefetch_multiplier=10,
    worker_proc_alive_timeout=60,
    result_chord_join_timeout=20,
    result_chord_retry_interval=0.3,
    worker_log_format=FIELD.join([RECORD + "%(levelname)s", "%(name)s", "%(message)s"]),
    worker_task_log_format=FIELD.join(
        [RECORD + "%(levelname)s", "%(name)s", "%(task_name)s[%(task_id)s]: %(message)s"]
    ),
    worker_log_color=False,
)


def note(label: str, what: str, **fields: Any) -> None:
    """Write down that something happened to the task of a label, in one write, whichever process this is."""
    line = json.dumps({"label": label, "what": what, **fields}) + "\n"
    log = os.open(FOLDER / "notes", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    os.write(log, line.encode())
    os.close(log)


def times_noted(label: str, what: str) -> int:
    """Return how often that was written down."""
    lines = (FOLDER / "notes").read_text().splitlines()
    return sum((one["label"], one["what"]) == (label, what) for one in map(json.loads, lines))


def ran(label: str) -> None:
    """Write down that the task that runs now was executed."""
    note(label, "ran", id=current_task.request.id)


def sign(label: str) -> Path:
    """Return the file by which the client says that it has seen the state of a task, or that it may go on."""
    return FOLDER / f"seen-{label.replace('/', '-').replace(' ', '-')}"


def seen(label: str, seconds: float = PATIENCE) -> bool:
    """Wait for the client's sign; say whether it came."""
    end = time.monotonic() + seconds
    while not sign(label).exists():
        if time.monotonic() > end:
            return False
        time.sleep(0.02)
    return True


def note_signal(name: str) -> Any:
    """Return a receiver that writes a signal down, where it is about a task with a label."""

    def receive(sender: Any = None, request: Any = None, kwargs: Any = None, **more: Any) -> None:
        if kwargs is None:
            kwargs = getattr(request or getattr(sender, "request", None), "kwargs", None)
        if isinstance(kwargs, dict) and "label" in kwargs:
            fields = {key: str(more[key]) for key in ("state", "reason", "terminated", "expired") if key in more}
            note(kwargs["label"], f"signal {name}", **fields)

    return receive


#: A task of no feature's own, which nobody is told of: its results are stored as the worker likes best.
PLAIN = "conformance.tasks.add"


@signals.worker_init.connect(weak=False)
def note_signals(**_: Any) -> None:
    """Listen, in a worker alone; to the end of tasks only for those whose features are about it."""
    for name in ("prerun", "failure", "retry", "revoked", "internal_error"):
        getattr(signals, f"task_{name}").connect(note_signal(name), weak=False)
    for task in app.tasks.values():
        if task.name != PLAIN:
            signals.task_postrun.connect(note_signal("postrun"), sender=task, weak=False)
            signals.task_success.connect(note_signal("success"), sender=task, weak=False)
