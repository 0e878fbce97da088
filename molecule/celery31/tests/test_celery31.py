"""The article's own stack on Debian 11, after ansible-core 2.16 has been over it through Python 2.7."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path
from typing import Any

import pytest
from testinfra.host import Host

SCENARIO = Path(os.environ["MOLECULE_EPHEMERAL_DIRECTORY"])


@pytest.mark.parametrize("unit", ["celery-worker@w1", "flower", "host-stats-units"])
def test_systemd_knows_every_directive_that_it_is_given(host: Host, unit: str) -> None:
    """247 complains of nothing."""
    verified = host.run("systemd-analyze verify %s.service", unit)
    assert (verified.rc, verified.stdout + verified.stderr) == (0, "")


def test_a_release_that_the_host_cannot_carry_is_refused_before_the_running_one_is_touched() -> None:
    """Celery 5 needs a newer Python than there is; all other tests find the running release as it was."""
    refused = json.loads((SCENARIO / "ansible-2.16.json").read_text())["refused"]
    assert "celery31 (celery5 needs Python 3.10" in " ".join(refused.split())
    assert re.findall(r"^celery31 .*changed=(\d+) .*failed=(\d+)", refused, re.MULTILINE) == [("0", "1")]
    assert "Stop the workers, warmly" not in refused


def test_the_playbook_worked_through_ansible_core_2_16_and_python_2_7(host: Host) -> None:
    """The setting that it was given is in force, and a second run of it changed nothing."""
    outcome = json.loads((SCENARIO / "ansible-2.16.json").read_text())
    assert re.search(r"ansible_python_version: *.?2\.7\.|\"ansible_python_version\": \"2\.7\.", outcome["driven"])
    changed = [re.findall(r"^celery31 .*changed=(\d+) .*failed=0", said, re.MULTILINE) for said in outcome["applied"]]
    assert int(changed[0][0]) > 0
    assert changed[1] == ["0"]
    assert "TimeoutStopUSec=2min 3s" in host.check_output("systemctl show celery-worker@w1 -p TimeoutStopUSec")


def ctl(host: Host, *arguments: str) -> Any:
    """Ask rabbitmqctl and return its JSON."""
    return json.loads(host.check_output(f"rabbitmqctl --quiet {' '.join(arguments)} --formatter json"))


def test_the_broker_runs_on_the_configuration_of_old(host: Host) -> None:
    """The node read the Erlang terms, and nothing but them."""
    status = ctl(host, "status")
    assert status["config_files"] == ["/etc/rabbitmq/rabbitmq.config"]
    assert status["disk_free_limit"] == 400_000_000
    assert {"10.78.14.11", "127.0.0.1"} == {
        listener["interface"] for listener in status["listeners"] if listener["protocol"] == "amqp"
    }


def test_what_drifted_was_set_back_through_the_management_api(host: Host) -> None:
    """Tags, permissions and a queue that was missing; guest is gone, and so is who did it."""
    users = {user["user"]: user["tags"] for user in ctl(host, "list_users")}
    assert users == {"client": [], "monitor": ["monitoring"], "worker": []}
    granted = {entry["user"]: entry["read"] for entry in ctl(host, "list_permissions", "--vhost taskmill")}
    assert "celeryev" in granted["monitor"]
    queues = {queue["name"]: queue for queue in ctl(host, "list_queues", "--vhost taskmill", "name durable arguments")}
    assert queues["added"]["durable"]
    assert [argument[::2] for argument in queues["added"]["arguments"]] == [["x-message-ttl", 60000]]


def test_root_becomes_the_clients_user_where_there_is_no_setpriv(host: Host) -> None:
    """As on Ubuntu 16.04: the program asks a second time who it is, and is the user by then."""
    host.check_output("rm -rf /tmp/bare && mkdir -m 755 /tmp/bare && touch /tmp/bare/said && chmod 666 /tmp/bare/said")
    host.check_output("printf '#!/bin/sh\\n/usr/bin/id \"$@\" | /usr/bin/tee -a /tmp/bare/said\\n' > /tmp/bare/id")
    host.check_output("chmod 755 /tmp/bare/id")
    assert "celery31_client" in host.check_output("PATH=/tmp/bare /usr/local/bin/taskmill --version 2>&1")
    user = host.check_output("id -u taskmill")
    assert host.check_output("cat /tmp/bare/said").split() == ["0", user, user, user]
