"""Park a task that kills its process: once it has done so often enough, it is not begun any more.

For any app, in every pool, where the result backend keeps values by key. A message that is delivered once more is
counted in the result backend when its task begins, and no longer when the task has ended, in whatever way: with a
result, a failure, a retry, rejected, or with a result that could not be stored. What is left are the times that its
process or worker was lost. Where these are as many as there may be, the task is not begun: its result is the failure
`Parked`, and its message is rejected.

Not counted are messages that only waited in a worker that was lost, and tasks that the worker itself stops: by its own
shutdown, a time limit, `revoke(terminate=True)`, or the loss of its connection. A retry, and what replaces a task under
its id, are messages of their own.

It is the process about to run the task that asks the result backend: the worker's main process has a broker to answer,
however long that takes. The broker's own count, the header `x-delivery-count` of quorum queues, has messages in it
that only waited; what it is good for is their `delivery-limit`.

Runs with Celery 3.1 to 5 on Python 2.7 and 3.
"""

import functools
import signal

from celery import signals, states
from celery.app import trace as tracing
from celery.app.task import Context, Task
from celery.exceptions import Reject, WorkerShutdown, WorkerTerminate
from celery.utils.log import get_logger
from celery.worker.state import task_ready

from taskmill_worker.task_times import WITH_KEYS

try:
    from celery.worker.request import Request
except ImportError:  # Celery 3.1
    from celery.worker.job import Request

logger = get_logger(__name__)
#: What follows a result's key in the key of its count.
SUFFIX = "-redelivered"
#: With it a pool process exits that is told to end (`billiard.common`).
TERMINATED = signal.SIGTERM - 256


class Parked(Reject):  # type: ignore[misc]  # Celery carries no types
    """The task was lost with its process too often."""

    def __init__(self, reason):
        """Take the reason, which the task's result says."""
        Reject.__init__(self, reason, requeue=False)
        self.args = (reason,)


class Losses(object):
    """How often the process of one message's task was lost, as the result backend has it."""

    def __init__(self, backend, task_id, request):
        """Take the backend of the task, its id, and the fields of its message as a dictionary."""
        self.backend = backend
        self.task_id = task_id
        self.life = (request.get("retries") or 0, request.get("replaced_task_nesting") or 0)

    def key(self):
        """Return the key of the count: one for all deliveries of a message."""
        of_its_own = "-{}-{}".format(*self.life) if any(self.life) else ""
        return self.backend.get_key_for_task(self.task_id, SUFFIX + of_its_own)

    def get(self):
        """Return the count."""
        return int(self.backend.get(self.key()) or 0)

    def put(self, number):
        """Keep the count, for as long as the backend keeps results."""
        if number > 0:
            self.backend.set(self.key(), str(number))
        else:
            self.backend.delete(self.key())

    def begin(self, most):
        """Count one more unless there are `most`; return how many there were, ``None`` where that is not known."""
        try:
            lost = self.get()
            if lost < most:
                self.put(lost + 1)
        except Exception as error:  # noqa: BLE001  # of whatever kind the backend raises; the task is run once more
            logger.warning("Task %s cannot be counted: %s", self.task_id, type(error).__name__)
            return None
        return lost

    def end(self):
        """Count one less."""
        try:
            # Not what it was before: the message may be with another worker by now, since the connection was lost.
            self.put(self.get() - 1)
        except Exception as error:  # noqa: BLE001  # as above
            logger.warning("Task %s stays counted as lost: %s", self.task_id, type(error).__name__)

    def forget(self):
        """Let a message that is put back to its queue by hand begin anew."""
        try:
            self.put(0)
        except Exception as error:  # noqa: BLE001  # as above
            logger.warning("The count of task %s is not deleted: %s", self.task_id, type(error).__name__)


class CountedTrace(object):
    """Stands for the attribute ``Task.__trace__``: what a message's task is run by, in whatever process and pool.

    Celery sets it for each task, in each pool process, and again with each connection.
    """

    def __init__(self, most):
        """Take how often a redelivered task may begin and be lost."""
        self.most = most

    def __get__(self, task, owner=None):
        """Return what was set."""
        return task.__dict__.get("__trace__") if task is not None else None

    def __set__(self, task, trace):
        """Have redelivered messages looked at first."""
        task.__dict__["__trace__"] = trace and counted(task, trace, self.most)


def counted(task, trace, most):
    """Return what runs a task's messages by `trace`, and parks those that were lost `most` times."""

    @functools.wraps(trace)
    def run(uuid, args, kwargs, request=None):
        delivery = (request or {}).get("delivery_info") or {}
        if not delivery.get("redelivered") or not can_count(task.backend):
            return trace(uuid, args, kwargs, request)
        losses = Losses(task.backend, uuid, request)
        lost = losses.begin(most)
        if lost is None:
            return trace(uuid, args, kwargs, request)
        if lost >= most:
            losses.forget()
            return park(task, uuid, args, kwargs, request, lost)
        try:
            outcome = trace(uuid, args, kwargs, request)
        except BaseException as error:
            if not is_loss(error):
                losses.end()
            raise
        info = outcome[1]
        if info is None or not is_loss(info.retval):
            losses.end()
        return outcome

    return run


def can_count(backend):
    """Say whether a result backend keeps a count."""
    return isinstance(backend, WITH_KEYS)


def is_loss(error):
    """Say whether a process, or its worker, is lost by what its task raises.

    Celery ends the whole worker over a task that raises MemoryError. SystemExit, and the like, ends the process, unless
    it is the worker that makes it end.
    """
    if isinstance(error, Exception):
        return isinstance(error, MemoryError)
    return not isinstance(error, (WorkerShutdown, WorkerTerminate)) and getattr(error, "code", None) != TERMINATED


def park(task, uuid, args, kwargs, request, lost):
    """Let a task fail that is not begun; return what a tracer returns of one that rejects its message."""
    parked = Parked("delivered again {} times, and its process or worker was lost each time".format(lost))
    delivery = request["delivery_info"]
    logger.error(
        "A message is rejected: its task was lost with its process too often, it is parked. "
        "id=%s task=%s exchange=%r routing_key=%r",
        uuid,
        task.name,
        delivery.get("exchange"),
        delivery.get("routing_key"),
    )
    context = Context(request, args=args, kwargs=kwargs, called_directly=False)
    try:
        raise parked
    except Parked:
        einfo = tracing.ExceptionInfo(internal=True)
    try:
        # Of a chord and of errbacks too, since Celery 4.
        task.backend.mark_as_failure(uuid, parked, request=context)
    except Exception as error:  # noqa: BLE001  # of whatever kind the backend raises
        logger.warning("The result of task %s cannot be stored: %s", uuid, type(error).__name__)
    signals.task_failure.send(
        sender=task, task_id=uuid, exception=parked, args=args, kwargs=kwargs, traceback=einfo.tb, einfo=einfo
    )
    outcome = (einfo, tracing.TraceInfo(states.REJECTED, parked), 0.0, None)
    # Celery 3.1 takes the first two alone.
    return tracing.trace_ok_t(*outcome) if hasattr(tracing, "trace_ok_t") else outcome[:2]


def rejecting(on_failure):
    """Return the request's method for tasks that failed, which leaves a parked one with the result that it has.

    Celery 5.7 stores a failure anew for every rejected message, and that in the main process.
    """

    @functools.wraps(on_failure)
    def decide(self, exc_info, *args, **kwargs):
        error = exc_info.exception
        # What comes from a pool process is wrapped.
        error = getattr(error, "exc", error)
        if not isinstance(error, Parked):
            return on_failure(self, exc_info, *args, **kwargs)
        task_ready(self)
        self.send_event("task-failed", exception=repr(error), traceback="")
        return self.reject(requeue=False)

    return decide


def install(app, most):
    """Have every worker of this process park what was lost `most` times; say so where its backend cannot count."""
    Task.__trace__ = CountedTrace(most)
    Request.on_failure = rejecting(Request.on_failure)
    if not can_count(app.backend):
        logger.warning(
            "No task is parked: the result backend %s keeps no counts. A task that kills its process is run again "
            "without end, unless its queue is a quorum queue with a delivery-limit.",
            type(app.backend).__name__,
        )
