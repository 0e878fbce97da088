"""Tasks take 50 milliseconds longer, so that messages wait and pool processes have some. Loaded into workers."""

import time

from celery import signals

SECONDS = 0.05


def wait(**_):
    """Take the time."""
    time.sleep(SECONDS)


signals.task_prerun.connect(wait, weak=False)
