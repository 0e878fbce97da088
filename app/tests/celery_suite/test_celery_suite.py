"""What passes of Celery's own integration tests with stock Celery passes with a worker that loads taskmill_worker."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from celery_suite.suite import (
    REPEATS,
    TEST_TIMEOUT,
    Environment,
    confirmed,
    impatient,
    outcomes,
    passed,
    prepare,
    regressions,
    requirement,
    run,
    summary,
)
from services import OURS, STOCK, Memcached, RabbitMQ, Redis

#: So many tests pass with stock Celery, or the suite did not do its work. With memcached it was 60.
FEWEST = 50


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> Environment:
    """Return the suite, with what it needs."""
    return prepare(tmp_path_factory.mktemp("celery-suite"))


@pytest.mark.stock
@pytest.mark.thorough
@pytest.mark.timeout(4 * 3600)
# With Redis it has not been green as a whole yet; by hand it is `python -m celery_suite.suite redis`.
@pytest.mark.parametrize("backend", ["memcached"])
def test_what_passes_with_stock_celery_passes_with_ours(
    environment: Environment, rabbitmq: RabbitMQ, memcached: Memcached, start_redis: Callable[..., Redis],
    tmp_path: Path, backend: str, capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    """Late acknowledgement is on, and both are run one after the other."""
    # Some tests of the suite keep counts there, whatever the result backend is.
    redis = start_redis(password=None)
    url = memcached.url if backend == "memcached" else redis.url()
    stock, ours = (run(environment, tmp_path, (rabbitmq, redis), url, which) for which in (STOCK, OURS))
    ours = confirmed(stock, ours, lambda tests: run(environment, tmp_path, (rabbitmq, redis), url, OURS, tests))
    with capsys.disabled():
        print(f"\n{backend}\n{summary(stock, ours)}")
    assert passed(stock) >= FEWEST
    assert not regressions(stock, ours)


def test_a_test_that_passes_with_stock_celery_alone_is_told() -> None:
    """One that did not run with ours counts as well; one that fails with both does not."""
    stock = {"one": "passed", "two": "passed", "three": "failed", "four": "passed"}
    ours = {"one": "passed", "two": "failed", "three": "failed"}
    assert regressions(stock, ours) == ["four", "two"]
    assert "two: passed with stock Celery, failed with ours" in summary(stock, ours)


def test_what_fails_with_ours_alone_is_run_again_and_counts_when_it_fails_each_time() -> None:
    """Those tests and no others; what fails with stock Celery too is not."""
    stock = {"a.b::good": "passed", "a.b::shaky[1]": "passed", "a.b::bad": "passed", "a.b::both": "failed"}
    ours = {"a.b::good": "passed", "a.b::shaky[1]": "failed", "a.b::bad": "failed", "a.b::both": "failed"}
    asked = []

    def run_ours(tests: Sequence[str]) -> dict[str, str]:
        asked.append(tests[-1])
        return {"a.b::shaky[1]": "passed", "a.b::bad": "failed", "a.b::good": "failed"}

    assert confirmed(stock, ours, run_ours) == ours | {"a.b::shaky[1]": "passed"}
    assert asked == ["bad or shaky", *["bad"] * (REPEATS - 1)]


def test_how_long_a_test_may_take_is_set_or_told() -> None:
    """Where the suite has another time than the one that is replaced, nobody waits for it in silence."""
    assert impatient("pytest.mark.timeout(timeout=300)") == f"pytest.mark.timeout(timeout={TEST_TIMEOUT})"
    with pytest.raises(AssertionError, match="says otherwise"):
        impatient("pytest.mark.timeout(timeout=200)")


def test_only_what_passes_counts_as_passed() -> None:
    """A suite whose tests are all skipped or fail has shown nothing."""
    assert passed({"one": "passed", "two": "failed", "three": "skipped", "four": "passed"}) == 2


def test_a_report_is_read(tmp_path: Path) -> None:
    """An error of a fixture is a failure; of two entries of one test the worse counts."""
    cases = {"good": "", "bad": "<failure/>", "broken": "<error/>", "left": "<skipped/>"}
    text = "".join(f'<testcase classname="a" name="{name}">{inner}</testcase>' for name, inner in cases.items())
    again = '<testcase classname="a" name="bad"/>'
    (tmp_path / "report.xml").write_text(f"<testsuites><testsuite>{text}{again}</testsuite></testsuites>")
    assert outcomes(tmp_path / "report.xml") == {
        "a::good": "passed", "a::bad": "failed", "a::broken": "failed", "a::left": "skipped",
    }  # fmt: skip


def test_one_package_is_taken_from_a_lock_file() -> None:
    """Its version and all of its hashes, and nothing of the next package."""
    lock = "billiard==1 \\\n    --hash=sha256:0\ncelery==5 \\\n    --hash=sha256:1 \\\n    --hash=sha256:2\nclick==8\n"
    assert requirement("celery", lock) == "celery==5 \\\n    --hash=sha256:1 \\\n    --hash=sha256:2\n"
