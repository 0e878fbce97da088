"""Write every execution of a task down on disk, so that how often each ran is known whatever dies afterwards.

Loaded into workers. Each pool process appends a line to a file of its own when a task's
function has ended, `UNIX ID` (seconds of this host's clock), with one write that survives the process by any signal.
The file is `WORKER.PID.VERSION` in the directory that CELERY_WORKER_EXECUTIONS names; VERSION is the beginning of
CELERY_WORKER_DIGEST, which differs from one deployed version to the next.

Runs with Celery 3.1 to 5 on Python 2.7 and 3.
"""

import os
import time

from celery import signals

#: Characters of the digest that tell versions apart.
VERSION = 8


class Log:
    """The file of this process."""

    def __init__(self, directory):
        self.directory = directory
        self.process = None
        self.descriptor = -1

    def note(self, task_id, task, **_):
        """Append a line; called by the signal `task_postrun`."""
        # A pool process that is forked has a file of its own.
        if self.process != os.getpid():
            self.process = os.getpid()
            version = os.environ.get("CELERY_WORKER_DIGEST", "")[:VERSION]
            name = "{}.{}.{}".format(task.request.hostname, self.process, version)
            flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND
            self.descriptor = os.open(os.path.join(self.directory, name), flags, 0o644)
        os.write(self.descriptor, "{:.6f} {}\n".format(time.time(), task_id).encode())


def install(environ):
    """Listen, where the directory is named; raise ``ValueError`` where it is not."""
    directory = environ.get("CELERY_WORKER_EXECUTIONS", "")
    if not os.path.isdir(directory):
        raise ValueError("CELERY_WORKER_EXECUTIONS must name a directory, not {!r}".format(directory))
    signals.task_postrun.connect(Log(directory).note, weak=False)


install(os.environ)
