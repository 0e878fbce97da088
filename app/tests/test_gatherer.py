"""What a worker's gatherer hands out and acknowledges, with a stand-in for channel and pool: no services needed."""

from __future__ import annotations

import re
import time
from collections import Counter
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any
from unittest.mock import MagicMock

import pytest
from billiard.einfo import ExceptionInfo
from celery import Celery, Task, _state
from celery.app import trace
from celery.app.trace import build_tracer, reset_worker_optimizations, setup_worker_optimizations
from celery.exceptions import WorkerLostError
from celery.worker import state
from celery.worker.request import Request
from kombu.common import QoS

from channel_and_pool import Channel, Message, Pool
from taskmill_worker.batching.eligibility import STRATEGY, against_task
from taskmill_worker.batching.pool import ESCAPED
from taskmill_worker.batching.strategy import batch_seconds, batch_size, strategy

MOST = 4
#: What a message may ask for beside being run.
ASKING = [{"eta": "2030-01-01T00:00:00"}, {"retries": 1}, {"group": "g"}, {"timelimit": [9, 9]}]


def add(number: int, other: int) -> int:
    """Return the sum."""
    return number + other


def fail() -> None:
    """Raise."""
    raise ValueError("no")


class Worker:
    """A consumer of two tasks, and the handler of each one's messages."""

    def __init__(self, app: Celery) -> None:
        """Begin with nothing delivered."""
        self.pool = Pool()
        self.app = app
        self.consumer = MagicMock(pool=self.pool, app=app, hostname="w1@here", event_dispatcher=None, qos_global=True)
        del self.consumer.gatherer
        self.consumer.hub.on_tick = set()
        self.consumer._maximum_prefetch_restored = True
        self.consumer.qos = QoS(MagicMock(), 8)
        self.channel = self.consumer.connection.default_channel = Channel(self.handle)
        limits = dict.fromkeys(("time_limit", "soft_time_limit", "max_tasks_per_child"))
        self.consumer.controller = SimpleNamespace(state=state, **limits)
        self.consumer.connection_errors = (OSError,)
        self.consumer.task_buckets = dict.fromkeys(app.tasks)
        self.handlers = {name: strategy(app.tasks[name], app, self.consumer) for name in ("alone.add", "alone.fail")}

    def connect_anew(self) -> None:
        """Lose the connection, and have another."""
        self.consumer.connection = MagicMock()
        self.channel = self.consumer.connection.default_channel = Channel(self.handle)
        self.handlers = {name: strategy(self.app.tasks[name], self.app, self.consumer) for name in self.handlers}

    def handle(self, message: Any) -> None:
        """Give a message to the handler of its task."""
        self.handlers[message.headers["task"]](message, None, message.ack_log_error, message.reject_log_error, None)

    def deliver(self, *messages: Any) -> None:
        """Have messages come in, and the event loop go around."""
        for message in messages:
            self.channel.deliver(message)
        for tick in list(self.consumer.hub.on_tick):
            tick()


@pytest.fixture
def worker(monkeypatch: pytest.MonkeyPatch) -> Iterator[Worker]:
    """Yield a worker that takes batches of a few messages."""
    monkeypatch.setenv("CELERY_WORKER_BATCH", str(MOST))
    monkeypatch.setenv("CELERY_WORKER_BATCH_SECONDS", "10")
    monkeypatch.setattr(Task, "Strategy", STRATEGY)
    # The process's own, which a worker's app takes the place of.
    before = _state.default_app, _state._tls.current_app
    app = Celery("alone", broker="memory://", backend="cache+memory://")
    app.conf.task_acks_late = app.conf.task_reject_on_worker_lost = True
    app.task(name="alone.add", shared=False)(add)
    app.task(name="alone.fail", shared=False)(fail)
    setup_worker_optimizations(app, "here")
    for name, task in app.tasks.items():
        task.__trace__ = build_tracer(name, task, app.loader, "here", app=app)
    app.backend.client.cache.clear()
    yield Worker(app)
    state.reset_state()
    reset_worker_optimizations(app)
    app.close()
    _state.set_default_app(before[0])
    _state._set_current_app(before[1])


def adds(*tags: int) -> list[Message]:
    """Return a message for each tag."""
    return [Message(tag, "alone.add", tag, 1) for tag in tags]


def learn(worker: Worker) -> None:
    """Have the first two messages run, after which it is known how long such a task takes."""
    worker.deliver(*adds(1, 2))
    worker.pool.run()


def test_a_task_is_tried_alone_then_batches_are_filled_and_acknowledged_together(worker: Worker) -> None:
    """A batch is one message until it is known how long that takes; an acknowledgement is for all messages up to it."""
    messages = adds(*range(1, 11))
    worker.deliver(*messages)
    assert worker.pool.sizes() == [1, 1]
    worker.pool.batches[0]["accept_callback"](1, time.monotonic())
    first = worker.pool.batches.pop(0)
    first["callback"](first["function"](*first["args"]))
    assert worker.pool.sizes() == [1, MOST]
    worker.pool.run()
    assert [worker.app.AsyncResult(str(tag)).result for tag in range(1, 11)] == list(range(2, 12))
    assert {end for message in messages for end in message.ends} == {"acknowledged up to it"}
    assert messages[-1].ends == ["acknowledged up to it"]
    assert len([message for message in messages if message.ends]) < 10


def test_a_failure_is_settled_by_itself_among_successes(worker: Worker) -> None:
    """Celery's own request does that; it is acknowledged once, and so is everything else."""
    failing = Message(2, "alone.fail")
    messages = [*adds(1), failing, *adds(3)]
    worker.deliver(*messages)
    worker.pool.run()
    assert worker.app.AsyncResult("2").state == "FAILURE"
    assert worker.app.AsyncResult("3").result == 4
    assert failing.ends == ["acknowledged"]
    assert messages[-1].ends == ["acknowledged up to it"]
    assert set(state.successful_requests) == {"1", "3"}


def test_the_pool_writes_a_batch_before_the_event_loop_waits(worker: Worker) -> None:
    """Whichever of both the loop calls first: the pool's own look comes once more when the batch is there."""
    seen: list[list[int]] = []
    worker.pool._pool = SimpleNamespace(on_poll_start=lambda: seen.append(worker.pool.sizes()))
    worker.deliver(*adds(1))
    assert seen == [[1]]


def test_a_lost_batch_goes_back_to_its_queue(worker: Worker) -> None:
    """None of it is acknowledged, and what comes after is; monitors are told."""
    messages = adds(1, 2)
    events = worker.consumer.event_dispatcher = MagicMock(enabled=True)
    worker.deliver(*messages)
    worker.pool.die()
    worker.pool.run()
    assert [message.ends for message in messages] == [["back"], ["acknowledged up to it"]]
    told = [one for one in events.send.call_args_list if one.args == ("task-rejected",)]
    assert [one.kwargs for one in told] == [{"uuid": "1", "requeue": True}]


@pytest.mark.parametrize("asks", ASKING)
def test_what_asks_for_more_goes_celerys_own_way(worker: Worker, asks: dict[str, Any]) -> None:
    """It is in no batch, and what comes after it is acknowledged one by one until it is settled."""
    special = Message(1, "alone.add", 1, 1, **asks)
    after = adds(2)
    worker.deliver(special, *after)
    assert worker.pool.sizes() == [1]
    worker.pool.run()
    assert (special.ends, after[0].ends) == ([], ["acknowledged"])


@pytest.mark.parametrize("error", [KeyError("of a hook"), ConnectionError("of a store"), MemoryError(), SystemExit(3)])
def test_what_cannot_be_settled_leaves_its_neighbours_alone(
    worker: Worker, monkeypatch: pytest.MonkeyPatch, error: BaseException
) -> None:
    """It goes back and takes Celery's own way; what ends a worker does so when the others are settled."""
    monkeypatch.setattr(Request, "on_success", MagicMock(side_effect=error))
    learn(worker)
    messages = [*adds(3), Message(4, "alone.fail"), *adds(5, 6)]
    worker.consumer.gatherer.machine.expected["alone.fail"] = 0.001
    worker.deliver(*messages)
    if isinstance(error, MemoryError | SystemExit):
        with pytest.raises(type(error)):
            worker.pool.run()
    else:
        worker.pool.run()
    assert messages[1].ends == ["back"]
    assert messages[3].ends == ["acknowledged up to it"]
    assert [worker.app.AsyncResult(str(tag)).result for tag in (3, 5, 6)] == [4, 6, 7]


def test_what_celerys_tracer_did_not_handle_is_a_failure_as_of_a_task_alone(worker: Worker) -> None:
    """A lost process puts the message back, another exception is the task's failure; the neighbours are settled."""
    learn(worker)
    messages = adds(3, 4, 5)
    worker.deliver(*messages)
    escaped = {}
    for place, error in enumerate((WorkerLostError("gone"), ValueError("of a hook"))):
        try:
            raise error
        except (WorkerLostError, ValueError):
            escaped[place] = (ESCAPED, ExceptionInfo(), 0.1)
    worker.pool.batches.pop(0)["callback"](({"alone.add": (1, 0.001)}, escaped, {}))
    assert [message.ends for message in messages] == [["back"], ["acknowledged"], ["acknowledged up to it"]]
    assert worker.app.AsyncResult("4").state == "FAILURE"


def test_a_revocation_that_cannot_be_settled_keeps_no_place_of_a_batch(
    worker: Worker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What stands behind it is handed out all the same, other revocations are settled, and the worker hears of it."""
    learn(worker)
    messages = adds(3, 4, 5, 6)
    for message in messages:
        worker.channel.deliver(message)
    state.revoked.update(("3", "4"))
    revoked = Request.revoked

    def fail_once(request: Request) -> Any:
        if request.id == "3":
            raise KeyError("of the result store")
        return revoked(request)

    monkeypatch.setattr(Request, "revoked", fail_once)
    with pytest.raises(KeyError):
        worker.deliver()
    assert worker.pool.sizes() == [2]
    worker.pool.run()
    assert [message.ends for message in messages] == [[], ["acknowledged"], ["acknowledged"], ["acknowledged"]]
    assert not worker.consumer.gatherer.machine.in_flight


def test_a_batch_that_the_pool_does_not_take_keeps_no_other_from_it(
    worker: Worker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The worker hears of it when the other is handed out."""
    take = MagicMock(side_effect=[OSError("no pipe"), None])
    monkeypatch.setattr(worker.pool, "apply_async", take)
    with pytest.raises(OSError, match="no pipe"):
        worker.deliver(*adds(1, 2))
    assert take.call_count == 2


def test_messages_of_any_handler_on_the_channel_are_known_and_forgotten(worker: Worker) -> None:
    """One that a handler keeps is never covered by the acknowledgement of others; settled, it is remembered no more."""
    kept = []
    worker.handlers["alone.fail"] = lambda message, *_: kept.append(message)
    special = Message(1, "alone.fail")
    messages = adds(*range(2, 8))
    worker.deliver(special, *messages)
    worker.pool.run()
    ends = Counter(end for message in messages for end in message.ends)
    assert ends == {"acknowledged": 6}
    assert list(worker.consumer.gatherer.machine.open) == [1]
    kept[0].ack_log_error()
    assert not worker.consumer.gatherer.machine.open


def test_a_lost_connection_is_forgotten_with_what_it_delivered(worker: Worker) -> None:
    """Of a batch that ends afterwards nothing is acknowledged; what the next connection delivers is."""
    learn(worker)
    worker.consumer.gatherer.machine.expected["alone.fail"] = 0.001
    unreadable = Message(5, "alone.add")
    unreadable.body = "[["
    before = [*adds(3), Message(4, "alone.fail"), unreadable, *adds(6, 7)]
    worker.deliver(*before)
    assert worker.pool.sizes() == [MOST]
    worker.connect_anew()
    after = adds(1, 2)
    worker.deliver(*after)
    worker.pool.run()
    assert [message.ends for message in before] == [[], [], [], [], []]
    assert not worker.consumer.on_invalid_task.called
    assert not worker.consumer.on_decode_error.called
    assert after[-1].ends == ["acknowledged up to it"]
    assert not state.requests


def test_tasks_in_batches_are_on_celerys_lists_until_they_end(worker: Worker) -> None:
    """Reserved when they come, active when a process has them; so remote control, autoscaling and shutdown see them."""
    worker.deliver(*adds(1, 2, 3))
    assert len(state.reserved_requests) == 3
    for request in state.reserved_requests:
        # As Celery does when it has connected anew.
        request.eventer = None
    worker.pool.batches[0]["accept_callback"](1, time.monotonic())
    assert [request.info()["args"] for request in state.active_requests] == [[1, 1]]
    worker.pool.run()
    assert not state.requests
    assert not state.reserved_requests
    assert not state.active_requests


def test_a_task_of_a_batch_is_cancelled_as_celery_does_when_the_connection_is_lost(worker: Worker) -> None:
    """Its process ends, and its state says that it will be run again."""
    worker.deliver(*adds(1))
    worker.pool.batches[0]["accept_callback"](77, time.monotonic())
    for request in list(state.active_requests):
        request.cancel(worker.consumer.pool)
    assert worker.pool.terminated == [77]
    assert worker.app.AsyncResult("1").state == "RETRY"
    assert not state.active_requests


def test_a_task_terminated_before_a_process_has_it_ends_with_that(worker: Worker) -> None:
    """Its neighbours go back, since their process is gone."""
    learn(worker)
    messages = adds(3, 4, 5)
    worker.deliver(*messages)
    state.requests["4"].terminate(worker.consumer.pool)
    assert worker.pool.terminated == []
    worker.pool.batches[0]["accept_callback"](77, time.monotonic())
    assert worker.pool.terminated == [77]
    assert worker.app.AsyncResult("4").state == "REVOKED"
    worker.pool.die()
    assert [message.ends for message in messages] == [["back"], ["acknowledged"], ["back"]]


def test_tasks_get_their_messages_properties(worker: Worker) -> None:
    """As `self.request.properties`, with everything else that Celery's own request has."""
    message = Message(1, "alone.add", 1, 1)
    message.properties = {"priority": 3, "app_id": "an-app"}
    worker.deliver(message)
    ((_, _, given, _),) = worker.pool.batches[0]["args"][0]
    assert given["properties"] == message.properties
    whole = Request(message, task=worker.app.tasks["alone.add"], app=worker.app, hostname="w1@here").request_dict
    assert {name for name in whole if name not in given} == {"args", "kwargs"}
    assert {name for name in given if whole[name] != given[name]} == set()


def test_consumers_begin_anew_where_the_prefetch_is_their_own(worker: Worker) -> None:
    """With RabbitMQ 4 and with quorum queues, whatever this Celery calls that."""
    for a_global in (True, False):
        worker.channel.basic_qos(0, 8, a_global)
        worker.consumer.gatherer.machine.reserved(0)
        worker.deliver(*adds(*range(20 * a_global + 1, 20 * a_global + 9)))
        worker.pool.run()
        assert worker.consumer.call_soon.called is not a_global


def test_no_more_is_reserved_than_the_app_allows(worker: Worker) -> None:
    """`worker_eta_task_limit` is the most; what was not given is not taken away later."""
    qos = worker.consumer.qos = QoS(MagicMock(), 8, max_prefetch=10)
    worker.deliver(*adds(*range(1, 9)))
    worker.pool.run()
    assert (qos.value, worker.consumer.gatherer.machine.prefetch) == (10, 2)
    worker.consumer.gatherer.reserve(0)
    assert (qos.value, worker.consumer.gatherer.machine.prefetch) == (8, 0)


def test_nothing_is_reserved_while_celery_restores_its_own_number(worker: Worker) -> None:
    """After a lost connection it counts up with every message that ends, batches included."""
    worker.consumer._maximum_prefetch_restored = False
    worker.deliver(*adds(1, 2))
    worker.pool.run()
    assert worker.consumer.qos.value == 8
    assert worker.consumer._restore_prefetch_count_after_connection_restart.call_count == 2


def test_what_needs_no_acknowledgement_is_in_no_batch(worker: Worker) -> None:
    """An acknowledgement of it would be an error of the channel, which ends the worker."""
    worker.channel.no_ack_consumers.add("consumer")
    worker.deliver(*adds(1))
    assert worker.pool.batches == []
    assert worker.consumer.gatherer.machine.open == {}


def test_what_was_asked_for_by_itself_is_known(worker: Worker) -> None:
    """By `basic.get`, on the channel of the tasks: no acknowledgement of later messages covers it."""
    worker.channel.waiting = Message(1, "alone.add")
    assert worker.channel.basic_get("red").delivery_tag == 1
    messages = adds(2, 3)
    worker.deliver(*messages)
    worker.pool.run()
    assert [message.ends for message in messages] == [["acknowledged"], ["acknowledged"]]


def test_a_message_that_cannot_be_read_is_listed_while_it_waits(worker: Worker) -> None:
    """By what its headers say."""
    message = Message(1, "alone.add")
    message.body = "[["
    worker.deliver(message)
    assert [request.info()["id"] for request in state.reserved_requests] == ["1"]


def test_a_message_of_another_name_is_logged_as_celery_logs_it(
    worker: Worker, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """With the app's own format, its shadow's name and its arguments."""
    monkeypatch.setattr(trace, "LOG_RECEIVED", "came: %(name)s %(args)s")
    with caplog.at_level("INFO"):
        worker.deliver(Message(1, "alone.add", 1, 1, shadow="alias", argsrepr="(1, 1)"))
    assert [record.getMessage() for record in caplog.records] == ["came: alias (1, 1)"]
    assert vars(caplog.records[0])["data"]["id"] == "1"


@pytest.mark.parametrize("text", ["0", "0.5", "-1", "2.0", "often", "inf", "nan"])
def test_a_batch_holds_a_whole_number_of_messages(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    """The variable is named when it is wrong; with none of a message the worker would make empty batches for ever."""
    monkeypatch.setenv("CELERY_WORKER_BATCH", text)
    said = f"CELERY_WORKER_BATCH must be a whole number of at least 1, not {text!r}"
    with pytest.raises(ValueError, match=f"^{re.escape(said)}$"):
        batch_size()


@pytest.mark.parametrize("text", ["0", "-1", "often", "inf", "nan"])
def test_a_batch_takes_seconds_that_end(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    """The variable is named when it is wrong."""
    monkeypatch.setenv("CELERY_WORKER_BATCH_SECONDS", text)
    said = f"CELERY_WORKER_BATCH_SECONDS must be a number of seconds above 0, not {text!r}"
    with pytest.raises(ValueError, match=f"^{re.escape(said)}$"):
        batch_seconds()


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"acks_late": False}, "acks_late"),
        ({"reject_on_worker_lost": None}, "reject_on_worker_lost"),
        ({"time_limit": 5}, "time limit"),
        ({"Request": "alone:Request"}, "Request"),
        ({"Strategy": "alone:strategy"}, "Strategy"),
        ({}, ""),
    ],
)
def test_a_task_that_asks_for_more_goes_singly_and_the_reason_is_said(
    worker: Worker, change: dict[str, Any], reason: str
) -> None:
    """The machine cannot give it that."""
    task = worker.app.tasks["alone.add"]
    for name, value in change.items():
        setattr(task, name, value)
    said = against_task(task, worker.consumer)
    assert reason in said
    assert bool(said) == bool(reason)
