"""TOML files of others."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from taskmill.model.errors import TaskmillError

if TYPE_CHECKING:
    from pathlib import Path


def read_toml(path: Path) -> dict[str, Any]:
    """Return what a file holds, nothing where it is not there; raise ``TaskmillError`` where it is no TOML."""
    try:
        tomllib = importlib.import_module("tomllib")
    except ImportError as error:
        raise TaskmillError("taskmill inspect needs Python 3.11 or newer, which reads TOML") from error
    try:
        found: dict[str, Any] = tomllib.loads(path.read_text())
    except FileNotFoundError:
        return {}
    except ValueError as error:
        raise TaskmillError(f"{path} is not TOML: {error}") from error
    return found
