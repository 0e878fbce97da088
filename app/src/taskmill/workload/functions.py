"""Functions that a scenario names as ``MODULE:FUNCTION``, from files beside it or from what is installed."""

from __future__ import annotations

import importlib
import sys
import traceback
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
        raise TaskmillError(f"{text} cannot be imported{reason(error, directory)}") from error
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


def reason(error: Exception, directory: str) -> str:
    """Return why the import of a module failed, and what mends it, as the end of a sentence."""
    said, place = f"{type(error).__name__}: {error}", raised_at(error)
    if not isinstance(error, ModuleNotFoundError):
        # A SyntaxError names the place itself.
        return f" ({said}, at {place})" if place else f" ({said})"
    if place:
        return missing(error, directory)
    return (
        f" ({said}). Put the module beside the scenario, in {directory}, or install it for the client, into "
        f"{sys.prefix}"
    )


def missing(error: Exception, directory: str) -> str:
    """Return which import failed where, and what mends it; empty where the error is not that a module is missing."""
    if not isinstance(error, ModuleNotFoundError):
        return ""
    place = raised_at(error)
    return (
        f": {place} imports {error.name}, which the client does not have ({error}). The app is installed on the "
        f"workers alone: write what the function needs of it into a Python file beside the scenario, in {directory}, "
        f"or install {str(error.name).partition('.')[0]} for the client, into {sys.prefix}"
    )


def raised_at(error: Exception) -> str:
    """Return the file and the line of the user's code that raised an error; empty where none of it ran."""
    own = {__file__, importlib.__file__}
    frames = [one for one in traceback.extract_tb(error.__traceback__) if not one.filename.startswith("<frozen ")]
    last = frames[-1] if frames else None
    return f"{last.filename}:{last.lineno}" if last is not None and last.filename not in own else ""


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
