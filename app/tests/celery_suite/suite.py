"""Run Celery's own integration tests against a worker of stock Celery, and against one that loads taskmill_worker.

They are in Celery's source distribution, and start their worker themselves, within pytest. By hand, from the
repository, with RabbitMQ, memcached and Redis installed:

    cd app/tests && python -m celery_suite.suite memcached [--source DIRECTORY] [--tests TEST...]
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
import venv
import xml.etree.ElementTree as ET
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from services import ADMIN, OTHER_VHOST, OURS, STOCK, VHOST, Memcached, RabbitMQ, Redis, channel

APP = Path(__file__).resolve().parents[2]
LOCK = APP.parent / "requirements" / "celery-suite.txt"
#: What of the suite concerns a worker; the rest starts brokers in containers, or tests the client alone. The canvas is
#: left out: with a stock worker and memcached it stopped in the middle, beyond any time that one of its tests may take.
TESTS = tuple(f"t/integration/test_{name}.py" for name in ("tasks", "group_chains", "inspect"))
#: One expects a task to expire in a broker that has not been used for ten minutes; the other gives its variable a value
#: after it has posted the task whose receipt gives it another.
LEFT_OUT = (
    "t/integration/test_tasks.py::test_tasks::test_expired",
    "t/integration/test_tasks.py::test_task_replacement::test_replaced_task_nesting_level_0",
)
#: Seconds that one test may take; what fails in stock Celery waits in vain for 300 otherwise. The longest of those that
#: pass took 18 with stock Celery and 30 with ours on a machine with a load of 20, and once more than 45.
TEST_TIMEOUT = 90
#: How often a test is run again that passed with stock Celery alone.
REPEATS = 2


@dataclass
class Environment:
    """A virtual environment with what the suite needs, and the suite."""

    python: Path
    source: Path


def prepare(folder: Path) -> Environment:
    """Make the environment and unpack the suite, as the lock file has them; what is there already is kept."""
    python, source = folder / "venv" / "bin" / "python", folder / "source"
    if not python.exists():
        venv.create(folder / "venv", with_pip=True)
        pip(python, "install", "--require-hashes", "--requirement", LOCK)
    if not source.exists():
        # The lock has the hash of the source distribution beside that of the wheel.
        (folder / "celery.txt").write_text(requirement("celery", LOCK.read_text()))
        options = ("--no-deps", "--no-binary", "celery", "--require-hashes", "--dest", folder)
        pip(python, "download", *options, "--requirement", folder / "celery.txt")
        archive = next(folder.glob("celery-*.tar.gz"))
        with tarfile.open(archive) as tar:
            tar.extractall(folder, filter="data")
        (folder / archive.name.removesuffix(".tar.gz")).rename(source)
    return Environment(python, source)


def pip(python: Path, *arguments: str | Path) -> None:
    """Run pip; raise ``CalledProcessError`` when it fails."""
    command = [python, "-m", "pip", "--quiet", "--disable-pip-version-check", *arguments]
    subprocess.run([str(word) for word in command], check=True)


def requirement(package: str, lock: str) -> str:
    """Return the lines of one package of a lock file: version and hashes."""
    found = re.search(rf"^{package}==(.*\\\n)*.*\n?", lock, re.MULTILINE)
    assert found, f"the lock file names no {package}"
    return found[0]


def run(
    environment: Environment, folder: Path, services: tuple[RabbitMQ, Redis], backend: str, which: str,
    arguments: Sequence[str] = (), modules: Path = APP / "src", seconds: float = 7200,
) -> dict[str, str]:  # fmt: skip
    """Run the suite once and return how each test ended: passed, failed or skipped. Its output is in `folder`."""
    rabbitmq, redis = services
    source = folder / f"celery-{which}"
    shutil.rmtree(source, ignore_errors=True)
    shutil.copytree(environment.source, source)
    tests = source / "t" / "integration" / "conftest.py"
    tests.write_text(impatient(tests.read_text()))
    imports = ["taskmill_worker"] if which == OURS else []
    settings = {"imports": imports, "task_acks_late": True, "task_reject_on_worker_lost": True}
    (source / "integration-tests-config.json").write_text(json.dumps(settings))
    vhost = OTHER_VHOST if which == OURS else VHOST
    broker = channel(rabbitmq, vhost=vhost)
    broker.queue_delete("celery")  # what a run before has left
    broker.connection.close()
    report = folder / f"{which}.xml"
    report.unlink(missing_ok=True)
    command = [str(environment.python), "-m", "pytest", "-p", "no:cacheprovider", "-p", "no:rerunfailures", "-rA", "-q",
               "-o", "addopts=", "--timeout", str(TEST_TIMEOUT), f"--junitxml={report}",
               *(f"--deselect={name}" for name in LEFT_OUT), *(arguments or TESTS)]  # fmt: skip
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("CELERY_", "PYTEST_"))}
    addresses = {
        "TEST_BROKER": rabbitmq.url(ADMIN, vhost),
        "TEST_BACKEND": backend,
        "REDIS_HOST": "127.0.0.1",
        "REDIS_PORT": str(redis.port),
    }
    batches = {"CELERY_WORKER_BATCH": "20", "PYTHONPATH": str(modules.resolve())} if which == OURS else {}
    with (folder / f"{which}.log").open("wb") as log:
        subprocess.run(
            command, cwd=source, env=clean | addresses | batches, stdout=log, stderr=log, check=False, timeout=seconds
        )
    assert report.exists(), (folder / f"{which}.log").read_text()[-3000:]
    return outcomes(report)


def outcomes(report: Path) -> dict[str, str]:
    """Return how each test of a JUnit report ended."""
    found: dict[str, str] = {}
    for case in ET.parse(report).getroot().iter("testcase"):
        kinds = {child.tag for child in case}
        ended = "failed" if kinds & {"failure", "error"} else "skipped" if "skipped" in kinds else "passed"
        name = f"{case.get('classname')}::{case.get('name')}"
        # A test has two entries where what ends it fails too.
        if found.get(name) != "failed":
            found[name] = ended
    return found


def impatient(conftest: str) -> str:
    """Return the suite's settings with a shorter time for each test."""
    assert "timeout=300" in conftest, "the suite says otherwise now how long a test may take"
    return conftest.replace("timeout=300", f"timeout={TEST_TIMEOUT}")


def passed(ended: dict[str, str]) -> int:
    """Return how many tests passed."""
    return sum(how == "passed" for how in ended.values())


def regressions(stock: dict[str, str], ours: dict[str, str]) -> list[str]:
    """Return the tests that pass with stock Celery and not with ours."""
    return sorted(name for name, ended in stock.items() if ended == "passed" and ours.get(name) != "passed")


def confirmed(
    stock: dict[str, str], ours: dict[str, str], run_ours: Callable[[Sequence[str]], dict[str, str]]
) -> dict[str, str]:
    """Return how the tests ended with ours, where those that passed with stock Celery alone were run again.

    Many look at once at what a worker has just been sent, and the suite itself repeats them up to five times.
    """
    for _ in range(REPEATS):
        wrong = regressions(stock, ours)
        if not wrong:
            break
        names = {name.partition("::")[2].partition("[")[0] for name in wrong}
        found = run_ours([*TESTS, "-k", " or ".join(sorted(names))])
        ours = ours | {name: found[name] for name in wrong if name in found}
    return ours


def summary(stock: dict[str, str], ours: dict[str, str]) -> str:
    """Return the numbers, and every test that ended otherwise."""
    lines = [
        f"{which}: {dict(sorted(Counter(all_.values()).items()))}" for which, all_ in ((STOCK, stock), (OURS, ours))
    ]
    lines += [f"{name}: {ended} with stock Celery, {ours.get(name)} with ours"
              for name, ended in sorted(stock.items()) if ours.get(name) != ended]  # fmt: skip
    return "\n".join(lines)


def main() -> None:
    """Run both and print what differs; exit with 1 where something passes with stock Celery alone."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("backend", choices=("memcached", "redis"))
    parser.add_argument("--source", type=Path, default=APP / "src", help="where taskmill_worker is")
    parser.add_argument("--folder", type=Path, help="where the environment is kept; default: a temporary directory")
    parser.add_argument("--only", choices=(STOCK, OURS), help="run one side alone")
    parser.add_argument(
        "--tests", nargs="+", default=[], help="files of the suite, or tests of them; default: what concerns a worker"
    )
    given = parser.parse_args()
    folder = given.folder or Path(tempfile.mkdtemp(prefix="celery-suite-"))
    folder.mkdir(parents=True, exist_ok=True)
    environment = prepare(folder)
    rabbitmq, memcached, redis = RabbitMQ(folder / "rabbitmq"), Memcached(), Redis(folder, password=None)
    try:
        for service in (rabbitmq, memcached, redis):
            service.start()
        backend = memcached.url if given.backend == "memcached" else redis.url()
        ended = {
            which: run(environment, folder, (rabbitmq, redis), backend, which, given.tests, given.source)
            for which in (STOCK, OURS)
            if given.only in {None, which}
        }
        if len(ended) == 2 and not given.tests:
            ended[OURS] = confirmed(
                ended[STOCK],
                ended[OURS],
                lambda tests: run(environment, folder, (rabbitmq, redis), backend, OURS, tests, given.source),
            )
    finally:
        for service in (redis, memcached, rabbitmq):
            service.stop()
    print(summary(ended.get(STOCK, {}), ended.get(OURS, {})))
    sys.exit(bool(regressions(ended.get(STOCK, {}), ended.get(OURS, {}))))


if __name__ == "__main__":
    main()
