"""How a load of a subject is counted, with subjects that are made up: the real ones need libraries of their own."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from types import SimpleNamespace
from typing import Any

import pytest
from click.testing import CliRunner

import other_queues.subject
from other_queues import bare_pool, cli, load
from other_queues.subject import Deadline, Subject, one_by_one, setting


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Return the seconds that the clocks of a load show from now on."""
    seconds = [50.0]
    monkeypatch.setattr(other_queues.subject, "time", SimpleNamespace(monotonic=lambda: seconds[0]))
    monkeypatch.setattr(load, "time", SimpleNamespace(perf_counter=lambda: seconds[0]))
    return seconds


def test_right_wrong_and_missing_results_are_told_apart(capsys: pytest.CaptureFixture[str], clock: list[float]) -> None:
    """What raised is lost, whatever it raised, and the first of these is said."""

    def publish(*_: int) -> list[Any]:
        clock[0] += 2
        return [55, 54, 55, TimeoutError("late"), ValueError("failed")]

    def fetch(handles: Sequence[Any], _deadline: Deadline) -> Iterator[Any]:
        clock[0] += 1
        yield from handles

    found = load.run(Subject(publish=publish, fetch=fetch), 5, 10, 55, 5)
    assert (found.tasks, found.correct, found.wrong, found.lost) == (5, 2, 1, 2)
    assert (found.post_s, found.total_s) == (2, 3)
    assert capsys.readouterr().err == "2 without a result: TimeoutError('late')\n"


def test_results_that_never_come_cost_the_deadline_once(clock: list[float]) -> None:
    """The first waits until the deadline, all others are not asked for."""
    asked = []

    def get(handle: int, seconds: float) -> int:
        asked.append(handle)
        clock[0] += seconds
        raise TimeoutError

    found = load.run(Subject(publish=lambda tasks, _n: range(tasks), fetch=one_by_one(get)), 1000, 10, 55, 0.3)
    assert (found.lost, asked) == (1000, [0])
    assert found.total_s == pytest.approx(0.3)


def test_a_result_renews_the_deadline(clock: list[float]) -> None:
    """Slow is not lost: each of these takes more than half of the deadline."""
    allowed = []

    def get(_handle: int, seconds: float) -> int:
        allowed.append(seconds)
        clock[0] += 0.25
        return 55

    found = load.run(Subject(publish=lambda tasks, _n: range(tasks), fetch=one_by_one(get)), 4, 10, 55, 0.4)
    assert found.correct == 4
    assert allowed == pytest.approx([0.4] * 4)
    assert found.total_s == pytest.approx(1.0)


def test_what_no_worker_takes_counts_as_published() -> None:
    """Bare py-amqp publishes, and what the broker confirmed counts as correct."""
    found = load.run(Subject(publish=lambda tasks, _n: range(tasks - 1)), 5, 10, 55, 1)
    assert (found.correct, found.lost) == (4, 1)


def test_the_bare_pool_computes_and_its_processes_are_counted() -> None:
    """Every result is right, and the CPU is that of the children too."""
    found = load.run(bare_pool.SUBJECT, 40, 20, 6765, 30)
    assert (found.correct, found.lost) == (40, 0)
    assert found.cpu_s > 0.01


def test_a_load_with_wrong_results_exits_with_1() -> None:
    """The outcome is printed all the same."""
    done = CliRunner().invoke(cli.main, ["load", "bare_pool", "--tasks=10", "--n=10", "--expect=54"])
    assert done.exit_code == 1
    assert '"wrong": 10' in done.output


def test_a_subject_without_workers_says_so() -> None:
    """The pool is in the load's own process."""
    done = CliRunner().invoke(cli.main, ["worker", "bare_pool"])
    assert done.exit_code == 2
    assert "its load does the work itself" in done.output


def test_a_missing_setting_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """A subject that does not know where its broker is names the variable that it needs."""
    monkeypatch.delenv("OTHER_QUEUES_REDIS_URL", raising=False)
    with pytest.raises(SystemExit, match="OTHER_QUEUES_REDIS_URL is not set"):
        setting("OTHER_QUEUES_REDIS_URL")
