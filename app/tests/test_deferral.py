"""A batch beside Celery itself: what every kind of task stores, when, and what comes of its message. No services."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from billiard.common import _should_have_exited
from billiard.exceptions import WorkerLostError
from billiard.pool import MaybeEncodingError
from celery import Task, chord, group, signals
from celery.exceptions import Reject

from pool_process import TOLD_TO_END, PoolProcess
from services import wait_until
from task_kinds import KINDS, of_each_kind
from taskmill_worker.batching import bulk, deferral
from taskmill_worker.batching.pool import ESCAPED
from taskmill_worker.memcached_backend import MemcachedBackend


@pytest.fixture
def process(monkeypatch: pytest.MonkeyPatch) -> PoolProcess:
    """Return a pool process with results in memory."""
    return PoolProcess(monkeypatch)


@pytest.mark.filterwarnings("ignore:Exception raised outside body")
@pytest.mark.parametrize("name", KINDS)
def test_a_task_in_a_batch_ends_as_it_does_by_itself(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same states in the same order, the same result, the same outcome; and its neighbours are done."""
    alone = PoolProcess(monkeypatch)
    call = alone.call(of_each_kind(alone)[name])
    expected = alone.singly(call)

    process = PoolProcess(monkeypatch)
    tasks = of_each_kind(process)
    call = process.call(tasks[name])
    before, after = process.call(tasks["success"], task_id="before"), process.call(tasks["success"], task_id="after")
    outcomes, succeeded = process.run(before, call, after, with_results=True)

    assert process.stored(before)["result"] == process.stored(after)["result"] == 7
    assert succeeded.keys() | outcomes.keys() == {0, 1, 2}
    assert not outcomes.keys() & {0, 2}
    mine = process.stored(call)
    theirs = alone.stored(call)
    for record in (mine, theirs):
        record.pop("traceback", None)  # it names the functions that called the task
    assert mine == theirs
    assert [one for one in process.memory.states if one[0] not in {"before", "after"}] == alone.memory.states
    if isinstance(expected, BaseException):
        escaped, info, _ = outcomes[1]
        assert escaped == ESCAPED
        lost = isinstance(expected, SystemExit | KeyboardInterrupt)
        assert type(getattr(info.exception, "exc", info.exception)) is (WorkerLostError if lost else type(expected))
    elif expected[0]:
        assert outcomes[1][0] == (ESCAPED if name == "unpicklable_reject" else 1)
        assert outcomes[1][1].type is (MaybeEncodingError if name == "unpicklable_reject" else expected[1].type)
    else:
        assert succeeded[1][0] == expected[1]


def test_results_of_a_batch_are_stored_in_one_go(process: PoolProcess) -> None:
    """A hundred successes are one write."""
    double = process.task(lambda number: 2 * number, name="double")
    calls = [process.call(double, number) for number in range(100)]
    assert process.run(*calls) == ({}, {})
    assert process.memory.writes == [("set_multi", [call[1] for call in calls])]
    assert [process.stored(call)["result"] for call in calls] == [2 * number for number in range(100)]


@pytest.mark.parametrize(
    "more",
    [
        {"chain": [{"task": "next", "args": [], "kwargs": {}, "options": {}, "subtask_type": None, "immutable": True}]},
        {"callbacks": [{"task": "next", "args": [], "kwargs": {}, "options": {}, "immutable": True}]},
        {"errbacks": [{"task": "next", "args": [], "kwargs": {}, "options": {}, "immutable": True}]},
        {"group": "a-group"},
    ],
)
def test_a_result_that_somebody_waits_for_is_stored_before_the_next_task(process: PoolProcess, more: Any) -> None:
    """A chain, a callback or a group goes on at once, and finds it."""
    process.task(lambda: None, name="next")
    first = process.call(process.task(lambda: 1, name="first"), **more)
    seen = []
    look = process.task(lambda: seen.append(process.stored(first).get("result")), name="look")
    assert process.run(first, process.call(look)) == ({}, {})
    assert seen == [1]


@pytest.mark.parametrize("signal", [signals.task_success, signals.task_postrun])
def test_who_is_told_of_a_success_finds_its_result(process: PoolProcess, signal: Any) -> None:
    """A receiver of the app is called when the result is stored; a receiver of another task does not matter."""
    seen = []
    told, plain = (process.task(lambda: 1, name=name) for name in ("told", "plain"))
    first, second = process.call(told), process.call(plain)

    def receive(**_: Any) -> None:
        seen.append((process.stored(first).get("result"), process.stored(second).get("result")))

    signal.connect(receive, sender=told)
    try:
        process.run(second, first)
    finally:
        signal.disconnect(receive, sender=told)
    assert seen == [(1, None)]


def test_a_chord_that_a_task_begins_has_its_group_at_once(process: PoolProcess) -> None:
    """Its members may run before the batch ends."""
    part = process.task(lambda: 1, name="part")
    total = process.task(lambda numbers: sum(numbers), name="total")
    seen = []

    def begin() -> None:
        result = chord(group(part.s(), part.s()), app=process.app)(total.s())
        seen.append(bool(process.app.backend.get(process.app.backend.get_key_for_group(result.parent.id))))

    assert process.run(process.call(process.task(begin, name="begin"))) == ({}, {})
    assert seen == [True]


def test_a_retry_does_not_overwrite_the_success_that_overtook_it(process: PoolProcess) -> None:
    """With no countdown another process may have run the task again before this one says RETRY."""

    def overtaken(self: Task) -> None:
        MemcachedBackend(process.app, "memcached://x/").mark_as_done(self.request.id, "from the retry")
        raise self.retry(countdown=0)

    call = process.call(process.task(overtaken, bind=True, name="overtaken"))
    outcomes, _ = process.run(call)
    assert outcomes[0][1].type.__name__ == "Retry"
    assert process.stored(call)["result"] == "from the retry"


def test_results_do_not_wait_for_a_slow_neighbour(process: PoolProcess, monkeypatch: pytest.MonkeyPatch) -> None:
    """They are there while it runs, though it runs until they are."""
    monkeypatch.setattr(deferral, "LATEST", 0.01)
    first = process.call(process.task(lambda: 1, name="first"))

    def slow() -> None:
        wait_until(lambda: process.stored(first) != {}, 60, "the neighbour's result")

    assert process.run(first, process.call(process.task(slow, name="slow"))) == ({}, {})
    assert process.stored(first)["result"] == 1


def test_the_thread_that_looks_ends_when_no_batches_come(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is there for the next batch."""
    monkeypatch.setattr(deferral, "LOOK", 0.01)
    process = PoolProcess(monkeypatch)
    one = process.task(lambda: 1, name="one")
    calls = [process.call(one, task_id=str(number)) for number in range(2)]
    for _ in range(2):
        process.run(*calls)
        wait_until(lambda: deferral.watch.thread is None, 60, "the thread's end")
    assert not [thread for thread in threading.enumerate() if thread.name == "results-of-batches"]


def test_the_thread_that_looks_takes_no_signals(process: PoolProcess) -> None:
    """All that Linux lets it block, it blocks: they interrupt the task, as ever."""
    all_signals = signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP}
    blocked = f"SigBlk:\t{sum(1 << number - 1 for number in all_signals):016x}"

    def look() -> None:
        assert deferral.watch.thread is not None
        status = Path(f"/proc/self/task/{deferral.watch.thread.native_id}/status")
        wait_until(lambda: blocked in status.read_text().splitlines(), 60, "a thread that takes no signals")

    calls = [process.call(process.task(look, name="look"), task_id=str(number)) for number in range(2)]
    assert process.run(*calls) == ({}, {})


def test_a_batch_of_one_starts_no_thread(process: PoolProcess) -> None:
    """Long tasks, which are those that fork, go one by one."""
    wait_until(lambda: deferral.watch.thread is None, 60, "the end of the thread of the tests before")
    process.run(process.call(process.task(lambda: 1, name="one")))
    assert deferral.watch.thread is None


def test_a_result_is_found_under_its_id_within_the_batch(process: PoolProcess) -> None:
    """A task that looks at its predecessor's state sees what Celery would show."""
    first = process.call(process.task(lambda: 1, name="first"))
    seen = []
    look = process.task(lambda: seen.append(process.app.AsyncResult(first[1]).state), name="look")
    process.run(first, process.call(look))
    assert seen == ["SUCCESS"]


def test_nothing_is_stored_over_a_success_that_waits(process: PoolProcess) -> None:
    """What a neighbour stores under its id comes after it, and is left out as Celery's backend does."""
    first = process.call(process.task(lambda: 1, name="first"))

    def late(self: Task) -> None:
        self.update_state(task_id=first[1], state="LATE")

    second = process.call(process.task(late, bind=True))
    assert process.run(first, second) == ({}, {})
    assert process.memory.states == [(first[1], "SUCCESS"), (second[1], "SUCCESS")]


def test_a_failure_that_is_too_large_is_stored_as_one_that_says_so(process: PoolProcess) -> None:
    """Else nobody would ever hear of it."""
    call = process.call(process.task(KINDS["large_failure"][0]))
    process.run(call)
    record = process.stored(call)
    assert (record["status"], record["result"]["exc_type"]) == ("FAILURE", "ResultTooLargeError")
    assert record["result"]["exc_message"][0].startswith("ValueError was raised, and cannot be stored: a result of 4,")


def test_the_first_of_two_messages_with_one_id_decides(process: PoolProcess) -> None:
    """As the backend itself has it: a SUCCESS is not overwritten."""
    numbers = iter((1, 2))
    count = process.task(lambda: next(numbers), name="count")
    first, second = (process.call(count, task_id="the same") for _ in range(2))
    assert process.run(first, second) == ({}, {})
    assert process.stored(first)["result"] == 1


def test_a_thread_of_a_task_stores_at_once(process: PoolProcess) -> None:
    """Not even a SUCCESS of the task's own is held back where a thread stores it: the thread may outlive the batch."""
    seen = []

    def threaded(self: Task) -> int:
        thread = threading.Thread(target=self.backend.mark_as_done, args=(self.request.id, 5, self.request))
        thread.start()
        thread.join(60)
        seen.append(process.stored(call)["result"])
        return 7

    call = process.call(process.task(threaded, bind=True))
    assert process.run(call) == ({}, {})
    assert seen == [5]
    assert process.stored(call)["result"] == 5


@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_a_process_that_a_task_forks_stores_at_once(process: PoolProcess) -> None:
    """It stores for itself, and nothing of what its parent holds back."""

    def forks(self: Task) -> int:
        child = os.fork()
        if not child:
            process.memory.writes.clear()
            self.backend.mark_as_done(self.request.id, 5, self.request)
            os._exit(0 if process.memory.writes == [("set", [self.request.id])] else 1)
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])

    first = process.call(process.task(lambda: 1, name="first"))
    second = process.call(process.task(forks, bind=True, name="forks"))
    assert process.run(first, second) == ({}, {})
    assert process.stored(second)["result"] == 0
    assert process.memory.writes == [("set_multi", [first[1], second[1]])]


def test_a_failed_write_is_tried_again(process: PoolProcess) -> None:
    """No task runs again for it."""
    same = process.task(lambda number: number, name="same")
    calls = [process.call(same, number) for number in range(3)]
    # The backend itself writes once more on a new connection.
    process.memory.failing = 5
    assert process.run(*calls) == ({}, {})
    assert [process.stored(call)["result"] for call in calls] == [0, 1, 2]


def test_only_what_cannot_be_stored_goes_back(process: PoolProcess, monkeypatch: pytest.MonkeyPatch) -> None:
    """As often as the settings say, and no more; the others are done."""
    process.app.backend.patience = 2
    same = process.task(lambda number: number, name="same")
    calls = [process.call(same, number) for number in range(3)]
    write = process.memory._write
    tries = []

    def refuse_second(command: str, values: dict[bytes, str]) -> list[bytes]:
        refused = [key for key in values if key.endswith(calls[1][1].encode())]
        tries.append(len(values))
        write(command, {key: value for key, value in values.items() if key not in refused})
        return refused

    monkeypatch.setattr(process.memory, "_write", refuse_second)
    outcomes, succeeded = process.run(*calls, with_results=True)
    ((place, (failed, info, _)),) = outcomes.items()
    assert (place, failed) == (1, 1)
    rejection = info.exception.exc
    assert isinstance(rejection, Reject)
    assert rejection.requeue
    assert "did not store a result" in str(rejection.reason)
    assert succeeded.keys() == {0, 2}
    assert [process.stored(call).get("result") for call in calls] == [0, None, 2]
    assert tries == [3, 1, 1, 1, 1, 1]


def test_a_result_that_memcached_never_takes_goes_back_and_fails_singly(process: PoolProcess) -> None:
    """Where its item size is smaller than what a batch holds back, that is known only when the batch is stored."""
    process.memory.item_size = 1000
    text = process.task(lambda size: "x" * size, name="text")
    calls = [process.call(text, 1), process.call(text, 5000)]
    outcomes, _ = process.run(*calls)
    assert isinstance(outcomes[1][1].exception.exc, Reject)
    assert process.stored(calls[0])["result"] == "x"
    assert process.singly(calls[1])[0] == 1
    failure = process.stored(calls[1])
    assert failure["result"]["exc_type"] == "ResultTooLargeError"
    assert "its item size is 1,000 bytes" in failure["result"]["exc_message"][0]


@pytest.mark.parametrize("body", [b"[[1], {}, {}", b"[1]", b"[[1], [2], {}]", b"[[1], {}, 3]", b"null", b"\xff", b"7"])
def test_a_message_that_cannot_be_read_is_no_ones_fault(process: PoolProcess, body: bytes) -> None:
    """Its outcome is ``None``, and its neighbours are done."""
    call = process.call(process.task(lambda: 1, name="one"))
    broken = process.call(process.app.tasks["one"], task_id="broken")
    assert process.run((*broken[:3], body), call) == ({0: None}, {})
    assert process.stored(call)["result"] == 1


@pytest.fixture
def told_to_end() -> Iterator[list[bool]]:
    """Yield billiard's note that its signal handler has run, and take it back."""
    yield _should_have_exited
    _should_have_exited[0] = False


def test_a_process_that_is_told_to_end_ends(process: PoolProcess, told_to_end: list[bool]) -> None:
    """The exit that billiard's signal handler raises within a task is none of the task's."""

    def interrupted() -> None:
        told_to_end[0] = True
        raise SystemExit(TOLD_TO_END)

    with pytest.raises(SystemExit):
        process.run(process.call(process.task(interrupted, name="interrupted")))
    assert "mark_as_done" not in vars(process.app.backend)


def test_a_backend_that_stores_one_by_one_is_left_to_do_so(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """In a batch all the same, and each result as soon as it is made."""
    process = PoolProcess(monkeypatch, "file:///" + str(tmp_path))
    first = process.call(process.task(lambda: 1, name="first"))
    seen = []
    look = process.task(lambda: seen.append(process.stored(first).get("result")), name="look")
    assert process.run(first, process.call(look)) == ({}, {})
    assert seen == [1]


def test_no_results_are_stored_without_a_backend(monkeypatch: pytest.MonkeyPatch) -> None:
    """The tasks run in a batch, and that is all."""
    process = PoolProcess(monkeypatch, "disabled://")
    ran = []
    note = process.task(lambda number: ran.append(number), name="note")
    calls = [process.call(note, number) for number in range(3)]
    assert process.run(*calls) == ({}, {})
    assert ran == [0, 1, 2]


def test_a_backend_of_the_apps_own_is_not_gone_past(process: PoolProcess) -> None:
    """What it does with each result it goes on doing."""

    class Own(MemcachedBackend):
        """Stores in its own way."""

        def set(self, key: bytes, value: Any) -> None:
            """Store in capitals."""
            super().set(key, value.upper())

    assert bulk.bulk_of(Own(process.app, "memcached://x/")) is None
    assert bulk.bulk_of(process.app.backend) is not None
