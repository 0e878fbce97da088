"""What a pool process does with a batch, held against what Celery does with one task: no services needed."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import celery.app.task
import pytest
from celery.app.task import Context
from celery.result import AsyncResult
from kombu.exceptions import EncodeError

from pool_process import PoolProcess
from services import SOURCE
from taskmill_worker.batching import pool
from taskmill_worker.batching.deferral import Deferral


@pytest.fixture
def backend(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Return an empty result backend in memory, of an app that is the current one."""
    return PoolProcess(monkeypatch).app.backend


def fields(text: bytes | str) -> dict[str, Any]:
    """Return a record without its date, which is there."""
    found: dict[str, Any] = json.loads(text)
    assert found.pop("date_done")
    return found


@pytest.mark.parametrize(
    "request_fields",
    [
        {},
        {"group": "a-group"},
        {"parent_id": "a-parent", "root_id": "a-root"},
        {"children": [AsyncResult("a-child")]},
        {"delivery_info": {"routing_key": "red"}},
    ],
)
@pytest.mark.parametrize("extended", [False, True])
@pytest.mark.parametrize("result", [55, "é", None, [1, {"a": 2.5}], AsyncResult("another")])
def test_a_success_has_the_record_that_celery_makes(
    backend: Any, request_fields: dict[str, Any], extended: bool, result: Any
) -> None:
    """Field by field, whatever the request says."""
    backend.app.conf.result_extended = extended
    context = Context({"id": "one", "task": "alone.task", "args": [1], "kwargs": {}, **request_fields})
    backend.mark_as_done("one", result, context)
    deferral = held_back(backend)
    with deferral:
        backend.mark_as_done("one", result, context)
    ((_, key, record),) = deferral.waiting
    assert fields(record) == fields(backend.get(key))


def held_back(backend: Any) -> Deferral:
    """Return what holds back the success of a task with the id ``one``."""
    deferral = Deferral(backend, {})
    deferral.begin(0, "alone.task", "one", goes_on=False)
    return deferral


def test_a_result_that_cannot_be_written_is_an_error_of_its_task(backend: Any) -> None:
    """The tracer makes a failure of it."""
    with held_back(backend), pytest.raises(EncodeError):
        backend.mark_as_done("one", object(), Context({"id": "one"}))


def test_nothing_of_the_diversion_is_left(backend: Any) -> None:
    """Afterwards a result goes where it always went."""
    deferral = held_back(backend)
    with deferral:
        pass
    backend.mark_as_done("one", 1, Context({"id": "one"}))
    assert not deferral.waiting
    assert fields(backend.get(backend.get_key_for_task("one")))["result"] == 1


@pytest.mark.parametrize(
    "headers",
    [{}, {"id": "1", "lang": "py", "task": "t"}, {"id": "1", "own": 1, "argsrepr": "()", "timelimit": [None, None]}],
)
def test_custom_headers_are_those_that_celery_finds(headers: dict[str, Any]) -> None:
    """As a fresh copy of Celery's module, which nobody changed, says."""
    spec = importlib.util.spec_from_file_location("celery.app.task_anew", celery.app.task.__file__)
    assert spec is not None
    assert spec.loader is not None
    anew = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(anew)
    assert Context(headers).headers == anew.Context(headers).headers
    assert Context(headers, more=1).headers == anew.Context(headers, more=1).headers


def fibonacci(n: int) -> int:
    """Return the number, by plain recursion."""
    return n if n < 2 else fibonacci(n - 1) + fibonacci(n - 2)


def slow_depths(run: Callable[[], Any]) -> int:
    """Return at how many of 200 depths of the stack it takes three times the usual CPU time, each the best of three."""

    def at(depth: int) -> float:
        if depth:
            return at(depth - 1)
        times = []
        for _ in range(3):
            begin = time.process_time()
            run()
            times.append(time.process_time() - begin)
        return min(times)

    times = sorted(at(depth) for depth in range(200))
    return sum(one > 3 * times[100] for one in times)


@pytest.mark.thorough
@pytest.mark.clock
@pytest.mark.skipif(
    sys.implementation.name != "cpython" or sys.version_info < (3, 11), reason="this interpreter has no such blocks"
)
def test_no_depth_of_the_stack_makes_a_batch_slow() -> None:
    """Without a block of its own, some do."""

    @pool.with_block_of_its_own
    def in_block() -> int:
        return fibonacci(15)

    # On a busy machine one or two are slow by chance.
    assert slow_depths(lambda: fibonacci(15)) > 5
    assert slow_depths(in_block) < 3


@pytest.mark.usefixtures("backend")
def test_what_tasks_take_leaves_out_when_they_had_no_core(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of 0.2 s by the clock the process had no core for 0.15 s: batches go by the rest."""
    seconds, waited = [100.0], iter((7.0, 7.15))
    monkeypatch.setattr(pool, "without_core", lambda: next(waited))
    monkeypatch.setattr(pool, "time", SimpleNamespace(perf_counter=lambda: seconds[0]))

    def trace(*_: Any) -> tuple[bool, str, float]:
        seconds[0] += 0.1
        return False, "1", 0.1

    monkeypatch.setattr(pool, "fast_trace_task", trace)
    took, odd, _ = pool.run([("task", str(place), {}, b"[[], {}, {}]") for place in range(2)], False)
    number, each = took["task"]
    assert (number, odd) == (2, {})
    assert each == pytest.approx(0.05)


def test_a_busy_host_is_seen_in_the_kernels_own_count() -> None:
    """Two processes on one core: while one runs the other waits, and its count says how long."""
    program = (
        "import os, signal, time\n"
        "from taskmill_worker.batching.pool import without_core\n"
        "os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})\n"
        "parent = os.getpid()\n"
        "child = os.fork()\n"
        "while not child and os.getppid() == parent: pass\n"
        "if not child: os._exit(0)\n"
        "before, begin = without_core(), time.monotonic()\n"
        "while without_core() - before < 0.2 and time.monotonic() < begin + 60: pass\n"
        "print(without_core() - before, time.monotonic() - begin)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        env=os.environ | {"PYTHONPATH": str(SOURCE)},
        capture_output=True,
        text=True,
        check=True,
        timeout=120,
    )
    waited, passed = map(float, done.stdout.split())
    assert 0.2 <= waited <= passed
