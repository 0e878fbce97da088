"""What the broker's address says of TLS, and how the workers behind it are asked for their messages."""

from __future__ import annotations

import ssl
from types import SimpleNamespace
from typing import Any, cast

import pytest

from taskmill.cluster import workers
from taskmill.cluster.broker import Broker


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
