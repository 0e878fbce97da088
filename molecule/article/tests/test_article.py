"""The article's stack on Debian 11 after site.yml and a small load, and the Celery 4.0.2 its author went back from."""

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
#: What the author of the article met with Celery 4.0.2.
FAULT = "Unrecoverable error: TypeError(\"'NoneType' object is not callable\""


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
            with urlopen(Request(f"http://10.78.36.11:5555/{page}", headers=header), timeout=20) as answer:
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
    """As in the article: w1 and w2, three queues each, concurrency at its default."""
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
    # It knows the queues once the workers have told it of them.
    deadline = time.monotonic() + 60
    while sorted(queues := json.loads(flower("monitor/broker"))) != QUEUES and time.monotonic() < deadline:
        flower("api/workers?refresh=1")
        time.sleep(1)
    assert sorted(queues) == QUEUES
    assert {node.split("@")[0] for node in json.loads(flower("api/workers?refresh=1"))} == set(WORKERS)


def test_every_task_of_the_load_came_back_right() -> None:
    """The article's client published them, without confirms, and fetched each result by its id."""
    record = json.loads((SCENARIO / "runs" / "latest" / "run.json").read_text())
    assert record["stack"] == "celery31"
    assert record["counts"] == {
        **dict.fromkeys(["posted", "distinct", "retrieved", "correct"], 1000),
        **dict.fromkeys(["confirmed", "wrong", "failed", "lost", "duplicates"], 0),
    }


def pending(environment: str) -> dict[str, Any]:
    """Return what came of starting workers of an environment on messages that wait."""
    found: dict[str, Any] = json.loads((SCENARIO / "outcomes" / f"{environment}.json").read_text())
    return found


def test_celery_3_1_24_works_off_what_waits_when_it_starts() -> None:
    """Every message of full queues is executed, and of those that waited during a restart."""
    outcome = pending("celery31")
    assert outcome["versions"]["celery"] == "3.1.24"
    for case in ("start", "restart"):
        assert outcome[case]["waiting"] > 0
        assert (outcome[case]["done"], outcome[case]["left"]) == (outcome[case]["posted"], 0)
        assert not outcome[case]["ended"]


def test_celery_4_0_2_dies_when_messages_wait() -> None:
    """The control: it ends with the fault of the article, at the start and at a restart, and the messages stay."""
    outcome = pending("celery-4.0.2")
    assert outcome["versions"]["celery"] == "4.0.2"
    for case in ("start", "restart"):
        assert any(FAULT in line for line in outcome[case]["log"])
        assert outcome[case]["ended"]
        assert outcome[case]["done"] == outcome[case]["before"]
        assert outcome[case]["left"] == outcome[case]["waiting"] > 0
