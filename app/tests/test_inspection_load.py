"""What ``taskmill inspect`` writes is what an app's own worker needs: it starts, and a load's results are all there."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

import inspected_apps
from conftest import Taskmill
from services import OWN, OWN_NAMES, Memcached, RabbitMQ, Worker, channel, wait_until
from taskmill.cli.inspection import inspect_command

#: Without what keeps it from running here: a broker elsewhere, pickle as root, tasks that send others.
ELSEWHERE = re.compile(r"    (?:broker_read_url|task_serializer|accept_content)=.*\n")
MEDIA = {
    **inspected_apps.QUEUES,
    "media/app.py": ELSEWHERE.sub("", inspected_apps.QUEUES["media/app.py"]),
    "media/images.py": """\
from media.app import app


@app.task(acks_late=True)
def resize(width: int, height: int):
    return width * height
""",
}


def inspected(app: Path) -> dict[str, Any]:
    """Return the variables of an app's inventory."""
    done = CliRunner().invoke(inspect_command, [str(app), "--python", sys.executable, "--json"])
    assert done.exit_code == 0, done.output
    variables: dict[str, Any] = json.loads(done.stdout)["variables"]
    return variables


@pytest.fixture
def declared(rabbitmq: RabbitMQ) -> Iterator[Callable[[dict[str, Any]], list[str]]]:
    """Return what declares an app's queues as the wiring and the role rabbitmq do, and returns their names."""
    made: list[str] = []

    def declare(variables: dict[str, Any]) -> list[str]:
        queues = variables.get("app_queues", sorted(set(variables["app_tasks"].values())))
        arguments = {one["name"]: one["arguments"] for one in variables.get("rabbitmq_queues", [])}
        one = channel(rabbitmq)
        for queue in queues:
            one.queue_declare(queue, durable=True, auto_delete=False, arguments=arguments.get(queue, {}))
            made.append(queue)
        one.connection.close()
        return list(queues)

    yield declare
    one = channel(rabbitmq)
    for queue in made:
        one.queue_delete(queue)
    one.connection.close()


@pytest.mark.parametrize("files", [inspected_apps.DOCS, MEDIA], ids=["docs", "queues"])
def test_a_worker_starts_by_what_is_written(
    rabbitmq: RabbitMQ,
    memcached: Memcached,
    taskmill: Taskmill,
    declared: Callable[[dict[str, Any]], list[str]],
    tmp_path: Path,
    files: dict[str, str],
) -> None:
    """The user may declare what the app declares, and nothing is refused; every task of the load has its result."""
    variables = inspected(inspected_apps.write(tmp_path / "app", files))
    assert variables["broker_workers_declare"]
    names = variables.get("broker_task_queues", "celery").split("|")
    assert set(names) <= set(OWN_NAMES.split("|"))
    queues = declared(variables)
    addresses = {"CELERY_BROKER_URL": rabbitmq.url(OWN), "CELERY_RESULT_BACKEND": memcached.url}
    worker = Worker(
        "own",
        addresses,
        tmp_path / "log",
        variables["app_name"],
        queues,
        options=("--include=taskmill_worker",),
        directory=Path(variables["app_source"]),
    )
    worker.start()
    try:
        wait_until(worker.ready, 60, "worker ready")
        load = [f"--task={task}={queue}" for task, queue in variables["app_tasks"].items()]
        done = taskmill("run", *load, "--args", json.dumps(variables["app_arguments"]), "--tasks", "20")
    finally:
        worker.stop()
    assert done.code == 0, done.out + done.err
    assert "20 fetched: 20 correct" in done.out or "values were not compared" in done.out, done.out
