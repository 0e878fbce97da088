"""What the broker's address says of TLS, and how the workers behind it are asked for their messages."""

from __future__ import annotations

import ssl
from types import SimpleNamespace
from typing import Any, cast

import pytest

from taskmill.cluster import workers
from taskmill.cluster.broker import Broker
from taskmill.model.errors import TaskmillError
from taskmill.model.plan import Route


def test_certificate_and_name_are_checked_with_amqps() -> None:
    """By the authorities of the file, or by those that the host trusts; posting and remote control alike."""
    checked = {"cert_reqs": ssl.CERT_REQUIRED, "server_hostname": None}
    broker = Broker("amqps://client:x@broker1/v", ca="/etc/ca.pem")
    assert broker.tls == {**checked, "ca_certs": "/etc/ca.pem"}
    assert Broker("amqps://client:x@broker1/v").tls == checked
    with broker.control() as app:
        assert app.connection_for_write().ssl == broker.tls
    assert str(broker).startswith("broker1:5671,")


def test_without_tls_nothing_is_checked() -> None:
    """A file of authorities does not make a connection encrypted."""
    broker = Broker("amqp://client:x@broker1/v", ca="/etc/ca.pem")
    assert broker.tls is None
    with broker.control() as app:
        assert not app.connection_for_write().ssl


class Moving:
    """Stands in for a worker's answers: its one message goes on to the next place after so many of them."""

    places = ("scheduled", "reserved", "active")

    def __init__(self, place: str, answers: int) -> None:
        """Begin with the message at a place."""
        self.place = self.places.index(place)
        self.answers = answers

    def __getattr__(self, question: str) -> Any:
        """Return what answers a question."""

        def answer() -> dict[str, list[dict[str, str]]]:
            there = self.places[self.place] == question
            self.answers -= 1
            self.place += self.answers == 0
            return {"w1@a": [{"name": "a.b"}] if there else []}

        return answer


@pytest.mark.parametrize("answers", [1, 2])
@pytest.mark.parametrize("place", ["scheduled", "reserved"])
def test_message_that_goes_on_while_workers_are_asked_is_not_missed(place: str, answers: int) -> None:
    """They are asked where it comes from first, and through one app, which is closed."""
    apps: list[str] = []

    def control() -> Any:
        apps.append("opened")
        return SimpleNamespace(
            control=SimpleNamespace(inspect=lambda **_: Moving(place, answers)), close=lambda: apps.append("closed")
        )

    worker = workers.worker("w1@a", {}, [], {})
    assert workers.held(cast("Broker", SimpleNamespace(control=control)), [worker], {"a.b"}) > 0
    assert apps == ["opened", "closed"]


def test_worker_of_another_queue_and_one_that_is_silent_may_lack_a_task() -> None:
    """Only what would get a message is asked for its task, as far as it answers; of many tasks the first are listed."""
    red, blue, silent = (workers.worker(f"{name}@a", {}, [{"name": name}], {}) for name in ("red", "blue", "silent"))
    known = {"red@a": dict.fromkeys(("a.b", *map("p.{:02}".format, range(12))), True), "blue@a": {}}
    routes = [Route("a.b", "red"), Route("a.b", "silent"), Route("celery.backend_cleanup", "red")]
    workers.check_registered(known, [red, blue, silent], routes)
    with pytest.raises(TaskmillError) as refused:
        workers.check_registered(known, [red, blue, silent], [*routes, Route("zzz", "red")])
    assert str(refused.value) == (
        "red@a takes the messages of the queue red and has no task zzz: it would run none of them. It has a.b, p.00, "
        "p.01, p.02, p.03, p.04, p.05, p.06, p.07, p.08 and 3 more. Mend the name of the task, or have the workers' "
        "app import the module that the task is in"
    )
    with pytest.raises(TaskmillError, match=r"has no task a\.bb \(the nearest is a\.b\): it would run none"):
        workers.check_registered(known, [red], [Route("a.bb", "red")])
    with pytest.raises(TaskmillError, match=r"It has no task at all\. Mend"):
        workers.check_registered(known, [blue], [Route("a.b", "blue")])


def test_task_stores_a_result_where_one_of_its_workers_does() -> None:
    """A worker that does not know it says nothing of it; one without a backend stores none."""
    known = {"one": {"a": True, "b": False, "c": False}, "other": {"a": False, "b": False}}
    assert workers.unstored(known, ["a", "b", "c", "d", "b"]) == ["b", "c"]
