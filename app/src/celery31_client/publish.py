"""Posting: threads that call ``apply_async``, as the article does, and keep the ids."""

from __future__ import print_function

import threading
import time

from celery import Celery
from kombu.five import monotonic

from celery31_client.files import Ids
from celery31_client.progress import Phase, say

TICK = 0.5


def make_app(broker, backend, kinds):
    """Return a Celery app that knows the tasks by name, and by configuration the queue of each.

    ``kinds`` are pairs of task and queue. The queues are the landscape's, bound to the default exchange by their name,
    and a client may not declare any: so routes name exchange and routing key, which is what a queue's name comes to.
    """
    app = Celery("celery31_client", broker=broker, backend=backend)
    app.conf.update(
        CELERY_TASK_SERIALIZER="json",
        CELERY_RESULT_SERIALIZER="json",
        CELERY_ACCEPT_CONTENT=["json"],
        CELERY_DEFAULT_EXCHANGE="",
        CELERY_ROUTES=dict((task, {"exchange": "", "routing_key": queue}) for task, queue in kinds),
    )
    for task, _ in kinds:
        app.task(name=task)(stub)
    return app


def stub(*_args):
    """Stand in for the body of a task, which only workers have."""
    raise NotImplementedError("tasks run on workers")


class Thread(object):
    """One posting thread: its span of the run's messages, and how far it has come."""

    def __init__(self, app, plan, folder, number, span, stop, profiles):
        """Make it; :meth:`start` sets it off."""
        self._tasks = [(app.tasks[task], queue) for task, queue in plan["kinds"]]
        self._args = plan["args"]
        self._ids = Ids(folder, number)
        self._span = span
        self._stop = stop
        self._profiles = profiles
        self._thread = threading.Thread(target=self._run, name="post-%03d" % number)
        # What takes no signal and has no deadline of its own must not keep the program from ending.
        self._thread.daemon = True
        self.posted = 0
        self.first = self.last = None
        self.error = None

    def start(self):
        """Set it off."""
        self._thread.start()

    def running(self):
        """Tell whether it is at work."""
        return self._thread.is_alive()

    def _run(self):
        try:
            with self._profiles.thread():
                self._post()
        except Exception as error:
            self.error = "%s: %s" % (type(error).__name__, error)
            self._stop.set()
        finally:
            self._ids.close()

    def _post(self):
        start, count = self._span
        for number in range(start, start + count):
            if self._stop.is_set():
                return
            task, queue = self._tasks[number % len(self._tasks)]
            if self.first is None:
                self.first = monotonic()
            result = task.apply_async(self._args)
            self._ids.add(result.id, queue)
            self.last = monotonic()
            self.posted += 1


def spans(tasks, threads):
    """Return first message number and count for each thread that has something to do."""
    share, rest = divmod(tasks, threads)
    counts = [share + (index < rest) for index in range(threads)]
    return [(sum(counts[:index]), count) for index, count in enumerate(counts) if count]


def publish(app, plan, folder, stop, profiles):
    """Post a plan; return ``posted``, ``error`` (or ``None``), ``first`` and ``last`` (monotonic seconds), ``clock``.

    ``stop`` asks for an orderly end. A broker that takes no message for the plan's ``broker_deadline`` seconds is given
    up.
    """
    inner = threading.Event()
    threads = [
        Thread(app, plan, folder, number, span, inner, profiles)
        for number, span in enumerate(spans(plan["tasks"], plan["threads"]))
    ]
    phase = Phase("posting", plan["tasks"])
    begun = monotonic()
    stuck = None
    for thread in threads:
        thread.start()
    while any(thread.running() for thread in threads):
        time.sleep(TICK)
        phase.update(sum(thread.posted for thread in threads))
        if stop.is_set() and not inner.is_set():
            say("stopping: waiting for the messages that are being sent")
            inner.set()
        moved = max([thread.last or begun for thread in threads])
        if monotonic() - moved > plan["broker_deadline"]:
            stuck = "the broker has taken no message for %g s" % plan["broker_deadline"]
            break
    phase.update(sum(thread.posted for thread in threads), last=True)
    errors = [thread.error for thread in threads if thread.error]
    return {
        "posted": sum(thread.posted for thread in threads),
        "error": errors[0] if errors else stuck,
        "first": min([thread.first for thread in threads if thread.first is not None] or [begun]),
        "last": max([thread.last for thread in threads if thread.last is not None] or [begun]),
        "clock": clock(),
    }


def clock():
    """Return what the monotonic clock means: the boot that it counts in, and how far the wall clock is ahead of it."""
    with open("/proc/sys/kernel/random/boot_id") as source:
        return {"boot": source.read().strip(), "ahead": time.time() - monotonic()}


def on_this_clock(posted):
    """Return what :func:`publish` returned with its times as the monotonic clock of this boot would have shown them."""
    here = clock()
    if posted["clock"]["boot"] == here["boot"]:
        return posted
    shift = posted["clock"]["ahead"] - here["ahead"]
    return dict(posted, first=posted["first"] + shift, last=posted["last"] + shift, clock=here)
