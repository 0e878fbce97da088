"""A Celery 3.1 app for these tests: a task that is right, one that fails, one that takes a while."""

import os
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


@app.task(name="work.wait")
def wait(n):
    """Return twice the number after as many milliseconds."""
    time.sleep(n / 1000.0)
    return 2 * n
