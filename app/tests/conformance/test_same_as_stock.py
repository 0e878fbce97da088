"""A worker with taskmill_worker does with every task, as far as one can see from outside, what stock Celery does."""

from __future__ import annotations

import dataclasses
import fcntl
import json
import os
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from conformance.app import FIELD, RECORD
from conformance.differences import BEING_MENDED, DIFFERS_ON_PURPOSE, Difference, judge, listed
from conformance.drive import Seen
from conformance.every import FEATURES
from conformance.observe import POLL, WORKER, Observation, differences, most_at_once, observations
from conformance.posting import POOLS
from conformance.run import BACKENDS, both, outcome, stop
from services import OURS, STOCK

#: What everyone runs. The rest is for a night.
SHORT = ("prefork", "memcached")
#: With RPC, Celery has several greenlets wait on one socket, which gevent refuses at times (ConcurrentObjectUseError).
PAIRS = [(pool, backend) for pool in POOLS for backend in BACKENDS if (pool, backend) != ("gevent", "rpc")]
Pass = dict[str, Seen]
#: What such a chord ends with, and how often both workers are tried because of it.
DISTURBED, TRIES = "Never call result.get() within a task!", 3


@pytest.fixture(scope="session")
def seen_of(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str, str], Pass]:
    """Return what runs both workers with a pool and a backend, once for all tests, in whichever process they are.

    It raises ``RuntimeError`` where they could not be run, for every test that asks.
    """
    shared = shared_by_processes(tmp_path_factory.getbasetemp())
    known: dict[tuple[str, str], Pass] = {}

    def run(pool: str, backend: str) -> Pass:
        if (pool, backend) in known:
            return known[pool, backend]
        result = shared / f"conformance-{pool}-{backend}.json"
        with (shared / f"{result.name}.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not result.exists():
                rabbitmq, folder = request.getfixturevalue("rabbitmq"), tmp_path_factory.mktemp("both")
                features = [name for name, one in FEATURES.items() if one.runs(pool, backend)]
                keep(result, lambda: undisturbed(pool, lambda: both(rabbitmq, folder, pool, backend, features)))
        known[pool, backend] = kept(result)
        return known[pool, backend]

    return run


def shared_by_processes(base: Path) -> Path:
    """Return the directory of temporary files that all processes of pytest-xdist have, from that of this one."""
    return base.parent if "PYTEST_XDIST_WORKER" in os.environ else base


def undisturbed(pool: str, run: Callable[[], Pass]) -> Pass:
    """Return what was seen of both workers when no thread forbade another to join its chord, or the last of the tries.

    Whether a task may wait for others is one flag of the whole process, in stock Celery, too. A thread that has joined
    a chord sets it back, and one that still joins fails. In other pools a task that fails so is one that has to.
    """
    for _ in range(TRIES):
        seen = run()
        results = [result for one in seen.values() for result in one.results.values()]
        if pool != "threads" or not any(DISTURBED in str(result) for result in results):
            break
    return seen


def keep(result: Path, run: Callable[[], Pass]) -> None:
    """Write down what was seen of both workers, or why they could not be run."""
    try:
        found: dict[str, object] = {which: dataclasses.asdict(one) for which, one in run().items()}
    except RuntimeError as error:
        found = {"error": str(error)}
    result.write_text(json.dumps(found))


def kept(result: Path) -> Pass:
    """Return what was seen of both workers; raise ``RuntimeError`` with the reason where they could not be run."""
    found = json.loads(result.read_text())
    if "error" in found:
        raise RuntimeError(found["error"])
    return {which: Seen(**one) for which, one in found.items()}


def cases() -> Iterator[object]:
    """Yield feature, pool and backend of every case, with its marks."""
    for pool, backend in PAIRS:
        for feature in [*(name for name, one in FEATURES.items() if one.runs(pool, backend)), WORKER]:
            yield pytest.param(feature, pool, backend, marks=marks(pool, backend), id=f"{feature}-{pool}-{backend}")


def marks(pool: str, backend: str) -> list[pytest.MarkDecorator]:
    """Return the marks of a test of a pair of workers with a pool and a backend."""
    return [] if (pool, backend) == SHORT else [pytest.mark.thorough, pytest.mark.stock]


@pytest.mark.service
@pytest.mark.timeout(900)
@pytest.mark.parametrize(("feature", "pool", "backend"), list(cases()))
def test_a_worker_does_the_same_as_with_stock_celery(
    seen_of: Callable[[str, str], Pass], feature: str, pool: str, backend: str
) -> None:
    """Results, events, log, number of runs, calls of hooks, and what is left in the broker are the same."""
    seen = seen_of(pool, backend)
    stock, ours = (observations(seen[which]).get(feature) for which in (STOCK, OURS))
    assert stock, f"{feature} left no trace with stock Celery"
    faults = listed(BEING_MENDED, feature, pool, backend)
    wrong = judge(differences(stock, ours), [*listed(DIFFERS_ON_PURPOSE, feature, pool, backend), *faults])
    assert not wrong, "\n".join(wrong)
    if faults:
        pytest.xfail("; ".join(one.reason for one in faults))


@pytest.mark.service
@pytest.mark.timeout(900)
@pytest.mark.parametrize(
    ("pool", "backend"),
    [
        pytest.param(pool, backend, marks=marks(pool, backend), id=f"{pool}-{backend}")
        for pool, backend in PAIRS
        if backend != "none"
    ],
)
def test_results_were_seen(seen_of: Callable[[str, str], Pass], pool: str, backend: str) -> None:
    """The comparison is one of results: of nearly all tasks both clients have had one."""
    for which, seen in seen_of(pool, backend).items():
        states = Counter(one.get("status", "unreadable") for one in seen.results.values())
        final = states["'SUCCESS'"] + states["'FAILURE'"]
        assert final > 0.9 * states.total(), f"{which}: {dict(states)}"


@pytest.mark.service
@pytest.mark.timeout(900)
def test_tasks_were_in_batches(seen_of: Callable[[str, str], Pass]) -> None:
    """The comparison is one of batches: more tasks are under way at the same time than there are pool processes."""
    seen = seen_of(*SHORT)
    assert most_at_once(seen[STOCK]) <= 2 < most_at_once(seen[OURS])


def test_what_threads_have_done_to_each_other_is_tried_again() -> None:
    """Until no chord has failed by it, or the last of the tries, whose difference is told."""
    disturbed = {STOCK: Seen(results={"body": {"result": f"RuntimeError('{DISTURBED}')"}}), OURS: Seen()}
    whole = {STOCK: Seen(), OURS: Seen(seconds=1.0)}
    runs = iter([disturbed, whole, disturbed, whole])
    assert undisturbed("threads", lambda: next(runs)) is whole
    assert undisturbed("threads", lambda: disturbed) is disturbed
    assert undisturbed("prefork", lambda: next(runs)) is disturbed
    assert next(runs) is whole


def test_every_listed_difference_is_about_a_feature() -> None:
    """A feature that is called otherwise now does not stay in the lists."""
    assert {one.feature for one in (*DIFFERS_ON_PURPOSE, *BEING_MENDED)} <= {*FEATURES, WORKER}


def test_a_difference_nobody_asked_for_and_one_that_is_gone_are_told() -> None:
    """The judgement can fail in both directions."""
    stock, ours = Observation(), Observation()
    stock.aspects["runs"]["a/0/"], ours.aspects["runs"]["a/0/"] = 1, 2
    stock.aspects["log"]["a/0/"] = ours.aspects["log"]["a/0/"] = ["INFO"]
    found = differences(stock, ours)
    assert judge(found, []) == ["runs differs: a/: stock 1, ours 2"]
    assert judge(found, [Difference("a", {"runs": (r"a/: stock \d, ours 2",)}, "so")]) == []
    (gone,) = judge(found, [Difference("a", {"runs": (r".*",), "log": (r".*",)}, "so")])
    assert gone.startswith("log no longer differs")


def test_a_listed_difference_covers_no_other_line_of_its_aspect() -> None:
    """What else comes into the log of a feature that differs there is told."""
    stock, ours = Observation(), Observation()
    stock.aspects["log"]["a/0/"] = ["WARNING old"]
    ours.aspects["log"]["a/0/"] = ["WARNING new", "ERROR broken"]
    found = differences(stock, ours)
    difference = Difference("a", {"log": ("a/: stock alone: WARNING old", "a/: ours alone: WARNING n.w")}, "so")
    assert judge(found, [difference]) == ["log differs: a/: ours alone: ERROR broken"]


def test_a_warning_that_each_process_gives_counts_once() -> None:
    """How many of them have run into it is no difference; that one of the workers never has is."""
    warning = FIELD.join([f"{RECORD}WARNING", "py.warnings", "odd\n"])
    once, twice, never = (observations(Seen(log=log)) for log in (warning, 2 * warning, ""))
    assert not differences(once[WORKER], twice[WORKER])
    assert "log" in differences(once[WORKER], never[WORKER])


def test_how_a_task_that_polls_has_ended_is_compared_alone() -> None:
    """How often it had to look depends on the time."""
    kinds = ["task-received", "task-started", "task-retried"]
    events = [{"uuid": "a", "type": kind, "name": POLL} for kind in kinds]
    end, failure = ({"uuid": "a", "type": kind} for kind in ("task-succeeded", "task-failed"))
    once, twice, failed = (
        observations(Seen(events=one))[WORKER] for one in ([*events, end], [*events, *events, end], [*events, failure])
    )
    assert not differences(once, twice)
    assert "events" in differences(once, failed)


def test_all_processes_of_pytest_have_one_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each pair of workers runs once, however many processes the tests are spread over."""
    monkeypatch.delenv("PYTEST_XDIST_WORKER", raising=False)
    assert shared_by_processes(tmp_path) == tmp_path
    monkeypatch.setenv("PYTEST_XDIST_WORKER", "gw0")
    places = {shared_by_processes(tmp_path / f"popen-{name}") for name in ("gw0", "gw1")}
    assert places == {tmp_path}


def test_why_workers_could_not_be_run_is_kept(tmp_path: Path) -> None:
    """Every test of a pair that failed says why, and none runs it again."""

    def fail() -> Pass:
        raise RuntimeError("stock ended with code 1: no broker")

    keep(tmp_path / "failed", fail)
    with pytest.raises(RuntimeError, match="no broker"):
        kept(tmp_path / "failed")
    keep(tmp_path / "good", lambda: {STOCK: Seen(log="a")})
    assert kept(tmp_path / "good") == {STOCK: Seen(log="a")}


def test_a_driver_that_still_runs_is_told_to_end(tmp_path: Path) -> None:
    """Where its pair has failed, or it takes too long, it gets to stop its worker and is waited for."""
    (tmp_path / "driver.log").write_text("at work")
    program = """
import signal, sys, time
signal.signal(signal.SIGINT, signal.default_int_handler)
try:
    print("on", flush=True)
    time.sleep(60)
finally:
    open(sys.argv[1], "w")
"""
    with subprocess.Popen([sys.executable, "-c", program, tmp_path / "ended"], stdout=subprocess.PIPE,
                          stderr=subprocess.DEVNULL) as process:  # fmt: skip
        assert process.stdout is not None
        assert process.stdout.readline() == b"on\n"
        with pytest.raises(RuntimeError, match="stock did not come to its end: at work"):
            outcome(STOCK, process, tmp_path, 0)
        stop([process])
        assert (tmp_path / "ended").exists()


def test_a_feature_that_leaves_no_trace_is_a_difference() -> None:
    """What only one of the two has done is put down."""
    stock = Observation()
    stock.aspects["result"]["a/0/"] = {"status": "'SUCCESS'"}
    assert differences(stock, None) == {"result": ["a/: stock {'status': \"'SUCCESS'\"}, ours None"]}
