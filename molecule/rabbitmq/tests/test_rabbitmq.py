"""What RabbitMQ itself says after the role was applied with its required inputs alone."""

from __future__ import annotations

import json
from typing import Any

from testinfra.host import Host

PASSWORD = 'a "very" $ecret pass\\word'


def ctl(host: Host, *arguments: str) -> Any:
    """Ask rabbitmqctl and return its JSON."""
    return json.loads(host.check_output(f"rabbitmqctl --quiet {' '.join(arguments)} --formatter json"))


def authenticates(host: Host, user: str, password: str) -> bool:
    """Tell whether the broker takes a password."""
    done = host.run("printf '%%s' %s | timeout 30 rabbitmqctl authenticate_user %s", password, user)
    return bool(done.rc == 0)


def test_the_node_started_once_and_runs(host: Host) -> None:
    """The configuration was there at the first start, so no restart followed it."""
    assert ctl(host, "status")["listeners"]
    assert host.check_output("grep -c 'Starting RabbitMQ' /var/log/rabbitmq/rabbit@localhost.log") == "1"
    assert host.service("rabbitmq-server").is_enabled


def test_nothing_listens_beyond_loopback(host: Host) -> None:
    """AMQP, management, distribution and the port mapper are all on 127.0.0.1."""
    listening = [
        line.split()[3] for line in host.check_output("ss --listening --tcp --numeric --no-header").splitlines()
    ]
    others = [address for address in listening if not address.endswith(":22")]
    assert sorted(others) == ["127.0.0.1:15672", "127.0.0.1:25672", "127.0.0.1:4369", "127.0.0.1:5672"]


def test_guest_is_gone_and_the_user_can_log_in(host: Host) -> None:
    """Only the listed user exists, with its own password, special characters included."""
    assert [(user["user"], user["tags"]) for user in ctl(host, "list_users")] == [("app", [])]
    assert authenticates(host, "app", PASSWORD)
    assert not authenticates(host, "app", "guest")


def test_the_user_has_the_own_virtual_host_and_no_other(host: Host) -> None:
    """The default virtual host never came to be."""
    assert ctl(host, "list_vhosts") == [{"name": "taskmill"}]
    assert ctl(host, "list_permissions", "--vhost taskmill") == [
        {"user": "app", "configure": ".*", "write": ".*", "read": ".*"}
    ]


def test_memory_and_disk_are_bounded(host: Host) -> None:
    """The node runs with the default watermark and disk limit."""
    status = ctl(host, "status")
    assert status["vm_memory_high_watermark_setting"] == {"relative": 0.4}
    assert status["disk_free_limit"] == 1024**3


def test_the_password_is_in_no_file(host: Host) -> None:
    """Neither configuration nor logs nor temporary files hold it."""
    assert host.run("grep -rF 'ecret pass' /etc/rabbitmq /var/log /tmp /etc/systemd").rc == 1
