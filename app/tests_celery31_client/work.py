"""A Celery 3.1 app for these tests: tasks that are right, fail, take a while, or end the worker."""

import os
import signal
import time

from celery import Celery
from kombu import Exchange, Queue

app = Celery("work", broker=os.environ.get("CELERY_BROKER_URL"), backend=os.environ.get("CELERY_RESULT_BACKEND"))
app.conf.update(
    CELERY_TASK_SERIALIZER="json",
    CELERY_RESULT_SERIALIZER="json",
    CELERY_ACCEPT_CONTENT=["json"],
    CELERY_QUEUES=[Queue(name, Exchange(""), routing_key=name) for name in ("red", "green", "blue")],
)


@app.task(name="work.double")
def double(n):
    """Return twice the number."""
    return 2 * n


@app.task(name="work.fail")
def fail(n):
    """Fail, with the number in words."""
    raise ValueError("no {} today".format(n))


@app.task(name="work.kill", acks_late=True)
def kill(_n):
    """End the whole worker at once, as a host does that loses its power."""
    os.killpg(0, signal.SIGKILL)


@app.task(name="work.wait")
def wait(n):
    """Return twice the number after as many milliseconds."""
    time.sleep(n / 1000.0)
    return 2 * n
