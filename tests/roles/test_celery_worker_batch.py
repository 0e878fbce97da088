"""What the role celery_worker says of a batch that cannot be."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from typing import Any

Play = Callable[..., "subprocess.CompletedProcess[str]"]


def test_a_batch_of_no_message_is_refused(play: Play) -> None:
    """The worker is named, and what to give instead."""
    inputs: dict[str, Any] = {
        "celery_worker_app": "app",
        "celery_worker_directory": "/nowhere/src",
        "celery_worker_venv_path": "/nowhere/venv",
        "celery_worker_broker_url": "amqp://127.0.0.1/",
        "celery_worker_result_backend": "cache+memcached://127.0.0.1/",
        "celery_worker_known_queues": ["red"],
        "celery_worker_nodes": [
            {"name": "w1", "queues": ["red"], "batch": 0},
            {"name": "w2", "queues": ["red"], "batch": 1},
        ],
    }
    done = play([{"import_role": {"name": "celery_worker"}}], inputs)
    said = " ".join(done.stdout.split())
    assert done.returncode != 0
    assert "worker 'w1' has batch 0. Use 1 to have its messages handed out one by one" in said
    assert "'w2' has" not in said
    assert "celery_worker : remove" not in said
