"""What an app's source says without being run: where its Celery objects are, and in which line a setting stands."""

from __future__ import annotations

import ast
import os
import re
import sys
import tokenize
from collections import Counter
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from taskmill.model.errors import TaskmillError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

#: Directories that hold nothing of the app itself.
PASSED_OVER = frozenset({"__pycache__", "node_modules", "site-packages", "build", "dist", "migrations"})
#: Where a Celery object is looked for last.
ASIDE = frozenset({"test", "tests", "testing", "docs", "doc", "examples", "example", "scripts"})
#: Modules that usually hold it, the likeliest first.
USUAL = ("celery", "celery_app", "celeryapp", "worker", "tasks", "__init__", "app", "main")
#: Names that usually refer to it where a function makes it.
NAMES = frozenset({"celery", "celery_app", "celeryapp", "app", "capp"})
#: A module within a package, as settings name it.
DOTTED = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)+")
MOST_FILES = 5000


@dataclass(frozen=True)
class Candidate:
    """A Celery object in the source: ``root`` is the directory that ``module`` is imported from.

    ``imports`` is where it is made, if that is another module.
    """

    root: Path
    module: str
    attribute: str
    file: Path
    line: int
    imports: Candidate | None = None

    @property
    def names(self) -> list[str]:
        """What ``celery --app`` may be given, the shortest first."""
        package, _, last = self.module.rpartition(".")
        return [*([package] if package and last == "celery" else []), self.module, f"{self.module}:{self.attribute}"]


class SourceCode:
    """The Python files below a directory, or one file."""

    def __init__(self, path: Path) -> None:
        """Read nothing yet; raise ``TaskmillError`` where there is no such app."""
        self.path = Path(os.path.abspath(path.expanduser()))  # noqa: PTH100  # links stay as the user wrote them
        if not self.path.exists():
            raise TaskmillError(f"{path} is not there: give the directory that holds your app, or its one file")
        if self.path.is_file() and self.path.suffix != ".py":
            raise TaskmillError(
                f"{path} is neither a directory nor a .py file nor a wheel: give the directory that holds your app"
            )

    @cached_property
    def modules(self) -> dict[Path, ast.Module]:
        """Every file that is Python, parsed; what this Python cannot parse is left out."""
        parsed = {}
        for number, file in enumerate(self._files()):
            if number >= MOST_FILES:
                raise TaskmillError(
                    f"{self.path} has more than {MOST_FILES:,} Python files: give the directory of the app itself"
                )
            try:
                with tokenize.open(file) as opened:
                    parsed[file] = ast.parse(opened.read(), str(file))
            except (OSError, SyntaxError, ValueError):
                continue
        return parsed

    def _files(self) -> Iterator[Path]:
        if self.path.is_file():
            yield self.path
            return
        for directory, below, names in os.walk(self.path):
            below[:] = sorted(
                name
                for name in below
                if name not in PASSED_OVER
                and not name.startswith(".")
                and not Path(directory, name, "pyvenv.cfg").exists()
            )
            yield from (Path(directory, name) for name in sorted(names) if name.endswith(".py"))

    @cached_property
    def candidates(self) -> list[Candidate]:
        """The Celery objects at the top of a module, the likeliest first."""
        made = [
            one for file, module in self.modules.items() for one in self._assigned(file, module, self._makes_celery)
        ]
        if not made and (factories := self.factories):
            called = {name for name, _, _ in factories}
            made = [
                one
                for file, module in self.modules.items()
                for one in self._assigned(file, module, lambda value: bool(called_name(value) in called))
            ] or [
                one
                for file, module in self.modules.items()
                for one in self._assigned(file, module, lambda _: True)
                if one.attribute in NAMES - {"app"}
            ]
        return sorted(made, key=self._likelihood)

    def _likelihood(self, one: Candidate) -> tuple[bool, int, int, str, int]:
        inside = one.file.relative_to(self.path).parts if one.file != self.path else ()
        aside = any(part in ASIDE for part in inside[:-1]) or one.file.stem.startswith("test_")
        rank = USUAL.index(one.file.stem) if one.file.stem in USUAL else len(USUAL)
        return aside, rank, len(inside), str(one.file), -self._used[one.attribute]

    @cached_property
    def _used(self) -> Counter[str]:
        """How often each name is imported from a module, or has a ``task`` that decorates a function."""
        used: Counter[str] = Counter()
        for module in self.modules.values():
            for node in ast.walk(module):
                match node:
                    case ast.ImportFrom(names=names):
                        used.update(name.name for name in names)
                    case ast.FunctionDef(decorator_list=decorators) | ast.AsyncFunctionDef(decorator_list=decorators):
                        for one in decorators:
                            match one.func if isinstance(one, ast.Call) else one:
                                case ast.Attribute(value=ast.Name(id=name), attr="task"):
                                    used[name] += 1
        return used

    @cached_property
    def factories(self) -> list[tuple[str, Path, int]]:
        """The functions that make a Celery object: name, file, line."""
        return [
            (function.name, file, function.lineno)
            for file, module in self.modules.items()
            for function in ast.walk(module)
            if isinstance(function, ast.FunctionDef)
            and any(self._makes_celery(node) for node in ast.walk(function) if isinstance(node, ast.expr))
        ]

    @staticmethod
    def _makes_celery(value: ast.expr) -> bool:
        return called_name(value) == "Celery"

    def _assigned(self, file: Path, module: ast.Module, fits: Callable[[ast.expr], bool]) -> Iterator[Candidate]:
        for statement in top_statements(module.body):
            match statement:
                case ast.Assign(targets=[*_, ast.Name(id=name)], value=value) if fits(value):
                    pass
                case ast.AnnAssign(target=ast.Name(id=name), value=ast.expr() as value) if fits(value):
                    pass
                case _:
                    continue
            root, dotted = self.imported_as(file)
            yield Candidate(root, dotted, name, file, statement.lineno)

    def imported_as(self, file: Path) -> tuple[Path, str]:
        """Return the directory that a file is imported from, and the dotted name of its module."""
        parts = [] if file.stem == "__init__" else [file.stem]
        directory = file.parent
        # A package without __init__.py may hold celery.py; from within it would hide Celery itself.
        while self._is_package(directory) or parts == ["celery"] or self._is_namespace(directory):
            parts.insert(0, directory.name)
            directory = directory.parent
        return directory, ".".join(parts)

    @cached_property
    def _imported(self) -> set[tuple[str, ...]]:
        """The dotted names that its modules import, in parts."""
        found = set()
        for module in self.modules.values():
            for node in ast.walk(module):
                match node:
                    case ast.Import(names=names):
                        found |= {name.name for name in names}
                    case ast.ImportFrom(module=str() as name, names=names, level=0):
                        found |= {f"{name}.{one.name}" for one in names}
        return {tuple(name.split(".")) for name in found}

    def _is_package(self, directory: Path) -> bool:
        """Say whether a directory is a package; the app's own is none where its packages are imported by themselves."""
        return (directory / "__init__.py").exists() and not (directory == self.path and self._is_stray)

    @cached_property
    def _is_stray(self) -> bool:
        """Whether the ``__init__.py`` of the app's own directory is of no use: its code names what is beside it."""
        names = set(self._imported)
        for file, module in self.modules.items():
            for node in ast.walk(module):
                match node:
                    case ast.ImportFrom(level=level) if level and file.parent == self.path:
                        return False
                    case ast.Constant(value=str() as text) if DOTTED.fullmatch(text):
                        names.add(tuple(text.split(".")))
        if own := [name for name in names if name[0] == self.path.name]:
            # Of a library that is called as the directory, other things are imported than it has.
            return not any(len(name) == 1 or self._offers(name[1]) for name in own)
        # A module may be called as Celery, or as one of Python's, which is what an import of that name gets.
        others = {"celery", *sys.stdlib_module_names}
        return any(name[0] not in others and self._has(name) for name in names)

    def _offers(self, name: str) -> bool:
        """Say whether the app's own directory, as a package, may have this name."""
        init = self.modules.get(self.path / "__init__.py")
        return holds(self.path, name) or (init is not None and bool(init.body))

    def _has(self, name: tuple[str, ...]) -> bool:
        """Say whether the app's own directory has a module of this name, in parts."""
        package = self.path / name[0]
        if package.is_dir():
            return (package / "__init__.py").exists() or (len(name) > 1 and holds(package, name[1]))
        return package.with_suffix(".py").is_file()

    @cached_property
    def shared_task(self) -> tuple[Path, int] | None:
        """Where the first task stands that belongs to no app of its own; None where there is none."""
        for file, module in self.modules.items():
            for node in ast.walk(module):
                if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and any(
                    "shared_task" in {last_name(one), called_name(one)} for one in node.decorator_list
                ):
                    return file, node.lineno
        return None

    def _is_namespace(self, directory: Path) -> bool:
        """Say whether a directory below the app's own, without ``__init__.py``, is imported from as a package."""
        if self.path not in directory.parents:
            return False
        parts = directory.relative_to(self.path).parts
        # Somebody else's package may be called as the directory: what is imported of it has to be in it.
        return any(
            name[:length] == parts[-length:] and holds(directory, name[length])
            for name in self._imported
            for length in range(1, min(len(parts), len(name) - 1) + 1)
        )

    def lines_of(self, names: Iterable[str]) -> tuple[Path, int] | None:
        """Return where one of these names is given a value: assigned, a keyword, or a key of a dictionary."""
        wanted = set(names)
        for file, module in self.modules.items():
            for node in ast.walk(module):
                match node:
                    case ast.Assign(targets=targets) if any(last_name(target) in wanted for target in targets):
                        return file, node.lineno
                    case ast.keyword(arg=str() as name, value=value) if name in wanted:
                        return file, value.lineno
                    case ast.Dict(keys=keys):
                        for key in keys:
                            if isinstance(key, ast.Constant) and key.value in wanted:
                                return file, key.lineno
        return None

    def long_delays(self, seconds: float) -> list[tuple[Path, int, float]]:
        """Return each ``countdown=`` or ``eta=`` that the source spells out and is longer: file, line, seconds."""
        found = []
        for file, module in self.modules.items():
            for node in ast.walk(module):
                if isinstance(node, ast.keyword) and node.arg in {"countdown", "eta"}:
                    delays = [spelled_out(part) for part in ast.walk(node.value) if isinstance(part, ast.expr)]
                    longest = max((delay for delay in delays if delay is not None), default=0)
                    if longest > seconds:
                        found.append((file, node.value.lineno, longest))
        return found

    def shown(self, file: str | Path, line: int = 0) -> str:
        """Return a place in the source as the user would look for it: relative to the app, with the line."""
        path = Path(file)
        base = self.path.parent if self.path.is_file() else self.path
        for one, top in ((path, base), (path, base.resolve())):
            if one.is_relative_to(top):
                path = one.relative_to(top)
                break
        return f"{path}:{line}" if line else str(path)


def holds(directory: Path, name: str) -> bool:
    """Return whether a directory has a module or a package of this name."""
    return (directory / name).is_dir() or (directory / f"{name}.py").is_file()


def top_statements(body: list[ast.stmt]) -> Iterator[ast.stmt]:
    """Yield the statements that run at import, those within try, if and with too."""
    for statement in body:
        yield statement
        if isinstance(statement, ast.If | ast.Try | ast.With):
            for inner in (statement.body, getattr(statement, "orelse", [])):
                yield from top_statements(inner)


def last_name(node: ast.expr) -> str:
    """Return the last part of a name, attribute or subscript."""
    match node:
        case ast.Name(id=name) | ast.Attribute(attr=name) | ast.Subscript(slice=ast.Constant(value=str(name))):
            return name
    return ""


def called_name(value: ast.expr) -> str:
    """Return the last part of the name that is called; empty where nothing is."""
    return last_name(value.func) if isinstance(value, ast.Call) else ""


def spelled_out(value: ast.expr) -> float | None:
    """Return the number, or the seconds of a ``timedelta``, that an expression spells out; None where it does not."""
    match value:
        case ast.Constant(value=int() | float() as number):
            return float(number)
        case ast.BinOp(left=left, right=right, op=ast.Mult() | ast.Add() as operation):
            one, other = spelled_out(left), spelled_out(right)
            if one is None or other is None:
                return None
            return one * other if isinstance(operation, ast.Mult) else one + other
        case ast.Call(keywords=keywords) if called_name(value) == "timedelta":
            units = {"days": 86400, "hours": 3600, "minutes": 60, "seconds": 1, "weeks": 604800}
            parts = [(units.get(one.arg or "", 0), spelled_out(one.value)) for one in keywords]
            return float(sum(unit * number for unit, number in parts if number is not None))
    return None
