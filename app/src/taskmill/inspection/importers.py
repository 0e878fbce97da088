"""Which modules of an app import its Celery object, and the tasks that they bring with them."""

from __future__ import annotations

import ast
from typing import TYPE_CHECKING

from taskmill.inspection.source_code import Candidate, called_name, last_name, top_statements

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

    from taskmill.inspection.source_code import SourceCode


def importers(code: SourceCode, one: Candidate) -> list[Candidate]:
    """Return the modules that import a Celery object and tasks, those with most tasks first, then with most modules.

    Where the object stands in a module of its own, a worker knows the tasks that ``celery --app``'s module imports.
    """
    modules = {dotted: file for file in code.modules for root, dotted in [code.imported_as(file)] if root == one.root}
    edges = {file: set(_imports(code.modules[file], dotted, file)) for dotted, file in modules.items()}
    tasks = {file: _tasks(code.modules[file]) for file in edges}
    found = []
    for dotted, file in modules.items():
        for name, line in _names_of(code.modules[file], dotted, file, one):
            reached = _reached(file, modules, edges)
            if brought := sum(tasks[other] for other in reached):
                found.append((brought, len(reached), Candidate(one.root, dotted, name, file, line, imports=one)))
    return [candidate for _, _, candidate in sorted(found, key=lambda entry: (-entry[0], -entry[1], entry[2].module))]


def _module_of(node: ast.ImportFrom, dotted: str, file: Path) -> str:
    """Return what is imported from, without leading dots."""
    if not node.level:
        return node.module or ""
    parts = dotted.split(".")
    above = node.level - (file.stem == "__init__")
    return ".".join([*parts[: len(parts) - above], *([node.module] if node.module else [])])


def _imports(module: ast.Module, dotted: str, file: Path) -> Iterator[str]:
    """Yield the dotted names of what may be a module that is imported, with the packages around it."""
    names: Iterable[str]
    for node in ast.walk(module):
        match node:
            case ast.Import():
                names = [alias.name for alias in node.names]
            case ast.ImportFrom():
                names = [f"{_module_of(node, dotted, file)}.{alias.name}" for alias in node.names]
            case _:
                continue
        for name in names:
            parts = name.split(".")
            yield from (".".join(parts[:length]) for length in range(1, len(parts) + 1))


def _names_of(module: ast.Module, dotted: str, file: Path, one: Candidate) -> Iterator[tuple[str, int]]:
    """Yield the names that a module has for a Celery object, and the lines that import it."""
    for node in top_statements(module.body):
        if isinstance(node, ast.ImportFrom) and _module_of(node, dotted, file) == one.module:
            yield from (
                (alias.asname or alias.name, node.lineno) for alias in node.names if alias.name == one.attribute
            )


def _reached(file: Path, modules: dict[str, Path], edges: dict[Path, set[str]]) -> set[Path]:
    """Return the files that importing one imports, with itself."""
    reached, waiting = set(), [file]
    while waiting:
        if (here := waiting.pop()) not in reached:
            reached.add(here)
            waiting += [modules[name] for name in edges[here] if name in modules]
    return reached


def _tasks(module: ast.Module) -> int:
    """Return how many functions are decorated as tasks."""
    return sum(
        "task" in {last_name(decorator), called_name(decorator)}
        for node in ast.walk(module)
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        for decorator in node.decorator_list
    )
