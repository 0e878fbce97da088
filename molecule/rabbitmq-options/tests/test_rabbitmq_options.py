"""What RabbitMQ says with every option set, after side_effect.yml let it drift and the role set it back."""

from __future__ import annotations

import json
import os
import socket
import ssl
from pathlib import Path
from typing import Any

import pytest
from testinfra.host import Host

BROKER = ("10.78.24.11", 5673)


def ctl(host: Host, *arguments: str) -> Any:
    """Ask rabbitmqctl and return its JSON."""
    return json.loads(host.check_output(f"rabbitmqctl --quiet {' '.join(arguments)} --formatter json"))


def test_it_listens_where_it_was_told(host: Host) -> None:
    """AMQP and management are on the addresses and ports given, the rest on loopback."""
    listening = [
        line.split()[3] for line in host.check_output("ss --listening --tcp --numeric --no-header").splitlines()
    ]
    others = [address for address in listening if not address.endswith(":22")]
    assert sorted(others) == [
        "10.78.24.11:15673",
        "10.78.24.11:5673",
        "127.0.0.1:25672",
        "127.0.0.1:4369",
        "[::1]:5673",
    ]


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_amqp_is_served_through_tls(version: ssl.TLSVersion) -> None:
    """Both releases, with a certificate of the address; the broker answers a client's first word."""
    context = ssl.create_default_context(cafile=Path(os.environ["MOLECULE_EPHEMERAL_DIRECTORY"], "tls", "ca.pem"))
    context.minimum_version = context.maximum_version = version
    with context.wrap_socket(socket.create_connection(BROKER, timeout=10), server_hostname=BROKER[0]) as client:
        client.sendall(b"AMQP\x00\x00\x09\x01")
        assert b"RabbitMQ" in client.recv(4096)


def test_amqp_is_not_served_without_tls() -> None:
    """The same first word gets no answer but the end of the connection."""
    with socket.create_connection(BROKER, timeout=10) as client:
        client.sendall(b"AMQP\x00\x00\x09\x01")
        assert b"RabbitMQ" not in client.recv(4096)


def test_drifted_users_are_set_back(host: Host) -> None:
    """The password, the tag and the permissions are those of the inputs again, and guest is deleted again."""
    assert host.run("printf app-password | timeout 30 rabbitmqctl authenticate_user app").rc == 0
    users = {user["user"]: user["tags"] for user in ctl(host, "list_users")}
    assert users == {"app": [], "monitor": ["monitoring"]}
    permissions = {entry.pop("user"): entry for entry in ctl(host, "list_permissions", "--vhost own/vhost")}
    assert permissions == {
        "app": {"configure": "^celery", "write": ".*", "read": "^(red|green|blue)$"},
        "monitor": {"configure": "^$", "write": "^$", "read": ".*"},
    }


def test_queues_are_durable_and_have_their_arguments(host: Host) -> None:
    """Every queue is there, the deleted one included, with the type and arguments asked for."""
    fields = "name durable auto_delete type arguments"
    queues = {queue["name"]: queue for queue in ctl(host, "list_queues", "--vhost own/vhost", fields)}
    assert sorted(queues) == ["blue", "dead", "green", "red", "steady"]
    assert all(queue["durable"] and not queue["auto_delete"] for queue in queues.values())
    assert "quorum" in str(queues["steady"]["type"])
    assert {argument[0]: argument[2] for argument in queues["blue"]["arguments"]}["x-message-ttl"] == 60000


def test_what_is_rejected_goes_to_the_dead_letters(host: Host) -> None:
    """The policy, which was cleared, acts on every queue but that of the dead letters itself."""
    acting = {queue["name"]: queue["policy"] for queue in ctl(host, "list_queues", "--vhost own/vhost", "name policy")}
    assert acting == {**dict.fromkeys(["blue", "green", "red", "steady"], "dead-letters"), "dead": ""}
    [policy] = ctl(host, "list_policies", "--vhost own/vhost")
    definition = policy["definition"]
    assert (json.loads(definition) if isinstance(definition, str) else definition) == {
        "dead-letter-exchange": "",
        "dead-letter-routing-key": "dead",
    }


def test_the_node_takes_no_larger_message(host: Host) -> None:
    """It runs with the largest size that was asked for."""
    assert host.check_output("rabbitmqctl --quiet eval 'application:get_env(rabbit, max_message_size).'") == (
        "{ok,100000}"
    )


def test_a_changed_setting_reached_the_running_node(host: Host) -> None:
    """The node runs with the disk limit that side_effect.yml changed, and with the amount as watermark."""
    status = ctl(host, "status")
    assert status["disk_free_limit"] == 400_000_000
    assert status["vm_memory_high_watermark_limit"] == 300 * 1024**2


def test_the_erlang_machine_got_its_arguments_and_files(host: Host) -> None:
    """Two schedulers are online, and the process may open as many files as asked for."""
    assert host.check_output("rabbitmqctl --quiet eval 'erlang:system_info(schedulers).'") == "2"
    limits = host.check_output("cat /proc/%s/limits", str(ctl(host, "status")["pid"]))
    assert [line.split()[3:5] for line in limits.splitlines() if line.startswith("Max open files")] == [
        ["8192", "8192"]
    ]


def test_the_management_api_answers_the_monitoring_user_alone(host: Host) -> None:
    """The user with the tag may read the queues' lengths, the other may not."""
    url = "http://10.78.24.11:15673/api/queues/own%2Fvhost"
    code = "import sys, urllib.request as r; r.urlopen(r.Request(sys.argv[1], headers={'Authorization': sys.argv[2]}))"
    monitor, app = "Basic bW9uaXRvcjptb25pdG9yLXBhc3N3b3Jk", "Basic YXBwOmFwcC1wYXNzd29yZA=="
    assert host.run("python3 -c %s %s %s", code, url, monitor).rc == 0
    refused = host.run("python3 -c %s %s %s", code, url, app)
    assert "HTTP Error 401" in refused.stderr
