"""Why an app cannot be installed or imported, in words, with what mends it."""

from __future__ import annotations

import re
import signal
from typing import TYPE_CHECKING

from taskmill.inspection.system_packages import package_of

if TYPE_CHECKING:
    from pathlib import Path

    from taskmill.inspection.probed import App, Failure

#: How many of the app's own last lines are shown.
LAST = 12
DEBIAN = "apt-get install {0} here; on the hosts, app_system_packages: [{0}] in the inventory"

#: What pip says, and what mends it; the first that fits.
INSTALLING = (
    (
        r"pg_config executable not found",
        "psycopg2 is built with libpq: apt-get install libpq-dev gcc python3-dev, or psycopg2-binary",
    ),
    (
        r"mysql_config|pkg-config name",
        "mysqlclient is built with MariaDB's: apt-get install libmariadb-dev pkg-config gcc python3-dev",
    ),
    (r"Python\.h: No such file", "{built} is built here: apt-get install python3-dev"),
    (
        r"gcc'? failed|unable to execute '\S*gcc'|No such file or directory: '\S*gcc'",
        "{built} is built here: apt-get install gcc python3-dev",
    ),
    (r"DO NOT MATCH THE HASHES", "the index has other files than were locked: lock the requirements anew"),
    (r"In --require-hashes mode", "some requirements have hashes and some have none: give all of them hashes, or none"),
    (
        r"Temporary failure in name resolution|Failed to establish a new|Connection refused|Network is unreachable",
        "the index is not reached: set PIP_INDEX_URL, or give an environment that has them by --python PATH",
    ),
    (
        r"No matching distribution found for (?P<what>[^\n]+)",
        "the index has no {what} for this Python: correct its name, or set PIP_EXTRA_INDEX_URL to one that has it",
    ),
    (r"requires a different Python", "a package wants another Python: give an environment with it by --python PATH"),
    (
        r"(?i)failed to build|failed building|generating package metadata",
        "{built} is built here, and that fails: take a version with a wheel for this Python, or install what it needs",
    ),
)
#: Where pip names the package that it could not build, from version 22 on.
BUILT = re.compile(
    r"Failed (?:building wheel for|to build) '?(?!installable |one or )(?P<name>[\w.-]+)"
    r"|based projects \((?P<several>[^)]+)\)|package metadata\.\s+╰─> (?P<described>[\w.-]+)"
)

#: What the import says, and what mends it; the first that fits.
IMPORTING = (
    (r"No module named '?celery\b", "Celery is not among the requirements ({requirements}): add it"),
    (
        r"No module named '(?P<what>[^']+)'",
        "add what brings {what} to the requirements ({requirements}); if it is your own, give its directory",
    ),
    (
        r"(KeyError: '|SECRET_KEY|Set the )(?P<what>[A-Z][A-Z0-9_]+)'?",
        "the app needs it from the environment: --env {what}=...",
    ),
    (r"(?i)field required", "its settings (pydantic) have no value for what is named above"),
    (r"SECRET_KEY setting must not be empty", "Django's settings need it from the environment: --env SECRET_KEY=..."),
    (r"^\S*UndefinedValueError: (?P<what>\w+) not found", "the app needs it from the environment: --env {what}=..."),
    (
        r"settings are not configured|DJANGO_SETTINGS_MODULE",
        "say which are Django's settings: --env DJANGO_SETTINGS_MODULE=PROJECT.settings",
    ),
    (
        r"AppRegistryNotReady",
        "models are imported before Django is set up: import them in modules that autodiscover_tasks loads",
    ),
    (r"not a Celery app|has no attribute", "say what celery --app takes for it: --app MODULE:NAME"),
    (r"partially initialized module", "two modules import each other: import one of them inside a function"),
    (
        r"^ImportError: cannot import name",
        "that module has no such name: another version is installed, or a module of the app hides it",
    ),
    (
        r"Connection refused|timed out|Name or service not known|Temporary failure in name resolution|OperationalError",
        "the app connects to a service when it is imported: connect in the task, or at first use",
    ),
    (
        r"^(PermissionError|FileNotFoundError|NotADirectoryError)",
        "the app reads that file when it is imported: it has to be there on every host",
    ),
    (r"^SystemExit", 'the app ends its process when it is imported: put that under if __name__ == "__main__"'),
)


def last_lines(output: str) -> str:
    """Return the end of what a program wrote."""
    # What Python's import machinery adds says nothing of the app.
    lines = [line for line in output.rstrip().splitlines() if line.strip() and 'File "<frozen ' not in line]
    return "\n".join(f"    {line}" for line in lines[-LAST:]) or "    (it wrote nothing)"


def not_installed(source: str, output: str, *, timed_out: bool) -> str:
    """Return why what the app needs cannot be installed."""
    if timed_out:
        return f"{source} was not installed in time; the last lines of pip:\n{last_lines(output)}\n  give --python PATH"
    names = BUILT.search(output)
    built = next(filter(None, names.groups()), "") if names else "a package"
    for pattern, words in INSTALLING:
        if found := re.search(pattern, output):
            mend = words.format(built=built, **found.groupdict())
            break
    else:
        mend = "make an environment with the requirements by hand, and give it by --python PATH"
    return f"{source} cannot be installed; the last lines of pip:\n{last_lines(output)}\n  {mend}"


def no_outcome(root: Path, code: int | None, output: str, seconds: float) -> str:
    """Return why the process that imports an app gave nothing."""
    if code is None:
        # What faulthandler wrote shortly before, the innermost call first.
        output, _, stack = output.partition("Timeout (")
        frames = re.findall(r'File "([^"]+)", line (\d+) in', stack)
        at = next((f" at {file}:{line}" for file, line in frames if file.startswith(str(root))), "")
        how = f"is not imported within {seconds:g} s"
        mend = f"it stands{at}: do not wait at import, or give it more by --timeout SECONDS"
    elif code < 0:
        how = f"ends its process by {signal.Signals(-code).name} when it is imported"
        mend = "a compiled package of its requirements is broken, or built for another Python"
    else:
        how = f"ends its process with exit code {code} when it is imported"
        mend = "the app must not end the process (os._exit)"
    return f"the app in {root} {how}; its last lines:\n{last_lines(output)}\n  {mend}"


def not_imported(app: App, place: str, output: str, requirements: str) -> str:
    """Return why an app cannot be imported; ``requirements`` is what its environment was made from."""
    assert app.error is not None
    absent = [one for one in app.environment if one.needed and not one.given]
    celery = f" and Celery {app.celery}" if app.celery else ""
    at = f" ({place})" if place else ""
    lines = [
        f"the app cannot be imported{at}, with Python {app.python}{celery}; its last lines:",
        last_lines(output),
        f"  {mend_of(app.error, app.python, requirements)}",
    ]
    for how, names in (
        ("", [one.name for one in absent if not one.made_up]),
        (", and made up here", [one.name for one in absent if one.made_up]),
    ):
        if names:
            options = " ".join(f"--env {name}=..." for name in names)
            lines.append(f"  not in the environment{how}: {', '.join(names)}; give what they should be: {options}")
    return "\n".join(lines)


def mend_of(error: Failure, python: str, requirements: str) -> str:
    """Return what mends a failed import."""
    if library := re.search(r"(lib[\w.+-]+?\.so[.\d]*)", error.text):
        package = package_of(library[1])
        how = DEBIAN.format(package) if package else f"apt-file search {library[1]} says which Debian package it is in"
        return f"the system library {library[1]} is missing: {how}"
    if error.kind in {"SyntaxError", "IndentationError", "TabError"}:
        return (
            f"that is not Python {python}: mend it, or give an environment with the app's own Python by --python PATH"
        )
    for pattern, words in IMPORTING:
        if found := re.search(pattern, error.text, re.MULTILINE):
            return words.format(
                requirements=requirements, **{name: text or "" for name, text in found.groupdict().items()}
            )
    return "celery --app NAME report has to work first, in the directory of the app"
