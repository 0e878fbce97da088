"""Keep a file named after the pool process for as long as a task runs in it. Loaded into workers."""

import os

from celery import signals

DIRECTORY = os.environ["CELERY_WORKER_IN_TASK"]


def path():
    """Return the file of this process."""
    return os.path.join(DIRECTORY, str(os.getpid()))


def begin(**_):
    """Make the file."""
    open(path(), "w").close()


def end(**_):
    """Remove the file."""
    os.unlink(path())


signals.task_prerun.connect(begin, weak=False)
signals.task_postrun.connect(end, weak=False)
