"""What passes of Celery's own integration tests with stock Celery passes with a worker that loads taskmill_worker."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from celery_suite.suite import OURS, STOCK, Environment, outcomes, prepare, regressions, requirement, run, summary
from services import Memcached, RabbitMQ, Redis


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> Environment:
    """Return the suite, with what it needs."""
    return prepare(tmp_path_factory.mktemp("celery-suite"))


@pytest.fixture
def redis(tmp_path: Path) -> Iterator[Redis]:
    """Yield a private Redis; some tests of the suite keep counts there, whatever the result backend is."""
    server = Redis(tmp_path, password=None)
    server.start()
    yield server
    server.stop()


@pytest.mark.stock
@pytest.mark.thorough
@pytest.mark.timeout(4 * 3600)
@pytest.mark.parametrize("backend", ["memcached", "redis"])
def test_what_passes_with_stock_celery_passes_with_ours(
    environment: Environment, rabbitmq: RabbitMQ, memcached: Memcached, redis: Redis, tmp_path: Path, backend: str,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    """Late acknowledgement is on, and both are run one after the other."""
    url = memcached.url if backend == "memcached" else redis.url()
    stock, ours = (run(environment, tmp_path, (rabbitmq, redis), url, which) for which in (STOCK, OURS))
    with capsys.disabled():
        print(f"\n{backend}\n{summary(stock, ours)}")
    assert stock
    assert not regressions(stock, ours)


def test_a_test_that_passes_with_stock_celery_alone_is_told() -> None:
    """One that did not run with ours counts as well; one that fails with both does not."""
    stock = {"one": "passed", "two": "passed", "three": "failed", "four": "passed"}
    ours = {"one": "passed", "two": "failed", "three": "failed"}
    assert regressions(stock, ours) == ["four", "two"]
    assert "two: passed with stock Celery, failed with ours" in summary(stock, ours)


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
