"""Looks at an app: reads its source and files, imports it in an environment of its own."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from taskmill.inspection import causes, environment, requirements, system_packages
from taskmill.inspection.importers import importers
from taskmill.inspection.source_code import SourceCode, holds
from taskmill.inspection.subject import Subject
from taskmill.model.errors import TaskmillError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from taskmill.inspection.origin import Origin
    from taskmill.inspection.probed import App
    from taskmill.inspection.source_code import Candidate


@dataclass(frozen=True)
class Options:
    """How to look; ``app`` is what ``celery --app`` takes, ``seconds`` the time that the import has."""

    app: str = ""
    python: Path | None = None
    requirements: Path | None = None
    variables: Mapping[str, str] = field(default_factory=dict)
    seconds: float = 60


def look(origin: Origin, options: Options, tell: Callable[[str], None]) -> Subject:
    """Return what is known of an app, and tell what is done; raise ``TaskmillError`` with what mends it."""
    code = SourceCode(origin.path)
    candidate = None if options.app else found(code)
    root = candidate.root if candidate is not None else root_of(code, options.app)
    top = code.path if code.path.is_dir() else code.path.parent
    between = [one for one in root.parents if top in one.parents]
    directories = list(dict.fromkeys([top, root, *between, *([top.parent] if root == top.parent else [])]))
    if options.requirements is not None:
        needs: requirements.Requirements | None = requirements.given(options.requirements)
    else:
        needs = origin.requirements or requirements.find(directories)
    version = requirements.python_version(directories)
    with environment.python_of(options.python, needs, version, tell) as python:
        tell("importing the app")
        probe = partial(environment.probe, python, root, variables=options.variables, seconds=options.seconds)
        app, output = probe(candidate or options.app)
        if candidate is not None and app.error is None and not app.tasks:
            # Its tasks may be in modules that import it, one of which is what the worker is given.
            tried = ((other, *probe(other)) for other in importers(code, candidate))
            candidate, app, output = with_tasks(tried) or (candidate, app, output)
    if app.error is not None:
        place = code.shown(app.error.file, app.error.line) if app.error.file else ""
        made_from = str(options.python or (needs.source if needs is not None else "none found"))
        raise TaskmillError(causes.not_imported(app, place, output, made_from))
    system = system_packages.needed(app.distributions) if needs is not None else {}
    return Subject(origin, code, root, candidate, needs, version, options.python, system, app)


def with_tasks(tried: Iterable[tuple[Candidate, App, str]]) -> tuple[Candidate, App, str] | None:
    """Return the first that registers tasks, else the first that failed; the others are not asked for."""
    failed = None
    for one in tried:
        if one[1].tasks:
            return one
        if failed is None and one[1].error is not None:
            failed = one
    return failed


def found(code: SourceCode) -> Candidate:
    """Return the likeliest Celery object; raise ``TaskmillError`` where there is none."""
    if code.candidates:
        return code.candidates[0]
    if code.factories:
        name, file, line = code.factories[0]
        raise TaskmillError(
            f"the app is made by {name}() ({code.shown(file, line)}), which celery --app does not take: make a module "
            f"that calls it, such as worker.py with `app = {name}()`, and give --app worker:app"
        )
    if code.shared_task is not None:
        raise TaskmillError(
            f"{code.shown(*code.shared_task)} has a shared_task, and no module in {code.path} the Celery object that "
            f"it is for: give the directory of the project that has both, such as that of Django's manage.py"
        )
    raise TaskmillError(
        f"no module in {code.path} has a Celery object at its top: give what celery --app takes, by --app MODULE:NAME"
    )


def root_of(code: SourceCode, app: str) -> Path:
    """Return the directory that the app of this name is imported from."""
    if code.path.is_file():
        return code.path.parent
    first = app.partition(":")[0].partition(".")[0]
    if (code.path / "__init__.py").exists() and not holds(code.path, first):
        return code.path.parent
    inside = [
        one for one in (code.path, code.path / "src") if (one / first).is_dir() or (one / f"{first}.py").is_file()
    ]
    return inside[0] if inside else code.path
