"""What is counted as the loss of a task's process, and what is parked: Celery's tracer, in this process."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from celery import Celery, signals
from celery.app.task import Task
from celery.app.trace import trace_task
from celery.backends.cache import CacheBackend
from celery.exceptions import Ignore, Reject, WorkerTerminate
from celery.states import FAILURE, REJECTED

from pool_process import TOLD_TO_END
from taskmill_worker import parking

#: As often as the process of a redelivered task may be lost in these tests.
MOST = 2


class Unavailable(CacheBackend):  # type: ignore[misc]  # Celery carries no types
    """A result backend that is away."""

    def get(self, _key: Any) -> Any:
        """Raise."""
        raise ConnectionError

    def set(self, _key: Any, _value: Any) -> None:
        """Raise."""
        raise ConnectionError


class Messages:
    """Delivers messages of one task, whose behaviour a test sets."""

    def __init__(self, app: Celery) -> None:
        """Make the task."""
        self.behave: Callable[[], Any] = lambda: None
        self.begun = 0
        self.task: Task = app.task(self.run, name="some.task", shared=False)
        self.app = app

    def run(self) -> Any:
        """Do what the test says."""
        self.begun += 1
        return self.behave()

    def deliver(self, task_id: str, **fields: Any) -> Any:
        """Deliver a message once more; return state and result as the tracer has them, ``None`` for a success."""
        delivery = {"redelivered": True, "exchange": "", "routing_key": "red"}
        request = {"id": task_id, "task": "some.task", "delivery_info": delivery, **fields}
        return trace_task(self.task, task_id, [], {}, request, app=self.app).info

    def lose(self, task_id: str, **fields: Any) -> None:
        """Deliver a message once more, to a process that its task ends."""
        self.behave = lambda: ends(3)
        with pytest.raises(SystemExit):
            self.deliver(task_id, **fields)

    def losses(self, task_id: str) -> int:
        """Return how many losses of a message are counted."""
        counted: Any = parking.Losses
        return int(counted(self.task.backend, task_id, {}).get())


def ends(how: Any) -> None:
    """End this process, or raise."""
    raise how if isinstance(how, BaseException) else SystemExit(how)


@pytest.fixture
def app(monkeypatch: pytest.MonkeyPatch) -> Iterator[Celery]:
    """Yield an app in which tasks are counted."""
    counted: Any = parking.CountedTrace
    monkeypatch.setattr(Task, "__trace__", counted(MOST))
    app = Celery("parking", broker="memory://", backend="cache+memory://", set_as_current=False)
    yield app
    app.close()


@pytest.fixture
def messages(app: Celery) -> Messages:
    """Return what delivers messages."""
    return Messages(app)


@pytest.fixture
def task_id() -> str:
    """Return the id of a task."""
    return str(uuid.uuid4())


def test_task_that_ends_its_process_is_not_begun_once_more_than_it_may(messages: Messages, task_id: str) -> None:
    """It is lost as often as it may be; then its message is rejected, and its result is the failure Parked."""
    failed: list[Any] = []

    def note(exception: BaseException, **_: Any) -> None:
        failed.append(exception)

    signals.task_failure.connect(note)
    for _ in range(MOST):
        messages.lose(task_id)
    info = messages.deliver(task_id)
    assert messages.begun == MOST
    assert (info.state, info.retval.requeue) == (REJECTED, False)
    result = messages.task.AsyncResult(task_id)
    assert result.state == FAILURE
    assert type(result.result).__name__ == "Parked"
    assert str(result.result) == f"delivered again {MOST} times, and its process or worker was lost each time"
    assert [type(one) for one in failed] == [parking.Parked]


def test_what_was_parked_and_put_back_begins_anew(messages: Messages, task_id: str) -> None:
    """Whatever it was put back with: nobody has to know of the count."""
    for _ in range(MOST):
        messages.lose(task_id)
    assert messages.deliver(task_id).state == REJECTED
    messages.lose(task_id)
    assert messages.begun == MOST + 1


@pytest.mark.parametrize(
    "end",
    [
        lambda: 42,
        lambda: ends(ValueError("no")),
        lambda: ends(Reject("later", requeue=True)),
        lambda: ends(Ignore()),
        lambda: ends(TOLD_TO_END),
        lambda: ends(WorkerTerminate(1)),
    ],
    ids=["success", "failure", "rejected", "ignored", "terminated", "the worker of a solo pool stops"],
)
def test_task_that_ended_is_no_loss(messages: Messages, task_id: str, end: Callable[[], Any]) -> None:
    """However often its message comes again."""
    for _ in range(3 * MOST):
        messages.behave = end
        try:
            messages.deliver(task_id)
        except SystemExit:
            continue
    assert messages.begun == 3 * MOST
    assert messages.losses(task_id) == 0


def test_retry_is_no_loss_whatever_its_number(messages: Messages, task_id: str, monkeypatch: Any) -> None:
    """Each of them is a message under the id of the first."""
    monkeypatch.setattr(messages.task, "apply_async", lambda *_, **__: None, raising=False)
    messages.behave = lambda: ends(messages.task.retry(throw=False, max_retries=None))
    for number in range(3 * MOST):
        info = messages.deliver(task_id, retries=number)
        assert info is not None, number
    assert messages.begun == 3 * MOST


def test_result_that_cannot_be_stored_is_no_loss(
    messages: Messages, task_id: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its message goes back, and the process lives on."""

    def refuse(*_: Any, **__: Any) -> None:
        raise Reject("no room", requeue=True)

    monkeypatch.setattr(messages.task.backend, "mark_as_done", refuse)
    for _ in range(3 * MOST):
        with pytest.raises(Reject):
            messages.deliver(task_id)
    assert messages.begun == 3 * MOST


def test_task_that_ends_the_whole_worker_is_parked(messages: Messages, task_id: str) -> None:
    """Celery's worker ends over a MemoryError, which its task has as a failure."""
    messages.behave = lambda: ends(MemoryError())
    for _ in range(MOST):
        assert messages.deliver(task_id).state == FAILURE
    assert messages.deliver(task_id).state == REJECTED


@pytest.mark.parametrize("another", [{"retries": 1}, {"replaced_task_nesting": 1}])
def test_another_message_under_the_same_id_has_losses_of_its_own(
    messages: Messages, task_id: str, another: dict[str, int]
) -> None:
    """A retry, or what a task replaced itself with, may be lost as often as the first; then it is parked too."""
    for _ in range(MOST):
        messages.lose(task_id)
    for _ in range(MOST):
        messages.lose(task_id, **another)
    assert messages.deliver(task_id, **another).state == REJECTED
    assert messages.deliver(task_id).state == REJECTED


def test_losses_stay_when_the_message_is_given_back_meanwhile(messages: Messages, task_id: str) -> None:
    """An ending takes back its own beginning, and no other."""
    for _ in range(MOST - 1):
        messages.lose(task_id)
    messages.behave = lambda: ends(Reject("later", requeue=True))
    messages.deliver(task_id)
    messages.lose(task_id)
    assert messages.deliver(task_id).state == REJECTED


def test_the_other_of_two_that_run_at_once_is_counted(messages: Messages, task_id: str) -> None:
    """The broker delivers a message again where its connection was lost, and the first task still runs."""
    messages.behave = lambda: messages.lose(task_id)
    messages.deliver(task_id)
    assert messages.losses(task_id) == 1


def test_message_that_comes_first_is_not_counted(
    messages: Messages, task_id: str, caplog: pytest.LogCaptureFixture
) -> None:
    """The result backend is not asked about it."""
    messages.task.backend = Unavailable(app=messages.app, backend="memory")
    messages.task.ignore_result = True
    messages.behave = lambda: ends(3)
    with pytest.raises(SystemExit):
        messages.deliver(task_id, delivery_info={"redelivered": False})
    messages.behave = lambda: 42
    assert messages.deliver(task_id, delivery_info=None) is None
    assert "cannot be counted" not in caplog.text


def test_task_runs_where_it_cannot_be_counted(
    messages: Messages, task_id: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Once more, as often as it comes, until the result backend answers."""
    messages.task.backend = Unavailable(app=messages.app, backend="memory")
    messages.task.ignore_result = True
    for _ in range(2 * MOST):
        messages.lose(task_id)
    messages.behave = lambda: 42
    assert messages.deliver(task_id) is None
    assert f"Task {task_id} cannot be counted: ConnectionError" in caplog.text


def test_chord_hears_of_a_parked_member(messages: Messages, task_id: str) -> None:
    """It fails, as it does with any member that fails; nobody waits for it in vain."""
    heard: list[Any] = []
    messages.task.backend.on_chord_part_return = lambda _request, state, result: heard.append((state, result))
    for _ in range(MOST):
        messages.lose(task_id)
    messages.deliver(task_id, chord={"task": "some.task", "args": [], "kwargs": {}, "options": {}})
    [(state, result)] = heard
    assert (state, type(result)) == (FAILURE, parking.Parked)
