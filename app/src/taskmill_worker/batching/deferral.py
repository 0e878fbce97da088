"""Keep the results of a batch's own successes for a moment, so that they are stored together."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections import deque
from typing import Any

from celery import signals
from celery.app.trace import task_has_custom
from celery.states import SUCCESS
from celery.utils.log import get_logger

from taskmill_worker.batching.bulk import bulk_of

logger = get_logger(__name__)

#: Seconds after which a result is stored though its batch goes on, and how often that is looked at.
LATEST = 0.25
LOOK = LATEST / 2
#: Looks without a batch after which the thread that looks ends.
IDLE = 40
#: Seconds for which the date of a result is reused: to make one takes as long as a quarter of all else.
SAME_DATE = 0.01
#: Bytes of a result that is stored at once: many of its kind are no gain together, and would take memory.
LARGE = 1 << 16
#: Grows by one in each process that is forked; to ask for the process's id is a system call.
forks: list[None] = []
os.register_at_fork(after_in_child=lambda: forks.append(None))


class Deferral:
    """Holds back successes of the tasks that a batch runs, and nothing else that the backend stores.

    What is held back is stored when the batch ends, when it is a quarter of a second old (:class:`Watch`), or when
    anything is stored or looked up under its id. All else goes to the backend as ever, at once and in order: other
    states, results of other ids, groups, and everything in backends that cannot store many results in one go.
    """

    def __init__(self, backend: Any, tasks: Any) -> None:
        """Take the backend of the results, and the app's tasks."""
        self.backend = backend
        self.tasks = tasks
        self.bulk = bulk_of(backend)
        self.extended = bool(backend.app.conf.result_extended)
        #: Place and id of the task that runs, the latter where its success may wait.
        self.place = 0
        self.current: str | None = None
        #: Ids that have their SUCCESS, stored or held back.
        self.succeeded: set[str] = set()
        self.waiting: deque[tuple[int, Any, Any]] = deque()
        #: When the first of these came.
        self.since = 0.0
        #: By place: why a success could not be stored.
        self.failed: dict[int, Exception] = {}
        #: A signal's handler may store something while this very thread does.
        self.lock = threading.RLock()
        #: The last date that was made, and when.
        self.date, self.dated = "", -SAME_DATE
        self.announcing: dict[str, bool] = {}
        self.forks, self.thread = len(forks), threading.get_ident()

    def __enter__(self) -> None:
        """Hold back from now on."""
        if self.bulk is None:
            return
        backend = self.backend
        done, store, look_up = backend.mark_as_done, backend.store_result, backend.get_task_meta

        def mark_as_done(
            task_id: str, result: Any, request: Any = None, store_result: bool = True, state: str = SUCCESS
        ) -> Any:
            if not (store_result and self.keep(task_id, result, request, state)):
                done(task_id, result, request, store_result, state)

        def store_result(task_id: str, result: Any, state: str, *args: Any, **options: Any) -> Any:
            if task_id in self.succeeded:
                self.flush()
            elif state == SUCCESS:
                self.succeeded.add(task_id)
            return store(task_id, result, state, *args, **options)

        def get_task_meta(task_id: str, *args: Any, **options: Any) -> Any:
            if task_id in self.succeeded:
                self.flush()
            return look_up(task_id, *args, **options)

        backend.mark_as_done, backend.store_result, backend.get_task_meta = mark_as_done, store_result, get_task_meta

    def __exit__(self, *_: object) -> None:
        """Let the backend be as it was; what is still held back stays so until it is flushed."""
        if self.bulk is not None:
            del self.backend.mark_as_done, self.backend.store_result, self.backend.get_task_meta

    def begin(self, place: int, name: str, task_id: str, *, goes_on: bool) -> None:
        """Say which task runs now, and whether its message names what comes after it.

        Its success does not wait where somebody is told of it who may look for the result: a group, a chord, a task
        that comes after it, a hook or a receiver of signals.
        """
        self.place = place
        self.current = None if goes_on or self.announces(name) else task_id

    def announces(self, name: str) -> bool:
        """Say whether code of the app is called when a task of the name has succeeded."""
        known = self.announcing.get(name)
        if known is None:
            task = self.tasks.get(name)
            hooks = any(task_has_custom(task, hook) for hook in ("on_success", "after_return"))
            receivers = [
                receiver
                for one in (signals.task_success, signals.task_postrun)
                for receiver in one._live_receivers(task)  # the public way says only whether there are any
                # Celery's own, of its fixups for frameworks, look for no result.
                if not (getattr(receiver, "__module__", None) or "").startswith("celery.")
            ]
            known = self.announcing[name] = hooks or bool(receivers)
        return known

    def keep(self, task_id: str, result: Any, request: Any, state: str) -> bool:
        """Hold a result back, if it is the success of the task that runs; say whether that is so."""
        if (
            task_id != self.current
            or task_id in self.succeeded
            or state != SUCCESS
            or request is None
            or request.ignore_result
            # A thread or a process that the task has begun may end later than the batch.
            or threading.get_ident() != self.thread
            or len(forks) != self.forks
        ):
            return False
        now = time.monotonic()
        if now - self.dated >= SAME_DATE:
            self.date, self.dated = self.backend.app.now().isoformat(), now
        value = self.backend.encode(self.record(task_id, result, request))
        if len(value) > LARGE:
            return False
        self.succeeded.add(task_id)
        if not self.waiting:
            self.since = self.dated
        self.waiting.append((self.place, self.backend.get_key_for_task(task_id), value))
        return True

    def record(self, task_id: str, result: Any, request: Any) -> dict[str, Any]:
        """Return what Celery's backend makes of a success."""
        backend = self.backend
        result = backend.prepare_value(result)
        if self.extended or request.group or request.parent_id or request.children:
            record = backend._get_result_meta(result, SUCCESS, None, request)  # no other way makes it
            return {**record, "task_id": task_id}
        # The same for most tasks, without asking for settings that do not change.
        return {
            "status": SUCCESS,
            "result": result,
            "traceback": None,
            "children": [],
            "date_done": self.date,
            "task_id": task_id,
        }

    def flush(self, *, patient: bool = True) -> None:
        """Store what is held back; where that fails and there is no patience, hold it back again."""
        if self.bulk is None or len(forks) != self.forks:
            return
        with self.lock:
            batch = [self.waiting.popleft() for _ in range(len(self.waiting))]
            if not batch:
                return
            values = {key: value for _, key, value in batch}
            missed = self.bulk.store(values) if patient else self.bulk.once(values)
            if not missed:
                return
            for one in batch:
                place, key, _ = one
                if key not in missed:
                    continue
                if patient:
                    self.failed[place] = missed[key]
                else:
                    self.since = time.monotonic()
                    self.waiting.append(one)

    def flush_old(self) -> None:
        """Store what is held back for too long; try once, since the end of the batch tries again."""
        if self.waiting and time.monotonic() - self.since >= LATEST:
            self.flush(patient=False)


class Watch:
    """Looks, from a thread of a pool process, whether results of the batch at work are held back for too long.

    The thread exists while batches of more than one task come, and ends some seconds after the last. It takes no
    signals, so they interrupt the task as ever. A process that a task forks has no such thread, and holds nothing back.
    """

    def __init__(self) -> None:
        """Start nothing yet."""
        self.lock = threading.Lock()
        self.deferral: Deferral | None = None
        self.thread: threading.Thread | None = None

    def begin(self, deferral: Deferral) -> None:
        """Look at the results of this batch from now on."""
        with self.lock:
            self.deferral = deferral
            if self.thread is None:
                self.thread = threading.Thread(target=self.look, name="results-of-batches", daemon=True)
                self.thread.start()

    def end(self) -> None:
        """Look no more."""
        self.deferral = None

    def look(self) -> None:
        """Look again and again, until no batch has come for a while."""
        signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
        idle = 0
        while True:
            time.sleep(LOOK)
            deferral = self.deferral
            idle = 0 if deferral else idle + 1
            if deferral is not None:
                deferral.flush_old()
            elif idle >= IDLE:
                with self.lock:
                    if self.deferral is None:
                        self.thread = None
                        return


watch = Watch()
