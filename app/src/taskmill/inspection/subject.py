"""Everything that is known of an app that was looked at; facts, problems and inventory are made of it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from taskmill.inspection.origin import Origin
from taskmill.inspection.probed import App, Queue, Task
from taskmill.inspection.requirements import PythonVersion, Requirements
from taskmill.inspection.source_code import Candidate, SourceCode
from taskmill.inspection.system_packages import Needs

#: The role celery_worker gives them to each worker.
OF_THE_ROLE = frozenset({"CELERY_BROKER_URL", "CELERY_RESULT_BACKEND", "HOME", "LANG", "PATH", "TMPDIR", "USER"})
#: What stores results there: in memcached in taskmill's workers (taskmill_worker/memcached_backend.py).
CLIENTS = {"redis": "redis", "memcached": "python-memcached"}
#: Those by which Celery's own backend stores results in memcached.
CELERYS_CLIENTS = ("pymemcache", "pylibmc")

#: What the probe says in the place of a backend that it named itself.
FROM_ENVIRONMENT = "from the environment"
#: Schemes of a result backend that is Redis.
REDIS = frozenset({"redis", "rediss", "redis+socket"})


@dataclass(frozen=True)
class Subject:
    """An app, as its source, its files and its import say; ``root`` is the directory that it is imported from."""

    origin: Origin
    code: SourceCode
    root: Path
    candidate: Candidate | None
    requirements: Requirements | None
    python: PythonVersion | None
    #: The directory or file that ``--python`` named; None where the environment was made for this.
    environment: Path | None
    system: dict[str, Needs]
    app: App

    def place(self, file: str | Path, line: int = 0) -> str:
        """Return a place as the user would look for it."""
        return self.code.shown(file, line) if str(file) else ""

    def setting_place(self, name: str) -> str:
        """Return where a setting is made: file and line, or that it is Celery's own."""
        setting = self.app.settings.get(name)
        if setting is None or setting.default:
            return "Celery's default"
        found = self.code.lines_of({name, name.upper(), f"CELERY_{name.upper()}"})
        return self.place(*found) if found else f"setting {name}"

    @property
    def tasks(self) -> list[Task]:
        """The tasks that the app itself registers, or all of them where it registers none."""
        inside = str(self.root.resolve())
        own = [task for task in self.app.tasks if task.file.startswith(inside) and "-packages/" not in task.file]
        return own or self.app.tasks

    @property
    def queues(self) -> list[Queue]:
        """The queues that its tasks go to."""
        used = {task.queue for task in self.tasks}
        return [queue for queue in self.app.queues if queue.name in used] or self.app.queues

    @property
    def has_beat(self) -> bool:
        """Whether the app has something for beat to send: a schedule, or a scheduler that keeps one elsewhere."""
        scheduler = self.app.settings.get("beat_scheduler")
        return bool(self.app.beat) or (scheduler is not None and not scheduler.default)

    @property
    def needed_variables(self) -> list[str]:
        """Variables of the environment that the app cannot do without, save those that every worker gets."""
        return sorted(one.name for one in self.app.environment if one.needed and one.name not in OF_THE_ROLE)

    @property
    def addresses(self) -> dict[str, str]:
        """Those of them that hold an address of the cluster, which every worker gets: ``broker`` or ``results``."""
        needed = self.needed_variables
        return {one.name: one.cluster for one in self.app.environment if one.cluster and one.name in needed}

    @property
    def result_store(self) -> str:
        """Which store the hosts are to keep its results in.

        Redis, where its own backend is that, or comes from the environment and the app can use Redis; else memcached.
        """
        has = self.app.distributions.keys()
        memcached = has & {CLIENTS["memcached"], *CELERYS_CLIENTS}
        asked = self.app.own_backend == FROM_ENVIRONMENT and "redis" in has and not memcached
        return "redis" if asked or self.app.own_backend in REDIS else "memcached"

    @property
    def lacks_client_of_store(self) -> bool:
        """Whether what stores results there is not installed."""
        return CLIENTS[self.result_store] not in self.app.distributions

    @property
    def celerys_client(self) -> str:
        """The client of memcached that Celery's own backend would use; empty where there is none."""
        return next((name for name in CELERYS_CLIENTS if name in self.app.distributions), "")
