"""Tasks take longer, so that messages wait and pool processes have some: 50 ms, or CELERY_WORKER_SLOW seconds.

Loaded into workers.
"""

import os
import time

from celery import signals

SECONDS = float(os.environ.get("CELERY_WORKER_SLOW", "0.05"))


def wait(**_):
    """Take the time."""
    time.sleep(SECONDS)


signals.task_prerun.connect(wait, weak=False)
