"""Keep the workers busy (`load.py post FOLDER`) until FOLDER/stop is there, or `collect` every result."""

import json
import os
import sys
import time
from pathlib import Path

from celery.result import AsyncResult

from fibonacci.celery import app
from fibonacci.expected import fibonacci
from fibonacci.tasks import blue, green, red

N = 24
#: More than the workers reserve, so that none is ever without a task, however fast or slow the host is.
OUTSTANDING = 12 * len(os.sched_getaffinity(0))
#: Seconds after which publishing ends by itself.
LIMIT = 300


def post(folder: Path) -> None:
    """Publish a task for each that is done, and write every id to `folder`/ids."""
    results: list[AsyncResult] = []
    end = time.monotonic() + LIMIT
    with (folder / "ids").open("w", buffering=1) as ids:
        while not (folder / "stop").exists() and time.monotonic() < end:
            if len(results) >= OUTSTANDING:
                results[-OUTSTANDING].get(timeout=120)
            results.append((red, green, blue)[len(results) % 3].delay(N))
            ids.write(f"{results[-1].id}\n")


def collect(folder: Path) -> None:
    """Print how many tasks were published, and how many results came and are right."""
    ids = (folder / "ids").read_text().split()
    right = sum(AsyncResult(task_id, app=app).get(timeout=120) == fibonacci(N) for task_id in ids)
    print(json.dumps({"posted": len(ids), "right": right}))


{"post": post, "collect": collect}[sys.argv[1]](Path(sys.argv[2]))
