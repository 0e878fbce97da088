"""The pool process's side: run a batch in Celery's own tracer, and store its results in one go."""

from __future__ import annotations

import struct
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from celery import current_app
from celery.app.task import Context
from celery.app.trace import fast_trace_task
from celery.exceptions import InvalidTaskError
from celery.states import PENDING, SUCCESS
from kombu.exceptions import ContentDisallowed, DecodeError
from kombu.utils.json import loads as decode_json

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

#: What a message whose body is not as it should be raises when Celery makes a request of it.
BROKEN = (InvalidTaskError, ContentDisallowed, LookupError, TypeError, ValueError, AttributeError)
#: Headers that a task's context has fields for, or that say how its message is to be read.
OWN_HEADERS = frozenset((*vars(Context), "lang", "task", "argsrepr", "kwargsrepr", "compression"))
#: Bytes of the block of the interpreter's stack that a batch has, and of a place in it; what is unused takes no memory.
BLOCK = 1 << 19
SLOT = struct.calcsize("P")
#: First of an outcome whose exception left Celery's tracer: it is for ``Request.on_failure``, not ``on_success``.
ESCAPED = 2


class Deferred:
    """Diverts results into a dictionary while it is entered, so that they are stored together afterwards."""

    def __init__(self, backend: Any, ids: Iterable[str]) -> None:
        """Take the backend of the results and the tasks that they may be of."""
        self.backend = backend
        self.ids = frozenset(ids)
        self.results: dict[Any, tuple[Any, str]] = {}
        self.extended = bool(current_app.conf.result_extended)

    def __enter__(self) -> None:
        """Divert what is stored."""
        backend = self.backend
        store, look_up = backend.store_result, backend._get_task_meta_for  # what the backend asks before it stores
        #: All are stored at the end of the batch.
        date = backend.app.now().isoformat()

        def store_plainly(
            task_id: str, result: Any, state: str, traceback: Any = None, request: Any = None, **options: Any
        ) -> Any:
            if state != SUCCESS or self.extended or task_id not in self.ids or not ends_alone(request):
                return store(task_id, result, state, traceback=traceback, request=request, **options)
            # What the backend would make of it, step by step, for every one of them anew.
            record = {
                "status": state,
                "result": backend.prepare_value(result),
                "traceback": None,
                "children": [],
                "date_done": date,
                "task_id": task_id,
            }
            self.results[backend.get_key_for_task(task_id)] = (backend.encode(record), state)
            return result

        def look_up_unless_new(task_id: str) -> Any:
            # Delivered for the first time: there is no result that must not be overwritten.
            return {"status": PENDING, "result": None} if task_id in self.ids else look_up(task_id)

        def keep(key: Any, value: Any, status: str) -> None:
            self.results[key] = (value, status)

        backend.store_result = store_plainly
        backend._get_task_meta_for = look_up_unless_new  # as above
        backend._set_with_state = keep  # as above

    def __exit__(self, *_: object) -> None:
        """Let the backend store results as usual again."""
        del self.backend.store_result, self.backend._get_task_meta_for, self.backend._set_with_state

    def store(self) -> None:
        """Store the results; raise what the backend raises when it does not take them."""
        store_many = getattr(self.backend, "set_many", None)
        if store_many is not None and all(status == SUCCESS for _, status in self.results.values()):
            store_many({key: value for key, (value, _) in self.results.items()})
            return
        for key, (value, status) in self.results.items():
            self.backend._set_with_state(key, value, status)  # as above


def ends_alone(request: Any) -> bool:
    """Say whether nothing of a request but its id belongs into its task's result."""
    return request is not None and not (request.group or request.parent_id or request.children)


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
    outcomes that are no success (``None`` where the message could not be read); by place, result and seconds of the
    successes, where they are asked for. Raises what the result backend raises when it does not take the results.
    """
    backend = current_app.backend
    durations: dict[str, tuple[int, float]] = {}
    outcomes: dict[int, Any] = {}
    succeeded: dict[int, Any] = {}
    deferred = Deferred(backend, [identifier for _, identifier, *_ in calls])
    waited = without_core()
    with deferred:
        for place, (name, identifier, request, body) in enumerate(calls):
            begin = time.perf_counter()
            try:
                failed, result, runtime = outcome = fast_trace_task(
                    name, identifier, request, decoded(body), None, None
                )
            except (DecodeError, *BROKEN):
                outcomes[place] = None
                continue
            if failed:
                outcomes[place] = outcome
            elif with_results:
                succeeded[place] = (result, runtime)
            count, seconds = durations.get(name, (0, 0.0))
            durations[name] = (count + 1, seconds + time.perf_counter() - begin)
    waited = without_core() - waited
    all_seconds = sum(seconds for _, seconds in durations.values())
    # A host that is short of cores must not make batches small, which would cost it more of them.
    share = max(0.0, 1 - waited / all_seconds) if all_seconds else 1.0
    deferred.store()
    return {name: (count, seconds * share) for name, (count, seconds) in durations.items()}, outcomes, succeeded


def decoded(body: Any) -> Any:
    """Return what a message's JSON holds; raise ``DecodeError``. Whether JSON is accepted was looked at before."""
    try:
        return decode_json(body)
    except Exception as error:
        raise DecodeError(str(error)) from error


def custom_headers(_: Context, *fields: Any, **more: Any) -> dict[str, Any] | None:
    """Do what ``Context._get_custom_headers`` does, without listing a context's own fields anew for each task."""
    return {name: value for name, value in dict(*fields, **more).items() if name not in OWN_HEADERS} or None


def without_core() -> float:
    """Return how many seconds this process could have run so far and had no core; 0 where Linux does not say."""
    try:
        return int(Path("/proc/self/schedstat").read_bytes().split()[1]) / 1e9
    except (OSError, IndexError, ValueError):
        return 0.0
