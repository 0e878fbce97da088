"""What ``taskmill inspect`` finds in an app's files, and the hosts that it writes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from inspected_apps import write
from taskmill.inspection import environment, inventory, locks, requirements, tables
from taskmill.inspection.causes import last_lines, not_installed
from taskmill.inspection.environment import elsewhere, fitting
from taskmill.inspection.importers import importers
from taskmill.inspection.look import found, root_of
from taskmill.inspection.origin import Origin
from taskmill.inspection.probed import App, Distribution, Setting, Task
from taskmill.inspection.problems import problems
from taskmill.inspection.requirements import PythonVersion
from taskmill.inspection.source_code import SourceCode
from taskmill.inspection.subject import Subject
from taskmill.inspection.system_packages import needed, packages
from taskmill.model.errors import TaskmillError

CELERY = "from celery import Celery\n"
OF_POETRY = '[tool.poetry.dependencies]\npython = "{}"\n'


@pytest.mark.parametrize(
    ("files", "root", "name"),
    [
        (
            {
                "proj/__init__.py": "",
                "proj/celery.py": CELERY + "app = Celery()\n",
                "tasks.py": CELERY + "app = Celery()\n",
            },
            "",
            "proj",
        ),
        ({"src/shop/__init__.py": CELERY + "worker = Celery()\n"}, "src", "shop"),
        # A package without __init__.py.
        ({"proj/celery.py": CELERY + "app = Celery()\n"}, "", "proj"),
        # Packages without __init__.py that the app's own code imports from.
        (
            {
                "app/worker.py": CELERY + "celery = Celery(include=['app.tasks'])\n",
                "app/tasks.py": "from app.worker import celery\n",
            },
            "",
            "app.worker",
        ),
        (
            {
                "src/acme/billing/__init__.py": "",
                "src/acme/billing/celery.py": CELERY + "app = Celery()\n",
                "src/acme/billing/tasks.py": "from acme.billing.celery import app\n",
            },
            "src",
            "acme.billing",
        ),
        # A directory that is called as a package of others is none.
        ({"django/tasks.py": CELERY + "from django.conf import settings\napp = Celery()\n"}, "django", "tasks"),
        # Flask's way: a function makes it, and a module of its own calls that.
        (
            {
                "web/__init__.py": CELERY + "def make_celery():\n    return Celery()\n",
                "worker.py": "from web import make_celery\ncelery = make_celery()\n",
            },
            "",
            "worker",
        ),
        (
            {
                "web/__init__.py": CELERY + "def celery_init(app):\n    app.extensions['celery'] = Celery()\n",
                "make_celery.py": "from web import create\nflask = create()\ncelery_app = flask.extensions['celery']\n",
            },
            "",
            "make_celery",
        ),
        # Neither tests nor an environment within.
        (
            {
                "tests/tasks.py": CELERY + "app = Celery()\n",
                "env/pyvenv.cfg": "",
                "env/tasks.py": CELERY + "app = Celery()\n",
                "jobs.py": "import celery\nif True:\n    queue = celery.Celery()\n",
            },
            "",
            "jobs",
        ),
        # Beside the packages, an __init__.py that nobody needs.
        (
            {
                "__init__.py": "",
                "proj/__init__.py": "",
                "proj/celery.py": CELERY + "app = Celery()\n",
                "proj/tasks.py": "from proj.celery import app\n",
            },
            "",
            "proj",
        ),
        (
            {
                "__init__.py": "",
                "proj/celery.py": CELERY + "app = Celery(include=['proj.tasks'])\n",
                "proj/tasks.py": "from .celery import app\n",
            },
            "",
            "proj",
        ),
        ({"__init__.py": "", "worker.py": CELERY + "import jobs\napp = Celery()\n", "jobs.py": ""}, "", "worker"),
        # A package, and no stray file: its module is called as Celery's own.
        ({"__init__.py": "", "celery.py": CELERY + "import redis\napp = Celery()\n", "logging.py": ""}, "..", "NAME"),
    ],
    ids=[
        *("package", "src", "no-init", "imported", "namespace", "foreign", "factory", "flask", "aside"),
        *("stray", "stray-by-setting", "stray-module", "celery-within"),
    ],
)
def test_the_celery_object_is_found(tmp_path: Path, files: dict[str, str], root: str, name: str) -> None:
    """The likeliest one of an app, with the directory that it is imported from."""
    one = found(SourceCode(write(tmp_path, files)))
    wanted = tmp_path.parent if root == ".." else tmp_path / root
    assert (one.root, one.names[0]) == (wanted, name.replace("NAME", tmp_path.name))


@pytest.mark.parametrize(
    ("init", "root"),
    [("", "pydantic"), ("class BaseModel:\n    pass\n", "."), ("from .models import *\n", ".")],
    ids=["empty", "defines", "star"],
)
def test_a_directory_that_is_called_as_a_library_does_not_hide_it(tmp_path: Path, init: str, root: str) -> None:
    """What is imported of it tells whether it is the directory's own."""
    text = "from celery import Celery\nfrom pydantic import BaseModel\napp = Celery()\n"
    app = write(tmp_path / "pydantic", {"__init__.py": init, "tasks.py": text})
    assert found(SourceCode(app)).root == tmp_path / root


def test_who_imports_a_celery_object_and_tasks(tmp_path: Path) -> None:
    """In a package by relative imports; those that bring the same tasks, by how much else they bring."""
    files = {
        "shop/__init__.py": "",
        "shop/app.py": CELERY + "capp = Celery()\n",
        "shop/jobs/__init__.py": "from ..app import capp\n\n@capp.task(bind=True)\ndef one(self):\n    pass\n",
        "shop/more.py": "import shop.jobs\nfrom . import app\n\n@app.capp.task\ndef two():\n    pass\n",
        "shop/worker.py": "try:\n    from shop.app import capp as queue\nfinally:\n    from .more import two\n",
        "shop/other.py": "from other.app import capp\nfrom shop.jobs import one\n",
        "shop/none.py": "from shop.app import capp\n",
    }
    code = SourceCode(write(tmp_path, files))
    (one,) = code.candidates
    assert [(it.names[-1], it.line, it.imports) for it in importers(code, one)] == [
        ("shop.worker:queue", 2, one),
        ("shop.jobs:capp", 1, one),
    ]


@pytest.mark.parametrize(
    ("files", "text"),
    [
        (
            {"a.py": ""},
            "no module in {0} has a Celery object at its top: give what celery --app takes, by --app MODULE:NAME",
        ),
        (
            {"a.py": CELERY + "def create():\n    return Celery()\n"},
            "the app is made by create() (a.py:2), which celery --app does not take: {call}",
        ),
        (
            {"shop/tasks.py": "from celery import shared_task\n\n@shared_task(bind=True)\ndef add(self):\n    pass\n"},
            (
                "shop/tasks.py:4 has a shared_task, and no module in {0} the Celery object that it is for: give the "
                "directory of the project that has both, such as that of Django's manage.py"
            ),
        ),
    ],
    ids=["none", "factory", "shared"],
)
def test_no_celery_object(tmp_path: Path, files: dict[str, str], text: str) -> None:
    """What there is in its place, and what to give."""
    with pytest.raises(TaskmillError) as raised:
        found(SourceCode(write(tmp_path, files)))
    call = "make a module that calls it, such as worker.py with `app = create()`, and give --app worker:app"
    assert str(raised.value) == text.format(tmp_path, call=call)


def test_what_is_no_app(tmp_path: Path) -> None:
    """A path that is not there, and one that is no Python."""
    with pytest.raises(
        TaskmillError, match="shop is not there: give the directory that holds your app, or its one file"
    ):
        SourceCode(tmp_path / "shop")
    (tmp_path / "shop.zip").touch()
    with pytest.raises(TaskmillError, match=r"shop\.zip is neither a directory nor a \.py file nor a wheel"):
        SourceCode(tmp_path / "shop.zip")


def test_a_named_app_is_imported_from_where_its_module_is(tmp_path: Path) -> None:
    """A layout with src is known."""
    code = SourceCode(write(tmp_path, {"src/shop/__init__.py": ""}))
    assert (root_of(code, "shop.worker:app"), root_of(code, "other")) == (tmp_path / "src", tmp_path)


def test_a_named_app_is_imported_from_beside_a_stray_init(tmp_path: Path) -> None:
    """The first word is of what is in the directory, or of the directory itself."""
    code = SourceCode(write(tmp_path, {"__init__.py": "", "shop/worker.py": ""}))
    assert root_of(code, "shop.worker:app") == tmp_path
    assert root_of(code, f"{tmp_path.name}.shop.worker") == tmp_path.parent


UV = """
version = 1
requires-python = ">=3.11"

[[package]]
name = "shop"
version = "0.1.0"
source = { virtual = "." }
dependencies = [
    { name = "celery", extra = ["redis"] },
    { name = "colorama", marker = "sys_platform == 'win32'" },
    { name = "tool" },
]

[package.dev-dependencies]
dev = [{ name = "pytest" }]

[[package]]
name = "celery"
version = "5.5.3"
source = { registry = "https://pypi.org/simple" }
dependencies = [{ name = "backport", marker = "python_full_version < '3.13'" }]
sdist = { url = "https://example.com/celery.tar.gz", hash = "sha256:aa", size = 1 }
wheels = [{ url = "https://example.com/celery.whl", hash = "sha256:bb", size = 1 }]

[package.optional-dependencies]
redis = [{ name = "redis" }]

[[package]]
name = "backport"
version = "1.0"
source = { registry = "https://pypi.org/simple" }
sdist = { url = "https://example.com/b.tar.gz", hash = "sha256:cc" }

[[package]]
name = "redis"
version = "6.0"
source = { registry = "https://pypi.org/simple" }
sdist = { url = "https://example.com/r.tar.gz", hash = "sha256:dd" }

[[package]]
name = "colorama"
version = "0.4"
source = { registry = "https://pypi.org/simple" }

[[package]]
name = "pytest"
version = "8.0"
source = { registry = "https://pypi.org/simple" }

[[package]]
name = "tool"
version = "2.0"
source = { git = "https://example.com/tool.git?rev=main#0123456" }
"""
POETRY = """
[[package]]
name = "celery"
version = "5.5.3"
optional = false
python-versions = ">=3.8"
files = [
    {file = "celery.whl", hash = "sha256:bb"},
    {file = "celery.tar.gz", hash = "sha256:aa"},
]

[package.dependencies]
backport = {version = ">=1", markers = "python_version < \\"3.13\\""}
redis = {version = ">=4", optional = true, markers = "extra == \\"redis\\""}

[package.extras]
redis = ["redis (>=4)"]

[[package]]
name = "backport"
version = "1.0"
files = [{file = "b", hash = "sha256:cc"}]

[[package]]
name = "redis"
version = "6.0"
files = [{file = "r", hash = "sha256:dd"}]

[[package]]
name = "pytest"
version = "8.0"
files = [{file = "p", hash = "sha256:ee"}]

[[package]]
name = "tool"
version = "2.0"
files = []

[package.source]
type = "git"
url = "https://example.com/tool.git"
reference = "main"
resolved_reference = "0123456"

[metadata]
lock-version = "2.1"
python-versions = ">=3.11,<4.0"
"""
POETRY_PROJECT = """
[tool.poetry.dependencies]
python = "^3.11"
celery = {version = "^5.5", extras = ["redis"]}
tool = {git = "https://example.com/tool.git"}

[tool.poetry.group.dev.dependencies]
pytest = "^8"
"""
PDM = """
[[package]]
name = "celery"
version = "5.5.3"
groups = ["default"]
dependencies = ["backport>=1; python_version < \\"3.13\\""]
files = [{file = "celery.whl", hash = "sha256:bb"}, {file = "celery.tar.gz", hash = "sha256:aa"}]

[[package]]
name = "celery"
version = "5.5.3"
extras = ["redis"]
dependencies = ["celery==5.5.3", "redis>=4"]
files = [{file = "celery.whl", hash = "sha256:bb"}, {file = "celery.tar.gz", hash = "sha256:aa"}]

[[package]]
name = "backport"
version = "1.0"
files = [{file = "b", hash = "sha256:cc"}]

[[package]]
name = "redis"
version = "6.0"
files = [{file = "r", hash = "sha256:dd"}]

[[package]]
name = "tool"
version = "2.0"
git = "https://example.com/tool.git"
revision = "0123456"

[[package]]
name = "pytest"
version = "8.0"
files = [{file = "p", hash = "sha256:ee"}]
"""
PDM_PROJECT = """
[project]
requires-python = ">=3.11"
dependencies = ["celery[redis]", "tool @ git+https://example.com/tool.git"]
"""
EXPORTED = """\
backport==1.0 ; python_version == "3.11" or python_version == "3.12" \\
    --hash=sha256:cc
celery==5.5.3 \\
    --hash=sha256:aa \\
    --hash=sha256:bb
redis==6.0 \\
    --hash=sha256:dd
tool @ git+https://example.com/tool.git@0123456
"""


@pytest.mark.parametrize(
    "files",
    [
        {"uv.lock": UV, "pyproject.toml": PDM_PROJECT},
        {"poetry.lock": POETRY, "pyproject.toml": POETRY_PROJECT},
        {"pdm.lock": PDM, "pyproject.toml": PDM_PROJECT},
    ],
    ids=["uv", "poetry", "pdm"],
)
def test_a_lock_is_exported(tmp_path: Path, files: dict[str, str]) -> None:
    """What the app needs on Linux, with hashes, without what develops it; a marker where only some Pythons need it."""
    needs = requirements.find([write(tmp_path, files)])
    assert needs is not None
    assert needs.text == EXPORTED
    assert (needs.source, needs.as_it_is) == (tmp_path / next(iter(files)), False)
    assert needs.names == {"backport", "celery", "redis", "tool"}


def test_pipenvs_lock_is_exported(tmp_path: Path) -> None:
    """Its packages have their markers; the develop section is left out."""
    one = {"hashes": ["sha256:aa"], "version": "==5.5.3", "markers": "python_version >= '3.8'"}
    windows = {"hashes": ["sha256:bb"], "version": "==0.4", "markers": "sys_platform == 'win32'"}
    lock = {"default": {"celery": one, "colorama": windows}, "develop": {"pytest": one}}
    needs = requirements.find([write(tmp_path, {"Pipfile.lock": json.dumps(lock)})])
    assert needs is not None
    assert needs.text == "celery==5.5.3 \\\n    --hash=sha256:aa\n"
    assert needs.hashed


def test_two_versions_of_a_package_in_one_lock(tmp_path: Path) -> None:
    """Each is for the Pythons that need it."""
    edges = [
        locks.Edge("b", "python_version < '3.12'", specifier="==1"),
        locks.Edge("b", "python_version >= '3.12'", specifier="==2"),
    ]
    lines = locks.exported(edges, [locks.Package("b", "1", []), locks.Package("b", "2", [])], ">=3.11,<3.13")
    assert lines == ['b==1 ; python_version == "3.11"', 'b==2 ; python_version == "3.12"']
    assert tmp_path.exists()


def test_tables_without_a_lock() -> None:
    """Versions as poetry and pipenv say them; what is optional, or a path, is left out."""
    table = {
        "python": "^3.11",
        "celery": {"version": "^5.3", "extras": ["redis", "yaml"]},
        "tiny": "^0.0.3",
        "young": "^0.5.1",
        "zero": "^0",
        "nearly": "~1.2.3",
        "whole": "~2",
        "exact": "1.2.3",
        "some": "1.*",
        "range": ">=2, <3.1",
        "compatible": "~=1.4",
        "any": "*",
        "either": "^1 || ^2",
        "alpha": "^2.0b1",
        "several": [{"version": "<2", "markers": "sys_platform == 'linux'"}, {"version": "<3"}],
        "ours": {"git": "https://host/ours.git", "tag": "v1"},
        "file": {"url": "https://host/file.whl"},
        "beside": {"path": "../beside"},
        "perhaps": {"version": "^1", "optional": True},
    }
    assert list(tables.lines(table)) == [
        "celery[redis,yaml]>=5.3,<6",
        "tiny>=0.0.3,<0.0.4",
        "young>=0.5.1,<0.6",
        "zero>=0,<1",
        "nearly>=1.2.3,<1.3",
        "whole>=2,<3",
        "exact==1.2.3",
        "some==1.*",
        "range>=2,<3.1",
        "compatible~=1.4",
        "any",
        "either",
        "alpha>=2.0b1",
        "several<2 ; sys_platform == 'linux'",
        "ours @ git+https://host/ours.git@v1",
        "file @ https://host/file.whl",
    ]


HASHED = "celery==5.5.3 \\\n    --hash=sha256:aa\n"


@pytest.mark.parametrize(
    ("files", "source", "hashed"),
    [
        ({"requirements.txt": HASHED, "uv.lock": UV}, "requirements.txt", True),
        ({"requirements.txt": "celery\n", "uv.lock": UV}, "uv.lock", False),
        ({"requirements.txt": "celery\n", "pyproject.toml": PDM_PROJECT}, "requirements.txt", False),
        (
            {"requirements/base.txt": "celery\n", "requirements/prod.txt": "-r base.txt\n"},
            "requirements/prod.txt",
            False,
        ),
        ({"pyproject.toml": PDM_PROJECT}, "pyproject.toml", False),
        ({"pyproject.toml": OF_POETRY.format("^3.11") + 'celery = "^5.3"\n'}, "pyproject.toml", False),
        ({"Pipfile": '[packages]\ncelery = {version = "~=5.3", extras = ["redis"]}\n'}, "Pipfile", False),
    ],
)
def test_which_file_says_what_is_needed(tmp_path: Path, files: dict[str, str], source: str, *, hashed: bool) -> None:
    """Hashed requirements, then a lock, then other requirements, then the project."""
    needs = requirements.find([write(tmp_path, files)])
    assert needs is not None
    assert (needs.source, needs.hashed) == (tmp_path / source, hashed)
    assert "celery" in needs.names


@pytest.mark.parametrize(
    ("files", "installed", "text", "hurts"),
    [
        (
            {"requirements.txt": "celery\n"},
            "celery",
            "-r {}/requirements.txt\n# Stores results in memcached.\n{}\n",
            False,
        ),
        ({"requirements.txt": "celery\n"}, "python-memcached", None, False),
        (
            {"requirements.txt": "celery\n"},
            "pymemcache",
            "-r {}/requirements.txt\n# Stores results in memcached.\n{}\n",
            False,
        ),
        ({"requirements.txt": HASHED}, "celery", None, True),
        ({"uv.lock": UV, "pyproject.toml": PDM_PROJECT}, "celery", EXPORTED, True),
        ({"uv.lock": UV, "pyproject.toml": PDM_PROJECT}, "python-memcached", EXPORTED, False),
        ({"uv.lock": UV, "pyproject.toml": PDM_PROJECT}, "pylibmc", EXPORTED, True),
        ({}, "celery", None, False),
    ],
    ids=["adds", "has", "other", "hashed", "lock", "lock-has", "lock-other", "none"],
)
def test_what_stores_results_is_required(
    tmp_path: Path, files: dict[str, str], installed: str, text: str | None, *, hurts: bool
) -> None:
    """A client of memcached is added to what has no hashes, and asked for beside hashes; a lock is written out."""
    code = SourceCode(write(tmp_path, files))
    app = App("3.11", celery="5.5.3", distributions={installed: Distribution("1", carries=False)})
    subject = Subject(Origin(tmp_path), code, tmp_path, None, requirements.find([tmp_path]), None, None, {}, app)
    assert inventory.text_of(subject) == (text and text.format(tmp_path, inventory.MEMCACHED))
    said = "nothing that is installed stores results in memcached, where results go to on the hosts"
    if installed == "pylibmc":
        said = "results go to memcached by pylibmc, and pool processes share its connection"
    assert [one.what for one in problems(subject)] == ([said] if hurts else [])


ONE_EACH = "each task makes a result backend of its own, whose connections to Redis stay open"
FEW = "tasks share 100 connections to Redis: one that gets none stores no result, and its message stays with the worker"


@pytest.mark.parametrize(
    ("needs", "settings", "store", "said"),
    [
        ("gevent\n", {}, "redis", [(f"where a worker has the pool gevent, {ONE_EACH}", "requirements.txt")]),
        ("", {"worker_pool": "gevent"}, "rediss", [(f"with the pool gevent, {ONE_EACH}", "setting worker_pool")]),
        (
            "",
            {"worker_pool": "celery.concurrency.eventlet:TaskPool", "result_backend_thread_safe": False},
            "redis",
            [(f"with the pool eventlet, {ONE_EACH}", "setting worker_pool")],
        ),
        (
            "gevent\n",
            {"result_backend_thread_safe": True},
            "redis",
            [(f"where a worker has the pool gevent, {FEW}", "requirements.txt")],
        ),
        ("gevent\n", {"result_backend_thread_safe": True, "redis_max_connections": 200}, "redis", []),
        ("gevent\n", {"worker_pool": "prefork"}, "redis", []),
        ("", {"worker_pool": "threads"}, "redis", []),
        ("gevent-websocket\n", {}, "redis", []),
        ("gevent\n", {}, "cache+memcached", []),
    ],
    ids=["needed", "setting", "class", "shared", "enough", "another", "threads", "like-it", "memcached"],
)
def test_greenlets_that_share_no_connection_to_redis(
    tmp_path: Path, needs: str, settings: dict[str, Any], store: str, said: list[tuple[str, str]]
) -> None:
    """They hurt where there is a pool of them, by what the app sets or needs, and nothing has them share it."""
    code = SourceCode(write(tmp_path, {"requirements.txt": f"celery[redis]\n{needs}"}))
    app = App(
        "3.11",
        celery="5.5.3",
        own_backend=store,
        distributions={"redis": Distribution("6", carries=False), "pymemcache": Distribution("4", carries=False)},
        settings={name: Setting(value, default=False) for name, value in settings.items()},
    )
    subject = Subject(Origin(tmp_path), code, tmp_path, None, requirements.find([tmp_path]), None, None, {}, app)
    found = [one for one in problems(subject) if "to Redis" in one.what]
    assert [(one.what, one.source) for one in found] == said
    mend = "redis_max_connections" if settings.get("result_backend_thread_safe") else "result_backend_thread_safe"
    assert [mend in one.mend for one in found] == [True] * len(said)


@pytest.mark.parametrize(
    ("own", "installed", "store", "added"),
    [
        ("redis", ["celery"], "redis", "# Stores results in redis.\ncelery[redis]\n"),
        ("rediss", ["redis", "pymemcache"], "redis", ""),
        ("from the environment", ["redis"], "redis", ""),
        ("from the environment", ["redis", "python-memcached"], "memcached", ""),
        ("rpc", ["redis"], "memcached", "# Stores results in memcached.\npython-memcached==1.62\n"),
        ("db+postgresql", ["python-memcached"], "memcached", ""),
        ("cache+memcached", ["pymemcache"], "memcached", "# Stores results in memcached.\npython-memcached==1.62\n"),
    ],
)
def test_results_stay_in_the_kind_of_store_that_the_app_has(
    tmp_path: Path, own: str, installed: list[str], store: str, added: str
) -> None:
    """Redis stays Redis, with what it needs; what site.yml does not set up becomes memcached."""
    code = SourceCode(write(tmp_path, {"requirements.txt": "celery\n"}))
    parts = {name: Distribution("1", carries=False) for name in installed}
    task = Task("a", "", 0, "q", "", "", None, "", True, False, None, None, None, None, 0, [])
    app = App("3.11", celery="5.5.3", name="p", tasks=[task], own_backend=own, distributions=parts)
    subject = Subject(Origin(tmp_path), code, tmp_path, None, requirements.find([tmp_path]), None, None, {}, app)
    assert inventory.variables(subject, [], None).get("result_store", "memcached") == store
    assert (inventory.text_of(subject) or "").partition("requirements.txt\n")[2] == added


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_requirements_as_pip_reads_them(tmp_path: Path, encoding: str) -> None:
    """Windows' PowerShell writes UTF-16."""
    (tmp_path / "requirements.txt").write_text("celery==5.6.3\n", encoding=encoding)
    needs = requirements.find([tmp_path])
    assert needs is not None
    assert needs.names == {"celery"}


def test_requirements_that_are_no_text(tmp_path: Path) -> None:
    """The line is named that is not UTF-8."""
    (tmp_path / "requirements.txt").write_bytes(b"celery\n# caf\xe9\n")
    with pytest.raises(TaskmillError) as raised:
        requirements.find([tmp_path])
    assert str(raised.value) == (f"{tmp_path / 'requirements.txt'}:2 is not UTF-8: write the file anew in UTF-8")


def test_requirements_that_are_only_here(tmp_path: Path) -> None:
    """Paths are named; what is included counts, and what is not there is said."""
    text = "-r more.txt\n./wheels/a.whl\n-e .\n-e git+https://example.com/a#egg=a\nb @ file:///b\n"
    needs = requirements.find([write(tmp_path, {"requirements.txt": text, "more.txt": "../c  # why\ncelery\n"})])
    assert needs is not None
    assert needs.local == ["../c", "./wheels/a.whl", "-e .", "b @ file:///b"]
    (tmp_path / "more.txt").unlink()
    with pytest.raises(TaskmillError, match=r"more\.txt is not there, which a requirements file includes"):
        _ = needs.names


@pytest.mark.parametrize(
    ("files", "versions", "source", "line"),
    [
        ({"pyproject.toml": PDM_PROJECT}, ">=3.11", "pyproject.toml", 3),
        ({"pyproject.toml": POETRY_PROJECT}, ">=3.11,<4", "pyproject.toml", 3),
        ({"Pipfile": '[requires]\npython_version = "3.12"\n'}, "==3.12.*", "Pipfile", 2),
        ({".python-version": "3.11.7\n"}, "==3.11.*", ".python-version", 1),
        ({"pyproject.toml": OF_POETRY.format("~3")}, ">=3,<4", "pyproject.toml", 2),
        ({"pyproject.toml": OF_POETRY.format("~3.11")}, ">=3.11,<3.12", "pyproject.toml", 2),
        ({"pyproject.toml": OF_POETRY.format("~3.11.2")}, ">=3.11.2,<3.12", "pyproject.toml", 2),
    ],
)
def test_the_version_of_python(tmp_path: Path, files: dict[str, str], versions: str, source: str, line: int) -> None:
    """It is said as PEP 440 says it, with its place."""
    assert requirements.python_version([write(tmp_path, files)]) == PythonVersion(versions, tmp_path / source, line)


def test_no_python_that_the_app_takes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What it takes and where that is said, and what to give."""
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(TaskmillError) as raised:
        fitting(PythonVersion("<3", tmp_path / "pyproject.toml", 1))
    assert str(raised.value) == (
        f"the app takes Python <3 ({tmp_path}/pyproject.toml), and PATH has none such: install one, or give an "
        f"environment that has the app's requirements by --python PATH"
    )


def test_a_python_that_does_not_run_is_passed_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As those that pyenv has on PATH for versions that are not chosen."""
    for version, code in (("3.14", 127), ("3.13", 0)):
        program = tmp_path / f"python{version}"
        program.write_text(f"#!/bin/sh\nexit {code}\n")
        program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert fitting(PythonVersion(">=3.13", tmp_path / "pyproject.toml", 1)) == str(tmp_path / "python3.13")


def test_system_packages_only_where_the_wheel_has_none() -> None:
    """psycopg2 is built with libpq, psycopg2-binary brings it, as a wheel with a directory of libraries does."""
    bare, carries = Distribution("1", carries=False), Distribution("1", carries=True)
    assert packages(needed({"psycopg2": bare}).values()) == ["libpq5", "libpq-dev", "gcc", "python3-dev"]
    assert needed({"psycopg2-binary": bare, "lxml": carries, "pillow": carries, "psycopg2": carries}) == {}
    assert packages(needed({"psycopg": bare}).values()) == ["libpq5"]
    assert needed({"psycopg": bare, "psycopg-binary": carries}) == {}


BUILT = "ujson is built here, and that fails: take a version with a wheel for this Python, or install what it needs"


@pytest.mark.parametrize(
    ("output", "mend"),
    [
        (
            "Error: pg_config executable not found.",
            "psycopg2 is built with libpq: apt-get install libpq-dev gcc python3-dev, or psycopg2-binary",
        ),
        (
            "ERROR: Could not find a version\nERROR: No matching distribution found for shopp",
            "the index has no shopp for this Python: correct its name, or set PIP_EXTRA_INDEX_URL to one that has it",
        ),
        (
            "unable to execute 'gcc'\nFailed to build installable wheels for some pyproject.toml based projects (c)",
            "c is built here: apt-get install gcc python3-dev",
        ),
        ("Encountered error while generating package metadata.\n╰─> ujson", BUILT),
        ("ERROR: Failed to build 'ujson' when getting requirements to build wheel", BUILT),
        ("ERROR: Failed to build one or more wheels\nERROR: Failed building wheel for ujson", BUILT),
        ("ERROR: something else", "make an environment with the requirements by hand, and give it by --python PATH"),
    ],
)
def test_what_pip_cannot_install(output: str, mend: str) -> None:
    """Its last lines, and the likely mend."""
    said = not_installed("/shop/requirements.txt", output, timed_out=False)
    lines = "\n".join(f"    {line}" for line in output.splitlines())
    assert said == f"/shop/requirements.txt cannot be installed; the last lines of pip:\n{lines}\n  {mend}"


def test_what_takes_long_is_told_meanwhile(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With the seconds that it has taken; what does not end in time is ended."""
    monkeypatch.setattr(environment, "TELL_SECONDS", 0.05)
    told: list[float] = []
    ended = environment.run(["sleep", "60"], environment={}, directory=tmp_path, seconds=0.5, tell=told.append)
    assert ended.code is None
    assert len(told) > 1
    assert told == sorted(told)
    told.clear()
    assert environment.run(["true"], environment={}, directory=tmp_path, seconds=60, tell=told.append).code == 0


def test_the_import_machinery_takes_no_lines_of_the_apps() -> None:
    """Of the last lines those are left out that are Python's own steps."""
    frozen = '  File "<frozen importlib._bootstrap>", line 1204, in _gcd_import\n'
    output = (
        '  File "/shop/app.py", line 1, in <module>\n    import acme\n' + 12 * frozen + "ModuleNotFoundError: acme\n"
    )
    assert last_lines(output) == (
        '      File "/shop/app.py", line 1, in <module>\n        import acme\n    ModuleNotFoundError: acme'
    )


def test_hosts_by_their_groups() -> None:
    """A host has one name in all its groups; results, monitor and client are the broker's unless they are named."""
    files = inventory.hosts_files("broker=10.0.0.1 worker=10.0.0.2,me@10.0.0.3 client=10.0.0.2")
    assert yaml.safe_load(files[Path("hosts.yml")]) == {
        "all": {
            "hosts": {
                "broker1": {"ansible_host": "10.0.0.1"},
                "worker1": {"ansible_host": "10.0.0.2"},
                "worker2": {"ansible_host": "10.0.0.3", "ansible_user": "me"},
            },
            "children": {
                "broker": {"hosts": {"broker1": None}},
                "results": {"hosts": {"broker1": None}},
                "monitor": {"hosts": {"broker1": None}},
                "workers": {"hosts": {"worker1": None, "worker2": None}},
                "client": {"hosts": {"worker1": None}},
            },
        }
    }
    assert files[inventory.NETWORK] == "---\ntls: true\n"


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("broker=10.0.0.1", "HOSTS names no worker: add worker=ADDRESS"),
        ("worker=10.0.0.1", "HOSTS names no broker: add broker=ADDRESS"),
        ("brokr=10.0.0.1", "HOSTS has 'brokr=10.0.0.1': give "),
        ("10.0.0.1", "HOSTS has '10.0.0.1': give "),
        ("broker=10.0.0.1,,10.0.0.2", "HOSTS has 'broker=10.0.0.1,,10.0.0.2': give "),
    ],
)
def test_hosts_that_are_none(text: str, error: str) -> None:
    """What is wrong, and how it is given."""
    with pytest.raises(TaskmillError) as raised:
        inventory.hosts_files(text)
    assert str(raised.value) == (error + inventory.MEANT if error.endswith("give ") else error)


def test_an_inventory_is_written_whole_or_not_at_all(tmp_path: Path) -> None:
    """Where a file cannot be written, none is left."""
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "b").touch()
    with pytest.raises(FileExistsError):
        inventory.write(tmp_path / "mine", {Path("a.yml"): "a", Path("b/c.yml"): "c"})
    assert [path.name for path in (tmp_path / "mine").iterdir()] == ["b"]


def test_no_directory_is_left_of_an_inventory_that_was_not_written(tmp_path: Path) -> None:
    """Nor of those above it that were made for it."""
    with pytest.raises(IsADirectoryError):
        inventory.write(tmp_path / "new/mine", {Path("a/b/c.yml"): "c", Path("a/b"): "", Path("d.yml"): "d"})
    assert list(tmp_path.iterdir()) == []


def test_a_requirement_that_is_a_directory_is_installed_from_a_copy(tmp_path: Path) -> None:
    """Building it leaves files in it; the rest stays as it is, with paths from where the file is."""
    same = ["./wheels/a-1-py3-none-any.whl", "-e git+https://git.example/b#egg=b", "shop", "c==1"]
    text = "\n".join(["-e .[redis]", "-c limits.txt", "../shared", *same])
    files = {"requirements.txt": text, "setup.py": "# ours", "shop/__init__.py": "", "wheels/a-1-py3-none-any.whl": ""}
    project = write(tmp_path / "project", {**files, ".git/config": "", "env/pyvenv.cfg": "", "env/x.py": ""})
    write(tmp_path, {"shared/pyproject.toml": ""})
    needs = requirements.find([project])
    assert needs is not None
    folder = tmp_path / "folder"
    assert elsewhere(needs, folder).splitlines() == [
        f"{folder}/requirement-0/project[redis]",
        f"--constraint {project}/limits.txt",
        f"{folder}/requirement-2/shared",
        *same,
    ]
    copied = {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}
    assert copied == {"requirement-2/shared/pyproject.toml", *(f"requirement-0/project/{name}" for name in files)}
