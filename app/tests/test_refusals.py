"""What waiting does not mend is told at once: what a broker refuses, and a publishing process that does not start."""

from __future__ import annotations

import errno
import io
import json
import multiprocessing
import os
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from amqp.exceptions import AccessRefused, ConnectionForced, InternalError, NotAllowed, NotFound
from celery import Celery, signature

from services import ADMIN, CLIENT, RabbitMQ, depth, purge_queue
from taskmill.cluster import broker as brokers
from taskmill.cluster.broker import Broker
from taskmill.model.errors import PublishError
from taskmill.model.plan import Plan, Route
from taskmill.progress import Reporter
from taskmill.publishing import journal, processes
from taskmill.publishing.publisher import publish

#: Seconds that a broker is waited for which is only gone: more than any of these tests may take.
LONG = 600.0
PLAN = Plan("p", (Route("a.b", "yellow"),), 40, (1,), threads=2, broker_deadline=LONG, profile=False)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Return the folder of a run."""
    (tmp_path / "ids").mkdir()
    return tmp_path


@pytest.fixture
def yellow(rabbitmq: RabbitMQ) -> Iterator[RabbitMQ]:
    """Yield the broker with an empty queue `yellow`, and empty it afterwards."""
    purge_queue(rabbitmq, "yellow")
    yield rabbitmq
    purge_queue(rabbitmq, "yellow")


def post(plan: Plan, folder: Path, url: str) -> Any:
    """Post a plan, and return what came of it."""
    return processes.publish(plan, folder, Broker(url), threading.Event(), Reporter(io.StringIO()), {})


@pytest.mark.parametrize("plan", [PLAN, replace(PLAN, processes=2)], ids=["threads", "processes"])
@pytest.mark.parametrize(
    ("user", "password", "vhost", "words"),
    [
        (CLIENT, "wrong", "taskmill", "refuses the user or the password"),
        (CLIENT, None, "elsewhere", "has no such virtual host"),
    ],
)
def test_login_that_is_refused_while_posting_is_not_waited_for(
    plan: Plan, folder: Path, rabbitmq: RabbitMQ, user: Any, password: str | None, vhost: str, words: str
) -> None:
    """As when a password is changed under way: the broker is there, and will go on saying no."""
    posted = post(plan, folder, rabbitmq.url(user, vhost, password))
    assert words in posted.error
    assert "CELERY_BROKER_URL" in posted.error
    assert not posted.finished


def test_user_who_may_not_write_is_told_which_permission_it_is(folder: Path, yellow: RabbitMQ) -> None:
    """The exchange and the user by name, and where permissions stand."""
    yellow.ctl("add_user", "mute", "mute-secret")
    try:
        yellow.ctl("set_permissions", "-p", "taskmill", "mute", "^$", "^$", ".*")
        posted = post(PLAN, folder, yellow.url(replace(CLIENT, name="mute", password="mute-secret")))
    finally:
        yellow.ctl("delete_user", "mute")
    assert "access to exchange" in posted.error
    assert "'mute'" in posted.error
    assert "rabbitmq_users" in posted.error
    assert sum(len(one.lines) for one in journal.read(folder / "ids")) == posted.total("posted") > 0
    assert posted.total("confirmed") == depth(yellow, "yellow") == 0


def test_exchange_that_is_not_there_is_named(yellow: RabbitMQ) -> None:
    """Where the app declares nothing, the broker closes the channel over it."""
    app = Celery("a", broker=yellow.url(ADMIN), set_as_current=False)
    one = signature("a.b", app=app, exchange="nowhere", routing_key="x")
    one.options["declare"] = []
    with pytest.raises(PublishError, match=r"no exchange 'nowhere'.*Declare the exchange, or mend its name"):
        publish([one], app=yellow.url(ADMIN), broker_deadline=LONG)


@pytest.mark.parametrize(
    ("error", "refusal"),
    [
        (AccessRefused("ACCESS_REFUSED - login was refused"), True),
        (NotFound("NOT_FOUND - no exchange"), True),
        (NotAllowed("NOT_ALLOWED - vhost x not found"), True),
        (NotAllowed("NOT_ALLOWED - access to vhost 'x' refused for user 'u': connection limit (5) is reached"), False),
        (InternalError("INTERNAL_ERROR - access to vhost 'x' refused for user 'u': vhost 'x' is down"), False),
        (ConnectionForced("CONNECTION_FORCED - broker forced connection closure"), False),
        (ConnectionRefusedError(errno.ECONNREFUSED, "Connection refused"), False),
    ],
)
def test_what_a_broker_may_yet_take_back_is_waited_for(error: Exception, refusal: bool) -> None:
    """A limit that dead connections count towards, and a virtual host that starts, are no refusals."""
    assert isinstance(error, brokers.CONNECTION_ERRORS)
    assert brokers.is_refusal(error) is refusal


def test_connection_limit_is_not_called_a_missing_virtual_host() -> None:
    """The words are the broker's."""
    error = NotAllowed("NOT_ALLOWED - access to vhost 'x' refused for user 'u': connection limit (5) is reached")
    assert "takes no more connections" in Broker("amqp://u@h/x").explain(error)


def test_process_that_does_not_start_ends_all_and_says_why(
    folder: Path, yellow: RabbitMQ, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The third of three: the first two end in order, so that what they have sent is confirmed and on disk."""
    start = multiprocessing.context.SpawnProcess.start
    started: list[Any] = []

    def start_two(process: Any) -> None:
        if len(started) == 2:
            raise OSError(errno.EAGAIN, os.strerror(errno.EAGAIN))
        started.append(process)
        start(process)

    monkeypatch.setattr(multiprocessing.context.SpawnProcess, "start", start_two)
    posted = post(replace(PLAN, tasks=600_000, processes=3), folder, yellow.url(CLIENT))
    assert posted.error.startswith("the publishing process 3 of 3 could not be started: Resource temporarily")
    assert "--processes" in posted.error
    assert len(started) == 2
    assert not any(process.is_alive() for process in started)
    lines = sum(len(one.lines) for one in journal.read(folder / "ids"))
    assert posted.total("confirmed") == lines == depth(yellow, "yellow") < 600_000
    assert json.loads((folder / "post.json").read_text())["error"] == posted.error
