"""Store with each result when its task ran, how long and on which worker, and tell this host's time when asked.

Installed when the app's own modules are loaded. A result in the backend then has one key more, which Celery's clients
do not look at:

    "taskmill": [START, RUN, CPU, WORKER]

START is when the task's function was called, in Unix seconds of this host's clock; RUN how long it ran and CPU how much
CPU its thread took meanwhile, both in whole microseconds (CPU is null where Python has no clock for that, before 3.3);
WORKER is the node's name. A task that never got to its function has no such key.

The remote-control command `taskmill_clock` answers {"time": Unix seconds}.

Runs with Celery 3.1 to 5 on Python 2.7 and 3.
"""

import functools
import threading
import time

from celery.backends import base
from celery.utils.log import get_logger
from celery.worker.control import Panel

KEY = "taskmill"
# Backends with values by key, which store a result as one text by `encode`. Redis's is of the first kind alone, which
# Celery 3.1 does not have.
WITH_KEYS = getattr(base, "BaseKeyValueStoreBackend", base.KeyValueStoreBackend)
# The clocks of Python 3; 2.7 has one that jumps when the host's time is set, and none of a thread.
clock = getattr(time, "perf_counter", time.time)
thread_clock = getattr(time, "thread_time", lambda: None)

# The last execution of this thread: the task's id and the times.
last = threading.local()


def timed(task):
    """Return the function of `task`, with its times kept for when the result is stored."""
    run = task.run

    @functools.wraps(run)
    def measured(*args, **kwargs):
        begin, cpu, start = time.time(), thread_clock(), clock()
        try:
            return run(*args, **kwargs)
        finally:
            duration = clock() - start
            used = None if cpu is None else int((thread_clock() - cpu) * 1e6)
            request = task.request
            last.times = (request.id, [round(begin, 6), int(duration * 1e6), used, request.hostname])

    return measured


def with_times(encode):
    """Return a backend's `encode` that adds the times to what is a task's result."""

    @functools.wraps(encode)
    def encode_with_times(self, data):
        task_id, times = getattr(last, "times", None) or (None, None)
        # Celery 3.1 stores no id; it stores once, while later releases encode anew for every try.
        if (
            times is not None
            and isinstance(data, dict)
            and "status" in data
            and data.get("task_id", task_id) == task_id
        ):
            if "task_id" not in data:
                last.times = None
            data = dict(data, **{KEY: times})
        return encode(self, data)

    return encode_with_times


def taskmill_clock(_state, **_kwargs):
    """Return this host's time."""
    return {"time": time.time()}


def install(app):
    """Time every task of `app`; say so where its result backend has no place for the times."""
    Panel.register(taskmill_clock)
    backend = type(app.backend)
    if not issubclass(backend, WITH_KEYS):
        get_logger(__name__).warning("The result backend %s cannot store when tasks ran.", backend.__name__)
        return
    backend.encode = with_times(backend.encode)
    for name, task in app.tasks.items():
        if not name.startswith("celery."):
            task.run = timed(task)
