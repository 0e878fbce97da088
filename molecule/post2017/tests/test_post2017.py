"""The post's own stack on Debian 11, after ansible-core 2.16 has been over it through Python 2.7."""

from __future__ import annotations

import base64
import json
import os
import re
import time
from http import HTTPStatus
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.request import Request, urlopen

import pytest
from testinfra.host import Host

SCENARIO = Path(os.environ["MOLECULE_EPHEMERAL_DIRECTORY"])
PASSWORD = (SCENARIO / "inventory" / ".secrets" / "flower").read_text().strip()
WORKERS = ["w1", "w2"]
QUEUES = ["blue", "green", "red"]


def python(host: Host, code: str) -> Any:
    """Return what Python code prints as JSON, run as a worker would be: its user, its environment, its packages."""
    as_worker = "cd /opt/fibonacci/src && set -a && . /etc/celery/w1.env && set +a && exec setpriv --reuid=celery "
    as_worker += "--regid=celery --init-groups /opt/fibonacci/venv/bin/python -c '{}'".format(code.replace("'", '"'))
    return json.loads(host.check_output(as_worker))


def inspect(host: Host, question: str) -> dict[str, Any]:
    """Return what the workers answer, by name."""
    code = "import json; from fibonacci.celery import app; print(json.dumps(app.control.inspect(timeout=3).{}()))"
    return {node.split("@")[0]: answer for node, answer in python(host, code.format(question)).items()}


def flower(page: str, user: str = f"taskmill:{PASSWORD}") -> str:
    """Return a page of Flower, which after a restart of the broker notices only when it asks the workers again."""
    header = {"Authorization": f"Basic {base64.b64encode(user.encode()).decode()}"}
    deadline = time.monotonic() + 60
    while True:
        try:
            with urlopen(Request(f"http://10.78.14.11:5555/{page}", headers=header), timeout=20) as answer:
                return str(answer.read().decode())
        except HTTPError as error:
            if error.code != HTTPStatus.SERVICE_UNAVAILABLE or time.monotonic() > deadline:
                raise
        time.sleep(1)


def test_the_versions_are_the_posts(host: Host) -> None:
    """Those that the write-up names, on Python 2.7."""
    packages = host.check_output("/opt/fibonacci/venv/bin/pip freeze 2>/dev/null").split()
    assert {"celery==3.1.24", "python-memcached==1.58"} <= set(packages)
    assert "flower==0.9.1" in host.check_output("/opt/flower/venv/bin/pip freeze 2>/dev/null").split()
    assert python(host, "import sys, json; print(json.dumps(sys.version_info[:2]))") == [2, 7]


def test_two_workers_with_three_queues_each_and_a_process_for_each_core(host: Host) -> None:
    """As in the post: w1 and w2, three queues each, concurrency at its default."""
    queues = inspect(host, "active_queues")
    assert {name: sorted(queue["name"] for queue in found) for name, found in queues.items()} == dict.fromkeys(
        WORKERS, QUEUES
    )
    cores = int(host.check_output("nproc"))
    assert {name: found["pool"]["max-concurrency"] for name, found in inspect(host, "stats").items()} == dict.fromkeys(
        WORKERS, cores
    )


@pytest.mark.parametrize("queue", QUEUES)
def test_a_task_of_every_queue_comes_back_right(host: Host, queue: str) -> None:
    """Through RabbitMQ, Celery 3.1 and memcached."""
    code = f"from fibonacci.celery import app; import fibonacci.tasks as t; print(t.{queue}.delay(15).get(timeout=20))"
    assert python(host, code) == 610


def test_flower_has_its_monitor_page() -> None:
    """The page with the graphs that later releases lack, and the password before it."""
    with pytest.raises(HTTPError, match="401"):
        flower("monitor", "taskmill:wrong")
    page = flower("monitor")
    for graph in ("succeeded", "failed", "time", "broker"):
        assert re.search(graph, page, re.IGNORECASE), graph
    assert sorted(json.loads(flower("monitor/broker"))) == QUEUES
    assert {node.split("@")[0] for node in json.loads(flower("api/workers?refresh=1"))} == set(WORKERS)


@pytest.mark.parametrize("unit", ["celery-worker@w1", "flower", "host-stats-units"])
def test_systemd_knows_every_directive_that_it_is_given(host: Host, unit: str) -> None:
    """247 complains of nothing."""
    verified = host.run("systemd-analyze verify %s.service", unit)
    assert (verified.rc, verified.stdout + verified.stderr) == (0, "")


def test_a_stack_that_the_host_cannot_carry_is_refused_before_the_running_one_is_touched() -> None:
    """The modern stack needs a newer Python than there is; all other tests find the stack of 2017 as it was."""
    refused = json.loads((SCENARIO / "ansible-2.16.json").read_text())["refused"]
    assert "post2017 (modern needs Python 3.10" in " ".join(refused.split())
    assert re.findall(r"^post2017 .*changed=(\d+) .*failed=(\d+)", refused, re.MULTILINE) == [("0", "1")]
    assert "Stop the workers, warmly" not in refused


def test_the_playbook_worked_through_ansible_core_2_16_and_python_2_7(host: Host) -> None:
    """The setting that it was given is in force, and a second run of it changed nothing."""
    outcome = json.loads((SCENARIO / "ansible-2.16.json").read_text())
    assert re.search(r"ansible_python_version: *.?2\.7\.|\"ansible_python_version\": \"2\.7\.", outcome["driven"])
    changed = [re.findall(r"^post2017 .*changed=(\d+) .*failed=0", said, re.MULTILINE) for said in outcome["applied"]]
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
    assert "contender" in host.check_output("PATH=/tmp/bare /usr/local/bin/taskmill --version 2>&1")
    user = host.check_output("id -u taskmill")
    assert host.check_output("cat /tmp/bare/said").split() == ["0", user, user, user]
