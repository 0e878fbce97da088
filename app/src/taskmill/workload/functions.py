"""Functions that a scenario names as ``MODULE:FUNCTION``, from files beside it or from what is installed."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from taskmill.model.errors import TaskmillError

if TYPE_CHECKING:
    from collections.abc import Callable

#: The directory whose modules are imported now; those of another scenario may have the same names.
_entered: list[Path] = []


def find(text: str, directory: str) -> Callable[..., Any]:
    """Return a function; raise ``TaskmillError`` with the reason where it cannot be imported."""
    module_name, _, name = text.partition(":")
    enter(Path(directory))
    try:
        module = importlib.import_module(module_name)
    except Exception as error:  # a user's module may raise anything
        raise TaskmillError(
            f"{text} cannot be imported ({type(error).__name__}: {error}). Put the module beside the scenario, in "
            f"{directory}, or install it for the client"
        ) from error
    own = Path(directory).resolve() / module_name.partition(".")[0]
    if (own.with_suffix(".py").exists() or own.is_dir()) and not is_below(module, Path(directory).resolve()):
        raise TaskmillError(
            f"{text} is not in the scenario's directory: a module of the same name is imported already, from "
            f"{module.__file__}. Rename {own.name} in {directory}"
        )
    function = getattr(module, name, None)
    if not callable(function):
        raise TaskmillError(f"{module.__file__} has no function {name!r}, which the scenario names as {text}")
    return function  # type: ignore[no-any-return]  # what it returns is looked at where it is called


def enter(directory: Path) -> None:
    """Let modules come from this directory, and no longer from that of another scenario."""
    resolved = directory.resolve()
    if _entered == [resolved]:
        return
    for other in _entered:
        for name in [name for name, module in sys.modules.items() if is_below(module, other)]:
            del sys.modules[name]
        sys.path.remove(str(other))
    _entered[:] = [resolved]
    sys.path.insert(0, str(resolved))
    importlib.invalidate_caches()


def is_below(module: Any, directory: Path) -> bool:
    """Say whether a module's file lies in the directory or below it."""
    path = getattr(module, "__file__", None)
    return isinstance(path, str) and directory in Path(path).resolve().parents


def imported(directory: str) -> list[Path]:
    """Return the files, relative to the directory, of the modules that were imported from it."""
    resolved = Path(directory).resolve()
    found = [
        Path(str(module.__file__)).resolve() for module in list(sys.modules.values()) if is_below(module, resolved)
    ]
    return sorted({path.relative_to(resolved) for path in found})
