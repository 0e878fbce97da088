"""The folder of a run: made, linked to, and the plain files in it, written whole and read whatever their state."""

from __future__ import annotations

import csv
import fcntl
import json
import os
import uuid
from contextlib import contextmanager
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any

from taskmill.model.errors import TaskmillError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path


def new_folder(runs: Path, name: str, now: datetime | None = None) -> Path:
    """Make the folder of a run with its ``ids``, point ``RUNS/latest`` at it, and return its path."""
    folder = dated_folder(runs, name, now)
    with refused(runs):
        (folder / "ids").mkdir()
        point_latest(runs, folder)
    return folder


def dated_folder(runs: Path, name: str, now: datetime | None = None) -> Path:
    """Make ``RUNS/<utc time>-<name>`` and return its path."""
    now = now or datetime.now(timezone.utc)
    base = f"{now:%Y%m%dT%H%M%SZ}-{name}"
    with refused(runs):
        runs.mkdir(parents=True, exist_ok=True)
        return make_first_free(runs / stem for stem in (base, *(f"{base}-{number}" for number in range(2, 1000))))


@contextmanager
def claimed(folder: Path) -> Iterator[None]:
    """Keep other commands off a run with a plan while the ``with`` block runs.

    Raises ``TaskmillError`` when one works on it.
    """
    with (folder / "plan.json").open("rb") as file:
        # For as long as this process lives, and for no longer, whatever ends it.
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise TaskmillError(f"another taskmill works on {folder}. Wait for it, or end it, and try again") from None
        yield


@contextmanager
def refused(runs: Path) -> Iterator[None]:
    """Put what the file system refuses into words."""
    try:
        yield
    except OSError as error:
        raise TaskmillError(
            f"cannot make a run folder in {runs}: {error.strerror or error}. Give a directory that you may "
            f"write to with --runs-directory"
        ) from error


def make_first_free(folders: Iterable[Path]) -> Path:
    """Make the first of the folders that is not there yet, and return it."""
    for folder in folders:
        try:
            folder.mkdir()
        except FileExistsError:
            continue
        return folder
    raise FileExistsError(17, "every name is taken")


def point_latest(runs: Path, folder: Path) -> None:
    """Let the link ``RUNS/latest`` point at the folder; readers see the old or the new link, never none."""
    link = runs / f".latest-{uuid.uuid4().hex}"
    link.symlink_to(folder.name)
    link.replace(runs / "latest")


def write_json(path: Path, data: object) -> None:
    """Write a JSON file so that readers, and a crash, find the old or the new content whole."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    temporary.write_text(json.dumps(data, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    temporary.replace(path)


def read_json(path: Path) -> dict[str, Any] | None:
    """Return the object in a JSON file, or ``None`` when there is no such file or no object in it."""
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return data if isinstance(data, dict) else None


def read_queue_depths(path: Path) -> dict[str, list[tuple[float, int, int]]]:
    """Return ``(unix seconds, ready, consumers)`` by queue from a ``queues.csv``; broken lines are left out."""
    series: dict[str, list[tuple[float, int, int]]] = {}
    with path.open(encoding="utf-8", newline="", errors="replace") as file:
        for row in csv.reader(file):
            try:
                sample = float(row[1]), int(row[3]), int(row[4])
            except (IndexError, ValueError):
                continue
            series.setdefault(row[2], []).append(sample)
    return series


def read_faults(path: Path, limit: int | None) -> Iterator[dict[str, Any]]:
    """Yield the first faults of a ``faults.jsonl``, all without a limit; lines that cannot be read are left out."""
    count = 0
    with path.open(encoding="utf-8", errors="replace") as file:
        for text in file:
            if count == limit:
                return
            try:
                fault = json.loads(text)
            except ValueError:
                continue
            if isinstance(fault, dict):
                count += 1
                yield fault
