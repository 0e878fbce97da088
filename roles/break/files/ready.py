"""Say that a worker takes tasks, in a file of its name with its process in it. Loaded into workers."""

import os

from celery import signals

DIRECTORY = os.environ["CELERY_WORKER_READY"]


def note(sender, **_):
    """Write the file, whole."""
    path = os.path.join(DIRECTORY, sender.hostname.partition("@")[0])
    with open(path + ".new", "w") as file:
        file.write(str(os.getpid()))
    os.rename(path + ".new", path)


signals.worker_ready.connect(note, weak=False)
