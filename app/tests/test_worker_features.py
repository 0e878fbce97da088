"""What ``--include=taskmill_worker`` loads, and where: workers as Celery builds them, which connect to nothing."""

from __future__ import annotations

import ast
import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest

from services import SOURCE
from taskmill_worker import features

ALWAYS = ["memcached_backend", "task_times", "dead_lettering", "jit", "written_jobs", "green_loop"]
#: Builds a worker of an app, as `celery worker` does, and prints what it has.
WORKER = """
import sys
from celery import Celery, signals
{before}
app = Celery("alone", broker="memory://", backend="{backend}")
app.set_current()
{after}
worker = app.Worker(pool="prefork", include={include!r}, hostname="w1@here")
signals.celeryd_after_setup.send(sender=worker.hostname, instance=worker, conf=app.conf)
from celery.worker.consumer import Consumer
from celery.worker.control import Panel
from kombu.transport.pyamqp import Transport
reader = Transport._make_reader.__module__
print(Consumer.on_unknown_task.__module__, "taskmill_clock" in Panel.data, app.Task.Strategy, reader)
print(type(app.backend).__module__)
"""
ALL = "taskmill_worker.dead_lettering True"
NONE = "celery.worker.consumer.consumer False"
CELERYS = "celery.worker.strategy:default kombu.transport.base"
BATCHES = "taskmill_worker.batching.strategy:strategy taskmill_worker.read_ahead"
MEMCACHED = "cache+memcached://127.0.0.1:1/"
SEVERAL = "cache+memcached://127.0.0.1:1;127.0.0.1:2/"
NAMED = "app.loader.override_backends = {'cache': 'celery.backends.rpc:RPCBackend'}"
OURS = "taskmill_worker.memcached_backend"


def built(
    include: list[str],
    backend: str = "cache+memory://",
    before: str = "",
    after: str = "",
    path: Path = SOURCE,
    **environment: str,
) -> subprocess.CompletedProcess[str]:
    """Build a worker in a process of its own, and return what that printed."""
    code = WORKER.format(include=include, backend=backend, before=before, after=after)
    return subprocess.run(
        [sys.executable, "-c", code],
        env={"PATH": os.environ["PATH"], "PYTHONPATH": str(path), "PYTHONDONTWRITEBYTECODE": "1"} | environment,
        cwd=path,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )


def test_what_is_about_batches_is_loaded_where_a_worker_asks_for_them() -> None:
    """By the variable that the role sets, and what is left out by name is not loaded."""
    assert features({}) == features({"CELERY_WORKER_BATCH": "1"}) == ALWAYS
    assert features({"CELERY_WORKER_BATCH": "100"}) == [*ALWAYS, "batching", "read_ahead"]
    without = {"CELERY_WORKER_BATCH": "100", "TASKMILL_WORKER_WITHOUT": "dead_lettering,batching"}
    assert features(without) == ["memcached_backend", "task_times", "jit", "written_jobs", "green_loop", "read_ahead"]


def test_leaving_out_what_there_is_not_is_an_error() -> None:
    """A mistyped name would leave nothing out; what is not loaded here anyway may be named."""
    with pytest.raises(ValueError, match="TASKMILL_WORKER_WITHOUT names batches"):
        features({"TASKMILL_WORKER_WITHOUT": "batches"})
    assert features({"TASKMILL_WORKER_WITHOUT": "batching"}) == ALWAYS


@pytest.mark.parametrize(("version", "starts"), [("5, 2, 7", False), ("5, 3, 6", True)])
def test_a_worker_of_an_old_celery_ends_at_once(version: str, *, starts: bool) -> None:
    """Instead of leaving its messages unacknowledged."""
    done = built(
        ["taskmill_worker"], before=f"import celery; celery.VERSION = ({version}); celery.__version__ = '5.2.7'"
    )
    assert (done.returncode == 0) == starts, done.stderr
    said = "taskmill_worker needs Celery 5.3 or later, and the app has 5.2.7: have its requirements bring a later one"
    assert (said in done.stderr) != starts


def test_every_feature_is_a_module_that_installs_nothing_when_it_is_imported() -> None:
    """They are found by their names alone."""
    names = features({"CELERY_WORKER_BATCH": "2"})
    assert all(importlib.util.find_spec(f"taskmill_worker.{name}") for name in names)
    imports = "\n".join(f"import taskmill_worker.{name}" for name in names)
    done = built([], before=imports, CELERY_WORKER_BATCH="2")
    assert done.stdout.startswith(f"{NONE} {CELERYS}\n"), done.stderr


@pytest.mark.parametrize(("batch", "way"), [("1", CELERYS), ("2", BATCHES)])
def test_one_include_loads_all(batch: str, way: str) -> None:
    """Of a worker with batches and of one without."""
    done = built(["taskmill_worker"], CELERY_WORKER_BATCH=batch)
    assert done.stdout == f"{ALL} {way}\ncelery.backends.cache\n", done.stderr


def test_one_include_loads_all_where_the_app_has_imported_some_of_it() -> None:
    """The package's own import, by the worker, has no effect then."""
    done = built(["taskmill_worker"], before="import taskmill_worker.memcached_backend")
    assert done.stdout.startswith(f"{ALL} {CELERYS}\n"), done.stderr


def test_a_worker_does_not_start_with_a_setting_that_is_wrong() -> None:
    """It says which; also where the app has imported some of the package before."""
    for before in ("", "import taskmill_worker.memcached_backend"):
        done = built(["taskmill_worker"], before=before, TASKMILL_WORKER_WITHOUT="everything")
        assert done.returncode != 0, before
        assert "TASKMILL_WORKER_WITHOUT names everything" in done.stderr


@pytest.mark.parametrize(
    ("backend", "after", "module"),
    [
        (MEMCACHED, "", OURS),
        ("cache+memory://", "", "celery.backends.cache"),
        (MEMCACHED, NAMED, "celery.backends.rpc"),
    ],
    ids=["memcached", "another store", "one that the app names"],
)
def test_any_app_with_results_in_memcached_gets_the_backend_that_loses_none(
    backend: str, after: str, module: str
) -> None:
    """Without a word in the app; another store, and what the app names itself, are left alone."""
    done = built(["taskmill_worker"], backend=backend, after=after)
    assert done.stdout.splitlines()[1:] == [module], done.stderr


@pytest.mark.parametrize(
    ("backend", "after", "reason"),
    [
        (
            "cache+memcached://127.0.0.1:1;127.0.0.1:2/",
            "",
            "results are on several servers; name the backend in the app",
        ),
        (
            MEMCACHED,
            "app.conf.cache_backend_options = {'connect_timeout': 1}",
            "does not have the options connect_timeout",
        ),
    ],
    ids=["several servers", "options of another library"],
)
def test_an_app_that_the_backend_does_not_fit_keeps_celerys(backend: str, after: str, reason: str) -> None:
    """Its log says why."""
    done = built(["taskmill_worker"], backend=backend, after=after + "\nimport logging; logging.basicConfig()")
    assert OURS not in done.stdout.splitlines()[1:]
    assert reason in done.stderr


def test_the_backend_tries_again_whatever_the_app_says_of_it() -> None:
    """Celery's default is to try once; an app may say how often."""
    code = (
        "from celery import Celery\n"
        "from taskmill_worker.memcached_backend import MemcachedBackend as Backend\n"
        "for tries in ({}, {'result_backend_max_retries': 7}):\n"
        "    app = Celery('alone', set_as_current=False, changes=tries)\n"
        "    backend = Backend(app, 'memcached://127.0.0.1:1/')\n"
        "    print(backend.always_retry, backend.max_retries)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={"PATH": os.environ["PATH"], "PYTHONPATH": str(SOURCE)},
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert done.stdout == "True 30\nTrue 7\n", done.stderr


def imported(path: Path) -> set[str]:
    """Return the packages that a file imports."""
    nodes = list(ast.walk(ast.parse(path.read_text())))
    names = [alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names]
    names += [node.module or "" for node in nodes if isinstance(node, ast.ImportFrom)]
    return {name.split(".")[0] for name in names}


def test_it_needs_celery_alone() -> None:
    """With what Celery brings along; python-memcached is needed by who has results in memcached."""
    packages = set().union(*map(imported, (SOURCE / "taskmill_worker").rglob("*.py"))) - sys.stdlib_module_names
    assert packages == {"amqp", "billiard", "celery", "kombu", "memcache", "taskmill_worker"}
