"""What an app needs to be installed, and for which Python: found in the files that its tools leave."""

from __future__ import annotations

import codecs
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from packaging.utils import canonicalize_name

from taskmill.inspection import tables
from taskmill.inspection.locks import LOCKS
from taskmill.inspection.toml import read_toml
from taskmill.model.errors import TaskmillError

if TYPE_CHECKING:
    from collections.abc import Iterator

#: Requirements files by their names, the likeliest first.
FILES = (
    "requirements.txt",
    "requirements/production.txt",
    "requirements/prod.txt",
    "requirements/requirements.txt",
    "requirements/base.txt",
    "requirements/main.txt",
    "requirements-prod.txt",
)
#: A file of constraints.
CONSTRAINTS = re.compile(r"^(?:-c|--constraint)(?:[ =]\s*)?(\S+)$")


@dataclass(frozen=True)
class Requirements:
    """What the app needs: the ``file`` that says it, or the ``text`` that one would have."""

    source: Path
    line: int
    text: str
    #: Whether ``source`` is a requirements file that pip takes as it stands.
    as_it_is: bool

    @property
    def hashed(self) -> bool:
        """Whether every package has its hashes."""
        packages = [line for line in self.lines() if not line.startswith("-")]
        return bool(packages) and all("--hash=" in line for line in packages)

    @property
    def any_hashed(self) -> bool:
        """Whether some package has a hash, so that pip takes none without."""
        return any("--hash=" in line for line in self.lines())

    @property
    def names(self) -> set[str]:
        """The packages' names."""
        found = (re.match(r"[A-Za-z0-9][\w.-]*", line) for line in self.lines())
        return {str(canonicalize_name(one[0])) for one in found if one}

    def lines(self) -> Iterator[str]:
        """Yield each requirement and option, those of included files too."""
        yield from lines_of(self.text, self.source.parent, {self.source})

    def carried(self) -> tuple[str, dict[str, str]]:
        """Return the lines with all that they include, and the files of constraints that these name, by their names.

        So they mean the same in another directory, but for what is a path itself.
        """
        files: dict[str, str] = {}

        def kept(line: str) -> str:
            found = CONSTRAINTS.match(line)
            if found is None or not (path := self.source.parent / found[1]).is_file():
                return line
            name = f"constraints-{len(files) + 1}.txt"
            files[name] = read(path)
            return f"-c {name}"

        return "".join(f"{kept(line)}\n" for line in self.lines()), files

    @property
    def local(self) -> list[str]:
        """Requirements that are paths of this machine."""
        paths = re.compile(r"(-e|--editable)[ =](?!git\+)|\.{0,2}/|\.{1,2}(\[|$)|file:|.* @ file:")
        return [line for line in self.lines() if paths.match(line)]


def lines_of(text: str, directory: Path, seen: set[Path]) -> Iterator[str]:
    """Yield the lines of a requirements file, continued ones joined; raise ``TaskmillError`` for what is not there."""
    for raw in re.sub(r"\\\n", " ", text).splitlines():
        line = re.sub(r"(^|\s)#.*", "", raw).strip()
        included = re.match(r"(?:-r|--requirement)[ =]?\s*(\S+)", line)
        if included:
            path = directory / included[1]
            if path in seen:
                continue
            seen.add(path)
            try:
                yield from lines_of(read(path), path.parent, seen)
            except FileNotFoundError as error:
                raise TaskmillError(f"{path} is not there, which a requirements file includes") from error
        elif line:
            yield line


def read(path: Path) -> str:
    """Return a requirements file's text; raise ``TaskmillError`` where that is neither UTF-8 nor marked as UTF-16."""
    content = path.read_bytes()
    # As Windows' PowerShell writes it, and pip reads it.
    marked = content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
    try:
        return content.decode("utf-16" if marked else "utf-8-sig")
    except UnicodeDecodeError as error:
        line = content[: error.start].count(b"\n") + 1
        raise TaskmillError(f"{path}:{line} is not UTF-8: write the file anew in UTF-8") from error


def given(path: Path) -> Requirements:
    """Return those of the file that the user names."""
    if not path.is_file():
        raise TaskmillError(f"{path} is not there: give --requirements a requirements file or a lock file")
    if path.name in LOCKS:
        return Requirements(path.resolve(), 0, "\n".join(LOCKS[path.name](path)) + "\n", as_it_is=False)
    return Requirements(path.resolve(), 0, read(path), as_it_is=True)


def find(directories: list[Path]) -> Requirements | None:
    """Return what the first directory says that says anything: hashed requirements, a lock, others, a project."""
    for directory in directories:
        plain = next((given(directory / name) for name in FILES if (directory / name).is_file()), None)
        if plain is not None and plain.hashed:
            return plain
        for name in LOCKS:
            if (directory / name).is_file():
                return given(directory / name)
        if plain is not None:
            return plain
        for file, key, dependencies in projects(directory):
            if dependencies:
                text = "".join(f"{one}\n" for one in dependencies)
                return Requirements(file, line_of(file, key), text, as_it_is=False)
    return None


def projects(directory: Path) -> Iterator[tuple[Path, str, list[str]]]:
    """Yield what project files say without a lock: the file, the key in it, and its dependencies."""
    project, pipfile = directory / "pyproject.toml", directory / "Pipfile"
    data = read_toml(project)
    yield project, "dependencies", data.get("project", {}).get("dependencies", [])
    yield project, "celery", list(tables.lines(data.get("tool", {}).get("poetry", {}).get("dependencies", {})))
    yield pipfile, "celery", list(tables.lines(read_toml(pipfile).get("packages", {})))


@dataclass(frozen=True)
class PythonVersion:
    """Which versions of Python an app takes, as its own files say it, and where."""

    versions: str
    source: Path
    line: int


def python_version(directories: list[Path]) -> PythonVersion | None:
    """Return the first that is said, in ``pyproject.toml``, ``Pipfile``, ``.python-version``."""
    for directory in directories:
        project = directory / "pyproject.toml"
        data = read_toml(project)
        wanted = data.get("project", {}).get("requires-python")
        poetry = data.get("tool", {}).get("poetry", {}).get("dependencies", {}).get("python")
        if wanted:
            return PythonVersion(wanted, project, line_of(project, "requires-python"))
        if poetry:
            return PythonVersion(specifier(poetry), project, line_of(project, "python"))
        pipfile = directory / "Pipfile"
        requires = read_toml(pipfile).get("requires", {})
        for key in ("python_full_version", "python_version"):
            if key in requires:
                return PythonVersion(specifier(requires[key]), pipfile, line_of(pipfile, key))
        pinned = directory / ".python-version"
        if pinned.is_file() and (found := re.search(r"^\D*(\d+\.\d+)", pinned.read_text(), re.MULTILINE)):
            return PythonVersion(f"=={found[1]}.*", pinned, 1)
    return None


def specifier(version: str) -> str:
    """Return poetry's or pipenv's way of saying which Python as PEP 440 says it; 3.11 means its releases."""
    if version[:1].isdigit() and "*" not in version:
        return f"=={'.'.join(version.split('.')[:2])}.*"
    return tables.specifier(version)


def line_of(path: Path, key: str) -> int:
    """Return the line in which a key stands; 0 where it is not found."""
    lines = path.read_text().splitlines()
    return next((number for number, line in enumerate(lines, 1) if re.match(rf"\s*{re.escape(key)}\s*=", line)), 0)
