"""What a pool process is to a batch, without a worker: tracers of an app's tasks, and a memcached in a dictionary."""

from __future__ import annotations

import json
import signal
from collections.abc import Callable
from typing import Any

import pytest
from celery import Celery
from celery.app import trace
from kombu.serialization import prepare_accept_content

from task_messages import NOTHING
from taskmill_worker.batching import deferral, pool
from taskmill_worker.memcached_backend import MemcachedBackend

#: With it a pool process exits that gets SIGTERM.
TOLD_TO_END = signal.SIGTERM - 256


class Memory:
    """Stands in for python-memcached's client."""

    def __init__(self) -> None:
        """Begin empty, and up."""
        self.values: dict[bytes, str] = {}
        #: Commands that wrote, with their keys.
        self.writes: list[tuple[str, list[str]]] = []
        #: Task and state of each record that came.
        self.states: list[tuple[str, str]] = []
        self.server_max_value_length = 1 << 20
        self.item_size = 1 << 20
        #: How many writes fail from now on.
        self.failing = 0

    def get(self, key: bytes) -> str | None:
        """Return a value."""
        return self.values.get(key)

    def get_multi(self, keys: list[bytes]) -> dict[bytes, str]:
        """Return those that are there."""
        return {key: self.values[key] for key in keys if key in self.values}

    def set(self, key: bytes, value: Any, _: int = 0) -> bool:
        """Store a value, if it may be."""
        return not self._write("set", {key: str(value)})

    def set_multi(self, values: dict[bytes, str], _: int = 0) -> list[bytes]:
        """Store values; return the keys of those that are not."""
        return self._write("set_multi", values)

    def _write(self, command: str, values: dict[bytes, str]) -> list[bytes]:
        self.writes.append((command, [key.decode().removeprefix("celery-task-meta-") for key in values]))
        records = [json.loads(value) for value in values.values()]
        self.states += [(one["task_id"], one["status"]) for one in records if isinstance(one, dict) and "status" in one]
        if self.failing:
            self.failing -= 1
            return list(values)
        self.values |= {key: value for key, value in values.items() if len(value) < self.item_size - 100}
        return [key for key in values if key not in self.values]

    def incr(self, key: bytes, _: int) -> int | None:
        """Count."""
        if key not in self.values:
            return None
        self.values[key] = str(int(self.values[key]) + 1)
        return int(self.values[key])

    def touch(self, *_: Any) -> None:
        """Let a value expire later."""

    def delete(self, key: bytes) -> None:
        """Remove a value."""
        self.values.pop(key, None)

    def get_stats(self, _: str) -> list[Any]:
        """Return the settings."""
        return [("memory", {"item_size_max": str(self.item_size)})]

    def forget_dead_hosts(self) -> None:
        """Have none."""


class PoolProcess:
    """An app with tasks of its own and its results in memory, as a pool process has it."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, backend: str = "cache+memcached://x/", **settings: Any) -> None:
        """Make the app the current one."""
        self.app = Celery("pooled", broker="memory://", backend=backend, set_as_current=False)
        self.app.loader.override_backends = {"cache": f"{MemcachedBackend.__module__}:{MemcachedBackend.__name__}"}
        pauses = {"result_backend_base_sleep_between_retries_ms": 1, "result_backend_max_sleep_between_retries_ms": 1}
        self.app.conf.update(task_acks_late=True, **pauses, **settings)
        self.app.memory = self.memory = Memory()
        monkeypatch.setattr(MemcachedBackend, "client", property(lambda backend: backend.app.memory))
        monkeypatch.setattr(pool, "current_app", self.app)
        # What is stored together does not depend on how fast this machine is; a test that wants it early says so.
        monkeypatch.setattr(deferral, "LATEST", float("inf"))
        accept = prepare_accept_content(["json"])
        # What the program `celery worker` has prepared.
        self.app.use_fast_trace_task = True
        monkeypatch.setattr(trace, "_localized", [self.app._tasks, accept, "pooled@here"])

    def task(self, function: Callable[..., Any], name: str = "", **options: Any) -> Any:
        """Make a task of a function, for this app alone."""
        if not function.__name__.isidentifier():  # a lambda, which Celery does not take
            function.__name__ = "function"
        return self.app.task(name=name or function.__name__, shared=False, **options)(function)

    def call(self, task: Any, *args: Any, task_id: str | None = None, **more: Any) -> tuple[Any, ...]:
        """Return a task's call as the main process makes it; of ``more``, what a body has goes there."""
        if task.__trace__ is None:
            task.__trace__ = trace.build_tracer(task.name, task, self.app.loader, "pooled@here", app=self.app)
        embed = NOTHING | {name: more.pop(name) for name in NOTHING if name in more}
        identifier = task_id or f"{task.name}-{args}"
        delivery = {"exchange": "", "routing_key": "celery", "priority": None, "redelivered": False}
        request = {"id": identifier, "task": task.name, "lang": "py", "root_id": identifier, "delivery_info": delivery}
        return task.name, identifier, request | more, json.dumps([args, {}, embed])

    def run(self, *calls: tuple[Any, ...], with_results: bool = False) -> tuple[dict[int, Any], dict[int, Any]]:
        """Run a batch; return what is no success, and the successes."""
        _, outcomes, succeeded = pool.run(list(calls), with_results)
        return outcomes, succeeded

    def singly(self, call: tuple[Any, ...]) -> Any:
        """Run one task as Celery does; return its outcome, or what left the tracer."""
        name, identifier, request, body = call
        try:
            return trace.fast_trace_task(name, identifier, request, body, "application/json", "utf-8")
        except BaseException as error:  # noqa: BLE001  # whatever it is, it is the outcome
            return error

    def stored(self, call: tuple[Any, ...]) -> dict[str, Any]:
        """Return what is stored as a call's result, without its date."""
        text = self.app.backend.get(self.app.backend.get_key_for_task(call[1]))
        record: dict[str, Any] = json.loads(text) if text else {}
        record.pop("date_done", None)
        return record
