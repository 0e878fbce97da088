"""A worker with taskmill_worker does with every task, as far as one can see from outside, what stock Celery does."""

from __future__ import annotations

import dataclasses
import fcntl
import json
from collections.abc import Callable, Iterator

import pytest

from conformance.differences import BEING_MENDED, Difference, judge, purposes
from conformance.drive import OURS, STOCK, Seen
from conformance.every import FEATURES
from conformance.observe import WORKER, Observation, differences, most_at_once, observations
from conformance.run import BACKENDS, POOLS, Services, both

#: What everyone runs. The rest is for a night.
SHORT = ("prefork", "memcached")
Pass = dict[str, Seen]


@pytest.fixture(scope="session")
def seen_of(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, worker_id: str = "master"
) -> Callable[[str, str], Pass]:
    """Return what runs both workers with a pool and a backend, once for all tests, in whichever process they are."""
    base = tmp_path_factory.getbasetemp()
    shared = base if worker_id == "master" else base.parent
    known: dict[tuple[str, str], Pass] = {}

    def run(pool: str, backend: str) -> Pass:
        if (pool, backend) in known:
            return known[pool, backend]
        result = shared / f"conformance-{pool}-{backend}.json"
        with (shared / f"{result.name}.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not result.exists():
                services = Services(
                    request.getfixturevalue("rabbitmq"), request.getfixturevalue("memcached"),
                    request.getfixturevalue("redis") if backend == "redis" else None, tmp_path_factory.mktemp("both"),
                )  # fmt: skip
                seen = both(
                    services, pool, backend, [name for name, one in FEATURES.items() if one.runs(pool, backend)]
                )
                result.write_text(json.dumps({which: dataclasses.asdict(one) for which, one in seen.items()}))
        known[pool, backend] = {which: Seen(**one) for which, one in json.loads(result.read_text()).items()}
        return known[pool, backend]

    return run


def cases() -> Iterator[object]:
    """Yield feature, pool and backend of every case, with its marks."""
    for pool in POOLS:
        for backend in BACKENDS:
            for feature in [*(name for name, one in FEATURES.items() if one.runs(pool, backend)), WORKER]:
                known = [one for one in BEING_MENDED if one.applies(feature, pool, backend)]
                marks = [pytest.mark.xfail(strict=True, reason=one.reason) for one in known]
                if (pool, backend) != SHORT:
                    marks += [pytest.mark.thorough, pytest.mark.stock]
                yield pytest.param(feature, pool, backend, marks=marks, id=f"{feature}-{pool}-{backend}")


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
    wrong = judge(differences(stock, ours), purposes(feature, pool, backend))
    assert not wrong, "\n".join(wrong)


@pytest.mark.service
@pytest.mark.timeout(900)
def test_tasks_were_in_batches(seen_of: Callable[[str, str], Pass]) -> None:
    """The comparison is one of batches: more tasks are under way at the same time than there are pool processes."""
    seen = seen_of(*SHORT)
    assert most_at_once(seen[STOCK]) <= 2 < most_at_once(seen[OURS])


def test_every_listed_difference_is_about_a_feature() -> None:
    """A feature that is called otherwise now does not stay in the lists."""
    from conformance.differences import DIFFERS_ON_PURPOSE  # noqa: PLC0415  # beside what else is listed

    listed = {one.feature for one in (*DIFFERS_ON_PURPOSE, *BEING_MENDED)}
    assert listed <= {*FEATURES, WORKER}


def test_a_difference_nobody_asked_for_and_one_that_is_gone_are_told() -> None:
    """The judgement can fail in both directions."""
    stock, ours = Observation(), Observation()
    stock.aspects["runs"]["a/0/"], ours.aspects["runs"]["a/0/"] = 1, 2
    stock.aspects["log"]["a/0/"] = ours.aspects["log"]["a/0/"] = ["INFO"]
    found = differences(stock, ours)
    assert judge(found, []) == ["runs differs: a/: stock 1, ours 2"]
    assert judge(found, [Difference("a", ("runs",), "so")]) == []
    (gone,) = judge(found, [Difference("a", ("runs", "log"), "so")])
    assert gone.startswith("log no longer differs")


def test_a_feature_that_leaves_no_trace_is_a_difference() -> None:
    """What only one of the two has done is put down."""
    stock = Observation()
    stock.aspects["result"]["a/0/"] = {"status": "'SUCCESS'"}
    assert differences(stock, None) == {"result": ["a/: stock {'status': \"'SUCCESS'\"}, ours None"]}
