"""An app that does nothing but tick. Its key is in the environment, as that of a Django project."""

import os

from celery import Celery

KEY = os.environ["TICKER_KEY"]

app = Celery("ticker")
app.conf.task_default_queue = "ticks"
app.conf.beat_schedule = {"tick": {"task": "ticker.tick", "schedule": 1}}


@app.task
def tick() -> None:
    """Do nothing."""
