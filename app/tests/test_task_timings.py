"""When tasks ran: from the worker's hook through memcached to the record."""

import json
import math
import signal
import time
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
from celery import Celery
from celery.app.trace import trace_task
from celery.backends.base import BaseKeyValueStoreBackend

from conftest import TASKS, Taskmill
from services import CLIENT, RabbitMQ, Worker, wait_until
from taskmill.cluster import workers
from taskmill.cluster.broker import Broker
from taskmill.samples import task_timings
from taskmill.samples.task_timings import TaskTimings, TaskTimingsWriter
from taskmill_worker import task_times

HOOKED = {"taskmill": [1000.5, 2_000, 1_500, "w1@there"]}


def load(folder: Path) -> TaskTimings:
    """Read the times of a run that has some."""
    times = task_timings.load(folder)
    assert times is not None
    return times


def record(folder: Path) -> dict[str, Any]:
    """Read run.json."""
    data: dict[str, Any] = json.loads((folder / "run.json").read_text())
    return data


def save(folder: Path, *metas: dict[str, Any], late: float = 0.0) -> None:
    """Write tasks.npz with these results of tasks that were posted at 1000, so late."""
    writer = TaskTimingsWriter()
    for number, meta in enumerate(metas):
        writer.add(number, 0, meta)
    posted = np.full(len(metas), 1000.0)
    writer.save(
        folder, {"due": posted - late, "posted": posted, "queue": np.zeros(len(metas), dtype=np.uint16)}, ["red"]
    )


def test_a_run_tells_when_every_task_ran_and_where(taskmill: Taskmill, worker: Worker) -> None:
    """Each result has a row; sums by queue and by worker agree; the function's CPU is what fib(17) takes."""
    done = taskmill("run", *TASKS, "--tasks=600", "--n=17", "--expect=1597")
    assert done.code == 0, done.out + done.err
    times, data = load(taskmill.latest), record(taskmill.latest)
    assert len(times.start) == len(times.posted) == 600
    clock = next(iter(data["clocks"].values()))
    assert (times.queue_time() > -clock["start"]["error_s"] - clock["end"]["error_s"]).all()
    assert (times.run > 0).all()
    assert 0.00005 < np.median(times.cpu) < 0.005
    assert np.allclose(times.latency(), times.queue_time() + times.run, atol=1e-5)
    (name,) = data["by_worker"]
    assert name.startswith(worker.name + "@")
    assert (data["by_worker"][name]["succeeded"], data["by_worker"][name]["failed"]) == (600, 0)
    for part in ("run", "cpu"):
        total = data["task_seconds"][part]
        assert total == pytest.approx(float(getattr(times, part).sum()), rel=1e-4)
        assert sum(queue[f"{part}_s"] for queue in data["by_queue"].values()) == pytest.approx(total, rel=1e-4)
    assert data["latency"]["from"] == "posted"
    assert data["latency"]["queue"]["count"] == 600
    assert data["latency"]["execution"]["p50"] == pytest.approx(float(np.median(times.run)), rel=1e-4)
    assert "latency " in done.out


@pytest.mark.usefixtures("worker")
def test_a_failed_task_has_its_times_too(taskmill: Taskmill) -> None:
    """A task that raises ran as well, and counts as failed with its worker."""
    assert taskmill("run", *TASKS, "--tasks=30", "--args", '["x"]', "--no-probe").code == 1
    times, data = load(taskmill.latest), record(taskmill.latest)
    assert np.isfinite(times.run).all()
    assert [worker["failed"] for worker in data["by_worker"].values()] == [30]


@pytest.mark.usefixtures("worker")
def test_a_paced_load_posts_each_task_when_it_is_due(taskmill: Taskmill) -> None:
    """400 tasks at 200 per second, over ten threads: due 5 ms apart, none sent early, two seconds in all."""
    assert taskmill("run", *TASKS, "--tasks=400", "--n=5", "--rate=200").code == 0
    times, data = load(taskmill.latest), record(taskmill.latest)
    assert np.allclose(np.diff(np.sort(times.due)), 0.005, atol=1e-5)
    assert (times.posted - times.due > -0.001).all()
    assert data["workload"]["rate"] == 200
    assert data["latency"]["from"] == "due"
    # From the first post, which may be late, to the last confirm: as long as the pace says, or longer by what was late.
    assert float(np.ptp(times.due)) == pytest.approx(399 * 0.005, abs=0.001)
    early, late = float(times.posted.min() - times.due.min()), float((times.posted - times.due).max())
    assert float(np.ptp(times.posted)) == pytest.approx(399 * 0.005, abs=late + 0.001)
    assert data["seconds"]["post"] >= 399 * 0.005 - early - 0.001
    assert data["client"]["late_s"] == pytest.approx(float((times.posted - times.due).max()), abs=0.01)


@pytest.mark.thorough
@pytest.mark.usefixtures("worker")
def test_a_paced_load_of_two_processes_keeps_the_rate(taskmill: Taskmill) -> None:
    """Their threads take turns: the tasks are due as evenly as with one process."""
    assert taskmill("run", *TASKS, "--tasks=200", "--n=5", "--rate=200", "--processes=2", "--threads=3").code == 0
    assert np.allclose(np.diff(np.sort(load(taskmill.latest).due)), 0.005, atol=1e-5)


def test_a_late_post_does_not_hide_its_latency(tmp_path: Path) -> None:
    """Latency counts from when a task was due, whenever it was posted."""
    save(tmp_path, HOOKED, late=4.0)
    times = load(tmp_path)
    assert (times.posted - times.due).tolist() == pytest.approx([4.0])
    assert times.summary()["latency"]["max"] == pytest.approx(4.502)
    assert times.summary()["queue"]["max"] == pytest.approx(4.5)


@pytest.mark.thorough
@pytest.mark.clock
@pytest.mark.usefixtures("worker")
def test_a_stalled_client_does_not_hide_its_latency(taskmill: Taskmill) -> None:
    """A client that is held up in a paced load: the tasks due meanwhile are late by as much, and none is missing."""
    # Longer than what a busy machine adds.
    stall = 4.0
    process = taskmill.popen("run", *TASKS, "--tasks=700", "--n=5", "--rate=100")
    wait_until(lambda: taskmill.ids_written() > 50, 60, "the load under way")
    process.send_signal(signal.SIGSTOP)
    time.sleep(stall)
    process.send_signal(signal.SIGCONT)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 0, out + err
    times, data = load(taskmill.latest), record(taskmill.latest)
    assert len(times.due) == 700
    assert data["client"]["late_s"] > stall - 0.2
    assert data["latency"]["latency"]["max"] > stall - 0.2
    assert float((times.done - times.posted).max()) < stall - 0.2


def test_the_workers_clock_is_measured(rabbitmq: RabbitMQ, worker: Worker) -> None:
    """A worker on this very host has this host's time, within the error that is given for it."""
    broker = Broker(rabbitmq.url(CLIENT))
    names = [one.name for one in workers.find(broker)]
    begin = time.monotonic()
    ((name, clock),) = workers.clocks(broker, names).items()
    assert name.startswith(worker.name + "@")
    # Half of the quickest of several round trips.
    assert 0 < clock["error_s"] < (time.monotonic() - begin) / (2 * workers.EXCHANGES)
    assert abs(clock["offset_s"]) <= clock["error_s"]


def test_times_are_brought_to_the_clients_clock(tmp_path: Path) -> None:
    """A worker's clock that is 10 s ahead at the start and 12 s at the end is corrected in a line between them."""
    save(
        tmp_path,
        {"taskmill": [1010.0, 0, 0, "w1"]},
        {"taskmill": [1050.0, 0, 0, "w1"]},
        {"taskmill": [1112.0, 0, 0, "w1"]},
    )
    times = task_timings.load(tmp_path, {"w1": {"start": {"offset_s": 10.0}, "end": {"offset_s": 12.0}}})
    assert times is not None
    share = 50 / 112
    assert times.start.tolist() == pytest.approx([1000 - 2 * 10 / 112, 1050 - 10 - 2 * share, 1100], abs=1e-6)


def test_a_result_without_times_has_at_most_celerys_own(tmp_path: Path) -> None:
    """Of an app without the hook only the end of each task is known; of a value that is no time, nothing."""
    save(
        tmp_path,
        HOOKED,
        {"date_done": "1970-01-01T00:20:00.500000+00:00"},
        {"taskmill": "x"},
        {"taskmill": [1, None, 2, 3]},
    )
    times = load(tmp_path)
    assert times.done.tolist() == pytest.approx([1000.502, 1200.5, math.nan, math.nan], nan_ok=True)
    assert times.start.tolist() == pytest.approx([1000.5] + 3 * [math.nan], nan_ok=True)
    assert times.summary()["queue"]["count"] == 1
    assert times.summary()["latency"]["count"] == 2


def test_a_broken_file_is_said_to_be_one(tmp_path: Path) -> None:
    """It raises ValueError, whatever is broken about it; a folder without one has no times."""
    assert task_timings.load(tmp_path) is None
    save(tmp_path, HOOKED)
    whole = (tmp_path / "tasks.npz").read_bytes()
    for broken in (whole[: len(whole) // 2], b"", b"no archive"):
        (tmp_path / "tasks.npz").write_bytes(broken)
        with pytest.raises(ValueError, match=r"tasks\.npz"):
            task_timings.load(tmp_path)


class Keys(BaseKeyValueStoreBackend):  # type: ignore[misc]  # Celery carries no types
    """A result backend with keys and nothing else, as Redis's is by its classes."""

    values: ClassVar[dict[Any, Any]] = {}

    def get(self, key: Any) -> Any:
        """Return a value."""
        return self.values.get(key)

    def set(self, key: Any, value: Any) -> None:
        """Keep a value."""
        self.values[key] = value


def test_times_are_stored_by_any_backend_with_keys() -> None:
    """Also by one that has its own way to wait for results."""
    app = Celery("keys", broker="memory://", backend="keys://", set_as_current=False)
    app.loader.override_backends = {"keys": f"{__name__}:Keys"}

    def answer() -> int:
        return 42

    task = app.task(answer, name="some.task", shared=False)
    install: Any = task_times.install
    install(app)
    trace_task(app.tasks[task.name], "an-id", [], {}, {"id": "an-id", "hostname": "w1@here"}, app=app)
    [stored] = Keys.values.values()
    assert json.loads(stored)["taskmill"][3] == "w1@here"
