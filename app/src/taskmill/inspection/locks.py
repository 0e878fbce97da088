"""Lock files of uv, poetry, pdm and pipenv, as the lines of a requirements file for Linux.

What is installed follows from the app's own dependencies: they are followed under each version of Python that hosts may
have, and what only some of these need gets a marker.
"""

from __future__ import annotations

import json
from collections import defaultdict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from packaging.markers import Marker, default_environment
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name

from taskmill.inspection.toml import read_toml
from taskmill.model.errors import TaskmillError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from pathlib import Path

#: The versions of Python that hosts may have.
PYTHONS = tuple(f"3.{minor}" for minor in range(10, 15))


@dataclass(frozen=True)
class Edge:
    """A dependency on a package."""

    name: str
    marker: str = ""
    extras: tuple[str, ...] = ()
    specifier: str = ""

    @classmethod
    def parse(cls, text: str) -> Edge:
        """Read one of PEP 508."""
        one = Requirement(text)
        return cls(canonicalize_name(one.name), str(one.marker or ""), tuple(one.extras), str(one.specifier))


@dataclass
class Package:
    """A locked package; ``address`` is that of a version control system or an archive."""

    name: str
    version: str
    hashes: list[str]
    address: str = ""
    edges: list[Edge] = field(default_factory=list)
    extras: dict[str, list[Edge]] = field(default_factory=dict)

    def line(self, marker: str) -> str:
        """Return it as the line of a requirements file."""
        named = f"{self.name} @ {self.address}" if self.address else f"{self.name}=={self.version}"
        line = f"{named} ; {marker}" if marker else named
        return " \\\n    ".join([line, *(f"--hash={one}" for one in sorted(set(self.hashes)))])


def environment(python: str) -> dict[str, str]:
    """Return the environment that markers are judged by: Linux, and this version of Python."""
    fixed = {
        "implementation_name": "cpython",
        "implementation_version": f"{python}.0",
        "os_name": "posix",
        "platform_machine": "x86_64",
        "platform_python_implementation": "CPython",
        "platform_system": "Linux",
        "python_full_version": f"{python}.0",
        "python_version": python,
        "sys_platform": "linux",
        "extra": "",
    }
    return {**{name: str(value) for name, value in default_environment().items()}, **fixed}


def holds(marker: str, python: str) -> bool:
    """Return whether a marker holds on Linux with this Python."""
    return not marker or Marker(marker).evaluate(environment(python))


def exported(roots: list[Edge], packages: Iterable[Package], requires_python: str) -> list[str]:
    """Return the lines of everything that the roots reach."""
    by_name: dict[str, list[Package]] = defaultdict(list)
    for package in packages:
        by_name[package.name].append(package)
    pythons = [python for python in PYTHONS if SpecifierSet(requires_python).contains(f"{python}.99")] or list(PYTHONS)
    reached: dict[int, tuple[Package, list[str]]] = {}
    for python in pythons:
        waiting, seen = list(roots), set()
        while waiting:
            edge = waiting.pop()
            if edge in seen or not holds(edge.marker, python):
                continue
            seen.add(edge)
            fitting = [one for one in by_name[edge.name] if not edge.specifier or fits(edge.specifier, one.version)]
            for package in fitting[:1]:
                found = reached.setdefault(id(package), (package, []))[1]
                if python not in found:
                    found.append(python)
                waiting += package.edges + [one for extra in edge.extras for one in package.extras.get(extra, [])]
    lines = []
    for package, under in sorted(reached.values(), key=lambda one: (one[0].name, one[0].version)):
        every = len(under) == len(pythons)
        lines.append(package.line("" if every else " or ".join(f'python_version == "{python}"' for python in under)))
    return lines


def fits(specifier: str, version: str) -> bool:
    """Return whether a version is one of those; a specifier that is not of PEP 440 fits."""
    try:
        return SpecifierSet(specifier).contains(version, prereleases=True)
    except ValueError:
        return True


def uv(lock: Path) -> list[str]:
    """Read ``uv.lock``."""
    data = read_toml(lock)

    def edges(of: list[dict[str, Any]]) -> list[Edge]:
        return [
            Edge(
                canonicalize_name(one["name"]),
                one.get("marker", ""),
                tuple(one.get("extra", ())),
                f"=={one['version']}" if "version" in one else "",
            )
            for one in of
        ]

    packages, roots = [], None
    for one in data.get("package", []):
        source = one.get("source", {})
        if {"virtual", "editable"} & source.keys():
            if (source.get("virtual") or source.get("editable")) == ".":
                roots = edges(one.get("dependencies", []))
            continue
        files = one.get("wheels", []) + ([one["sdist"]] if "sdist" in one else [])
        git, _, commit = source.get("git", "").partition("#")
        packages.append(
            Package(
                canonicalize_name(one["name"]),
                one.get("version", ""),
                [file["hash"] for file in files if "hash" in file],
                f"git+{git.partition('?')[0]}@{commit}" if git else source.get("url", ""),
                edges(one.get("dependencies", [])),
                {extra: edges(of) for extra, of in one.get("optional-dependencies", {}).items()},
            )
        )
    if roots is None:
        raise TaskmillError(f"{lock} is of a workspace, without a package at its own place: uv export --package NAME")
    return exported(roots, packages, data.get("requires-python", ""))


def poetry(lock: Path) -> list[str]:
    """Read ``poetry.lock``, and the app's own dependencies in ``pyproject.toml`` beside it."""
    data = read_toml(lock)
    older = data.get("metadata", {}).get("files", {})

    def edges(of: dict[str, Any]) -> list[Edge]:
        found = []
        for name, wanted in of.items():
            for one in wanted if isinstance(wanted, list) else [wanted]:
                said = {"version": one} if isinstance(one, str) else one
                if name == "python" or said.get("optional"):
                    continue
                extras = tuple(said.get("extras", ()))
                found.append(
                    Edge(canonicalize_name(name), said.get("markers", ""), extras, range_of(said.get("version", "")))
                )
        return found

    packages = []
    for one in data.get("package", []):
        source = one.get("source", {})
        git = source.get("type") == "git"
        optional = {
            extra: [Edge(canonicalize_name(text.split()[0].partition("[")[0])) for text in texts]
            for extra, texts in one.get("extras", {}).items()
        }
        packages.append(
            Package(
                canonicalize_name(one["name"]),
                one["version"],
                [] if git else [file["hash"] for file in one.get("files", older.get(one["name"], []))],
                f"git+{source['url']}@{source['resolved_reference']}" if git else "",
                edges(one.get("dependencies", {})),
                optional,
            )
        )
    project = read_toml(lock.parent / "pyproject.toml")
    roots = edges(project.get("tool", {}).get("poetry", {}).get("dependencies", {}))
    roots += [Edge.parse(text) for text in project.get("project", {}).get("dependencies", [])]
    return exported(roots, packages, range_of(data.get("metadata", {}).get("python-versions", "")))


def range_of(version: str) -> str:
    """Return poetry's way of saying versions as PEP 440 says it; empty where it says more than that."""
    if version[:1] in {"<", ">", "=", "!"} and "||" not in version:
        return version
    return ""


def pdm(lock: Path) -> list[str]:
    """Read ``pdm.lock``, and the app's own dependencies in ``pyproject.toml`` beside it."""
    packages: dict[tuple[str, str], Package] = {}
    for one in read_toml(lock).get("package", []):
        name = canonicalize_name(one["name"])
        git = f"git+{one['git']}@{one['revision']}" if "git" in one else one.get("url", "")
        hashes = [file["hash"] for file in one.get("files", [])]
        package = packages.setdefault((name, one["version"]), Package(name, one["version"], hashes, git))
        edges = [Edge.parse(text) for text in one.get("dependencies", [])]
        for extra in one.get("extras", []):
            package.extras[extra] = edges
        if not one.get("extras"):
            package.edges = edges
    project = read_toml(lock.parent / "pyproject.toml").get("project", {})
    roots = [Edge.parse(text) for text in project.get("dependencies", [])]
    return exported(roots, packages.values(), project.get("requires-python", ""))


def pipenv(lock: Path) -> list[str]:
    """Read ``Pipfile.lock``."""
    try:
        data = json.loads(lock.read_text())
    except ValueError as error:
        raise TaskmillError(f"{lock} is not JSON: {error}") from error
    packages, roots = [], []
    for name, one in data.get("default", {}).items():
        git = f"git+{one['git']}@{one['ref']}" if "git" in one else ""
        known = canonicalize_name(name)
        packages.append(Package(known, one.get("version", "").lstrip("="), one.get("hashes", []), git))
        roots.append(Edge(known, one.get("markers", "")))
    return exported(roots, packages, "")


#: The lock files by their names, each with what reads it, and who makes it.
LOCKS: dict[str, Callable[[Path], list[str]]] = {
    "uv.lock": uv,
    "poetry.lock": poetry,
    "pdm.lock": pdm,
    "Pipfile.lock": pipenv,
}
