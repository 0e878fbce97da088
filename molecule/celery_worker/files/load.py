"""Post work for some seconds (`load.py post FILE`), `count` or `collect` its results."""

import json
import os
import sys
import time
from pathlib import Path

from celery.result import AsyncResult

from fibonacci.celery import app
from fibonacci.expected import fibonacci
from fibonacci.tasks import blue, green, red
from fibonacci.tasks import fibonacci as recursive

N = 26
SECONDS = 12


def post(file: Path) -> None:
    """Post as many tasks as keep all cores busy for SECONDS, and write their ids to `file`."""
    start = time.perf_counter()
    recursive(N)
    tasks = int(SECONDS * len(os.sched_getaffinity(0)) / (time.perf_counter() - start))
    file.write_text(json.dumps([(red, green, blue)[i % 3].delay(N).id for i in range(tasks)]))


def main() -> None:
    """Do what the first argument says, with the ids in the file that the second one names."""
    action, file = sys.argv[1], Path(sys.argv[2])
    if action == "post":
        post(file)
        return
    results = [AsyncResult(task_id, app=app) for task_id in json.loads(file.read_text())]
    if action == "count":
        count = sum(result.ready() for result in results)
    else:
        count = sum(result.get(timeout=120) == fibonacci(N) for result in results)
    print(json.dumps({"posted": len(results), action: count}))


main()
