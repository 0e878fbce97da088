"""What the broker's address says of TLS."""

from __future__ import annotations

import ssl

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
