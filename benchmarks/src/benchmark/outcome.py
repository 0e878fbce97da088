"""What one load said, as a measurement: the counts and times of its output, and the CPU of each part."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from benchmark.folder import PARTS, left
from taskmill.model.errors import TaskmillError
from taskmill.model.run_folder import write_json

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


#: The part of a task queue that a systemd unit belongs to, by the beginning of its name.
UNITS = {
    "rabbitmq-server.service": "broker",
    "memcached.service": "results",
    "redis-server.service": "results",
    "celery-worker@": "workers",
    "other-queue-worker@": "workers",
}


def keep(folder: Path, file: str, heard: dict[str, Any]) -> dict[str, Any]:
    """Write one measurement into the folder, and return it.

    ``heard`` holds ``output`` and ``error`` (what the load wrote), ``code`` (its exit code), ``before`` and ``after``
    (CPU seconds by unit, one dict for each host). The output is what ``python -m other_queues load`` prints, or
    ``run.json``; a second ``run.json`` may follow, of the same run with its results fetched once more.

    Raises:
        TaskmillError: ``file`` is no measurement that is left.

    """
    measurement = next((one for one in left(folder) if one["file"] == file), None)
    if measurement is None:
        raise TaskmillError(f"{file} is not to be measured in {folder}, or was already")
    try:
        found = {**outcome(list(documents(heard["output"]))), "exit_code": heard["code"]}
        if found["tasks"] != measurement["tasks"]:
            raise ValueError(f"it is about {found['tasks']:,} tasks, not {measurement['tasks']:,}")
        client = found.pop("cpu_s")
        found["cpu_s"] = {"client": client, **spent(heard["before"], heard["after"])}
    except (ValueError, KeyError, IndexError, TypeError) as error:
        said = " ".join(heard["error"].split())[-300:]
        found = {"failed": said or f"its output cannot be read: {error!r}", "exit_code": heard["code"]}
    path = folder / file
    path.parent.mkdir(parents=True, exist_ok=True)
    write_json(path, found)
    return found


def documents(text: str) -> Iterator[dict[str, Any]]:
    """Yield the JSON objects of a text, one after the other; raise ``ValueError`` for anything else."""
    decoder, place = json.JSONDecoder(), 0
    text = text.strip()
    while place < len(text):
        found, end = decoder.raw_decode(text, place)
        yield found
        place = end + len(text[end:]) - len(text[end:].lstrip())


def outcome(records: list[dict[str, Any]]) -> dict[str, Any]:
    """Return a measurement in which ``cpu_s`` is the client's alone, from the records that a load printed."""
    record = records[0]
    if "counts" not in record:
        return record
    counts, tasks = record["counts"], record["workload"]["tasks"]
    posted_only = not record["seconds"]["collect"]
    found = {
        "tasks": tasks,
        "correct": counts["confirmed" if posted_only else "correct"],
        "wrong": counts["wrong"],
        "post_s": record["seconds"]["post"],
        "total_s": record["seconds"]["total"],
        "cpu_s": record["client"]["cpu_seconds"],
        "memory_bytes": record["client"]["peak_memory_bytes"],
    }
    found["lost"] = tasks - found["correct"] - found["wrong"]
    if (record.get("task_seconds") or {}).get("cpu"):
        found["function_s"] = record["task_seconds"]["cpu"] / tasks
    if record["client"].get("after_last_s") is not None:
        found["after_last_s"] = record["client"]["after_last_s"]
    if len(records) > 1:
        found["fetch_s"] = records[1]["seconds"]["collect"]
    return found


def spent(before: list[dict[str, float]], after: list[dict[str, float]]) -> dict[str, float]:
    """Return the CPU seconds by part between two samples; a unit that started between them counts in full."""
    parts = dict.fromkeys(PARTS[1:], 0.0)
    for then, now in zip(before, after, strict=True):
        for unit, seconds in now.items():
            part = next((part for prefix, part in UNITS.items() if unit.startswith(prefix)), None)
            if part:
                parts[part] += seconds - then.get(unit, 0.0)
    return parts
