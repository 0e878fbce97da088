"""An environment of an app's own, and the probe in it. No code of the app runs in taskmill's process."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import uuid
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
from packaging.specifiers import InvalidSpecifier, SpecifierSet

from taskmill.inspection import causes
from taskmill.inspection.probed import App
from taskmill.inspection.requirements import CONSTRAINTS
from taskmill.model.errors import TaskmillError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from taskmill.inspection.requirements import PythonVersion, Requirements
    from taskmill.inspection.source_code import Candidate

PROBE = Path(__file__).with_name("probe.py")
INSTALL_SECONDS = 900
TELL_SECONDS = 15.0
#: The variable by which the children of a program are known.
MARK = "TASKMILL_INSPECT"
#: A requirement that may be a directory of this machine.
DIRECTORY = re.compile(r"(?:(?:-e|--editable)[ =]\s*|(?=[./]))(?P<path>[^\s\[;@]+)(?P<extras>\[[^\]]*\])?")
#: What an app has that says nothing of what it needs: `requirements/app.txt`, in the versions that are here.
OWN = ("celery[redis]", "python-memcached")
#: What a worker's environment says of the cluster; nothing answers there.
CLUSTER = {
    "CELERY_BROKER_URL": "amqp://taskmill:inspect@127.0.0.1:9/taskmill",
    "CELERY_RESULT_BACKEND": "cache+memcached://127.0.0.1:9/",
}
#: Celery's settings that say something about a cluster.
SETTINGS = (
    "accept_content",
    "broker_read_url",
    "broker_transport_options",
    "broker_write_url",
    "enable_utc",
    "redis_max_connections",
    "result_accept_content",
    "result_backend_thread_safe",
    "result_expires",
    "result_serializer",
    "task_acks_late",
    "task_create_missing_queues",
    "beat_scheduler",
    "task_default_queue",
    "task_default_queue_type",
    "task_ignore_result",
    "task_queue_max_priority",
    "task_queues",
    "task_reject_on_worker_lost",
    "task_routes",
    "task_serializer",
    "task_soft_time_limit",
    "task_time_limit",
    "timezone",
    "worker_concurrency",
    "worker_max_tasks_per_child",
    "worker_pool",
    "worker_prefetch_multiplier",
)


@dataclass(frozen=True)
class Ended:
    """How a program ended: its exit code, None where its time was up, and what it wrote."""

    code: int | None
    output: str


def run(
    command: Sequence[str],
    *,
    environment: Mapping[str, str],
    directory: Path,
    seconds: float,
    script: Path | None = None,
    tell: Callable[[float], None] = lambda _: None,
) -> Ended:
    """Run a program to its end, in a session of its own; nothing of it is left, whatever happens here.

    Meanwhile ``tell`` gets the seconds that it has taken, every :data:`TELL_SECONDS`.
    """
    mark = uuid.uuid4().hex
    with tempfile.TemporaryFile() as log, (script or Path(os.devnull)).open("rb") as standard_input:
        process = subprocess.Popen(  # noqa: S603  # the app's own Python
            command,
            stdin=standard_input,
            stdout=log,
            stderr=subprocess.STDOUT,
            cwd=directory,
            env={**environment, MARK: mark},
            start_new_session=True,
        )
        try:
            end = time.monotonic() + seconds
            while (left := end - time.monotonic()) > 0 and process.returncode is None:
                try:
                    process.wait(min(TELL_SECONDS, left))
                except subprocess.TimeoutExpired:
                    tell(seconds - (end - time.monotonic()))
            code = process.returncode
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            end_marked(mark)
        log.seek(0)
        return Ended(code, log.read().decode(errors="replace"))


def end_marked(mark: str) -> None:
    """Kill the processes that inherited this mark: children of the program, in whichever session they are."""
    wanted = f"{MARK}={mark}".encode()
    # Until none is left, as one may have begun another meanwhile; what the kernel does not let go of is not waited for.
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        seen = False
        for folder in Path("/proc").glob("[0-9]*"):
            # Of another user, or gone: then it is none of them.
            with contextlib.suppress(OSError):
                if wanted in (folder / "environ").read_bytes().split(b"\0"):
                    os.kill(int(folder.name), signal.SIGKILL)
                    seen = True
        if not seen:
            return
        # To end takes them a moment of a core.
        time.sleep(0.01)


@contextmanager
def python_of(
    given: Path | None, requirements: Requirements | None, version: PythonVersion | None, tell: Callable[[str], None]
) -> Iterator[Path]:
    """Yield a Python that has what the app needs: the one given, or a new one for a while; tell what is done.

    Raises ``TaskmillError`` where there is none, or what the app needs cannot be installed.
    """
    if given is not None:
        path = given / "bin" / "python" if given.is_dir() else given
        # Through a link the environment would not be found.
        path = Path(os.path.abspath(path.expanduser()))  # noqa: PTH100
        if not os.access(path, os.X_OK):
            raise TaskmillError(f"{path} is no program: give --python a Python, or the directory of its environment")
        yield path
    else:
        with tempfile.TemporaryDirectory(prefix="taskmill-inspect-") as folder:
            yield installed(Path(folder), requirements, fitting(version), tell)


def fitting(version: PythonVersion | None) -> str:
    """Return a Python of this machine that the app takes; raise ``TaskmillError`` where there is none."""
    here = f"{sys.version_info.major}.{sys.version_info.minor}"
    if version is None or takes(version.versions, here):
        return sys.executable
    for minor in range(14, 7, -1):
        path = shutil.which(f"python3.{minor}")
        # Those of pyenv are there for every version, and run the ones that are chosen.
        if path and takes(version.versions, f"3.{minor}") and runs(path):
            return path
    raise TaskmillError(
        f"the app takes Python {version.versions} ({version.source}), and PATH has none such: "
        f"install one, or give an environment that has the app's requirements by --python PATH"
    )


def runs(python: str) -> bool:
    """Return whether a Python runs."""
    done = subprocess.run([python, "-c", ""], capture_output=True, check=False)  # noqa: S603  # one of this machine's
    return done.returncode == 0


def takes(versions: str, python: str) -> bool:
    """Return whether a version of Python, such as 3.11, is one of those."""
    try:
        return SpecifierSet(versions).contains(f"{python}.99")
    except InvalidSpecifier:
        return True


def installed(
    folder: Path, requirements: Requirements | None, python: str, tell: Callable[[str], None] = lambda _: None
) -> Path:
    """Make an environment with what the app needs, return its Python; raise ``TaskmillError`` with what pip says."""
    environment = folder / "environment"
    file, source = folder / "requirements.txt", "Celery"
    if requirements is None:
        file.write_text("".join(f"{name}=={metadata.version(name.partition('[')[0])}\n" for name in OWN))
    elif requirements.local:
        file.write_text(elsewhere(requirements, folder))
    elif requirements.as_it_is:
        file = requirements.source
    else:
        # What comes from a repository has no hash, and pip wants all or none.
        plain = re.sub(r" \\\n    --hash=\S+", "", requirements.text)
        file.write_text(requirements.text if requirements.hashed else plain)
    if requirements is not None:
        source = str(requirements.source)
    tell(f"installing {source} into an environment of its own")
    inside = environment / "bin" / "python"
    # Where paths in the app's own file begin.
    by_path = requirements is not None and (requirements.as_it_is or requirements.local)
    place = requirements.source.parent if requirements is not None and by_path else folder
    # A copy has no history that setuptools-scm could tell a version from.
    variables = {"SETUPTOOLS_SCM_PRETEND_VERSION": "0", **os.environ}
    pip = [str(inside), "-m", "pip", "--disable-pip-version-check", "--no-input", "install", "--quiet"]
    for command in ([python, "-m", "venv", str(environment)], [*pip, "--requirement", str(file)]):
        ended = run(
            command,
            environment=variables,
            directory=place,
            seconds=INSTALL_SECONDS,
            tell=lambda seconds: tell(f"installing it has taken {seconds:.0f} s so far"),
        )
        if ended.code != 0:
            raise TaskmillError(causes.not_installed(source, ended.output, timed_out=ended.code is None))
    return inside


def elsewhere(requirements: Requirements, folder: Path) -> str:
    """Return requirements with a copy, in a folder, of each directory of this machine: a build leaves files in it."""
    place, lines = requirements.source.parent, []
    for number, line in enumerate(requirements.lines()):
        found = DIRECTORY.fullmatch(line)
        if found is not None and (place / found["path"]).is_dir():
            directory = (place / found["path"]).resolve()
            copy = folder / f"requirement-{number}" / directory.name
            shutil.copytree(directory, copy, symlinks=True, ignore=left_out)
            lines.append(f"{copy}{found['extras'] or ''}")
        else:
            lines.append(CONSTRAINTS.sub(lambda found: f"--constraint {place / found[1]}", line))
    return "".join(f"{line}\n" for line in lines)


def left_out(directory: str, names: list[str]) -> set[str]:
    """Return which of the names in a directory are neither source nor what a build reads."""
    return {
        name
        for name in names
        if name in {".git", ".tox", ".venv", "__pycache__", "node_modules"}
        or Path(directory, name, "pyvenv.cfg").exists()
    }


def probe(
    python: Path, root: Path, app: Candidate | str, *, variables: Mapping[str, str], seconds: float
) -> tuple[App, str]:
    """Import the app, and return it, and what it wrote; raise ``TaskmillError`` where its process gave nothing."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("CELERY_", "VIRTUAL_ENV"))}
    environment = {**kept, **CLUSTER, "PYTHONDONTWRITEBYTECODE": "1", "PYTHONUNBUFFERED": "1", **variables}
    with tempfile.TemporaryDirectory(prefix="taskmill-inspect-") as folder:
        output = Path(folder, "app.json")
        asked = {
            "root": str(root),
            "output": str(output),
            "names": [app] if isinstance(app, str) else app.names,
            "module": "" if isinstance(app, str) else app.module,
            "attribute": "" if isinstance(app, str) else app.attribute,
            # Where it stands is in the log before its time is up.
            "seconds": seconds * 0.9,
            "settings": SETTINGS,
        }
        ended = run(
            [str(python), "-", json.dumps(asked)],
            environment=environment,
            directory=root,
            seconds=seconds,
            script=PROBE,
        )
        if not output.exists():
            raise TaskmillError(causes.no_outcome(root, ended.code, ended.output, seconds))
        # An app may say 1 for True, and "30" for seconds, as Celery lets it.
        return msgspec.json.decode(output.read_bytes(), type=App, strict=False), ended.output
