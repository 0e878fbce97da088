"""The pool process's side: run a batch in Celery's own tracer, and store its results in one go."""

from __future__ import annotations

import pickle
import struct
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from billiard.common import _should_have_exited, human_status
from billiard.einfo import ExceptionInfo
from billiard.exceptions import WorkerLostError
from billiard.pool import MaybeEncodingError
from billiard.reduction import ForkingPickler
from celery import current_app
from celery.app.task import Context
from celery.app.trace import fast_trace_task, trace_task_ret
from celery.exceptions import Reject
from celery.utils.log import get_logger
from kombu.utils.json import loads as decode_json

from taskmill_worker.batching.deferral import Deferral, watch

if TYPE_CHECKING:
    from collections.abc import Callable

    #: Whether it failed, its result as text or the ``ExceptionInfo``, and its seconds.
    Outcome = tuple[int, Any, float | None]

logger = get_logger(__name__)

#: Headers that a task's context has fields for, or that say how its message is to be read.
OWN_HEADERS = frozenset((*vars(Context), "lang", "task", "argsrepr", "kwargsrepr", "compression"))
#: Bytes of the block of the interpreter's stack that a batch has, and of a place in it; what is unused takes no memory.
BLOCK = 1 << 19
SLOT = struct.calcsize("P")
#: First of an outcome whose exception left Celery's tracer: it is for ``Request.on_failure``, not ``on_success``.
ESCAPED = 2


def with_block_of_its_own(function: Callable[..., Any]) -> Callable[..., Any]:
    """Return a function that runs in a block of the interpreter's stack that has room for what it calls.

    CPython keeps the frames of a thread in blocks of 16 KiB, and gets one from the system, and gives it back, whenever
    a call crosses the end of the last (``_PyThreadState_PushFrame`` in Python/pystate.c, since 3.11). A recursion that
    happens to stand across an end pays that at every turn, and takes up to forty times as long (docs/performance.md).
    A frame that asks for more than half of a large block gets that block, and the rest of it is for what comes after.
    """
    if sys.implementation.name == "cpython" and sys.version_info >= (3, 11):
        code = function.__code__
        function.__code__ = code.replace(co_stacksize=code.co_stacksize + BLOCK // 2 // SLOT)
    return function


@with_block_of_its_own
def run(
    calls: list[tuple[Any, ...]], with_results: bool
) -> tuple[dict[str, tuple[int, float]], dict[int, Any], dict[int, Any]]:
    """Run a batch in a pool process, which the pool calls.

    Returns number and seconds of the tasks by name, without the time in which the process had no core; by place, the
    outcomes that are no success; by place, result and seconds of the successes, where they are asked for.

    An outcome is what ``Request.on_success`` takes; with ``ESCAPED`` for its first, the second is what
    ``Request.on_failure`` takes; it is ``None`` where the message could not be read. A success that could not be stored
    has the outcome ``Reject``, which puts its message back.
    """
    durations: dict[str, tuple[int, float]] = {}
    outcomes: dict[int, Any] = {}
    succeeded: dict[int, Any] = {}
    # As Celery's own request chooses: a worker that another program has made is not set up for the fast one.
    trace = fast_trace_task if current_app.use_fast_trace_task else trace_task_ret
    deferral = Deferral(current_app.backend, current_app.tasks)
    waited = without_core()
    if len(calls) > 1:
        watch.begin(deferral)
    try:
        with deferral:
            for place, (name, identifier, request, body) in enumerate(calls):
                begin = time.perf_counter()
                message = read(body)
                if message is None:
                    outcomes[place] = None
                    continue
                after = message[2]
                goes_on = request.get("group") is not None or (after is not None and any(after.values()))
                deferral.begin(place, name, identifier, goes_on=goes_on)
                try:
                    outcome = trace(name, identifier, request, message, None, None)
                except BaseException as error:  # as the pool's own loop does with a task
                    if _should_have_exited[0]:  # the process is told to end
                        raise
                    outcome = escaped(error, time.perf_counter() - begin)
                failed, result, runtime = outcome
                if failed:
                    outcomes[place] = portable(outcome)
                elif with_results:
                    succeeded[place] = (result, runtime)
                count, seconds = durations.get(name, (0, 0.0))
                durations[name] = (count + 1, seconds + time.perf_counter() - begin)
            deferral.flush()
    finally:
        watch.end()
    put_back(deferral.failed, outcomes, succeeded)
    waited = without_core() - waited
    all_seconds = sum(seconds for _, seconds in durations.values())
    # A host that is short of cores must not make batches small, which would cost it more of them.
    share = max(0.0, 1 - waited / all_seconds) if all_seconds else 1.0
    return {name: (count, seconds * share) for name, (count, seconds) in durations.items()}, outcomes, succeeded


def read(body: Any) -> list[Any] | None:
    """Return what a message's JSON holds: arguments, keyword arguments and what comes after the task.

    ``None`` where that is not so. Whether JSON is accepted was looked at before.
    """
    try:
        message = decode_json(body)
    except Exception:  # noqa: BLE001  # of whatever kind the decoder raises
        return None
    if not isinstance(message, list) or len(message) != 3 or not isinstance(message[1], dict):
        return None
    return message if message[2] is None or isinstance(message[2], dict) else None


def escaped(error: BaseException, seconds: float) -> Outcome:
    """Return the outcome of a task whose exception Celery's tracer does not handle; it decides over that task only.

    Called where the exception is handled. One that ends the process where a task is alone counts as a lost process, as
    with Celery; for the sake of the others in the batch the process goes on.
    """
    if isinstance(error, SystemExit | KeyboardInterrupt):
        code = getattr(error, "code", None)
        status = human_status(code if isinstance(code, int) else int(code is not None))
        try:
            raise WorkerLostError(f"Worker exited prematurely: {status}.") from error
        except WorkerLostError:
            return ESCAPED, ExceptionInfo(), seconds
    return ESCAPED, ExceptionInfo(), seconds


def put_back(failed: dict[int, Exception], outcomes: dict[int, Any], succeeded: dict[int, Any]) -> None:
    """Make of each success that could not be stored, by its place, what puts its message back to its queue."""
    if failed:
        why = ", ".join(sorted({str(reason) for reason in failed.values()}))
        logger.error(
            "%d results of a batch are not stored, their messages go back to their queues: %s", len(failed), why
        )
    for place, reason in failed.items():
        succeeded.pop(place, None)
        try:
            raise Reject(reason, requeue=True) from reason
        except Reject:
            outcomes[place] = portable((1, ExceptionInfo(internal=True), None))


def portable(outcome: Outcome) -> Outcome:
    """Return an outcome that can be handed to the main process; one that says so where that cannot be."""
    try:
        pickle.loads(ForkingPickler.dumps(outcome))  # noqa: S301  # made in this very line
    except Exception as error:  # noqa: BLE001  # of whatever kind the exception's own code raises
        wrapped = MaybeEncodingError(error, outcome[1])
        return ESCAPED, ExceptionInfo((MaybeEncodingError, wrapped, error.__traceback__)), outcome[2]
    return outcome


def custom_headers(_: Context, *fields: Any, **more: Any) -> dict[str, Any] | None:
    """Do what ``Context._get_custom_headers`` does, without listing a context's own fields anew for each task."""
    headers = dict(*fields, **more)
    return {name: headers[name] for name in headers.keys() - OWN_HEADERS} or None


def without_core() -> float:
    """Return how many seconds this process could have run so far and had no core; 0 where Linux does not say."""
    try:
        return int(Path("/proc/self/schedstat").read_bytes().split()[1]) / 1e9
    except (OSError, IndexError, ValueError):
        return 0.0
