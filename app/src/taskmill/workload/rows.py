"""Rows of a CSV or JSON lines file, and the places of arguments that name their columns."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from taskmill.model.errors import TaskmillError

if TYPE_CHECKING:
    from collections.abc import Iterator

#: What a name of a column begins with; twice for a text that begins with it once.
COLUMN = "$"
SUFFIXES = (".csv", ".jsonl")


def read(path: Path) -> list[dict[str, Any]]:
    """Return the rows of a file; raise ``TaskmillError`` that names the line where it cannot be read.

    A cell of CSV that is JSON, such as ``12``, ``1.5``, ``true``, ``null`` or ``[1, 2]``, is that value; any other is
    text.
    """
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            rows = list(_csv(file, path) if path.suffix == ".csv" else _json_lines(file, path))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise TaskmillError(f"the rows of {path} cannot be read: {error}") from error
    if not rows:
        raise TaskmillError(f"{path} has no rows: give it at least one")
    return rows


def _csv(file: Any, path: Path) -> Iterator[dict[str, Any]]:
    reader = csv.DictReader(file, strict=True)
    columns = len(reader.fieldnames or [])
    for row in reader:
        if None in row or None in row.values():
            raise TaskmillError(f"line {reader.line_num} of {path} has not {columns} cells, as its first line has")
        yield {name: _cell(text) for name, text in row.items()}


def _json_lines(file: Any, path: Path) -> Iterator[dict[str, Any]]:
    for number, line in enumerate(file, 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except ValueError as error:
            raise TaskmillError(f"line {number} of {path} is not JSON: {error}") from error
        if not isinstance(row, dict):
            raise TaskmillError(f'line {number} of {path} is no JSON object, such as {{"amount": 12}}')
        yield row


def _cell(text: str) -> Any:
    try:
        return json.loads(text, parse_constant=_refuse)
    except ValueError:
        return text


def _refuse(name: str) -> Any:
    raise ValueError(name)


def fill(value: Any, row: dict[str, Any]) -> Any:
    """Return a value with ``$column`` in it, at any depth, replaced by the row's; raise ``KeyError`` without such."""
    if isinstance(value, str) and value.startswith(COLUMN):
        return value[1:] if value.startswith(COLUMN * 2) else row[value[1:]]
    if isinstance(value, (list, tuple)):
        return [fill(one, row) for one in value]
    if isinstance(value, dict):
        return {name: fill(one, row) for name, one in value.items()}
    return value
